"""What the coordinators agree on.

Records are frozen and replaced, never edited: a controller that holds one across an `await` holds a
consistent picture. Only `State`'s dictionaries change, and only under `apply`.

- An **epoch** names one attempt to run one pipeline on one worker. Epochs come from a single counter of the
  cluster, so a copy that carries an epoch was meant for exactly one worker and no other copy carries it.
  The counter also jumps above every epoch a worker tells of: one that outlived the logs of its coordinators
  would call all new ones old.
- A **session** names one life of a worker process, also from one counter. A seed worker has no incarnation,
  so each of its registrations is a new session.
- A **stray** is a copy that may still run where it should not: its worker was silent, or restarted, when the
  pipeline was taken from it. It is written down until that worker has let it go, because a seed worker does
  not report what it runs.
- An **instance** is what is placed: a pipeline with `replicas` n has n of them, each with a placement of its
  own under its own name; any other pipeline is its only instance.
- A **line** is the chain of copies of one pipeline that took over from each other without loss. It is named
  by the epoch under which it began (`Placement.queue`), and its copies share one queue group of NATS; a
  copy placed after a failure begins a new one, so a zombie of the old line takes no event away from it.
- A **revision** of a group is one version of its spec. While an **update** rolls it from one to another,
  each of its instances is of the one or of the other (`Group.at`): it is `behind` until a copy of the new one
  is the placement.
- A **migration** and a **drain** are jobs: they live here, so that the next leader goes on where the last one
  stopped. Those that ended are kept apart, the newest `MAX_JOBS` of each.
"""

from collections.abc import Hashable, Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from proto_schemas.partition import instance_names
from proto_schemas.rest import GroupSpec, PipelineSpec

MAX_WORKERS: Final = 10_000
MAX_GROUPS: Final = 10_000
MAX_REMEMBERED: Final = 10_000
MAX_AUDIT: Final = 1_000
MAX_STRAYS: Final = 10_000
MAX_COPY: Final = 128 * 1024 * 1024
"""Bytes of a copy that is restored: half of `RaftConfig.max_snapshot_bytes`, because a snapshot that is taken
meanwhile holds the parts beside the state."""
MAX_CONNECTORS: Final = 1_000
MAX_JOBS: Final = 1_000
"""Migrations that ended, and likewise drains, that are remembered."""
MAX_KEYS: Final = 10_000
MAX_FOREIGN_EPOCH: Final = 2**53
"""An epoch above this, told by a worker, is nonsense: taken over, it would use the counter up."""


K = TypeVar("K", bound=Hashable)

NATS: Final = "nats"
REST: Final = "rest"
"""The carriers of a worker's commands."""


class WorkerStatus(StrEnum):
    """Whether pipelines may be placed on a worker. Only a `ready` one takes any."""

    READY = "ready"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"


class Phase(StrEnum):
    """Where a placement stands; `phases.TRANSITIONS` says what leads where."""

    PENDING = "pending"
    DEPLOYING = "deploying"
    RUNNING = "running"
    FAILED = "failed"
    REMOVING = "removing"


class MovePhase(StrEnum):
    """How far a migration is; `jobs.MOVES` says what leads where."""

    STARTED = "started"
    HELD = "held"
    HANDED_OVER = "handed_over"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DrainPhase(StrEnum):
    """How far a drain is; `jobs.DRAINS` says what leads where."""

    ACTIVE = "active"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class UpdatePhase(StrEnum):
    """How far the update of a group is. `rolling` becomes `rolling_back` when the new version fails."""

    ROLLING = "rolling"
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Cause(StrEnum):
    """Why a pipeline moves, or a worker is emptied."""

    MANUAL = "manual"
    DRAIN = "drain"
    REBALANCE = "rebalance"
    UPDATE = "update"
    LEAVE = "leave"


HOLDING: Final = frozenset({Phase.DEPLOYING, Phase.RUNNING, Phase.REMOVING})
"""Phases in which a placement takes a slot of its worker."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of what the state holds.

    Without garbage collection: a record refers to nothing that refers back to it, and to look at tens of
    thousands of them, which a copy for a snapshot can set off, would stop the event loop for too long.
    """


class Worker(Record, frozen=True, kw_only=True):
    """A member. `incarnation` is None for a seed worker; `registered_at` in ms since 1970; `carrier`: `nats`,
    or `rest` when it has no NATS and its commands go to its address. A `cordoned` one keeps what it has and
    takes nothing new. `key_id`: the API key under which it registered; empty: none was asked for."""

    id: str
    session: int
    incarnation: str | None = None
    address: str
    cpu_cores: int
    max_pipelines: int
    labels: dict[str, str] = {}
    version: str | None = None
    status: WorkerStatus = WorkerStatus.READY
    registered_at: int
    cordoned: bool = False
    carrier: str = NATS
    key_id: str = ""


class Placement(Record, frozen=True, kw_only=True):
    """Where one pipeline of a group runs. `worker_id` is set while it holds a slot there.

    `reason` says why it does not run, or why it is being placed again; once it runs, from which state it
    began where its predecessor's last was lost, else None.
    `attempts` counts the placements since it last ran. `queue` is the epoch under which its line of copies
    began; 0: it was placed by a version that knew no lines, and cannot be moved without loss. `lines`: the
    same of further shares that it takes, by their numbers, where it is not `queue`. `since`: the version of
    the group that made it, or gave it other keys; 0: the first. A checkpoint from before is not for it.
    """

    phase: Phase = Phase.PENDING
    epoch: int = 0
    worker_id: str | None = None
    pipeline_id: str | None = None
    reason: str | None = None
    attempts: int = 0
    queue: int = 0
    lines: dict[str, int] = {}
    since: int = 0


class Instance(NamedTuple):
    """The `number`-th instance of a pipeline, from 0."""

    pipeline: PipelineSpec
    number: int


class Revision(Record, frozen=True, kw_only=True, gc=True):
    """One version of a group: the fields of `Group` that an update changes."""

    version: int
    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}


class Part(Record, frozen=True, kw_only=True):
    """One copy that takes part in a division: an old one as it runs, or a new one that is to be.

    `session`: the life of a new one's worker that was meant; `queue`, `lines`: as of its placement.
    """

    instance: str
    worker: str
    epoch: int
    session: int = 0
    pipeline_id: str | None = None
    queue: int = 0
    lines: dict[str, int] = {}


class Division(Record, frozen=True, kw_only=True, gc=True):
    """The instances of a pipeline that share by key become more or fewer: `old` ones hand over to `new` ones;
    see `divisions`. `wanted`: what the group is to be then; `held`: the new copies are there; `reason`: what
    stands in the way."""

    id: str
    pipeline: str
    wanted: Revision
    old: tuple[Part, ...]
    new: tuple[Part, ...]
    held: bool = False
    by: str
    why: str = ""
    reason: str | None = None
    started_at: int


class Update(Record, frozen=True, kw_only=True, gc=True):
    """A group on its way from one version to another, and perhaps back; times in ms since 1970.

    The group itself is of the version that it goes to, `before` is the one it comes from: when it is rolled
    back the two change places. `behind`: instances whose copies are of `before`. `fresh`: those that are new,
    or deployed otherwise, in the version it goes to. `failing`: why it will be rolled back as soon as no
    migration of it is under way. `failures`: by instance, migrations that failed for no reason of the
    program's. `reason`: what stands in the way, or why it was rolled back. What comes before it is empty once
    the update has ended.
    """

    from_version: int
    to_version: int
    phase: UpdatePhase = UpdatePhase.ROLLING
    before: Revision | None = None
    behind: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    failing: str | None = None
    failures: dict[str, int] = {}
    reason: str | None = None
    started_at: int
    ended_at: int | None = None


class Edition(Record, frozen=True, kw_only=True, gc=True):
    """A version that a group has, or had: since when (ms since 1970), by whom, why; see `history`.

    `revision`: what the group was, `size` its bytes; None: what it is now. `failed`: why it was rolled back.
    """

    version: int
    at: int
    by: str
    why: str = ""
    revision: Revision | None = None
    size: int = 0
    failed: str | None = None


class Group(Record, frozen=True, kw_only=True, gc=True, dict=True):
    """What somebody asked for. `consumes`: the event types each pipeline's program takes from outside;
    `connectors`: the registered ones it names; both by pipeline. `update`: the last one; `newest`: the
    highest version it ever had, 0 for the first. `shared`: for pipelines that once ran alone, the line whose
    queue group all their instances joined; for others with replicas it is named by `created_at`. `history`:
    its last versions, oldest first; empty for one from before they were kept. `shares`: into how many shares
    the events of pipelines with a key are cut, where that is not the number of their replicas any more.

    With garbage collection, as its spec is, to remember what is derived from it.
    """

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    version: int = 1
    created_at: int
    deleting: bool = False
    update: Update | None = None
    newest: int = 0
    shared: dict[str, int] = {}
    history: tuple[Edition, ...] = ()
    shares: dict[str, int] = {}
    division: Division | None = None

    @property
    def rolling(self) -> Update | None:
        """The update that is under way."""
        return self.update if self.update is not None and self.update.before is not None else None

    @cached_property
    def former(self) -> "Group | None":
        """The group as it was before the update that is under way."""
        rolling = self.rolling
        if rolling is None or rolling.before is None:
            return None
        old = rolling.before
        return msgspec.structs.replace(
            self,
            version=old.version,
            spec=old.spec,
            consumes=old.consumes,
            connectors=old.connectors,
            update=None,
        )

    def with_update(self, update: Update) -> "Group":
        """The same group with its update as it is now; what is derived from the same specs is kept, because
        each instance that comes after makes one."""
        group = msgspec.structs.replace(self, update=update)
        kept = ["instances", "pipelines", "over_nats"]
        if self.update is not None and update.before is self.update.before:
            kept.append("former")
        derived: dict[str, Any] = {name: self.__dict__[name] for name in kept if name in self.__dict__}
        group.__dict__.update(derived)
        return group

    @cached_property
    def _behind(self) -> frozenset[str]:
        return frozenset(self.rolling.behind if self.rolling is not None else ())

    def at(self, instance: str, *, new: bool = False) -> "Group":
        """The group as it is for one instance: of the version that its copy is of; `new`: of the version
        that its next copy will be of."""
        former = self.former
        if former is None or instance not in self._behind or (new and instance in self.instances):
            return self
        return former

    @cached_property
    def instances(self) -> dict[str, Instance]:
        """What is to be placed, by name, in the order of the spec."""
        return {
            name: Instance(pipeline, number)
            for pipeline in self.spec.pipelines
            for number, name in enumerate(instance_names(pipeline.name, pipeline.replicas))
        }

    def shares_of(self, pipeline: PipelineSpec) -> int:
        """Into how many shares the events of a pipeline with a key are cut."""
        return self.shares.get(pipeline.name, pipeline.replicas)

    def several(self, pipeline: PipelineSpec) -> bool:
        """Whether a copy must be told which instance it is: it is one of several, or has all their shares."""
        return pipeline.replicas > 1 or pipeline.name in self.shares

    def divides(self, instance: str) -> bool:
        """Whether an instance is being divided."""
        return self.division is not None and any(each.instance == instance for each in self.division.old)

    @cached_property
    def pipelines(self) -> dict[str, PipelineSpec]:
        """The specs by the names of the pipelines."""
        return {pipeline.name: pipeline for pipeline in self.spec.pipelines}

    @cached_property
    def over_nats(self) -> frozenset[str]:
        """The pipelines that routes join to others, or to a subject of their own: only NATS carries those."""
        return frozenset(
            name
            for route in self.spec.routes
            if route.over_nats
            for name in (route.from_pipeline, route.to_pipeline)
        )

    def instance(self, name: str) -> Instance | None:
        """What an instance is, of the version that its copy is of; None for one that is only removed yet."""
        return self.at(name).instances.get(name)

    def pipeline(self, instance: str) -> PipelineSpec:
        """The spec of the pipeline that an instance belongs to.

        Raises:
            KeyError: the group has no instance of that name.
        """
        return self.at(instance).instances[instance].pipeline


class Connector(Record, frozen=True, kw_only=True):
    """A registered connector. `params`: its secrets sealed; times in ms since 1970; `version` counts its
    changes from 1."""

    name: str
    connector_type: str
    params: dict[str, Any] = {}
    description: str = ""
    version: int = 1
    created_at: int
    updated_at: int


class Stray(Record, frozen=True, kw_only=True):
    """A copy to get rid of."""

    worker_id: str
    pipeline_id: str
    group: str
    pipeline: str
    epoch: int


class Migration(Record, frozen=True, kw_only=True):
    """One pipeline on its way from one worker to another; times in ms since 1970.

    `to_session`: the life of the target that was meant. `reason`: why it failed, was cancelled, or was
    completed without what the source could not give any more; while it is under way, what stands in the way.
    """

    id: str
    group: str
    pipeline: str
    cause: Cause
    from_worker: str
    from_epoch: int
    to_worker: str
    to_epoch: int
    to_session: int
    queue: int
    phase: MovePhase = MovePhase.STARTED
    from_pipeline_id: str
    to_pipeline_id: str | None = None
    reason: str | None = None
    started_at: int
    ended_at: int | None = None
    lost: bool = False
    """The source died before it handed over, and the target goes live without: decided once, for its first
    order may have been carried out though nobody heard the answer."""

    @property
    def about(self) -> str:
        """The pipeline, as people call it."""
        return f"{self.group}/{self.pipeline}"


class Drain(Record, frozen=True, kw_only=True):
    """A worker that is being emptied; times in ms since 1970.

    `cordoned`: this drain cordoned the worker, so cancelling it uncordons. `total`: pipelines there at its
    begin; `moved`: those that have left since. `failures`: the last reason by `group/pipeline`, until it
    has left. `reason`: what stands in the way now, or why it ended. `deadline_at`: None when it may take
    for ever.
    """

    id: str
    worker_id: str
    session: int
    cause: Cause
    phase: DrainPhase = DrainPhase.ACTIVE
    cordoned: bool = False
    total: int
    moved: int = 0
    failures: dict[str, str] = {}
    reason: str | None = None
    started_at: int
    deadline_at: int | None = None
    ended_at: int | None = None


class Event(Record, frozen=True, kw_only=True):
    """One decision: its number in the trail (`trail.number`), when (ms), who (`api`, `liveness`, ...), what,
    about whom, why."""

    seq: int = 0
    at: int
    by: str
    what: str
    about: str
    why: str = ""


class KeyRole(StrEnum):
    """What an API key may do; `coordinator.security.roles` says on which route. A `worker` registers and
    heartbeats, and nothing else."""

    WORKER = "worker"
    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class ApiKey(Record, frozen=True, kw_only=True):
    """An API key without its secret: `digest` is of the secret with `salt`. Times in ms since 1970, 0:
    never. `worker`: the one worker, or with `*` at its end the workers, as which it may speak; empty: any."""

    id: str
    role: KeyRole
    salt: bytes
    digest: bytes
    note: str = ""
    created_at: int
    expires_at: int = 0
    revoked_at: int = 0
    replaced_by: str | None = None
    worker: str = ""

    def counts(self, at: int) -> bool:
        """Whether it is neither revoked nor expired at a time."""
        return not self.revoked_at and (not self.expires_at or at < self.expires_at)

    def __repr__(self) -> str:
        return f"ApiKey({self.id!r}, {self.role.value})"


class Upload(Record, frozen=True, kw_only=True):
    """A copy on its way into the state. `size` and `crc` (CRC-32C) are of all its parts together; `cluster`,
    `taken_at` (ms) and `last_index` tell which copy it is; after `until` (ms) it is given up."""

    id: str
    size: int
    crc: int
    cluster: str
    taken_at: int
    last_index: int
    began: int
    until: int


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


# -- results ------------------------------------------------------------------------------------------------


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag=str.lower, gc=False):
    """Base of what `apply` answers."""


class Done(Result, frozen=True, kw_only=True):
    """It is so now."""


class Joined(Result, frozen=True, kw_only=True):
    """The worker is a member, in this session."""

    session: int


class Placed(Result, frozen=True, kw_only=True):
    """The intent stands: deploy under this epoch."""

    epoch: int


class Restored(Result, frozen=True, kw_only=True):
    """The state is that of the copy; `kept` of its `pipelines` go on where they run."""

    groups: int
    pipelines: int
    kept: int


class Noted(Result, frozen=True, kw_only=True):
    """What was noted first under this request id."""

    text: str


class Started(Result, frozen=True, kw_only=True):
    """The job is under way."""

    id: str


class Refused(Result, frozen=True, kw_only=True):
    """Nothing was changed; `code` is one of the wire's."""

    code: str
    error: str
    retryable: bool = False


AnyResult = Done | Joined | Placed | Restored | Noted | Started | Refused


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first answer to a request id, what that request was about, and the CRC-32 of its words."""

    about: str
    result: AnyResult
    words: int = 0
