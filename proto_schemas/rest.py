"""Bodies of the coordinators' REST API (base `/api/v1/cluster`), shared by the server and the CLI."""

from typing import Annotated, Any, Final, Literal

import msgspec

from proto_schemas.errors import Diagnostic
from proto_schemas.messages import Count, Directive, Event, Message, Route
from proto_schemas.subjects import Id

API_BASE = "/api/v1/cluster"
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


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what the API shows: every field is always there."""


class WorkerView(View, frozen=True, kw_only=True):
    """`GET /workers/{id}`."""

    id: str
    address: str
    status: str
    pipelines_running: int
    max_pipelines: int
    cpu_cores: int
    assigned_pipelines: list[str]
    events_processed: int
    labels: dict[str, str]
    cordoned: bool
    last_heartbeat_age_ms: int | None
    incarnation: str | None
    carrier: str


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


class Pagination(View, frozen=True, kw_only=True):
    """Which part of a list this is."""

    total: int
    limit: int
    offset: int
    has_more: bool


class WorkerList(View, frozen=True, kw_only=True):
    """`GET /workers`."""

    workers: list[WorkerView]
    total: int
    pagination: Pagination


class GroupList(View, frozen=True, kw_only=True):
    """`GET /pipeline-groups`."""

    pipeline_groups: list[GroupView]
    total: int
    pagination: Pagination


class TornDown(View, frozen=True, kw_only=True):
    """Answer to `DELETE /pipeline-groups/{id}`."""

    torn_down: bool
    status: str


class InjectRequest(Event, frozen=True, kw_only=True):
    """`POST /pipeline-groups/{id}/inject`."""


class InjectResult(View, frozen=True, kw_only=True):
    """What one target pipeline answered."""

    pipeline: str
    worker_id: str
    worker_response: dict[str, Any]


class InjectResponse(View, frozen=True, kw_only=True):
    """The first three tell of the first target, `results` of all."""

    routed_to: str
    worker_id: str
    worker_response: dict[str, Any]
    results: list[InjectResult]


class InjectBatchRequest(Message, frozen=True, kw_only=True):
    """Exactly one of `events` and `events_text` (JSON lines)."""

    events: list[Any] | None = None
    events_text: str | None = None


class InjectBatchResponse(View, frozen=True, kw_only=True):
    """Counts over all targets; an event that nothing takes is a failed one."""

    events_sent: int
    events_failed: int
    output_events: list[dict[str, Any]]
    errors: list[str]
    processing_time_us: int


class ValidateRequest(Message, frozen=True, kw_only=True):
    """`POST /validate`."""

    source: str


class ValidateResponse(View, frozen=True, kw_only=True):
    """Every finding at once."""

    valid: bool
    diagnostics: list[Diagnostic]


class RaftPeer(View, frozen=True, kw_only=True):
    """One coordinator as this node sees it."""

    id: str
    role: str
    match_index: int | None
    lag: int | None
    last_contact_ms: int | None
    url: str | None


class RaftView(View, frozen=True, kw_only=True):
    """`GET /raft`. `generation`: of the members, counted from 1; `learners`: coordinators that are being
    added and catch up (the leader knows); `failure`: why this node has withdrawn, null while it takes part.
    """

    enabled: bool
    this_node_id: str
    leader_id: str | None
    generation: int
    learners: list[str]
    term: int
    commit_index: int
    applied_index: int
    failure: str | None
    nodes: list[RaftPeer]


class TransferRequest(Message, frozen=True, kw_only=True):
    """`POST /raft/transfer`. `to`: who is to lead; null: whichever member is best prepared."""

    to: Id | None = None


class TransferResult(View, frozen=True, kw_only=True):
    """Who leads now."""

    leader_id: str


class MemberRequest(Message, frozen=True, kw_only=True):
    """`POST /raft/members`. `replaces`: a member that leaves in the same step."""

    id: Id
    replaces: Id | None = None


class GenerationView(View, frozen=True, kw_only=True):
    """The members of the Raft group. `number` grows with each change; `retired`: ids that never come back."""

    number: int
    members: list[str]
    retired: list[str]


class RestoreResult(View, frozen=True, kw_only=True):
    """Answer to `POST /snapshot`: the copy that is the state now; `kept` of its pipelines went on where they
    ran."""

    cluster_id: str
    last_index: int
    taken_at_ms: int
    groups: int
    pipelines: int
    kept: int


class MigrateRequest(Message, frozen=True, kw_only=True):
    """`POST /pipelines/{group}/{pipeline}/migrate`. `to`: a worker; null: as placement would choose."""

    to: Id | None = None


class MigrationStarted(View, frozen=True, kw_only=True):
    """Answer to that: it is under way."""

    migration_id: str
    pipeline: str
    group_id: str
    status: str


class MigrationView(View, frozen=True, kw_only=True):
    """`GET /migrations/{id}`. Statuses: started held handed_over done failed cancelled; causes: manual drain
    rebalance update leave. `reason`: what it meets now, why it ended, or what the pipeline went on without.
    Times in ms since 1970."""

    id: str
    group_id: str
    pipeline: str
    cause: str
    status: str
    from_worker: str
    from_epoch: int
    to_worker: str
    to_epoch: int
    reason: str | None
    started_at: int
    ended_at: int | None


class MigrationList(View, frozen=True, kw_only=True):
    """`GET /migrations`."""

    migrations: list[MigrationView]
    total: int
    pagination: Pagination


class DrainRequest(Message, frozen=True, kw_only=True):
    """`POST /workers/{id}/drain`. `timeout_secs`: when to give up; null: never."""

    timeout_secs: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None


class DrainView(View, frozen=True, kw_only=True):
    """`GET /workers/{id}/drain`. Statuses: active done failed cancelled. `left`: pipelines still there;
    `failed`: the last failure of each that could not be moved yet; `reason`: what stands in the way, or why
    it ended. Times in ms since 1970.
    """

    id: str
    worker_id: str
    cause: str
    status: str
    total: int
    moved: int
    left: int
    failed: dict[str, str]
    reason: str | None
    started_at: int
    deadline_at: int | None
    ended_at: int | None


class Cordoned(View, frozen=True, kw_only=True):
    """Answer to `POST /workers/{id}/cordon` and `/uncordon`."""

    worker_id: str
    cordoned: bool


class RouteView(View, frozen=True, kw_only=True):
    """One arrow of the topology."""

    group: str
    from_pipeline: str
    to_pipeline: str
    event_types: list[str]
    subject: str


class TopologyView(View, frozen=True, kw_only=True):
    """`GET /topology`: what runs where, and how events flow; `_external` included."""

    workers: list[WorkerView]
    groups: list[GroupView]
    routes: list[RouteView]


class SummaryView(View, frozen=True, kw_only=True):
    """`GET /summary`: the cluster in a few numbers."""

    cluster_id: str
    leader_id: str | None
    term: int
    workers: dict[str, int]
    pipeline_groups: dict[str, int]
    pipelines: dict[str, int]
    events_processed: Count


class LiveSummary(SummaryView, frozen=True, kw_only=True):
    """Event `summary` of `GET /stream`: the summary and how many events a second the workers take now."""

    events_per_sec: float


class StreamEvent(View, frozen=True, kw_only=True):
    """One event of `GET /stream`. `data`: JSON, an `EventView` in `change` and a `LiveSummary` in `summary`;
    `id`: of what `Last-Event-ID` can name."""

    event: Literal["change", "summary", "reset", "end"]
    data: str
    id: str | msgspec.UnsetType = msgspec.UNSET
    retry: int | msgspec.UnsetType = msgspec.UNSET


class ConnectorSpec(Message, frozen=True, kw_only=True):
    """`POST /connectors`, `PUT /connectors/{name}`: a connector that programs may name without declaring it.
    With PUT, a secret given as `***` stays as it is."""

    name: str
    connector_type: str
    params: dict[str, Any] = {}
    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""

    def __repr__(self) -> str:
        return f"ConnectorSpec(name={self.name!r}, connector_type={self.connector_type!r}, params=***)"


class ConnectorView(View, frozen=True, kw_only=True):
    """`GET /connectors/{name}`; secrets are shown as `***`. `used_by`: pipelines, as `group/pipeline`."""

    name: str
    connector_type: str
    params: dict[str, Any]
    description: str
    version: int
    created_at: int
    updated_at: int
    used_by: list[str]


class ConnectorList(View, frozen=True, kw_only=True):
    """`GET /connectors`."""

    connectors: list[ConnectorView]
    total: int
    pagination: Pagination


class Deleted(View, frozen=True, kw_only=True):
    """Answer to `DELETE /connectors/{name}`."""

    deleted: bool


class ScalingView(View, frozen=True, kw_only=True):
    """`GET /scaling`. `advice`: scale_up, scale_down or hold, since `since_ms` (ms since 1970); the numbers
    after it are of this moment. `load`: sum over the ready workers of the part of their cores in use."""

    advice: str
    workers_wanted: int
    reason: str
    since_ms: int
    workers_ready: int
    capacity: int
    assigned: int
    pending: int
    load: float


class EventView(View, frozen=True, kw_only=True):
    """One decision. `seq` rises and is at least `at`, the time in ms since 1970."""

    seq: int
    at: int
    by: str
    what: str
    about: str
    why: str


class EventList(View, frozen=True, kw_only=True):
    """`GET /events`, oldest first. `newest`: the number of the last decision there is; `complete`: nothing
    that was asked for has been cut off the bounded trail."""

    events: list[EventView]
    newest: int
    complete: bool
    total: int
    pagination: Pagination


class MoveView(View, frozen=True, kw_only=True):
    """One pipeline that should go to another worker."""

    group: str
    pipeline_name: str
    from_worker: str
    to_worker: str


class RebalanceView(View, frozen=True, kw_only=True):
    """`POST /rebalance`. `moves`: the whole plan; migrations were started for the first of them, in that
    order; `reason`: why the next one was not."""

    migrations_started: int
    migration_ids: list[str]
    moves: list[MoveView]
    reason: str | None = None


class Acknowledged(View, frozen=True, kw_only=True):
    """Answer to `POST /workers/{id}/heartbeat`; `lease_secs` is null while no lease is granted. `judged` and
    `renews` as in `HeartbeatAck`."""

    acknowledged: bool
    term: int | None
    lease_secs: float | None
    directives: list[Directive] | None = None
    judged: int | None = None
    renews: bool = True


class Removed(View, frozen=True, kw_only=True):
    """Answer to `DELETE /workers/{id}`."""

    removed: bool


class KeyRequest(Message, frozen=True, kw_only=True):
    """`POST /keys`. `expires_in_secs` 0: never. `worker`: for role worker, the id of the one worker, or a
    prefix with `*` at its end, as which it counts; empty: as any whose id is free."""

    role: Literal["worker", "viewer", "operator", "admin"]
    note: Annotated[str, msgspec.Meta(max_length=200)] = ""
    expires_in_secs: Annotated[int, msgspec.Meta(ge=0, le=10 * 366 * 86_400)] = 0
    worker: Annotated[str, msgspec.Meta(max_length=65)] = ""


class RotateRequest(Message, frozen=True, kw_only=True):
    """`POST /keys/{id}/rotate`. `overlap_secs`: how long the old key goes on counting."""

    overlap_secs: Annotated[int, msgspec.Meta(ge=0, le=366 * 86_400)] = 0


class KeyCreated(View, frozen=True, kw_only=True):
    """A key that was made. `key` is told here and never again; `expires_at` in ms since 1970."""

    id: str
    role: str
    key: str
    expires_at: int | None

    def __repr__(self) -> str:
        return f"KeyCreated(id={self.id!r}, role={self.role!r}, key=***)"


class Whoami(View, frozen=True, kw_only=True):
    """`GET /whoami`: the role of the request, and the id of its key, where keys are asked for."""

    role: str
    key_id: str | None
    keys_required: bool


class KeyView(View, frozen=True, kw_only=True):
    """`GET /keys/{id}`. `status`: active, revoked or expired; `worker`: as whom it counts, empty: any.
    Times in ms since 1970."""

    id: str
    role: str
    status: str
    note: str
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    replaced_by: str | None
    worker: str = ""


class KeyList(View, frozen=True, kw_only=True):
    """`GET /keys`."""

    keys: list[KeyView]
    total: int
    pagination: Pagination


class Revoked(View, frozen=True, kw_only=True):
    """Answer to `DELETE /keys/{id}`."""

    revoked: bool


class HealthView(View, frozen=True, kw_only=True):
    """`GET /health` (outside the base): one coordinator in a few words. `status`: ok or degraded."""

    status: str
    node_id: str
    cluster_id: str
    version: str
    ready: bool
    leader_id: str | None
    is_leader: bool
    term: int
    nats_connected: bool
    reason: str | None
