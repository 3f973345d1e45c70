"""The way to the leader: one hook before every request of the API.

Writes and linearizable reads are the leader's. There, a read waits for the barrier, so it sees everything
that was acknowledged before it was sent. Elsewhere the request is passed on as it is (headers, query, body)
to the URL the leader announced. `?consistency=stale` reads here, and says in `x-varpulis-staleness-ms` how
long ago the leader was heard. During an election a request waits up to `PATIENCE` seconds and is then told
to come back.

A request is passed on once: the next node that is not the leader either says so (`not_leader`), and the
first one looks again. It is sent again only when that is safe: it did not arrive, or it is a read, or its
`Idempotency-Key` (made up here when the client gave none) makes a second one harmless; not so an inject.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final

import httpx
from litestar import Response

from coordinator.api.context import MAX_WAIT, AnyRequest, Context
from proto_schemas.errors import ErrorCode, WireError

PATIENCE: Final = 1.5
"""Seconds a request waits for a leader."""
DEADLINE: Final = 15.0
"""Seconds a request that was passed on may take, beside what it asked to wait."""
FORWARDED: Final = "x-varpulis-forwarded"
STALENESS: Final = "x-varpulis-staleness-ms"
_LOOK_AGAIN: Final = 0.02
_LAST_TRY: Final = 0.2
_NOT_PASSED_ON: Final = frozenset(
    {"host", "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length"}
)
_PASSED_BACK: Final = frozenset({"content-type", "retry-after", "allow", STALENESS})


@dataclass(frozen=True, slots=True)
class _Leader:
    """Where it is; `url` is None when it is this node."""

    url: str | None


async def to_leader(request: AnyRequest) -> Response[bytes] | None:
    """The leader's answer, or None when the handler here may answer.

    Raises:
        WireError: `unavailable` (no leader in time), `not_leader` (passed on to a node that is none),
        `timeout`.
    """
    context: Context = request.app.state.context
    if request.route_handler.opt.get("anywhere"):
        return None
    if _wants_stale(request):
        request.scope["state"]["staleness"] = staleness(context)
        return None
    give_up = time.monotonic() + PATIENCE
    while True:
        leader = await _find(context, give_up, passed_on=FORWARDED in request.headers)
        if leader.url is None:
            if request.method != "GET" or await _up_to_date(context, give_up):
                return None
        else:
            answer = await _pass_on(request, context, leader.url, give_up)
            if answer is not None:
                return answer
        await asyncio.sleep(_LOOK_AGAIN)


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


async def _find(context: Context, give_up: float, *, passed_on: bool) -> _Leader:
    ledger = context.ledger
    while True:
        if ledger.is_leader:
            return _Leader(None)
        if passed_on:
            raise WireError(ErrorCode.NOT_LEADER, f"{context.config.node_id} does not lead: ask again")
        leader_id = ledger.leader_id
        url = ledger.state.coordinators.get(leader_id) if leader_id is not None else None
        if url is not None and leader_id != context.config.node_id:
            return _Leader(url)
        if time.monotonic() > give_up:
            raise WireError(
                ErrorCode.UNAVAILABLE,
                f"no leader within {PATIENCE:g} s: a majority of "
                f"{len(context.config.members)} coordinators must run and reach NATS; ask again in a moment",
            )
        await asyncio.sleep(_LOOK_AGAIN)


async def _up_to_date(context: Context, give_up: float) -> bool:
    """Whether all that was acknowledged is applied here; False: look again, leadership was lost."""
    try:
        await context.ledger.barrier(timeout=max(give_up - time.monotonic(), _LAST_TRY))
    except WireError:
        if time.monotonic() > give_up:
            raise
        return False
    return True


async def _pass_on(request: AnyRequest, context: Context, url: str, give_up: float) -> Response[bytes] | None:
    """The answer from there; None when it should be asked for again."""
    again = time.monotonic() < give_up
    try:
        answer = await context.http.request(
            request.method,
            _target(url, request),
            content=await request.body(),
            headers=_headers(request, context.config.node_id),
            timeout=httpx.Timeout(DEADLINE + _asked_wait(request), connect=1.0),
        )
    except (httpx.ConnectError, httpx.ConnectTimeout):
        if again:
            return None
        raise WireError(ErrorCode.UNAVAILABLE, f"the leader at {url} is not there: ask again") from None
    except httpx.HTTPError as error:
        if again and request.route_handler.opt.get("repeatable", True):
            return None
        raise WireError(
            ErrorCode.TIMEOUT,
            f"the leader at {url} did not answer ({type(error).__name__}); it may have been carried out: "
            "ask again with the same Idempotency-Key",
        ) from None
    if again and answer.status_code == 503 and b'"not_leader"' in answer.content:
        return None
    headers = {name: value for name, value in answer.headers.items() if name.lower() in _PASSED_BACK}
    return Response(answer.content, status_code=answer.status_code, headers=headers)


def _target(url: str, request: AnyRequest) -> str:
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    return url + (path + (b"?" + query if query else b"")).decode("latin-1")


def _headers(request: AnyRequest, node_id: str) -> list[tuple[str, str]]:
    headers = [
        (name, value) for name, value in request.headers.multi_items() if name.lower() not in _NOT_PASSED_ON
    ]
    headers.append((FORWARDED, node_id))
    if request.method != "GET" and "idempotency-key" not in request.headers:
        headers.append(("idempotency-key", _made_up_key(request)))
    return headers


def _made_up_key(request: AnyRequest) -> str:
    """One per request, the same for each time it is sent."""
    state: dict[str, Any] = request.scope["state"]
    key: str = state.setdefault("made_up_key", uuid.uuid4().hex)
    return key


def _asked_wait(request: AnyRequest) -> float:
    try:
        return min(max(float(request.query_params.get("wait", 10)), 0.0), MAX_WAIT)
    except (TypeError, ValueError):
        return 0.0
