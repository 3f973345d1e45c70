"""Every pipeline of every group runs somewhere, or says why not.

One pass looks at each placement and starts what its phase needs; `deployment` has the steps. Two placements
of one pass do not count on the same free slot: what is on its way is reserved until the state shows it.
"""

from collections.abc import Callable, Coroutine, Set
from functools import partial
from typing import Any

from coordinator.controllers.actions import MOST_DOUBLINGS, Actions, Key
from coordinator.controllers.deployment import (
    RETRY_FAILED,
    RETRY_FAILED_AT_MOST,
    Deployment,
    ProgramRefused,
    Target,
    WorkerRefused,
)
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.carriers import told, without_carrier
from coordinator.state.model import Phase, Placement, Worker
from coordinator.state.strategy import Room


class PlacementController:
    """The controller; `step` is one pass."""

    def __init__(
        self,
        ledger: Ledger,
        deployment: Deployment,
        table: HeartbeatTable,
        actions: Actions,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._do = deployment
        self._table = table
        self._actions = actions
        self._clock = clock
        self._reserved: dict[Target, str] = {}
        self._avoid: dict[Key, dict[str, float]] = {}

    def forget(self) -> None:
        """Somebody else leads now."""
        self._reserved.clear()
        self._avoid.clear()

    def step(self) -> None:
        """Start what is needed, as far as it may start now."""
        room: Room | None = None
        for group, pipeline, placement in list(self._ledger.state.each_placement()):
            target = Target.of(self._ledger.state, group, pipeline, placement.epoch)
            if not self._actions.free(target.key):
                continue
            if placement.phase in (Phase.PENDING, Phase.FAILED):
                room = room or self._room()
                self._find_place(target, placement, room)
            elif placement.phase is Phase.REMOVING:
                self._remove(target, placement)
            else:
                self._look_after(target, placement)

    def _room(self) -> Room:
        state = self._ledger.state
        room = Room(state)
        for target, worker_id in self._reserved.items():
            placement = state.placement(target.group, target.pipeline)
            if placement is not None and placement.epoch == target.epoch:
                room.take(worker_id, target.group)
        return room

    def _find_place(self, target: Target, placement: Placement, room: Room) -> None:
        state = self._ledger.state
        avoid = self._avoided(target)
        affinity = state.groups[target.group].pipeline(target.pipeline).worker_affinity
        blocked = without_carrier(state, target.group, target.pipeline)
        choice = room.choose(target.group, affinity=affinity, avoid=avoid | blocked)
        worker = state.ready(choice)
        if worker is None:
            reason = room.why_none(avoid - blocked) + told(blocked)
            if placement.phase is Phase.PENDING and placement.reason != reason:
                self._actions.start(target.key, partial(self._do.explain, target, reason))
            return
        room.take(worker.id, target.group)
        self._reserved[target] = worker.id
        self._actions.start(target.key, partial(self._place, target, worker))

    def _look_after(self, target: Target, placement: Placement) -> None:
        worker = self._ledger.state.ready(placement.worker_id)
        if worker is None:
            gone = self._ledger.state.workers.get(placement.worker_id or "")
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
        self._actions.start(target.key, partial(self._do.remove, target, worker, pipeline_id, failures))

    def _reported(self, target: Target, worker_id: str | None) -> str | None:
        heard = self._table.get(worker_id or "")
        for copy in (heard.pipelines or {}).values() if heard is not None else ():
            if (copy.group, copy.name, copy.epoch) == (target.group, target.pipeline, target.epoch):
                return copy.pipeline_id
        return None

    async def _place(self, target: Target, worker: Worker) -> None:
        try:
            await self._settle(target, self._do.place(target, worker))
        finally:
            self._reserved.pop(target, None)

    async def _deploy(self, target: Target, worker: Worker) -> None:
        await self._settle(target, self._do.deploy(target, worker))

    async def _abandon(self, target: Target, worker: Worker) -> None:
        await self._settle(target, self._do.abandon(target, worker))

    async def _settle(self, target: Target, step: Coroutine[Any, Any, None]) -> None:
        """Run a step; remember what its refusal means for the next pass."""
        try:
            await step
        except WorkerRefused as refusal:
            self._avoid.setdefault(target.key, {})[refusal.worker_id] = self._clock() + refusal.avoid_for
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
        return current.keys()
