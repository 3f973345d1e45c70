"""Drains: a worker is emptied, pipeline by pipeline, by migrations to wherever placement would put them.

A drain is done when the worker holds nothing any more, and not before. What stands in the way is its
`reason`: no worker with room, or a migration that failed (each pipeline's last failure is in the job). It
tries again until its timeout or until it is cancelled; then it ends, and what is left stays where it is.

A pipeline that cannot be handed over (it is only being deployed; its worker is a seed's) is taken away and
placed elsewhere, as after a death. A target on which a move failed is left out for `AVOID_FOR` seconds.

A worker that says it drains is leaving: the job is made here, of cause `leave`. It ends as failed when
there is nobody else at all, and the worker is told not to wait.
"""

from collections.abc import Callable, Coroutine, Set
from functools import partial
from typing import Any, Final

from coordinator.controllers.actions import Actions
from coordinator.controllers.deployment import Deployment
from coordinator.controllers.target import Target
from coordinator.ledger import Ledger, now_ms
from coordinator.state.commands import EndDrain, ExplainDrain, StartDrain, StartMigration
from coordinator.state.constraints import Wants
from coordinator.state.model import State
from coordinator.state.records import Cause, Drain, DrainPhase, Phase, Placement, Worker, WorkerStatus
from coordinator.state.room import Room
from coordinator.state.strategy import takes_new
from proto_schemas.errors import ErrorCode, WireError

AVOID_FOR: Final = 10.0
"""Seconds after the begin of a move that did not succeed for which its target is left out."""
AT_ONCE: Final = 32
"""Migrations of one drain under way at most; `moves` drives fewer, the others keep their place on the
target.
"""
_BY: Final = "drains"


class Drains:
    """The controller; `step` is one pass."""

    def __init__(
        self,
        ledger: Ledger,
        deployment: Deployment,
        actions: Actions,
        clock: Callable[[], float],
        suspects: Callable[[], Set[str]],
        room: Callable[[], Room],
    ) -> None:
        self._ledger = ledger
        self._do = deployment
        self._actions = actions
        self._clock = clock
        self._suspects = suspects
        self._room = room
        self._suspect_now: Set[str] = frozenset()
        self._tried: dict[tuple[str, str, str], float] = {}

    def forget(self) -> None:
        """Somebody else leads now."""
        self._tried.clear()

    def step(self) -> None:
        """Make the jobs of workers that leave; then see to each job."""
        state = self._ledger.state
        now = self._clock()
        self._tried = {key: until for key, until in self._tried.items() if until > now}
        for worker in list(state.workers.values()):
            if worker.status is WorkerStatus.DRAINING and state.placed_on(worker.id):
                self._leave(state, worker)
        room: Room | None = None
        self._suspect_now = self._suspects()
        for drain in list(state.drains.values()):
            room = room or self._room()
            self._look_after(state, drain, room)

    def has_nothing_to_wait_for(self, worker_id: str) -> bool:
        """Whether a worker that leaves may go: what it holds will not be moved by us."""
        state = self._ledger.state
        worker = state.workers.get(worker_id)
        return (
            worker is not None
            and worker.status is WorkerStatus.DRAINING
            and state.draining(worker_id) is None
            and (not state.placed_on(worker_id) or _left(state, worker))
        )

    def _leave(self, state: State, worker: Worker) -> None:
        if state.draining(worker.id) is None and not _left(state, worker):
            command = StartDrain(by=_BY, worker_id=worker.id, cause=Cause.LEAVE)
            self._start(worker.id, partial(self._propose, command))

    def _look_after(self, state: State, drain: Drain, room: Room) -> None:
        placed = state.placed_on(drain.worker_id)
        worker = state.workers.get(drain.worker_id)
        if not placed:
            self._end(drain, DrainPhase.DONE, "")
        elif drain.deadline_at is not None and now_ms() > drain.deadline_at:
            waits = f": {drain.reason}" if drain.reason else ""
            self._end(drain, DrainPhase.FAILED, f"{len(placed)} pipelines are left after the timeout{waits}")
        elif drain.cause is Cause.LEAVE and not _others(state, drain.worker_id):
            self._end(drain, DrainPhase.FAILED, "there is no other worker")
        elif worker is not None and worker.status is not WorkerStatus.UNHEALTHY:
            self._empty(state, drain, worker, placed, room)

    def _empty(
        self,
        state: State,
        drain: Drain,
        worker: Worker,
        placed: list[tuple[str, str, Placement]],
        room: Room,
    ) -> None:
        moving = {(move.group, move.pipeline) for move in state.migrations.values()}
        under_way = sum(move.from_worker == worker.id for move in state.migrations.values())
        reason = ""
        for group, pipeline, placement in placed:
            target = Target.of(state, group, pipeline, placement.epoch)
            if (group, pipeline) in moving or placement.phase is Phase.REMOVING:
                continue
            if placement.phase is not Phase.RUNNING or not _knows_moves(worker, placement):
                why = f"worker {worker.id} is being drained"
                self._actions.start(_key(target), partial(self._do.displace, target, why))
                continue
            if under_way >= AT_ONCE or not self._actions.free(_key(target)):
                continue
            reason = self._move(state, drain, target, worker, room) or reason
            under_way += 1
        if (reason or None) != drain.reason:
            self._start(
                drain.id, partial(self._propose, ExplainDrain(by=_BY, drain_id=drain.id, reason=reason))
            )

    def _move(self, state: State, drain: Drain, target: Target, worker: Worker, room: Room) -> str:
        """Begin the migration of one pipeline; why it cannot begin."""
        name = (target.group, target.pipeline)
        avoid = {to for group, pipeline, to in self._tried if (group, pipeline) == name}
        avoid.add(worker.id)
        wants = Wants.of(state.groups[target.group], target.pipeline)
        choice = room.choose(target.group, avoid=avoid | self._suspect_now, wants=wants)
        if choice is None:
            failed = drain.failures.get("/".join(name))
            last = f"; the last move failed: {failed}" if failed else ""
            why = room.why_none(avoid, suspects=self._suspect_now, group=target.group, wants=wants)
            return f"{'/'.join(name)}: {why}{last}"
        room.take(choice, target.group, wants.pipeline)
        self._tried[(*name, choice)] = self._clock() + AVOID_FOR
        cause = Cause.LEAVE if drain.cause is Cause.LEAVE else Cause.DRAIN
        command = StartMigration(
            by=_BY,
            group=target.group,
            pipeline=target.pipeline,
            epoch=target.epoch,
            to_worker=choice,
            cause=cause,
        )
        self._actions.start(_key(target), partial(self._propose, command))
        return ""

    def _end(self, drain: Drain, phase: DrainPhase, reason: str) -> None:
        command = EndDrain(by=_BY, drain_id=drain.id, phase=phase, reason=reason)
        self._start(drain.id, partial(self._propose, command))

    def _start(self, name: str, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._actions.start(("drain", name, ""), action)

    async def _propose(self, command: StartDrain | EndDrain | ExplainDrain | StartMigration) -> None:
        """Propose; a refusal means that the state has changed, which the next pass sees."""
        try:
            await self._ledger.propose(command)
        except WireError as error:
            if error.code in (ErrorCode.UNAVAILABLE, ErrorCode.TIMEOUT):
                raise


def _key(target: Target) -> tuple[str, ...]:
    return ("drain", target.group, target.pipeline, str(target.epoch))


def _left(state: State, worker: Worker) -> bool:
    """Its leave job has ended already."""
    return any(
        drain.cause is Cause.LEAVE and (drain.worker_id, drain.session) == (worker.id, worker.session)
        for drain in state.ended_drains.values()
    )


def _others(state: State, worker_id: str) -> bool:
    return any(worker.id != worker_id and takes_new(worker) for worker in state.workers.values())


def _knows_moves(worker: Worker, placement: Placement) -> bool:
    return worker.incarnation is not None and placement.queue > 0
