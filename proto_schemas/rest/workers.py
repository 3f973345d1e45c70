"""Workers: how they are listed, and what their heartbeats over HTTP are answered."""

from proto_schemas.messages.membership import Directive
from proto_schemas.rest.base import Pagination, View


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


class WorkerList(View, frozen=True, kw_only=True):
    """`GET /workers`."""

    workers: list[WorkerView]
    total: int
    pagination: Pagination


class Cordoned(View, frozen=True, kw_only=True):
    """Answer to `POST /workers/{id}/cordon` and `/uncordon`."""

    worker_id: str
    cordoned: bool


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
