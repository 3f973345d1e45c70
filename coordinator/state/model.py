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
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from proto_schemas.rest import GroupSpec, PipelineSpec

MAX_WORKERS: Final = 10_000
MAX_GROUPS: Final = 10_000
MAX_REMEMBERED: Final = 10_000
MAX_AUDIT: Final = 1_000
MAX_STRAYS: Final = 10_000
MAX_COPY: Final = 128 * 1024 * 1024
"""Bytes of a copy that is restored: half of `RaftConfig.max_snapshot_bytes`, because a snapshot that is taken
meanwhile holds the parts beside the state."""
MAX_FOREIGN_EPOCH: Final = 2**53
"""An epoch above this, told by a worker, is nonsense: taken over, it would use the counter up."""


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


HOLDING: Final = frozenset({Phase.DEPLOYING, Phase.RUNNING, Phase.REMOVING})
"""Phases in which a placement takes a slot of its worker."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of what the state holds.

    Without garbage collection: a record refers to nothing that refers back to it, and to look at tens of
    thousands of them, which a copy for a snapshot can set off, would stop the event loop for too long.
    """


class Worker(Record, frozen=True, kw_only=True):
    """A member. `incarnation` is None for a seed worker; `registered_at` in ms since 1970; `carrier`: `nats`,
    or `rest` when it has no NATS and its commands go to its address."""

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
    carrier: str = NATS


class Placement(Record, frozen=True, kw_only=True):
    """Where one pipeline of a group runs. `worker_id` is set while it holds a slot there.

    `reason` says why it does not run, or why it is being placed again; None once it runs.
    `attempts` counts the placements since it last ran.
    """

    phase: Phase = Phase.PENDING
    epoch: int = 0
    worker_id: str | None = None
    pipeline_id: str | None = None
    reason: str | None = None
    attempts: int = 0


class Group(Record, frozen=True, kw_only=True):
    """What somebody asked for. `consumes`: the event types each pipeline's program takes from outside."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    version: int = 1
    created_at: int
    deleting: bool = False

    def pipeline(self, name: str) -> PipelineSpec:
        """The spec of one pipeline.

        Raises:
            KeyError: the group has none of that name.
        """
        for pipeline in self.spec.pipelines:
            if pipeline.name == name:
                return pipeline
        raise KeyError(name)


class Stray(Record, frozen=True, kw_only=True):
    """A copy to get rid of."""

    worker_id: str
    pipeline_id: str
    group: str
    pipeline: str
    epoch: int


class Event(Record, frozen=True, kw_only=True):
    """One decision: when (ms), who (`api`, `liveness`, ...), what, about whom, why."""

    at: int
    by: str
    what: str
    about: str
    why: str = ""


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


class State(msgspec.Struct, kw_only=True):
    """The whole. Groups and placements are keyed by name; `strays` by `worker/pipeline_id`; `uploads` holds
    one at most, and `parts` what came of it, by number."""

    coordinators: dict[str, str] = {}
    workers: dict[str, Worker] = {}
    groups: dict[str, Group] = {}
    placements: dict[str, dict[str, Placement]] = {}
    strays: dict[str, Stray] = {}
    epochs: int = 0
    sessions: int = 0
    remembered: "dict[str, Remembered]" = {}
    audit: list[Event] = []
    uploads: dict[str, Upload] = {}
    parts: dict[int, bytes] = {}
    unpacked: Unpacked | None = None

    def each_placement(self) -> Iterator[tuple[str, str, Placement]]:
        """(group, pipeline, placement) of every pipeline, in a stable order."""
        for group, placements in self.placements.items():
            for pipeline, placement in placements.items():
                yield group, pipeline, placement

    def placed_on(self, worker_id: str) -> list[tuple[str, str, Placement]]:
        """What holds a slot of a worker."""
        return [entry for entry in self.each_placement() if entry[2].worker_id == worker_id]

    def placed_by_worker(self) -> dict[str, list[tuple[str, str, Placement]]]:
        """What holds a slot of each worker that holds any; one walk instead of one per worker."""
        placed: dict[str, list[tuple[str, str, Placement]]] = {}
        for entry in self.each_placement():
            if entry[2].worker_id is not None:
                placed.setdefault(entry[2].worker_id, []).append(entry)
        return placed

    def placement(self, group: str, pipeline: str) -> Placement | None:
        """The placement of a pipeline; None when there is no such pipeline."""
        return self.placements.get(group, {}).get(pipeline)

    def ready(self, worker_id: str | None) -> Worker | None:
        """That worker when it may hold pipelines, else None."""
        worker = self.workers.get(worker_id) if worker_id is not None else None
        return worker if worker is not None and worker.status is WorkerStatus.READY else None


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


class Refused(Result, frozen=True, kw_only=True):
    """Nothing was changed; `code` is one of the wire's."""

    code: str
    error: str
    retryable: bool = False


AnyResult = Done | Joined | Placed | Restored | Refused


class Remembered(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first answer to a request id, what that request was about, and the CRC-32 of its words."""

    about: str
    result: AnyResult
    words: int = 0
