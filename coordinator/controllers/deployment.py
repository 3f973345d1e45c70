"""What is done to one placement: the steps that touch the world, each safe to repeat.

The order is the contract: *the intent is committed before the worker hears of it*. So a crash anywhere leaves
either a pending placement or one that says `deploying` under an epoch, and the next leader sends that
deploy again: same epoch, same request id, so the worker answers what it answered first. What a worker says
sorts into three:

    it will never take this program (parse_error, engine_error, ...)  -> failed, and a slow retry
    it cannot take any (quota_exceeded, unavailable), or our epoch is old -> displaced, another worker is
    chosen it did not answer, or not yet                                     -> the same again, after a
    pause
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Final

from coordinator.ledger import Ledger
from coordinator.state.commands import (
    MAX_REASON,
    Displace,
    Explain,
    ForgetStray,
    LetGo,
    Place,
    PlacementCommand,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.model import AnyResult, Placed, Stray, Worker, WorkerStatus
from coordinator.worker_commands import WorkerCommands
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages import Deploy, Undeploy
from transport.errors import ErrorKind, NatsTransportError

ELSEWHERE: Final = frozenset({ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNAVAILABLE, ErrorCode.STALE_EPOCH})
"""Answers to a deploy after which another worker, or another epoch, may do better."""

RETRY_FAILED: Final = 5.0
"""Seconds until a failed pipeline is tried again; doubled by each attempt."""
RETRY_FAILED_AT_MOST: Final = 60.0

_BY: Final = "placement"


@dataclass(frozen=True, slots=True)
class Target:
    """One placement under one epoch."""

    group: str
    pipeline: str
    epoch: int

    @property
    def key(self) -> tuple[str, str, str]:
        """What `Actions` knows it by: one action per pipeline, whatever its epoch."""
        return ("pipeline", self.group, self.pipeline)

    @property
    def request_id(self) -> str:
        """The same for each try to deploy this epoch."""
        return f"{self.group}.{self.pipeline}.{self.epoch}"


class WorkerRefused(Exception):
    """A worker does not take the pipeline now; another may."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"worker {worker_id} refused: choose another")
        self.worker_id = worker_id


class ProgramRefused(Exception):
    """No worker will take the program as it is; the placement is failed now."""


class Deployment:
    """The steps. Each raises `WireError` or `NatsTransportError` when it is to be repeated after a pause."""

    def __init__(self, ledger: Ledger, commands: WorkerCommands) -> None:
        self._ledger = ledger
        self._commands = commands

    async def place(self, target: Target, worker: Worker) -> None:
        """Commit the intent, then deploy.

        Raises:
            WorkerRefused, ProgramRefused: the state says so already.
        """
        await self._clear_strays(target)
        placed = await self._propose(Place, target, worker_id=worker.id)
        if isinstance(placed, Placed):
            await self.deploy(Target(target.group, target.pipeline, placed.epoch), worker)

    async def deploy(self, target: Target, worker: Worker) -> None:
        """Send the deploy of an intent that is committed, and commit its outcome; raises as `place` does."""
        message = self._message(target)
        if message is None:
            return
        try:
            deployed = await self._commands.deploy(worker.id, message)
        except WireError as error:
            await self._refused(target, worker, error)
        except NatsTransportError as error:
            await self.explain(target, _why(worker.id, error))
            raise
        else:
            await self._report(target, worker, deployed.id)

    async def displace(self, target: Target, reason: str) -> None:
        """Take it from its worker, to be placed again."""
        await self._propose(Displace, target, reason=reason)

    async def explain(self, target: Target, reason: str) -> None:
        """Make visible why it does not run, unless it says so already."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        if placement is not None and placement.epoch == target.epoch and placement.reason != reason:
            await self._propose(Explain, target, reason=reason)

    async def remove(self, target: Target, worker: Worker | None, pipeline_id: str | None) -> None:
        """Undeploy and let go; a worker that cannot be asked is let go at once, its copy remembered."""
        reachable = worker is not None and worker.status is not WorkerStatus.UNHEALTHY
        if worker is not None and reachable and pipeline_id is not None:
            await self.undeploy(worker.id, target, pipeline_id)
        await self._propose(LetGo, target, confirmed=reachable)

    async def fail(self, target: Target, reason: str) -> None:
        """Commit that its program will not run."""
        await self._propose(ReportFailed, target, reason=reason[:MAX_REASON])

    async def undeploy(self, worker_id: str, target: Target, pipeline_id: str) -> None:
        """End a copy; the answer "not found" is as good."""
        message = Undeploy(
            pipeline_id=pipeline_id,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=f"{target.request_id}.undeploy.{pipeline_id}",
        )
        try:
            await self._commands.undeploy(worker_id, message)
        except WireError as error:
            if error.code not in (ErrorCode.PIPELINE_NOT_FOUND, ErrorCode.NOT_FOUND):
                raise

    async def clear_stray(self, stray: Stray, *, known: bool) -> None:
        """End a stray and forget it. On a worker that is not `known` any more one try must do."""
        target = Target(stray.group, stray.pipeline, stray.epoch)
        try:
            await self.undeploy(stray.worker_id, target, stray.pipeline_id)
        except (WireError, NatsTransportError):
            if known:
                raise
        await self._ledger.propose(
            ForgetStray(by=_BY, worker_id=stray.worker_id, pipeline_id=stray.pipeline_id)
        )

    async def _propose(self, kind: type[PlacementCommand], target: Target, **fields: Any) -> AnyResult:
        return await self._ledger.propose(
            kind(by=_BY, group=target.group, pipeline=target.pipeline, epoch=target.epoch, **fields)
        )

    def _message(self, target: Target) -> Deploy | None:
        group = self._ledger.state.groups.get(target.group)
        if group is None:
            return None
        routes = [
            route
            for route in group.spec.routes
            if target.pipeline in (route.from_pipeline, route.to_pipeline)
        ]
        return Deploy(
            name=target.pipeline,
            source=group.pipeline(target.pipeline).source,
            group=target.group,
            routes=routes or None,
            delivery=group.spec.delivery,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=target.request_id,
        )

    async def _refused(self, target: Target, worker: Worker, error: WireError) -> None:
        reason = _why(worker.id, error)
        if error.code in ELSEWHERE:
            await self.displace(target, reason)
            raise WorkerRefused(worker.id)
        if error.retryable:
            await self.explain(target, reason)
            raise error
        await self.fail(target, reason)
        raise ProgramRefused(reason)

    async def _report(self, target: Target, worker: Worker, pipeline_id: str) -> None:
        try:
            await self._propose(
                ReportRunning, target, worker_id=worker.id, session=worker.session, pipeline_id=pipeline_id
            )
        except WireError as error:
            if error.code in (ErrorCode.NOT_FOUND, ErrorCode.STALE_EPOCH, ErrorCode.CONFLICT):
                await self.undeploy(worker.id, target, pipeline_id)
            else:
                raise

    async def _clear_strays(self, target: Target) -> None:
        """End what may be left of this pipeline on workers that can be asked; it must not hold us up."""
        workers = self._ledger.state.workers
        for stray in list(self._ledger.state.strays.values()):
            if (stray.group, stray.pipeline) != (target.group, target.pipeline):
                continue
            worker = workers.get(stray.worker_id)
            if worker is None or worker.status is not WorkerStatus.UNHEALTHY:
                with contextlib.suppress(WireError, NatsTransportError):
                    await self.clear_stray(stray, known=worker is not None)


def _why(worker_id: str, error: WireError | NatsTransportError) -> str:
    """A reason people can act on; bounded, because it is replicated."""
    if isinstance(error, NatsTransportError):
        if error.kind is ErrorKind.NO_RESPONDERS:
            return f"worker {worker_id} does not listen: is it running?"
        if error.kind is ErrorKind.TIMEOUT:
            return f"worker {worker_id} did not answer in time"
    return f"worker {worker_id}: {error}"[:MAX_REASON]
