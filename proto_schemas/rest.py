"""Bodies of the coordinators' REST API (base `/api/v1/cluster`), shared by the server and the CLI."""

from typing import Annotated, Any, Literal

import msgspec

from proto_schemas.errors import Diagnostic
from proto_schemas.messages import Count, Directive, Event, Message, Route
from proto_schemas.subjects import Id

API_BASE = "/api/v1/cluster"


class PipelineSpec(Message, frozen=True, kw_only=True):
    """One pipeline of a group as the user wants it."""

    name: Id
    source: str
    worker_affinity: str | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    partition_key: str | None = None
    constraints: list[Any] | None = None


class GroupSpec(Message, frozen=True, kw_only=True):
    """`POST /pipeline-groups`: pipelines that belong together, and the routes between them."""

    name: Id
    pipelines: Annotated[list[PipelineSpec], msgspec.Meta(min_length=1, max_length=1000)]
    routes: list[Route] = []
    delivery: Literal["at_most_once", "at_least_once", "exactly_once"] = "at_most_once"


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
    """Where one pipeline of a group runs, or why it does not."""

    pipeline_name: str
    worker_id: str | None
    worker_address: str | None
    pipeline_id: str | None
    status: str
    epoch: int
    reason: str | None


class GroupView(View, frozen=True, kw_only=True):
    """`GET /pipeline-groups/{id}`. Statuses: deploying running partially_running failed torn_down."""

    id: str
    name: str
    status: str
    version: int
    pipeline_count: int
    placements: list[PlacementView]
    sources: dict[str, str]
    routes: list[Route]
    delivery: str


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


class Acknowledged(View, frozen=True, kw_only=True):
    """Answer to `POST /workers/{id}/heartbeat`; `lease_secs` is null while no lease is granted."""

    acknowledged: bool
    term: int | None
    lease_secs: float | None
    directives: list[Directive] | None = None


class Removed(View, frozen=True, kw_only=True):
    """Answer to `DELETE /workers/{id}`."""

    removed: bool


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
