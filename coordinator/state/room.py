"""What is free on each worker, and the choice among them by the rules of `strategy`.

A choice must not look at every worker. Those who can use the same workers share a heap of them (`_Pool`), and
mostly its first element is the answer. A tie-break by group has to look past workers that hold something of
it; a group that has looked past as many as there are workers has paid for a heap of its own, and gets one:
there the first element is the answer again. Heaps hear of what was taken only when they are used next.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from heapq import heapify, heappop, heappush
from typing import Final

from coordinator.state.constraints import NOTHING, Wants, met, words
from coordinator.state.model import State
from coordinator.state.records import WorkerStatus
from coordinator.state.strategy import BY_GROUP, DEFAULT, STRATEGIES, Rank, Slots, Strategy, takes_new

_NONE: Final[Mapping[str, int]] = {}


class _Pool:
    """Workers in order. `group`: whose ranks decide; None: the order all groups share."""

    def __init__(self, members: Iterable[Slots], wants: Wants, strategy: Strategy, group: str | None) -> None:
        self._penalties = {slots.worker.id: wants.penalty(slots.worker) for slots in members}
        self._strategy = strategy
        self._group = group
        self._heard = 0
        self._keys: dict[str, Rank] = {}
        self._heap: list[tuple[Rank, str]] = []

    def fill(self, room: "Room") -> None:
        """Order all members."""
        self._keys = {name: self._key(room, name) for name in self._penalties}
        self._heap = [(key, name) for name, key in self._keys.items() if key]
        heapify(self._heap)
        self._heard = len(room.taken)

    def catch_up(self, room: "Room") -> None:
        """Put the workers in their places to which something was given since."""
        if len(room.taken) - self._heard > len(self._penalties):
            self.fill(room)
        for name in room.taken[self._heard :]:
            if name in self._keys and (key := self._key(room, name)) != self._keys[name]:
                self._keys[name] = key
                heappush(self._heap, (key, name))
        self._heard = len(room.taken)

    def _key(self, room: "Room", name: str) -> Rank:
        """Empty for a worker that is full."""
        slots, penalty = room.slots[name], self._penalties[name]
        if slots.full:
            return ()
        if self._group is None:
            return (penalty, *self._strategy.order(slots))
        return (penalty, *self._strategy.rank(slots, room.of_group(name, self._group)))

    def best(
        self, room: "Room", group: str, twins: Mapping[str, int], barred: Set[str]
    ) -> tuple[Rank, str] | None:
        """The best worker with room that is not `barred`, and its rank with the number of `twins` before it:
        other instances of the pipeline."""
        found: tuple[Rank, str] | None = None
        seen: list[tuple[Rank, str]] = []
        while self._heap:
            entry = heappop(self._heap)
            key, name = entry
            if not key or self._keys[name] != key:
                continue
            seen.append(entry)
            slots = room.slots[name]
            at_best = key if self._group is not None else (key[0], *self._strategy.rank(slots, 0))
            if found is not None and ((0, *at_best), name) > found:
                break
            if name not in barred:
                rank = (key[0], *self._strategy.rank(slots, room.of_group(name, group)))
                candidate = ((twins.get(name, 0), *rank), name)
                found = candidate if found is None else min(found, candidate)
        for entry in seen:
            heappush(self._heap, entry)
        room.looked(group, len(seen))
        return found


class Room:
    """What is free on each worker that takes pipelines, as one pass sees it.

    Args:
        strategy: of groups that name none.
        measured: damped load of workers, 0 to 1, by id; who is missing counts as idle.
    """

    def __init__(
        self, state: State, *, strategy: str = DEFAULT, measured: Mapping[str, float] | None = None
    ) -> None:
        measured = measured or {}
        self._default = strategy
        self._turn = state.epochs
        self._known = len(state.workers)
        self._cordoned = sum(
            worker.cordoned and worker.status is WorkerStatus.READY for worker in state.workers.values()
        )
        self.slots = {
            worker.id: Slots(worker, measured.get(worker.id, 0.0))
            for worker in state.workers.values()
            if takes_new(worker)
        }
        self.taken: list[str] = []
        self._of_group: dict[str, dict[str, int]] = {}
        self._of_pipeline: dict[tuple[str, str], dict[str, int]] = {}
        self._in_zones: dict[str, dict[str, dict[str, int]]] = {}
        self._pools: dict[tuple[bytes, str, str | None, str | None], _Pool] = {}
        self._zones: dict[tuple[bytes, str], dict[str, list[Slots]]] = {}
        self._looked: dict[str, int] = {}
        self._reasons: dict[bytes, tuple[int, str]] = {}
        for group, instance, placement in state.each_placement():
            if placement.worker_id is not None:
                pipeline = twins_of(state, group, instance)
                self._count(placement.worker_id, group, pipeline, placement.epoch)
        for move in state.migrations.values():
            if move.to_worker != move.from_worker:
                pipeline = twins_of(state, move.group, move.pipeline)
                self._count(move.to_worker, move.group, pipeline, move.to_epoch)

        for group, instance, worker_id in state.coming_apart():
            self._count(worker_id, group, twins_of(state, group, instance), 0)

    def take(self, worker_id: str, group: str, pipeline: str | None = None) -> None:
        """Count one more pipeline of `group` on a worker; `pipeline`: whose instance it is, if replicated."""
        self._turn += 1
        self._count(worker_id, group, pipeline, self._turn)
        self.taken.append(worker_id)

    def _count(self, worker_id: str, group: str, pipeline: str | None, turn: int) -> None:
        _add(self._of_group.setdefault(group, {}), worker_id)
        if pipeline is not None:
            _add(self._of_pipeline.setdefault((group, pipeline), {}), worker_id)
        slots = self.slots.get(worker_id)
        if slots is not None:
            slots.assigned += 1
            slots.turn = max(slots.turn, turn)
            for label, in_zones in self._in_zones.items():
                _add(in_zones.setdefault(group, {}), slots.worker.labels.get(label, ""))

    def of_group(self, worker_id: str, group: str) -> int:
        """How many pipelines of the group a worker holds."""
        return self._of_group.get(group, _NONE).get(worker_id, 0)

    def looked(self, group: str, count: int) -> None:
        """A choice for the group looked at so many workers; the first two cost nothing."""
        if count > 2:
            self._looked[group] = self._looked.get(group, 0) + count

    def choose(
        self,
        group: str,
        *,
        affinity: str | None = None,
        avoid: Set[str] = frozenset(),
        wants: Wants = NOTHING,
    ) -> str | None:
        """The worker for one more pipeline of `group`; None when none can take it."""
        twins = self._twins(group, wants)
        barred = avoid | twins.keys() if wants.distinct and twins else avoid
        wished = self.slots.get(affinity or wants.affinity or "")
        if wished is not None and not wished.full and wants.fits(wished.worker):
            name = wished.worker.id
            if name not in barred and name not in twins:
                return name
        strategy, _, label = (wants.strategy or self._default).partition(":")
        if not label:
            found = self._pool(strategy, wants, group).best(self, group, twins, barred)
            return found[1] if found is not None else None
        return self._of_best_zone(strategy, label, group, wants, twins, barred)

    def _of_best_zone(
        self,
        strategy: str,
        label: str,
        group: str,
        wants: Wants,
        twins: Mapping[str, int],
        barred: Set[str],
    ) -> str | None:
        """The zone with the fewest pipelines of the group that has somebody; after twins and preferences."""
        counts = self._counts(label).get(group, _NONE)
        best: tuple[Rank, str] | None = None
        for zone in self._zones_of(wants, label):
            pool = self._pool(strategy, wants, group, (label, zone))
            found = pool.best(self, group, twins, barred)
            if found is not None:
                (apart, penalty, *rest), name = found
                candidate = ((apart, penalty, counts.get(zone, 0), *rest), name)
                best = candidate if best is None else min(best, candidate)
        return best[1] if best is not None else None

    def why_none(
        self,
        avoid: Set[str] = frozenset(),
        *,
        suspects: Set[str] = frozenset(),
        group: str = "",
        wants: Wants = NOTHING,
    ) -> str:
        """The reason when `choose` found nobody: how many workers each thing in the way excludes. One that
        lacks two labels counts for both. `suspects`: those that were avoided because they are late."""
        simple = not avoid and not suspects and not wants.distinct
        known, reason = self._reasons.get(wants.signature, (-1, ""))
        if simple and known == len(self.taken):
            return reason
        reason = self._reason(avoid, suspects, self._twins(group, wants), wants)
        if simple:
            self._reasons[wants.signature] = (len(self.taken), reason)
        return reason

    def why(self, worker_id: str, wants: Wants = NOTHING) -> str:
        """Why `choose` chose this worker; before it is taken."""
        slots = self.slots[worker_id]
        load = f"({slots.assigned} of {slots.worker.max_pipelines})"
        if wants.affinity == worker_id:
            return f"wished for {load}"
        missed = f"; {wants.affinity}, wished for, cannot take it" if wants.affinity is not None else ""
        return f"{(wants.strategy or self._default).replace('_', ' ')} {load}{missed}"

    def _reason(self, avoid: Set[str], suspects: Set[str], twins: Mapping[str, int], wants: Wants) -> str:
        fitting = [slots for slots in self.slots.values() if wants.fits(slots.worker)]
        free = [slots for slots in fitting if not slots.full]
        apart = [slots for slots in free if not (wants.distinct and slots.worker.id in twins)]
        parts = [(len(fitting) - len(free), "full")]
        for each in wants.hard:
            lacking = sum(not met(each, slots.worker.labels) for slots in self.slots.values())
            parts.append((lacking, f"lack {words(each)}"))
        if wants.pipeline is not None:
            foreign = sum(slots.worker.incarnation is None for slots in self.slots.values())
            parts.append((foreign, "know no replicas"))
        unreached = sum(not wants.reaches(slots.worker) for slots in self.slots.values())
        parts.append((unreached, "have no NATS, which its routes need"))
        parts.append((len(free) - len(apart), f"hold another instance of {wants.pipeline}"))
        parts.append((self._known - len(self.slots) - self._cordoned, "not ready"))
        parts.append((self._cordoned, "cordoned"))
        late = [slots for slots in apart if slots.worker.id in suspects]
        parts.append((len(late), "late with their heartbeat"))
        refused = sum(slots.worker.id in avoid and slots not in late for slots in apart)
        parts.append((refused, "refused it lately"))
        told = ", ".join(f"{count} {what}" for count, what in parts if count)
        remedy = (
            "start a worker that fits, or ask for less" if wants.signature else "start a worker or make room"
        )
        workers = f"{self._known} worker{'s' if self._known != 1 else ''}"
        return f"no worker can take it: {workers}: {told or 'none is there'}; {remedy}"

    def _twins(self, group: str, wants: Wants) -> Mapping[str, int]:
        return self._of_pipeline.get((group, wants.pipeline), _NONE) if wants.pipeline else _NONE

    def _pool(self, name: str, wants: Wants, group: str, zone: tuple[str, str] | None = None) -> _Pool:
        own = group if name in BY_GROUP and self._looked.get(group, 0) > len(self.slots) else None
        key = (wants.signature, name, own, ":".join(zone) if zone is not None else None)
        pool = self._pools.get(key)
        if pool is None:
            members = self._fitting(wants) if zone is None else self._zones_of(wants, zone[0])[zone[1]]
            pool = self._pools[key] = _Pool(members, wants, STRATEGIES[name], own)
            pool.fill(self)
        pool.catch_up(self)
        return pool

    def _fitting(self, wants: Wants) -> Iterator[Slots]:
        return (slots for slots in self.slots.values() if wants.fits(slots.worker))

    def _zones_of(self, wants: Wants, label: str) -> dict[str, list[Slots]]:
        key = (wants.signature, label)
        zones = self._zones.get(key)
        if zones is None:
            zones = self._zones[key] = {}
            for slots in self._fitting(wants):
                zones.setdefault(slots.worker.labels.get(label, ""), []).append(slots)
        return zones

    def _counts(self, label: str) -> dict[str, dict[str, int]]:
        """Pipelines by group and value of the label, kept up from the first time it is asked for."""
        counts = self._in_zones.get(label)
        if counts is None:
            counts = self._in_zones[label] = {}
            for group, held in self._of_group.items():
                in_zone = counts[group] = {}
                for name, count in held.items():
                    if (slots := self.slots.get(name)) is not None:
                        _add(in_zone, slots.worker.labels.get(label, ""), count)
        return counts


def twins_of(state: State, group: str, instance: str) -> str | None:
    """The pipeline whose further instances an instance keeps apart from; None when it is the only one."""
    found = state.groups[group].instance(instance)
    return found.pipeline.name if found is not None and state.groups[group].several(found.pipeline) else None


def _add(counts: dict[str, int], key: str, count: int = 1) -> None:
    counts[key] = counts.get(key, 0) + count
