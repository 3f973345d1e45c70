"""Which worker takes a pipeline.

Among the workers that are ready, have room and fit the hard constraints (`constraints`), the choice goes by,
in this order:

1. the wished-for worker (`worker_affinity`), softly: when it is one of them; of replicas it takes one;
2. as few other instances of the same pipeline as can be;
3. the least weight of soft constraints unmet;
4. the **strategy**, of the group or else of the cluster:

       least_loaded   assigned / max_pipelines, plus the measured load where it is known; among equals the
                      one with fewest pipelines of the same group, so that one death takes little of a group
       spread         fewest pipelines of the same group, whatever else runs there; `spread:LABEL`: first the
                      value of that label with the fewest, then the worker
       binpack        the fullest that has room, so that others stay empty
       round_robin    the one that was given something longest ago, by the epochs of what it holds: so a new
                      leader goes on where the last one was

5. the id.

Never above max_pipelines, counting what is on its way there and what the same pass has promised (`take`);
never a worker that is cordoned.
"""

from typing import Final, Protocol

from coordinator.state.records import Worker, WorkerStatus

DEFAULT: Final = "least_loaded"

Rank = tuple[float, ...]


class Slots:
    """One worker as a pass sees it. `measured`: its damped load, 0 to 1; `turn`: when it was last given
    something, as an epoch."""

    __slots__ = ("assigned", "measured", "turn", "worker")

    def __init__(self, worker: Worker, measured: float) -> None:
        self.worker = worker
        self.measured = measured
        self.assigned = 0
        self.turn = 0

    @property
    def full(self) -> bool:
        return self.assigned >= self.worker.max_pipelines

    @property
    def used(self) -> float:
        """The part of its places that is taken; of a worker that has any."""
        return self.assigned / self.worker.max_pipelines

    @property
    def load(self) -> float:
        """What is taken, and what was measured."""
        return self.used + self.measured


class Strategy(Protocol):
    """Orders workers, the best first. `rank` is the whole order; `order` the part of it that knows no group,
    and a worker that comes later by `order` never has a better `rank` with 0 of the group."""

    def order(self, slots: Slots) -> Rank:
        """The order of a heap that groups share."""
        ...

    def rank(self, slots: Slots, of_group: int) -> Rank:
        """With `of_group` pipelines of the group there already."""
        ...


class LeastLoaded:
    def order(self, slots: Slots) -> Rank:
        return (slots.load,)

    def rank(self, slots: Slots, of_group: int) -> Rank:
        return (slots.load, of_group)


class Spread:
    def order(self, slots: Slots) -> Rank:
        return (slots.load,)

    def rank(self, slots: Slots, of_group: int) -> Rank:
        return (of_group, slots.load)


class Binpack:
    def order(self, slots: Slots) -> Rank:
        return (-slots.used,)

    def rank(self, slots: Slots, of_group: int) -> Rank:
        return (-slots.used,)


class RoundRobin:
    def order(self, slots: Slots) -> Rank:
        return (slots.turn,)

    def rank(self, slots: Slots, of_group: int) -> Rank:
        return (slots.turn,)


STRATEGIES: Final[dict[str, Strategy]] = {
    "least_loaded": LeastLoaded(),
    "round_robin": RoundRobin(),
    "spread": Spread(),
    "binpack": Binpack(),
}
BY_GROUP: Final = frozenset({"least_loaded", "spread"})
"""Strategies whose rank depends on the group."""


def takes_new(worker: Worker) -> bool:
    """Whether anything may be placed on a worker, if there is room."""
    return worker.status is WorkerStatus.READY and not worker.cordoned
