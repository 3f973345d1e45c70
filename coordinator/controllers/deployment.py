"""What is done to one placement: the steps that touch the world, each safe to repeat.

The order is the contract: *the intent is committed before the worker hears of it*. So a crash anywhere leaves
either a pending placement or one that says `deploying` under an epoch, and the next leader sends that
deploy again: same epoch, same request id, so the worker answers what it answered first. What a worker says
sorts into three:

    it will never take this program (parse_error, engine_error, ...)       -> failed, and a slow retry
    it cannot take any (quota_exceeded, unavailable), or not this one
    (carrier_missing), or our epoch is old                                 -> displaced, another is chosen
    it did not answer, or not yet                                          -> the same again, after a pause
    nobody was reached there, time and again, though its heartbeats come
    (a wrong certificate, a port that is closed)                           -> displaced, another is chosen

A seed worker knows no request ids: each deploy it hears makes a copy. So it is asked **once per epoch**, by
the action that committed the intent, and gets long to answer. When no answer comes, or the asker was not
there to hear it, the placement fails with that reason and is placed elsewhere. The copy that may exist then
has an id nobody knows: a late answer has lost its request and cannot be matched, and a seed worker does not
list what it runs. The log and the audit trail say so; restarting that worker ends the copy.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NoReturn

from coordinator.controllers.briefing import Briefing
from coordinator.controllers.endings import Endings
from coordinator.controllers.target import BY, DOUBT, UNREACHED, UNREACHED_UNTIL_DISPLACED, Target, why
from coordinator.group_streams import GroupStreams
from coordinator.ledger import Ledger
from coordinator.security.sealing import Sealer
from coordinator.state.commands import (
    MAX_REASON,
    Displace,
    Explain,
    Place,
    PlacementCommand,
    RaiseEpochs,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.records import Worker, WorkerStatus
from coordinator.state.results import AnyResult, Placed
from coordinator.worker_commands import DEPLOY_TIMEOUT, SEED_DEPLOY_TIMEOUT, WorkerCommands
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.moves import Restore
from transport import tracing
from transport.durations import Durations
from transport.errors import ErrorKind, NatsTransportError

ELSEWHERE: Final = frozenset(
    {ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNAVAILABLE, ErrorCode.STALE_EPOCH, ErrorCode.CARRIER_MISSING}
)
"""Answers to a deploy after which another worker, or another epoch, may do better."""

NOT_SENT: Final = frozenset(
    {ErrorKind.NO_RESPONDERS, ErrorKind.CONGESTED, ErrorKind.TOO_LARGE, ErrorKind.BAD_SUBJECT}
)
"""Failures after which the worker surely did not hear the command."""

AVOID_UNREACHED_FOR: Final = 30.0
"""Seconds a worker that could not be reached gets no pipeline to try it with, unless it registers anew."""

AVOID_FOR: Final = 5.0
"""Seconds a worker that refused a pipeline is not asked again for it."""
AVOID_SILENT_FOR: Final = 60.0
"""The same for a seed worker that did not answer: each new deploy may leave another copy there."""

RETRY_FAILED: Final = 5.0
"""Seconds until a failed pipeline is tried again; doubled by each attempt."""
RETRY_FAILED_AT_MOST: Final = 60.0

_SEEN_EPOCH: Final = re.compile(r"older than epoch (\d{1,16})\b")
"""How our workers' `stale_epoch` names the epoch they have seen."""
BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the durations that are counted, in seconds."""
_MAX_BEGUN: Final = 10_000
_log = logging.getLogger(__name__)


class WorkerRefused(Exception):
    """A worker does not take the pipeline now; another may. `unreached`: nor any other pipeline."""

    def __init__(self, worker_id: str, avoid_for: float = AVOID_FOR, *, unreached: str = "") -> None:
        super().__init__(f"worker {worker_id} refused: choose another")
        self.worker_id = worker_id
        self.avoid_for = avoid_for
        self.unreached = unreached


class ProgramRefused(Exception):
    """No worker will take the program as it is; the placement is failed now."""


class Deployment:
    """The steps. Each raises `WireError` or `NatsTransportError` when it is to be repeated after a pause.

    `briefing`: what a copy is told; `endings`: how one is ended. `durations`: from when a worker was chosen,
    or this leader began with it, until the pipeline ran there.
    """

    def __init__(
        self,
        ledger: Ledger,
        commands: WorkerCommands,
        sealer: Sealer,
        clock: Callable[[], float],
        streams: GroupStreams | None = None,
    ) -> None:
        self._ledger = ledger
        self._commands = commands
        self._clock = clock
        self._streams = streams
        self._began: dict[str, float] = {}
        self.briefing = Briefing(ledger, sealer)
        self.endings = Endings(ledger, commands, streams)
        self.durations = Durations(BOUNDS)

    def forget(self) -> None:
        """Somebody else leads now."""
        self._began.clear()

    async def place(self, target: Target, worker: Worker, reason: str = "") -> None:
        """Commit the intent, with the `reason` for that worker, then deploy.

        Raises:
            WorkerRefused, ProgramRefused: the state says so already.
        """
        began = self._clock()
        await self._clear_strays(target)
        placed = await self._propose(Place, target, worker_id=worker.id, reason=reason[:MAX_REASON])
        if isinstance(placed, Placed):
            intent = replace(target, epoch=placed.epoch)
            self._note_begin(intent, began)
            await self.deploy(intent, worker)

    async def deploy(self, target: Target, worker: Worker, failures: int = 0) -> None:
        """Send the deploy of an intent that is committed, and commit its outcome; raises as `place` does.
        `failures`: how often this failed already."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        try:
            message = self.briefing.message(target, placement.queue) if placement is not None else None
        except ValueError as error:
            await self.fail(target, str(error))
            raise ProgramRefused(str(error)) from None
        if message is None:
            return
        self._note_begin(target, self._clock())
        try:
            await self.have_stream(target)
        except WireError as error:
            await self.explain(target, str(error)[:MAX_REASON])
            raise
        timeout = SEED_DEPLOY_TIMEOUT if worker.incarnation is None else DEPLOY_TIMEOUT
        try:
            with tracing.within("deploy", about=f"{target.group}/{target.pipeline}", epoch=target.epoch):
                deployed = await self._commands.deploy(worker.id, message, timeout=timeout)
        except WireError as error:
            await self._refused(target, worker, error)
        except NatsTransportError as error:
            if worker.incarnation is None:
                await self._unanswered(target, worker, error)
            reason = why(worker.id, error)
            if error.kind in UNREACHED and failures + 1 >= UNREACHED_UNTIL_DISPLACED:
                await self.displace(target, reason)
                raise WorkerRefused(worker.id, AVOID_UNREACHED_FOR, unreached=reason) from None
            await self.explain(target, reason)
            raise
        else:
            await self._report(target, worker, deployed.id, deployed.begun)

    async def abandon(self, target: Target, worker: Worker) -> NoReturn:
        """Fail an intent for a seed worker whose deploy may have been sent, by us or an earlier leader.

        Raises:
            WorkerRefused: always, once that is committed.
        """
        await self._fail_in_doubt(target, f"nobody heard what worker {worker.id} answered to its deploy")
        raise WorkerRefused(worker.id)

    async def displace(self, target: Target, reason: str) -> None:
        """Take it from its worker, to be placed again."""
        await self._propose(Displace, target, reason=reason)

    async def explain(self, target: Target, reason: str) -> None:
        """Make visible why it does not run, unless it says so already."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        if placement is not None and placement.epoch == target.epoch and placement.reason != reason:
            await self._propose(Explain, target, reason=reason)

    async def fail(self, target: Target, reason: str) -> None:
        """Commit that its program will not run."""
        await self._propose(ReportFailed, target, reason=reason[:MAX_REASON])

    async def have_stream(self, target: Target) -> None:
        """Have the stream of its group, if that needs one; raises `unavailable`."""
        group = self._ledger.state.groups.get(target.group)
        if group is not None and self._streams is not None:
            await self._streams.ensure(group)

    async def resume(self, worker_id: str, target: Target, pipeline_id: str) -> None:
        """Have a copy that belongs where it is, and holds, go on."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        if placement is None or placement.epoch != target.epoch:
            return
        message = Restore(
            pipeline_id=pipeline_id,
            resume=True,
            queue=self.briefing.line_of(target, placement.queue),
            lines=self.briefing.lines_of(target, placement.queue) or None,
            term=self._ledger.term,
            epoch=target.epoch,
        )
        await self._commands.restore(worker_id, message)

    async def raise_epochs(self, seen: int) -> None:
        """Have the next epoch above one that a worker has seen."""
        if seen > self._ledger.state.epochs:
            await self._ledger.propose(RaiseEpochs(by=BY, epoch=seen))

    async def _propose(self, kind: type[PlacementCommand], target: Target, **fields: Any) -> AnyResult:
        return await self._ledger.propose(
            kind(by=BY, group=target.group, pipeline=target.pipeline, epoch=target.epoch, **fields)
        )

    async def _refused(self, target: Target, worker: Worker, error: WireError) -> None:
        reason = why(worker.id, error)
        seen = _SEEN_EPOCH.search(error.error) if error.code == ErrorCode.STALE_EPOCH else None
        if seen is not None:
            await self.raise_epochs(int(seen[1]))
        if error.code in ELSEWHERE or (error.retryable and worker.incarnation is None):
            await self.displace(target, reason)
            raise WorkerRefused(worker.id)
        if error.retryable:
            await self.explain(target, reason)
            raise error
        await self.fail(target, reason)
        raise ProgramRefused(reason)

    async def _unanswered(self, target: Target, worker: Worker, error: NatsTransportError) -> NoReturn:
        """A seed worker did not answer; it is not asked again under this epoch."""
        reason = why(worker.id, error)
        if error.kind in NOT_SENT:
            await self.displace(target, reason)
            raise WorkerRefused(worker.id)
        await self._fail_in_doubt(target, reason)
        raise WorkerRefused(worker.id, AVOID_SILENT_FOR)

    async def _fail_in_doubt(self, target: Target, reason: str) -> None:
        await self.fail(target, f"{reason[: MAX_REASON - len(DOUBT) - 2]}: {DOUBT}")

    def _note_begin(self, target: Target, at: float) -> None:
        """Unless it began before; those of intents that came to nothing are forgotten all at once."""
        if len(self._began) >= _MAX_BEGUN:
            self._began.clear()
        self._began.setdefault(target.request_id, at)

    async def _report(self, target: Target, worker: Worker, pipeline_id: str, begun: str | None) -> None:
        try:
            await self._propose(
                ReportRunning,
                target,
                worker_id=worker.id,
                session=worker.session,
                pipeline_id=pipeline_id,
                reason=(begun or "")[:MAX_REASON],
            )
        except WireError as error:
            if error.code in (ErrorCode.NOT_FOUND, ErrorCode.STALE_EPOCH, ErrorCode.CONFLICT):
                await self.endings.undeploy(worker.id, target, pipeline_id)
            else:
                raise
        else:
            began = self._began.pop(target.request_id, None)
            if began is not None:
                self.durations.observe(self._clock() - began)

    async def _clear_strays(self, target: Target) -> None:
        """End what may be left of this pipeline on workers that can be asked; it must not hold us up."""
        workers = self._ledger.state.workers
        for stray in self._ledger.state.strays_of(target.group, target.pipeline):
            worker = workers.get(stray.worker_id)
            if worker is None or worker.status is not WorkerStatus.UNHEALTHY:
                with contextlib.suppress(WireError, NatsTransportError):
                    await self.endings.clear_stray(stray, known=worker is not None)
