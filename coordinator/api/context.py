"""What the handlers work with, and the few things they all do with a request."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol, TypeVar

import httpcore
from litestar import Request
from litestar.di import NamedDependency
from litestar.exceptions import InternalServerException
from litestar.params import QueryParameter

from coordinator.config import CoordinatorConfig
from coordinator.controllers.rebalance import Rebalance
from coordinator.group_streams import GroupStreams
from coordinator.heartbeats import SUSPECT_INTERVALS, HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.metrics import HttpCounts
from coordinator.nats_handlers import WorkerListener
from coordinator.scaling import Scaling
from coordinator.security.door import Door
from coordinator.security.proof import Proof
from coordinator.security.sealing import Sealer
from coordinator.standing import outside
from coordinator.state.views import Observed, Traffic
from coordinator.streams import Streams
from coordinator.worker_commands import WorkerCommands
from coordinator.worker_rest import RestCarrier
from proto_schemas.codec import MAX_PAYLOAD, decode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import PipelineMetrics
from proto_schemas.rest.base import Pagination
from proto_schemas.rest.groups import MAX_WHY, TrafficView
from proto_schemas.subjects import Subjects
from raft.status import RaftStatus

if TYPE_CHECKING:
    from raft.generation import Generation

MAX_WAIT: Final = 60.0
DEFAULT_WAIT: Final = 10.0
MAX_KEY: Final = 200
_JSON_TYPES: Final = frozenset({"", "application/json", "text/json"})

AnyRequest = Request[Any, Any, Any]
Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=1000, description="how many at most")]
Offset = Annotated[int, QueryParameter(name="offset", ge=0, description="how many to leave out")]
Wait = Annotated[float, QueryParameter(name="wait", ge=0, le=MAX_WAIT, description="seconds to wait for it")]
Because = Annotated[
    str, QueryParameter(name="why", max_length=MAX_WHY, description="why, for the history of the group")
]

T = TypeVar("T")


class Raft(Protocol):
    """What is needed of `raft.node.RaftNode` beside the ledger."""

    @property
    def ready(self) -> bool: ...
    def status(self) -> RaftStatus: ...
    async def transfer(self, to: str | None = None, *, timeout: float) -> str: ...
    async def change_members(
        self, *, add: str | None = None, remove: str | None = None, timeout: float
    ) -> "Generation": ...
    async def backup(self, *, timeout: float) -> bytes: ...


class Connection(Protocol):
    """What is needed of `transport.nats.NatsTransport`."""

    @property
    def connected(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of one coordinator."""

    config: CoordinatorConfig
    ledger: Ledger
    raft: Raft
    nats: Connection
    table: HeartbeatTable
    listener: WorkerListener
    commands: WorkerCommands
    rebalance: Rebalance
    by_rest: RestCarrier
    subjects: Subjects
    http: httpcore.AsyncConnectionPool
    counts: HttpCounts
    streams: Streams
    door: Door
    proof: Proof
    sealer: Sealer
    scaling: Scaling
    clock: Callable[[], float]
    exposition: Callable[[], bytes]
    group_streams: GroupStreams | None = None

    @property
    def deliveries(self) -> GroupStreams:
        """The streams of groups.

        Raises:
            WireError: `unavailable`: this coordinator has none.
        """
        if self.group_streams is None:
            raise WireError(ErrorCode.UNAVAILABLE, "this coordinator has no JetStream: ask another one")
        return self.group_streams

    def observed(self, worker_id: str) -> Observed:
        """What was last heard of a worker."""
        heard = self.table.get(worker_id)
        if heard is None or not heard.count:
            return Observed()
        return Observed(
            age_ms=max(int((self.clock() - heard.at) * 1000), 0),
            pipelines_running=heard.pipelines_running,
            events_processed=heard.events_processed,
            suspect=self.clock() - heard.at > SUSPECT_INTERVALS * self.config.heartbeat_interval,
        )

    def loss_window(self, worker_id: str | None, pipeline_id: str | None) -> int | None:
        """Seconds whose events would be lost with a copy; None when that is not known."""
        heard = self.table.get(worker_id) if worker_id is not None else None
        return heard.loss_window(pipeline_id) if heard is not None and pipeline_id is not None else None

    def traffic(self) -> Traffic:
        """The events of copies, each worker's list being looked up once; for one answer."""
        counted: dict[str, dict[str, PipelineMetrics]] = {}

        def of(worker_id: str | None, pipeline_id: str | None) -> TrafficView | None:
            if worker_id is None or pipeline_id is None:
                return None
            if worker_id not in counted:
                heard = self.table.get(worker_id)
                counted[worker_id] = heard.counted() if heard is not None else {}
            one = counted[worker_id].get(pipeline_id)
            return (
                TrafficView(events_in=one.events_in, events_out=one.events_out) if one is not None else None
            )

        return of

    def observed_all(self) -> dict[str, Observed]:
        """The same of every worker."""
        return {worker_id: self.observed(worker_id) for worker_id in self.ledger.state.workers}

    def outside(self) -> str | None:
        """Why this node answers nothing for the cluster; None when it does."""
        return outside(self.config, self.raft.status())

    def not_ready(self) -> str | None:
        """Why this node is not ready; None when it has caught up and reaches NATS."""
        if not self.nats.connected:
            return "no connection to NATS: is nats-server running?"
        reason = self.outside()
        if reason is not None:
            return reason
        if not self.raft.ready:
            return "not yet caught up with the leader: do a majority of the coordinators run?"
        return None

    def standing(self) -> tuple[bool, str]:
        """Whether this node is ready, and how it stands, in a line for people."""
        reason = self.not_ready()
        if reason is not None:
            return False, f"not ready: {reason}"
        leads = "leads" if self.ledger.is_leader else f"follows {self.ledger.leader_id or 'nobody'}"
        return True, f"{leads}, term {self.ledger.term}"


Given = NamedDependency[Context]
"""The context as a handler's parameter."""


async def read_body(request: AnyRequest, kind: type[T], *, limit: int = MAX_PAYLOAD) -> T:
    """The request's JSON body as `kind`.

    Raises:
        WireError: 400 with the path of what is wrong, 413, 415.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in _JSON_TYPES and not content_type.endswith("+json"):
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"content-type {content_type[:80]!r} is not understood: send application/json",
            status=415,
        )
    return decode(await whole_body(request), kind, limit=limit)


async def read_optional_body(request: AnyRequest, kind: type[T]) -> T:
    """The same, where an absent body stands for `kind` with its defaults."""
    return await read_body(request, kind) if await whole_body(request) else kind()


async def whole_body(request: AnyRequest) -> bytes:
    """The request's body.

    Raises:
        WireError: 400, the client went away before it had sent all of it; nobody will read that.
    """
    try:
        return await request.body()
    except InternalServerException as error:  # the framework's word for it
        raise WireError(ErrorCode.BAD_REQUEST, f"the body did not come whole: {error.detail}") from None


def client_key(request: AnyRequest) -> str | None:
    """The client's `Idempotency-Key`.

    Raises:
        WireError: the key is empty or too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= MAX_KEY:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"Idempotency-Key has {len(key)} characters: give 1 to {MAX_KEY}, such as a UUID",
        )
    return key


def made_up_key(request: AnyRequest) -> str:
    """One per request, the same wherever and however often it is sent from here."""
    state: dict[str, Any] = request.scope["state"]
    key: str = state.setdefault("made_up_key", uuid.uuid4().hex)
    return key


def request_id(request: AnyRequest) -> str:
    """The id under which a write is done once: by the client's key, else by one made up.

    Raises:
        WireError: as `client_key`.
    """
    return f"key:{client_key(request) or made_up_key(request)}"


def page(items: Sequence[T], limit: int, offset: int) -> tuple[list[T], Pagination]:
    """One part of a list, and which part it is."""
    part = list(items[offset : offset + limit])
    total = len(items)
    return part, Pagination(total=total, limit=limit, offset=offset, has_more=offset + len(part) < total)


def not_found(what: str, name: str, where: str) -> WireError:
    """404, naming where to look."""
    return WireError(ErrorCode.NOT_FOUND, f"there is no {what} {name[:80]!r}: see GET {where}")


def version() -> str:
    """Of this program, as installed."""
    try:
        return metadata.version("varpulis-cluster")
    except metadata.PackageNotFoundError:
        return "unknown"
