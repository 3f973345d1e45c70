"""Which worker takes a pipeline.

Affinity first, and softly: the wished-for worker when it is ready and has room. Else the least loaded by
assigned / max_pipelines, what is on its way there included; among equals the one with fewest pipelines of
the same group, so that one death takes as little of a group as it can; among equals by id. Never above
max_pipelines, counting what the same pass has promised (`take`), never a worker that is not ready, or
cordoned.
"""

from collections import Counter
from collections.abc import Set

from coordinator.state.model import State, WorkerStatus


class Room:
    """What is free on each ready worker, as one pass sees it."""

    def __init__(self, state: State) -> None:
        self._limits = {
            worker.id: worker.max_pipelines
            for worker in state.workers.values()
            if worker.status is WorkerStatus.READY and not worker.cordoned
        }
        self._cordoned = sum(
            worker.cordoned and worker.status is WorkerStatus.READY for worker in state.workers.values()
        )
        self._not_ready = len(state.workers) - len(self._limits) - self._cordoned
        self._assigned: Counter[str] = Counter()
        self._of_group: Counter[tuple[str, str]] = Counter()
        for group, _, placement in state.each_placement():
            if placement.worker_id is not None:
                self.take(placement.worker_id, group)
        for move in state.migrations.values():
            if move.to_worker != move.from_worker:
                self.take(move.to_worker, move.group)

    def take(self, worker_id: str, group: str) -> None:
        """Count one more pipeline of `group` on a worker."""
        self._assigned[worker_id] += 1
        self._of_group[worker_id, group] += 1

    def choose(self, group: str, *, affinity: str | None = None, avoid: Set[str] = frozenset()) -> str | None:
        """The worker for one more pipeline of `group`; None when none can take it."""
        free = [worker for worker in self._limits if self._has_room(worker) and worker not in avoid]
        if affinity in free:
            return affinity
        return min(free, key=lambda worker: self._cost(worker, group), default=None)

    def why_none(self, avoid: Set[str] = frozenset()) -> str:
        """The reason when `choose` found nobody."""
        full = sum(not self._has_room(worker) for worker in self._limits)
        refused = sum(worker in avoid and self._has_room(worker) for worker in self._limits)
        cordoned = f"{self._cordoned} cordoned, " if self._cordoned else ""
        return (
            f"no worker can take it: {full} full, {self._not_ready} not ready, {cordoned}"
            f"{refused} refused it lately; start a worker or make room"
        )

    def _has_room(self, worker: str) -> bool:
        return self._assigned[worker] < self._limits[worker]

    def _cost(self, worker: str, group: str) -> tuple[float, int, str]:
        return (self._assigned[worker] / self._limits[worker], self._of_group[worker, group], worker)
