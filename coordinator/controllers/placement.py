"""Every pipeline of every group runs somewhere, or says why not.

One pass looks at each placement that does not run, or runs on a worker that is not ready, and starts what
its phase needs; `deployment` has the steps. Of what runs where it should, however much that is, it sees
nothing; nor of the rest, while as much is under way as may be. Two placements of one pass do not count on the
same free slot: what is on its way is reserved until the state shows it.
"""

from collections.abc import Callable, Coroutine, Set
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from coordinator.controllers.actions import MOST_DOUBLINGS, Actions, Key
from coordinator.controllers.deployment import (
    RETRY_FAILED,
    RETRY_FAILED_AT_MOST,
    Deployment,
    ProgramRefused,
    WorkerRefused,
)
from coordinator.controllers.target import Target
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.commands import MAX_REASON
from coordinator.state.constraints import Wants
from coordinator.state.records import Phase, Placement, Worker, WorkerStatus
from coordinator.state.room import Room, twins_of
from coordinator.state.strategy import DEFAULT
from proto_schemas.messages.membership import RunningPipeline
from transport.durations import LATENCY_BOUNDS as BOUNDS
from transport.durations import Durations


class _Unreached(NamedTuple):
    """A worker whose commands reach nobody: in which session, until when that counts, and why."""

    session: int
    until: float
    why: str


class PlacementController:
    """The controller; `step` is one pass.

    Attributes:
        durations: of the passes that looked for a place.
    """

    def __init__(
        self,
        ledger: Ledger,
        deployment: Deployment,
        table: HeartbeatTable,
        actions: Actions,
        clock: Callable[[], float],
        suspects: Callable[[], Set[str]],
        strategy: str = DEFAULT,
    ) -> None:
        self._ledger = ledger
        self._do = deployment
        self._table = table
        self._actions = actions
        self._clock = clock
        self._strategy = strategy
        self._suspects = suspects
        self._suspect_now: Set[str] = frozenset()
        self._reserved: dict[Target, str] = {}
        self._avoid: dict[Key, dict[str, float]] = {}
        self._unreached: dict[str, _Unreached] = {}
        self.durations = Durations(BOUNDS)

    def forget(self) -> None:
        """Somebody else leads now."""
        self._reserved.clear()
        self._avoid.clear()
        self._unreached.clear()

    def step(self) -> None:
        """Start what is needed, as far as it may start now."""
        began = self._clock()
        if self._start_all():
            self.durations.observe(self._clock() - began)

    def _start_all(self) -> bool:
        """Whether a place was looked for."""
        room: Room | None = None
        self._suspect_now = self._suspects()
        self._forgive()
        state = self._ledger.state
        moving = {(move.group, move.pipeline) for move in state.migrations.values()}
        for group, pipeline, placement in chain(state.unsettled(), state.stranded()):
            if self._actions.full:
                break
            target = Target.of(state, group, pipeline, placement.epoch)
            if (group, pipeline) in moving or not self._actions.free(target.key):
                continue  # what moves is the business of `moves`
            if placement.phase in (Phase.PENDING, Phase.FAILED):
                room = room or self.room()
                self._find_place(target, placement, room)
            elif placement.phase is Phase.REMOVING:
                self._remove(target, placement)
            else:
                self._look_after(target, placement)
        return room is not None

    def room(self) -> Room:
        """What is free now, less what is on its way there."""
        state = self._ledger.state
        room = Room(state, strategy=self._strategy, measured=self._table.loads())
        for target, worker_id in self._reserved.items():
            placement = state.placement(target.group, target.pipeline)
            if placement is not None and placement.epoch == target.epoch:
                room.take(worker_id, target.group, twins_of(state, target.group, target.pipeline))
        return room

    def _find_place(self, target: Target, placement: Placement, room: Room) -> None:
        state = self._ledger.state
        avoid = self._avoided(target)
        wants = Wants.of(state.groups[target.group], target.pipeline, new=True)
        choice = room.choose(target.group, avoid=avoid | self._suspect_now, wants=wants)
        worker = state.ready(choice)
        if worker is None:
            reason = room.why_none(avoid, suspects=self._suspect_now, group=target.group, wants=wants)
            if unreached := [self._unreached[name].why for name in avoid if name in self._unreached]:
                reason = f"{reason}; {unreached[-1]}"[:MAX_REASON]
            if placement.phase is Phase.PENDING and placement.reason != reason:
                self._actions.start(target.key, partial(self._do.explain, target, reason))
            return
        reason = room.why(worker.id, wants)
        room.take(worker.id, target.group, wants.pipeline)
        self._reserved[target] = worker.id
        self._actions.start(target.key, partial(self._place, target, worker, reason))

    def _look_after(self, target: Target, placement: Placement) -> None:
        worker = self._ledger.state.ready(placement.worker_id)
        if worker is None:
            gone = self._ledger.state.workers.get(placement.worker_id or "")
            if (
                gone is not None
                and gone.status is WorkerStatus.DRAINING
                and self._still_runs(target, placement)
            ):
                return  # the drain of that worker moves it
            reason = f"worker {placement.worker_id} is {gone.status if gone else 'gone'}"
            self._actions.start(target.key, partial(self._do.displace, target, reason))
        elif placement.phase is Phase.DEPLOYING and worker.incarnation is None:
            self._actions.start(target.key, partial(self._abandon, target, worker))
        elif placement.phase is Phase.DEPLOYING:
            self._actions.start(target.key, partial(self._deploy, target, worker))

    def _remove(self, target: Target, placement: Placement) -> None:
        worker = self._ledger.state.workers.get(placement.worker_id or "")
        pipeline_id = placement.pipeline_id or self._reported(target, placement.worker_id)
        failures = self._actions.failures(target.key)
        self._actions.start(
            target.key, partial(self._do.endings.remove, target, worker, pipeline_id, failures)
        )

    def _reported(self, target: Target, worker_id: str | None) -> str | None:
        copy = self._copy(target, worker_id)
        return copy.pipeline_id if copy is not None else None

    def _still_runs(self, target: Target, placement: Placement) -> bool:
        """A copy that the last heartbeat does not list may have come after it: that is no proof."""
        copy = self._copy(target, placement.worker_id)
        return placement.phase is Phase.RUNNING and (copy is None or copy.state != "drained")

    def _copy(self, target: Target, worker_id: str | None) -> RunningPipeline | None:
        """What the worker said last of this copy."""
        heard = self._table.get(worker_id or "")
        for copy in (heard.pipelines or {}).values() if heard is not None else ():
            if (copy.group, copy.name, copy.epoch) == (target.group, target.pipeline, target.epoch):
                return copy
        return None

    async def _place(self, target: Target, worker: Worker, reason: str) -> None:
        try:
            await self._settle(target, self._do.place(target, worker, reason))
        finally:
            self._reserved.pop(target, None)

    async def _deploy(self, target: Target, worker: Worker) -> None:
        failures = self._actions.failures(target.key)
        await self._settle(target, self._do.deploy(target, worker, failures))

    async def _abandon(self, target: Target, worker: Worker) -> None:
        await self._settle(target, self._do.abandon(target, worker))

    async def _settle(self, target: Target, step: Coroutine[Any, Any, None]) -> None:
        """Run a step; remember what its refusal means for the next pass."""
        try:
            await step
        except WorkerRefused as refusal:
            until = self._clock() + refusal.avoid_for
            worker = self._ledger.state.workers.get(refusal.worker_id)
            if refusal.unreached and worker is not None:
                self._unreached[worker.id] = _Unreached(worker.session, until, refusal.unreached)
            else:
                self._avoid.setdefault(target.key, {})[refusal.worker_id] = until
        except ProgramRefused:
            placement = self._ledger.state.placement(target.group, target.pipeline)
            doublings = min(placement.attempts - 1, MOST_DOUBLINGS) if placement is not None else 0
            self._actions.hold(target.key, min(RETRY_FAILED * 2**doublings, RETRY_FAILED_AT_MOST))

    def _avoided(self, target: Target) -> Set[str]:
        now = self._clock()
        current = {worker: until for worker, until in self._avoid.get(target.key, {}).items() if until > now}
        if current:
            self._avoid[target.key] = current
        else:
            self._avoid.pop(target.key, None)
        return current.keys() | self._unreached.keys()

    def _forgive(self) -> None:
        """Try those again that could not be reached long enough ago, or have registered anew."""
        now, workers = self._clock(), self._ledger.state.workers
        self._unreached = {
            name: each
            for name, each in self._unreached.items()
            if each.until > now and name in workers and workers[name].session == each.session
        }
