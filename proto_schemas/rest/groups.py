"""Pipeline groups: what is asked for, what runs, and how one version becomes the next."""

from typing import Annotated, Final, Literal

import msgspec

from proto_schemas.errors import Diagnostic
from proto_schemas.messages.base import Message
from proto_schemas.messages.deploys import Route
from proto_schemas.rest.base import Pagination, View
from proto_schemas.subjects import Id

MAX_WHY: Final = 200
"""Characters in which somebody says why he changes a group."""
ROLLBACK_ASKED: Final = "a rollback was asked for"
"""How the reason begins of an update that somebody gave up."""
Why = Annotated[str, msgspec.Meta(max_length=MAX_WHY)]
STRATEGY_PATTERN = r"\A(least_loaded|round_robin|binpack|spread(:[^\s:]{1,64})?)\Z"
Strategy = Annotated[
    str,
    msgspec.Meta(
        pattern=STRATEGY_PATTERN,
        description="least_loaded, round_robin, binpack, spread, or spread:LABEL over the values of a label",
    ),
]
Replicas = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Constraint(Message, frozen=True, kw_only=True):
    """Where a pipeline may run, or had better run. Either a test of a worker's label, or `distinct_workers`.

    `label`, `op`: what is asked, with `value` for `=` and `!=`, `values` for `in` and `not_in`, neither for
    `exists` and `not_exists`. A worker without the label fits `!=`, `not_in` and `not_exists`.
    `distinct_workers`: no two instances of the pipeline on one worker.
    `hard` (the default): a worker that does not fit is never chosen; else one that fits is preferred, by
    `weight`. For `distinct_workers` the word `"hard"` or `"soft"` itself says so.
    """

    label: str | None = None
    op: Literal["=", "!=", "in", "not_in", "exists", "not_exists"] | None = None
    value: str | None = None
    values: list[str] | None = None
    distinct_workers: Literal["hard", "soft"] | None = None
    hard: bool = True
    weight: Weight = 1


class PipelineSpec(Message, frozen=True, kw_only=True):
    """One pipeline of a group as the user wants it.

    `replicas`: how many instances of it run; with `partition_key` each event goes to the instance that owns
    the value of that field, without to any one of them. `checkpoint_secs`: how often its state is
    checkpointed when it changes, 0: never by itself, None: as its worker does.
    """

    name: Id
    source: Annotated[str, msgspec.Meta(examples=["stream Out = In.where(x > 0).emit(x: x)"])]
    worker_affinity: str | None = None
    replicas: Replicas = 1
    partition_key: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    constraints: Annotated[list[Constraint], msgspec.Meta(max_length=32)] | None = None
    checkpoint_secs: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None


class GroupSpec(Message, frozen=True, kw_only=True):
    """`POST /pipeline-groups`: pipelines that belong together, and the routes between them.

    `strategy`: how its workers are chosen, None: as the cluster does; `allow_cycles`: its routes may lead
    back to where an event came from.
    """

    name: Id
    pipelines: Annotated[list[PipelineSpec], msgspec.Meta(min_length=1, max_length=1000)]
    routes: list[Route] = []
    delivery: Literal["at_most_once", "at_least_once", "exactly_once"] = "at_most_once"
    strategy: Strategy | None = None
    allow_cycles: bool = False


class PlacementView(View, frozen=True, kw_only=True):
    """Where one instance of a pipeline of a group runs, or why it does not.

    `pipeline_name`: of the instance; `instance_of`: the pipeline in the spec, `instance`: its number there;
    `moving`: the migration that is under way; `version`: of the group, that this copy is of. `reason`, once
    it runs: from which state it began, where some was lost.
    """

    pipeline_name: str
    worker_id: str | None
    worker_address: str | None
    pipeline_id: str | None
    status: str
    epoch: int
    reason: str | None
    instance_of: str
    instance: int
    moving: str | None
    version: int


class UpdateView(View, frozen=True, kw_only=True):
    """The last update of a group. Statuses: rolling rolling_back done rolled_back failed. `instances`: those
    that it touches, `done` of them run in the version it goes to; both 0 once it has ended. `reason`: what it
    waits for, or why it was rolled back. Times in ms since 1970.
    """

    from_version: int
    to_version: int
    status: str
    instances: int
    done: int
    reason: str | None
    started_at: int
    ended_at: int | None


class PlannedChange(View, frozen=True, kw_only=True):
    """What an update does to one instance: unchanged updated added removed. `worker_id`: where it would run
    afterwards, or is removed from; null: nowhere now, and `reason` says why."""

    pipeline_name: str
    change: str
    worker_id: str | None
    reason: str | None


class UpdatePlan(View, frozen=True, kw_only=True):
    """Answer to `PUT /pipeline-groups/{id}?dry_run=true`; equal versions: nothing would change."""

    id: str
    from_version: int
    to_version: int
    changes: list[PlannedChange]


class RollbackRequest(Message, frozen=True, kw_only=True):
    """`POST /pipeline-groups/{id}/rollback`. `to`: a version of its history; null: what it was before."""

    to: Annotated[int, msgspec.Meta(ge=1, le=2**53)] | None = None
    why: Why = ""


class ScaleRequest(Message, frozen=True, kw_only=True):
    """`POST /pipeline-groups/{id}/scale`: another number of replicas for one pipeline of the group."""

    pipeline: Id
    replicas: Replicas
    why: Why = ""


class EditionView(View, frozen=True, kw_only=True):
    """One version of a group: since when (ms since 1970), by whom, why. `status`: present, former, or failed,
    with the reason; `pipelines`: their names."""

    version: int
    status: str
    at: int
    by: str
    why: str
    reason: str | None
    pipelines: list[str]


class HistoryView(View, frozen=True, kw_only=True):
    """`GET /pipeline-groups/{id}/history`: the versions that are kept, newest first."""

    id: str
    versions: list[EditionView]


class TrafficView(View, frozen=True, kw_only=True):
    """Events that one copy took in and put out since it was deployed: a rate is a difference of two looks at
    one `pipeline_id`."""

    events_in: int
    events_out: int


class GroupView(View, frozen=True, kw_only=True):
    """`GET /pipeline-groups/{id}`. Statuses: deploying running partially_running failed torn_down.

    By name of an instance, as the answering coordinator heard last, absent where that is not known:
    `loss_windows`, the seconds whose events would be lost if its worker died now; `traffic`, its events.
    """

    id: str
    name: str
    status: str
    version: int
    pipeline_count: int
    placements: list[PlacementView]
    sources: dict[str, str]
    routes: list[Route]
    delivery: str
    strategy: str | None
    update: UpdateView | None
    loss_windows: dict[str, int]
    traffic: dict[str, TrafficView]


class GroupList(View, frozen=True, kw_only=True):
    """`GET /pipeline-groups`."""

    pipeline_groups: list[GroupView]
    total: int
    pagination: Pagination


class TornDown(View, frozen=True, kw_only=True):
    """Answer to `DELETE /pipeline-groups/{id}`."""

    torn_down: bool
    status: str


class ValidateRequest(Message, frozen=True, kw_only=True):
    """`POST /validate`."""

    source: str


class ValidateResponse(View, frozen=True, kw_only=True):
    """Every finding at once."""

    valid: bool
    diagnostics: list[Diagnostic]
