"""The records of the state: workers, placements, copies, jobs, keys, the trail.

They are frozen and replaced, never edited: a controller that holds one across an `await` holds a consistent
picture. Groups and their versions are `coordinator.state.versions`'.
"""

from enum import StrEnum
from typing import Any, Final

import msgspec

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
