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

A worker that answers an undeploy with a refusal no repetition will change is believed after a few tries: the
copy is given up, with the refusal in the log and the audit trail.
"""

import contextlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from coordinator.connectors import for_worker
from coordinator.controllers.actions import Key
from coordinator.group_streams import GroupStreams
from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.security.sealing import Sealer
from coordinator.state.commands import (
    MAX_REASON,
    Displace,
    Explain,
    ForgetStray,
    LetGo,
    Place,
    PlacementCommand,
    RaiseEpochs,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.model import State
from coordinator.state.next_version import line_for
from coordinator.state.records import Stray, Worker, WorkerStatus
from coordinator.state.results import AnyResult, Placed
from coordinator.state.revisions import instance_of, partitions_of, routes_of
from coordinator.state.versions import Group
from coordinator.worker_commands import DEPLOY_TIMEOUT, SEED_DEPLOY_TIMEOUT, WorkerCommands
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages import ConnectorParams, Deploy, Restore, Undeploy
from proto_schemas.partition import share_name
from proto_schemas.rest.groups import PipelineSpec
from transport import tracing
from transport.durations import Durations
from transport.errors import ErrorKind, NatsTransportError

ELSEWHERE: Final = frozenset(
    {ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNAVAILABLE, ErrorCode.STALE_EPOCH, ErrorCode.CARRIER_MISSING}
)
"""Answers to a deploy after which another worker, or another epoch, may do better."""

LATER: Final = frozenset(
    {ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT, ErrorCode.RATE_LIMITED, ErrorCode.NOT_LEADER}
)
"""Refusals that may change, also when the peer does not say `retryable`."""

NOT_SENT: Final = frozenset(
    {ErrorKind.NO_RESPONDERS, ErrorKind.CONGESTED, ErrorKind.TOO_LARGE, ErrorKind.BAD_SUBJECT}
)
"""Failures after which the worker surely did not hear the command."""

UNREACHED: Final = frozenset({ErrorKind.DISCONNECTED, ErrorKind.NO_RESPONDERS, ErrorKind.UNAUTHORIZED})
"""Failures in which no worker was reached, as far as can be known. A copy that was made all the same is
listed by the next heartbeat, and ended by the answer to it."""
UNREACHED_UNTIL_DISPLACED: Final = 7
"""So many of them in a row, some 3 to 6 s with the pauses between them: a new leader learns a worker's key
within one heartbeat, and whose heartbeat is late is found unhealthy in that time."""
AVOID_UNREACHED_FOR: Final = 30.0
"""Seconds a worker that could not be reached gets no pipeline to try it with, unless it registers anew."""

FAILURES_UNTIL_GIVEN_UP: Final = 3
"""After so many failures in a row a final refusal to undeploy is believed."""

AVOID_FOR: Final = 5.0
"""Seconds a worker that refused a pipeline is not asked again for it."""
AVOID_SILENT_FOR: Final = 60.0
"""The same for a seed worker that did not answer: each new deploy may leave another copy there."""

LATEST: Final = "latest"
"""From which checkpoint of its pipeline a copy begins that no other hands anything to."""

RETRY_FAILED: Final = 5.0
"""Seconds until a failed pipeline is tried again; doubled by each attempt."""
RETRY_FAILED_AT_MOST: Final = 60.0

_BY: Final = "placement"
_SEEN_EPOCH: Final = re.compile(r"older than epoch (\d{1,16})\b")
"""How our workers' `stale_epoch` names the epoch they have seen."""
BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the durations that are counted, in seconds."""
_MAX_BEGUN: Final = 10_000
_DOUBT: Final = "a copy of unknown id may run there, restart that worker to end it"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """One placement under one epoch. `life` is the `created_at` of its group: a group that is created again
    under the name does not inherit the pauses of the first."""

    group: str
    pipeline: str
    epoch: int
    life: int = 0

    @classmethod
    def of(cls, state: State, group: str, pipeline: str, epoch: int) -> "Target":
        """In the present life of the group; 0 when it has none."""
        present = state.groups.get(group)
        return cls(group, pipeline, epoch, present.created_at if present is not None else 0)

    @property
    def key(self) -> Key:
        """What `Actions` knows it by: one action per pipeline and life, whatever its epoch."""
        return ("pipeline", self.group, self.pipeline, str(self.life))

    @property
    def request_id(self) -> str:
        """The same for each try to deploy this epoch."""
        return f"{self.group}.{self.pipeline}.{self.epoch}"


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

    `durations`: from when a worker was chosen, or this leader began with it, until the pipeline ran there.
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
        self._sealer = sealer
        self._clock = clock
        self._streams = streams
        self._began: dict[str, float] = {}
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
            message = self.message(target, placement.queue) if placement is not None else None
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

    async def remove(
        self, target: Target, worker: Worker | None, pipeline_id: str | None, failures: int = 0
    ) -> None:
        """Undeploy and let go; a worker that cannot be asked is let go at once, or after some tries when only
        its heartbeats come: its copy is remembered, they list it, and the answers to them end it. In a group
        that stays the copy first handles what it was sent: others of its kind may go on. `failures`: how
        often this failed already."""
        group = self._ledger.state.groups.get(target.group)
        drain = group is not None and not group.deleting
        reachable = worker is not None and worker.status is not WorkerStatus.UNHEALTHY
        reason = ""
        if worker is not None and reachable and pipeline_id is not None:
            try:
                reason = await self._end_or_give_up(
                    worker.id, target, pipeline_id, failures, drain=drain, forget=True
                )
            except NatsTransportError as error:
                if error.kind not in UNREACHED or failures + 1 < UNREACHED_UNTIL_DISPLACED:
                    raise
                reachable, reason = False, why(worker.id, error)
        elif worker is not None and worker.incarnation is None and pipeline_id is None:
            reason = f"nobody heard what worker {worker.id} answered to its deploy: {_DOUBT}"
        await self._propose(LetGo, target, confirmed=reachable, reason=reason)
        present = self._ledger.state.groups.get(target.group)
        gone = present is None or (group is not None and present.created_at != group.created_at)
        if group is not None and gone and group.spec.delivery != AT_MOST_ONCE and self._streams is not None:
            await self._streams.remove(target.group, group.created_at)

    async def fail(self, target: Target, reason: str) -> None:
        """Commit that its program will not run."""
        await self._propose(ReportFailed, target, reason=reason[:MAX_REASON])

    async def undeploy(
        self, worker_id: str, target: Target, pipeline_id: str, *, drain: bool = False, forget: bool = False
    ) -> None:
        """End a copy, with `drain` after it has handled what was sent to it until now, with `forget` its
        checkpoints, too; the answer "not found" is as good."""
        message = Undeploy(
            pipeline_id=pipeline_id,
            drain=drain,
            forget=forget,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=f"{target.request_id}.undeploy.{pipeline_id}",
        )
        try:
            await self._commands.undeploy(worker_id, message)
        except WireError as error:
            if error.code not in (ErrorCode.PIPELINE_NOT_FOUND, ErrorCode.NOT_FOUND):
                raise

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
            queue=self.line_of(target, placement.queue),
            lines=self.lines_of(target, placement.queue) or None,
            term=self._ledger.term,
            epoch=target.epoch,
        )
        await self._commands.restore(worker_id, message)

    async def clear_stray(self, stray: Stray, *, known: bool, failures: int = 0) -> None:
        """End a stray and forget it. On a worker that is not `known` any more one try must do; `failures`:
        how often this failed already."""
        target = Target(stray.group, stray.pipeline, stray.epoch)
        reason = ""
        try:
            reason = await self._end_or_give_up(stray.worker_id, target, stray.pipeline_id, failures)
        except (WireError, NatsTransportError):
            if known:
                raise
        await self._ledger.propose(
            ForgetStray(by=_BY, worker_id=stray.worker_id, pipeline_id=stray.pipeline_id, reason=reason)
        )

    async def raise_epochs(self, seen: int) -> None:
        """Have the next epoch above one that a worker has seen."""
        if seen > self._ledger.state.epochs:
            await self._ledger.propose(RaiseEpochs(by=_BY, epoch=seen))

    async def _end_or_give_up(
        self,
        worker_id: str,
        target: Target,
        pipeline_id: str,
        failures: int,
        *,
        drain: bool = False,
        forget: bool = False,
    ) -> str:
        """`undeploy`; when that is refused for good and failed often enough, why the copy is given up."""
        try:
            await self.undeploy(worker_id, target, pipeline_id, drain=drain, forget=forget)
        except (WireError, NatsTransportError) as error:
            if failures < FAILURES_UNTIL_GIVEN_UP or not _is_final(error):
                raise
            reason = f"worker {worker_id} would not end {pipeline_id}, given up: {error}"[:MAX_REASON]
            _log.warning("%s", line("copy_given_up", worker=worker_id, pipeline=pipeline_id, reason=error))
            return reason
        return ""

    async def _propose(self, kind: type[PlacementCommand], target: Target, **fields: Any) -> AnyResult:
        return await self._ledger.propose(
            kind(by=_BY, group=target.group, pipeline=target.pipeline, epoch=target.epoch, **fields)
        )

    def line_of(self, target: Target, queue: int) -> str | None:
        """The queue group of the line of copies that began under the epoch `queue`. Instances that share
        their events without a key are all in one, whichever line they are of: one that left it would hear
        every event beside the instance that is given it."""
        group = self._ledger.state.groups.get(target.group)
        found = group.instance(target.pipeline) if group is not None else None
        shared = _shared_queue(group, found.pipeline) if group is not None and found is not None else None
        queue = (line_for(group, target.pipeline) if group is not None else None) or queue
        name = target.pipeline
        if group is not None and found is not None and found.pipeline.partition_key is not None:
            name = share_name(found.pipeline.name, found.number, group.shares_of(found.pipeline))
        return shared or (f"{target.group}.{name}.{queue}" if queue else None)

    def lines_of(self, target: Target, queue: int) -> dict[str, str]:
        """The queue groups of the further shares that an instance by key takes, by their numbers; those that
        it has no line for begin one under the epoch `queue`, as its own does."""
        group = self._ledger.state.groups.get(target.group)
        found = group.instances.get(target.pipeline) if group is not None else None
        placement = self._ledger.state.placement(target.group, target.pipeline)
        if group is None or found is None or placement is None or found.pipeline.partition_key is None:
            return {}
        known = placement.lines if placement.queue == queue else {}
        return lines_named(
            target.group,
            found.pipeline.name,
            {
                str(share): known.get(str(share), queue)
                for share in range(found.number, group.shares_of(found.pipeline), found.pipeline.replicas)
                if share != found.number
            },
            shares=group.shares_of(found.pipeline),
        )

    def message(self, target: Target, queue: int, *, hold: bool = False, new: bool = False) -> Deploy | None:
        """The deploy of a copy in the line `queue`, of the version that the instance is of, or, if `new`, is
        to have; None when its group is gone, or is without it.

        Raises:
            ValueError: a connector that it names is not there, or does not open.
        """
        group = self._ledger.state.groups.get(target.group)
        group = group.at(target.pipeline, new=new) if group is not None else None
        found = group.instances.get(target.pipeline) if group is not None else None
        if group is None or found is None:
            return None
        pipeline, number = found
        return Deploy(
            name=target.pipeline,
            source=pipeline.source,
            group=target.group,
            routes=routes_of(group, pipeline.name) or None,
            connectors=self.connectors_of(group, pipeline.name) or None,
            delivery=group.spec.delivery,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=target.request_id,
            queue=self.line_of(target, queue),
            hold=hold,
            instance=instance_of(group, pipeline, number, self.lines_of(target, queue)),
            partitions=partitions_of(group, pipeline),
            restore_from=None if hold else LATEST,
            life=self.life_of(target),
            checkpoint_secs=pipeline.checkpoint_secs,
        )

    def life_of(self, target: Target) -> int:
        """Whose checkpoints an instance goes on from, of all that ever had its name: when its group was made
        (ms), plus the version that made it or gave it other keys."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        return target.life + (placement.since if placement is not None else 0)

    def connectors_of(self, group: Group, pipeline: str) -> list[ConnectorParams]:
        """The registered connectors that a pipeline names, opened.

        Raises:
            ValueError: one is not there, or does not open.
        """
        return for_worker(self._ledger.state, group.connectors.get(pipeline, ()), self._sealer)

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
        await self.fail(target, f"{reason[: MAX_REASON - len(_DOUBT) - 2]}: {_DOUBT}")

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
                await self.undeploy(worker.id, target, pipeline_id)
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
                    await self.clear_stray(stray, known=worker is not None)


def lines_named(group: str, pipeline: str, lines: dict[str, int], *, shares: int) -> dict[str, str]:
    """The queue groups of shares, by their numbers."""
    return {
        share: f"{group}.{share_name(pipeline, int(share), shares)}.{epoch}" for share, epoch in lines.items()
    }


def _shared_queue(group: Group, pipeline: PipelineSpec) -> str | None:
    """The queue group in which the instances of a pipeline share their events, each going to one of them;
    those of an earlier group of that name are not in it. None: its events are not shared so."""
    if pipeline.replicas == 1 or pipeline.partition_key is not None:
        return None
    return f"{group.spec.name}.{pipeline.name}.{group.shared.get(pipeline.name, group.created_at)}"


def _is_final(error: WireError | NatsTransportError) -> bool:
    """Whether the worker answered, and will answer the same again."""
    if isinstance(error, NatsTransportError):
        return error.kind is ErrorKind.BAD_PAYLOAD
    return not error.retryable and error.code not in LATER


def why(worker_id: str, error: WireError | NatsTransportError) -> str:
    """A reason people can act on; bounded, because it is replicated."""
    if isinstance(error, NatsTransportError):
        if error.kind is ErrorKind.NO_RESPONDERS:
            return f"worker {worker_id} does not listen: is it running?"
        if error.kind is ErrorKind.TIMEOUT:
            return f"worker {worker_id} did not answer in time"
    return f"worker {worker_id}: {error}"[:MAX_REASON]
