"""What the coordinators agree on.

Only `State`'s dictionaries change, and only under `apply`; what they hold (`coordinator.state.records`,
`coordinator.state.versions`) is replaced as a whole.

- An **epoch** names one attempt to run one pipeline on one worker. Epochs come from a single counter of the
  cluster, so a copy that carries an epoch was meant for exactly one worker and no other copy carries it.
  The counter also jumps above every epoch a worker tells of: one that outlived the logs of its coordinators
  would call all new ones old.
- A **session** names one life of a worker process, also from one counter. A seed worker has no incarnation,
  so each of its registrations is a new session.
- A **stray** is a copy that may still run where it should not: its worker was silent, or restarted, when the
  pipeline was taken from it. It is written down until that worker has let it go, because a seed worker does
  not report what it runs.
- A **line** is the chain of copies of one pipeline that took over from each other without loss. It is named
  by the epoch under which it began (`Placement.queue`), and its copies share one queue group of NATS; a
  copy placed after a failure begins a new one, so a zombie of the old line takes no event away from it.
- A **migration** and a **drain** are jobs: they live here, so that the next leader goes on where the last one
  stopped. Those that ended are kept apart, the newest `MAX_JOBS` of each.
"""

from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from typing import TypeVar

import msgspec

from coordinator.state.records import (
    ApiKey,
    Connector,
    Drain,
    Event,
    Migration,
    Phase,
    Placement,
    Stray,
    Upload,
    Worker,
    WorkerStatus,
)
from coordinator.state.results import Remembered
from coordinator.state.versions import Group

K = TypeVar("K", bound=Hashable)


class Unpacked(msgspec.Struct, kw_only=True):
    """What the parts of an upload give so far, in their order: follows from them, and is no part of a
    snapshot. `rest`: the beginning of a frame; `problem`: why no state will come of it."""

    state: "State"
    counts: dict[str, int] | None = None
    parts: int = 0
    crc: int = 0
    rest: bytes = b""
    problem: str | None = None


class State(msgspec.Struct, kw_only=True, dict=True):
    """The whole. Groups and placements are keyed by name; `strays` by `worker/pipeline_id`; `uploads` holds
    one at most, and `parts` what came of it, by number; migrations and drains under way, and those that
    `ended`, by their ids.

    Which placements a worker holds, which do not run, what strays of whom there are, and which groups are
    being updated, is looked up in indexes that are derived, and no part of snapshots. So these change through
    the methods below alone once somebody has asked for them, or all through `become`.
    """

    coordinators: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    groups: dict[str, Group] = {}
    placements: dict[str, dict[str, Placement]] = {}
    strays: dict[str, Stray] = {}
    keys: dict[str, ApiKey] = {}
    epochs: int = 0
    sessions: int = 0
    connectors: dict[str, Connector] = {}
    remembered: "dict[str, Remembered]" = {}
    audit: list[Event] = []
    uploads: dict[str, Upload] = {}
    parts: dict[int, bytes] = {}
    unpacked: Unpacked | None = None
    migrations: dict[str, Migration] = {}
    ended_migrations: dict[str, Migration] = {}
    drains: dict[str, Drain] = {}
    ended_drains: dict[str, Drain] = {}

    def each_placement(self) -> Iterator[tuple[str, str, Placement]]:
        """(group, pipeline, placement) of every pipeline, in a stable order."""
        for group, placements in self.placements.items():
            for pipeline, placement in placements.items():
                yield group, pipeline, placement

    def become(self, other: "State") -> None:
        """Hold what another state holds, which is not used any more; what was derived is derived anew."""
        self.__dict__.clear()
        for field in self.__struct_fields__:
            setattr(self, field, getattr(other, field))

    @cached_property
    def _rolling(self) -> set[str]:
        return {name for name, group in self.groups.items() if group.rolling is not None}

    @cached_property
    def _dividing(self) -> set[str]:
        return {name for name, group in self.groups.items() if group.division is not None}

    @property
    def dividing(self) -> list[Group]:
        """The groups in which a division is under way, by name."""
        return [self.groups[name] for name in sorted(self._dividing)]

    @property
    def rolling(self) -> list[Group]:
        """The groups that are being updated, by name."""
        return [self.groups[name] for name in sorted(self._rolling)]

    def write_group(self, group: Group) -> None:
        """Put a group in its place."""
        name = group.spec.name
        self.groups[name] = group
        if group.rolling is not None:
            self._rolling.add(name)
        else:
            self._rolling.discard(name)
        if group.division is not None:
            self._dividing.add(name)
        else:
            self._dividing.discard(name)

    def place_anew(self, group: str, instances: Iterable[str]) -> None:
        """Put all placements of a new group in their place, pending."""
        self.placements[group] = {}
        for instance in instances:
            self.write_placement(group, instance, Placement())

    def drop_group(self, name: str) -> None:
        """Remove a group that has no placements any more."""
        del self.placements[name]
        del self.groups[name]
        self._rolling.discard(name)
        self._dividing.discard(name)

    @cached_property
    def _held(self) -> dict[str, dict[tuple[str, str], None]]:
        held: dict[str, dict[tuple[str, str], None]] = {}
        for group, pipeline, placement in self.each_placement():
            if placement.worker_id is not None:
                held.setdefault(placement.worker_id, {})[group, pipeline] = None
        return held

    @cached_property
    def _unsettled(self) -> dict[tuple[str, str], None]:
        return {
            (group, pipeline): None
            for group, pipeline, placement in self.each_placement()
            if placement.phase is not Phase.RUNNING
        }

    def unsettled(self) -> Iterator[tuple[str, str, Placement]]:
        """(group, pipeline, placement) of what does not run, the longest first; while nothing changes."""
        for group, pipeline in self._unsettled:
            yield group, pipeline, self.placements[group][pipeline]

    @cached_property
    def _marks(self) -> dict[str, object]:
        return {}

    @cached_property
    def _first_mark(self) -> object:
        return object()

    def mark_of(self, worker_id: str) -> object:
        """Another object after each change of what a worker holds, in one session of it: only which one it is
        means something."""
        return self._marks.get(worker_id, self._first_mark)

    def drop_worker(self, worker_id: str) -> None:
        """Remove a worker."""
        del self.workers[worker_id]
        self._marks.pop(worker_id, None)

    def write_placement(self, group: str, pipeline: str, placement: Placement) -> None:
        """Put a placement into its group, or in place of the one that is there."""
        self._release(group, pipeline)
        self.placements[group][pipeline] = placement
        if placement.worker_id is not None:
            self._held.setdefault(placement.worker_id, {})[group, pipeline] = None
            self._marks[placement.worker_id] = object()
        if placement.phase is Phase.RUNNING:
            self._unsettled.pop((group, pipeline), None)
        else:
            self._unsettled.setdefault((group, pipeline))

    def drop_placement(self, group: str, pipeline: str) -> None:
        """Remove a placement that is there."""
        self._release(group, pipeline)
        self._unsettled.pop((group, pipeline), None)
        del self.placements[group][pipeline]

    def _release(self, group: str, pipeline: str) -> None:
        before = self.placements[group].get(pipeline)
        if before is None or before.worker_id is None:
            return
        self._marks[before.worker_id] = object()
        held = self._held.get(before.worker_id, {})
        held.pop((group, pipeline), None)
        if not held:
            self._held.pop(before.worker_id, None)

    def count_on(self, worker_id: str) -> int:
        """How many placements hold a slot of a worker."""
        return len(self._held.get(worker_id, ()))

    def placed_on(self, worker_id: str) -> list[tuple[str, str, Placement]]:
        """What holds a slot of a worker, by name: the same order on every replica."""
        held = sorted(self._held.get(worker_id, ()))
        return [(group, pipeline, self.placements[group][pipeline]) for group, pipeline in held]

    def stranded(self) -> Iterator[tuple[str, str, Placement]]:
        """What runs, by the state, on workers that are not ready; not while the state changes."""
        for worker_id, held in self._held.items():
            if self.ready(worker_id) is None:
                for group, pipeline in held:
                    placement = self.placements[group][pipeline]
                    if placement.phase is Phase.RUNNING:
                        yield group, pipeline, placement

    @cached_property
    def _strays_of(self) -> dict[tuple[str, str], dict[str, None]]:
        of: dict[tuple[str, str], dict[str, None]] = {}
        for key, stray in self.strays.items():
            of.setdefault((stray.group, stray.pipeline), {})[key] = None
        return of

    @cached_property
    def _strays_on(self) -> dict[str, dict[str, None]]:
        on: dict[str, dict[str, None]] = {}
        for key, stray in self.strays.items():
            on.setdefault(stray.worker_id, {})[key] = None
        return on

    def strays_of(self, group: str, pipeline: str) -> list[Stray]:
        """The strays of a pipeline, the oldest first."""
        return [self.strays[key] for key in self._strays_of.get((group, pipeline), ())]

    def strays_on(self, worker_id: str) -> list[str]:
        """The keys of the strays on a worker, the oldest first."""
        return list(self._strays_on.get(worker_id, ()))

    def write_stray(self, stray: Stray) -> None:
        """Put a stray in its place."""
        key = f"{stray.worker_id}/{stray.pipeline_id}"
        place = self.strays.get(key)
        if place is not None:
            _leave(self._strays_of, (place.group, place.pipeline), key)
        self.strays[key] = stray
        self._strays_of.setdefault((stray.group, stray.pipeline), {})[key] = None
        self._strays_on.setdefault(stray.worker_id, {})[key] = None

    def drop_stray(self, key: str) -> Stray | None:
        """Remove a stray; None when it is not there."""
        stray = self.strays.pop(key, None)
        if stray is not None:
            _leave(self._strays_of, (stray.group, stray.pipeline), key)
            _leave(self._strays_on, stray.worker_id, key)
        return stray

    def placement(self, group: str, pipeline: str) -> Placement | None:
        """The placement of a pipeline; None when there is no such pipeline."""
        return self.placements.get(group, {}).get(pipeline)

    def users_of(self, connector: str) -> list[str]:
        """The pipelines that name a registered connector, as `group/pipeline`, in order."""
        return sorted(
            {
                f"{name}/{pipeline}"
                for name, group in self.groups.items()
                for revision in (group, group.former)
                for pipeline, used in (revision.connectors.items() if revision is not None else ())
                if connector in used
            }
        )

    def ready(self, worker_id: str | None) -> Worker | None:
        """That worker when it may hold pipelines, else None."""
        worker = self.workers.get(worker_id) if worker_id is not None else None
        return worker if worker is not None and worker.status is WorkerStatus.READY else None

    def open(self, worker_id: str | None) -> Worker | None:
        """That worker when it may take new pipelines, else None."""
        worker = self.ready(worker_id)
        return worker if worker is not None and not worker.cordoned else None

    def slots_taken(self, worker_id: str) -> int:
        """Slots of a worker that are taken: by what is placed there, and by what is on its way there."""
        coming = sum(move.to_worker == worker_id != move.from_worker for move in self.migrations.values())
        return (
            self.count_on(worker_id) + coming + sum(worker_id == each for _, _, each in self.coming_apart())
        )

    def coming_apart(self) -> Iterator[tuple[str, str, str]]:
        """(group, instance, worker) of the new copies of divisions that take a slot beside the old ones."""
        for group in self.dividing:
            division = group.division
            if division is not None:
                here = {(each.instance, each.worker) for each in division.old}
                for each in division.new:
                    if (each.instance, each.worker) not in here:
                        yield group.spec.name, each.instance, each.worker

    def moving(self, group: str, pipeline: str) -> Migration | None:
        """The migration of a pipeline that is under way."""
        for move in self.migrations.values():
            if (move.group, move.pipeline) == (group, pipeline):
                return move
        return None

    def draining(self, worker_id: str) -> Drain | None:
        """The drain of a worker that is under way."""
        for drain in self.drains.values():
            if drain.worker_id == worker_id:
                return drain
        return None


def _leave(index: dict[K, dict[str, None]], of: K, key: str) -> None:
    """Take a key out of an index, and what is empty then."""
    keys = index.get(of, {})
    keys.pop(key, None)
    if not keys:
        index.pop(of, None)
