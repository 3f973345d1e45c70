"""The way to the leader: one hook before every request of the API.

Writes and linearizable reads are the leader's. There, a read waits for the barrier, so it sees everything
that was acknowledged before it was sent. Elsewhere the request is passed on as it is (headers, query, body)
to the URL the leader announced. `?consistency=stale` reads here, and says in `x-varpulis-staleness-ms` how
long ago the leader was heard. During an election a request waits up to `PATIENCE` seconds and is then told
to come back; the time it was under way at a leader does not count. A heartbeat waits less (`patience`): its
sender has a lease to look after, and other coordinators to ask.

A request is passed on once: the next node that is not the leader says so (`not_leader`), and the first one
looks again. A leader that froze never answers, so a request is taken back from it as soon as this node knows
another leader, unless the request is there to move leadership: then another leader is its success. One that
may have been carried out is sent again only when that is safe: it is a read, or its `Idempotency-Key` (made
up here when the client gave none) makes a second one harmless. No key is made up for an inject: it goes out
at most once, unless its client gave a key.

A node that was removed, waits to be added, or has withdrawn answers `unavailable` with the reason.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import httpcore
from litestar import Response

from coordinator.api.context import DEFAULT_WAIT, MAX_WAIT, AnyRequest, Context, made_up_key, whole_body
from proto_schemas.errors import ErrorCode, WireError
from transport import tracing

PATIENCE: Final = 1.5
"""Seconds a request waits for a leader."""
DEADLINE: Final = 15.0
"""Seconds a request that was passed on may take, beside what it asked to wait."""
FORWARDED: Final = "x-varpulis-forwarded"
STALENESS: Final = "x-varpulis-staleness-ms"
LOST: Final = "lost"
"""Where a request keeps the `timeout` that it met at a former leader: from then on no refusal may say that it
was not carried out."""
LOOK_AGAIN: Final = 0.02
"""Seconds between looks for a leader."""
_LOOK_FOR_ANOTHER: Final = 0.05
"""Seconds between looks at who leads while a request is under way."""
_CONNECT: Final = {"timeout": {"connect": 1.0}}
_LOST_BY: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    AttributeError,  # anyio's on uvloop: the connection ended the moment it stood, and has no socket any more
)
_LAST_TRY: Final = 0.2
_NOT_PASSED_ON: Final = frozenset(
    {
        b"host",
        b"connection",
        b"keep-alive",
        b"transfer-encoding",
        b"te",
        b"trailer",
        b"upgrade",
        b"origin",  # of a browser's page: it was looked at here, and is not the leader's own
        b"referer",
        b"sec-fetch-site",
        b"sec-fetch-mode",
        b"sec-fetch-dest",
        b"content-length",
    }
)
_PASSED_BACK: Final = frozenset({"content-type", "retry-after", "allow", "etag", STALENESS})


@dataclass(frozen=True, slots=True)
class _Leader:
    """Another node that leads, and where it is."""

    id: str
    url: str


async def to_leader(request: AnyRequest) -> Response[bytes] | None:
    """The leader's answer, or None when the handler here may answer.

    Raises:
        WireError: `unavailable` (no leader in time), `not_leader` (passed on to a node that is none),
        `timeout`.
    """
    context: Context = request.app.state.context
    if request.route_handler.opt.get("anywhere"):
        return None
    outside = context.outside()
    if outside is not None:
        raise WireError(ErrorCode.UNAVAILABLE, outside)
    if _wants_stale(request):
        request.scope["state"]["staleness"] = staleness(context)
        return None
    began = time.monotonic()
    patience = float(request.route_handler.opt.get("patience", PATIENCE))
    give_up, deadline = began + patience, began + DEADLINE + _asked_wait(request)
    passed_on = FORWARDED in request.headers
    lost: WireError | None = None
    while True:
        sent = time.monotonic()
        try:
            leader = await _find(context, give_up, passed_on=passed_on)
            if leader is not None:
                answer = await _pass_on(request, context, leader, deadline)
                if lost is not None and answer.status_code == 503:
                    raise lost  # not carried out there, but perhaps before
                return answer
            if request.method == "GET":
                await context.ledger.barrier(timeout=max(give_up - time.monotonic(), _LAST_TRY))
            return None
        except WireError as error:
            if error.code == ErrorCode.TIMEOUT:
                lost = request.scope["state"][LOST] = error
            if error.code in (ErrorCode.TIMEOUT, ErrorCode.NOT_LEADER):
                give_up = min(give_up + time.monotonic() - sent, deadline)
            final = (passed_on and error.code == ErrorCode.NOT_LEADER) or (lost and not _repeatable(request))
            if final or time.monotonic() >= give_up:
                raise (lost or error) from None
        await asyncio.sleep(LOOK_AGAIN)


def staleness(context: Context) -> str:
    """Milliseconds since the leader was heard; `unknown` when there is none."""
    if context.ledger.is_leader:
        return "0"
    leader_id = context.ledger.leader_id
    for node in context.raft.status().nodes:
        if node.id == leader_id and node.last_contact_ms is not None:
            return str(node.last_contact_ms)
    return "unknown"


def _wants_stale(request: AnyRequest) -> bool:
    asked = request.query_params.get("consistency")
    if asked is None or asked == "linearizable":
        return False
    if asked != "stale" or request.method != "GET":
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"consistency {str(asked)[:40]!r} is not for {request.method}: reads take stale or linearizable",
        )
    return True


async def _find(context: Context, give_up: float, *, passed_on: bool) -> _Leader | None:
    """The leader; None when it is this node."""
    ledger = context.ledger
    while not ledger.is_leader:
        if passed_on:
            raise WireError(ErrorCode.NOT_LEADER, f"{context.config.node_id} does not lead: ask again")
        leader_id = ledger.leader_id
        url = ledger.state.coordinators.get(leader_id) if leader_id is not None else None
        if leader_id is not None and url is not None and leader_id != context.config.node_id:
            return _Leader(leader_id, url)
        if time.monotonic() >= give_up:
            members = len(context.raft.status().nodes)
            raise WireError(
                ErrorCode.UNAVAILABLE,
                f"no leader in time: a majority of {members} coordinators must run and reach "
                "NATS; ask again in a moment",
            )
        await asyncio.sleep(LOOK_AGAIN)
    return None


async def _pass_on(
    request: AnyRequest, context: Context, leader: _Leader, deadline: float
) -> Response[bytes]:
    """The answer from there.

    Raises:
        WireError: `unavailable` or `not_leader` (surely not carried out), `timeout` (perhaps).
    """
    body = await whole_body(request)
    moves = bool(request.route_handler.opt.get("moves_leader"))
    patience = (
        asyncio.timeout(deadline - time.monotonic()) if moves else _while_it_leads(context, leader, deadline)
    )
    try:
        async with patience:
            answer = await context.http.request(
                request.method,
                _target(leader.url, request),
                headers=_headers(request, context.config.node_id),
                content=body,
                extensions=_CONNECT,
            )
    except (httpcore.ConnectError, httpcore.ConnectTimeout):
        text = f"the leader at {leader.url} is not there: ask again"
        raise WireError(ErrorCode.UNAVAILABLE, text) from None
    except (*_LOST_BY, TimeoutError) as error:
        raise WireError(
            ErrorCode.TIMEOUT,
            f"the leader at {leader.url} did not answer ({type(error).__name__}); it may have been carried "
            "out: ask again with the same Idempotency-Key",
            leader=context.ledger.leader_id,
        ) from None
    if answer.status == 503 and b'"not_leader"' in answer.content:
        raise WireError(ErrorCode.NOT_LEADER, f"{leader.id} leads no longer: ask again")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
    passed_back = {name: value for name, value in headers.items() if name in _PASSED_BACK}
    return Response(answer.content, status_code=answer.status, headers=passed_back)


@contextlib.asynccontextmanager
async def _while_it_leads(context: Context, leader: _Leader, deadline: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` into what is under way once another leader is known, or the deadline is over."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if context.ledger.leader_id in (None, leader.id):
            timer = loop.call_later(_LOOK_FOR_ANOTHER, look)
        else:
            clock.reschedule(loop.time())

    async with asyncio.timeout(deadline - time.monotonic()) as clock:
        timer = loop.call_later(_LOOK_FOR_ANOTHER, look)
        try:
            yield
        finally:
            timer.cancel()


def _target(url: str, request: AnyRequest) -> httpcore.URL:
    base = httpcore.URL(url)
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    target = path + (b"?" + query if query else b"")
    return httpcore.URL(scheme=base.scheme, host=base.host, port=base.port, target=target)


def _headers(request: AnyRequest, node_id: str) -> list[tuple[bytes, bytes]]:
    ours = tracing.headers()
    left_out = _NOT_PASSED_ON | {name.encode() for name in ours}
    headers = [(name, value) for name, value in request.scope["headers"] if name not in left_out]
    headers += [(name.encode(), value.encode()) for name, value in ours.items()]
    headers.append((FORWARDED.encode(), node_id.encode()))
    if request.method != "GET" and _repeatable(request) and "idempotency-key" not in request.headers:
        headers.append((b"idempotency-key", made_up_key(request).encode()))
    return headers


def _repeatable(request: AnyRequest) -> bool:
    """Whether a second one does no harm."""
    opt = request.route_handler.opt
    return bool(opt.get("repeatable", True)) or "idempotency-key" in request.headers


def _asked_wait(request: AnyRequest) -> float:
    """What a write may add to its deadline; what makes no sense adds nothing and is refused by the leader."""
    if request.method == "GET":
        return 0.0
    try:
        wait = float(request.query_params.get("wait", DEFAULT_WAIT))
    except (TypeError, ValueError):
        return 0.0
    return min(wait, MAX_WAIT) if wait > 0 else 0.0  # NaN is not above 0
