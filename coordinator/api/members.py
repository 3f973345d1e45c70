"""`/raft/transfer`, `/raft/members`, `/snapshot`: who leads, who belongs to the group, a copy of its state.

A change says what is to be, not what to do: asked a second time, it finds that this is so and answers how it
is. So a node that lost the answer asks again, wherever the leader is by then. With an `Idempotency-Key` the
first answer is kept as well (`once`), for whoever asks again after others have changed something else.
A change may also move the leader (the one that removes itself gives leadership away first): then the request
goes after it, by the same way on which it came here.

`/snapshot` is answered by the node that is asked. Its own barrier makes the copy linearizable, so a follower
takes the load of a large one off the leader, and nothing large is passed on.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath

from coordinator.api import once
from coordinator.api.context import DEFAULT_WAIT, AnyRequest, Context, Given, Wait, read_body
from coordinator.api.leader import LOOK_AGAIN, to_leader
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.raft import GenerationView, MemberRequest, TransferRequest, TransferResult
from proto_schemas.subjects import check_id
from raft.errors import ChangeRefused, NotLeader, OutcomeUnknown, RaftError, TransferRefused, Unavailable


@post(
    "/raft/transfer",
    status_code=200,
    opt={"body": TransferRequest, "answer": TransferResult, "moves_leader": True},
)
async def transfer(request: AnyRequest, context: Given, wait: Wait = DEFAULT_WAIT) -> Response[bytes]:
    """Give leadership to another member: 409 when it cannot take it. Requests wait meanwhile; none fails."""
    asked = await read_body(request, TransferRequest)

    async def give(timeout: float, to: str) -> TransferResult:
        return TransferResult(leader_id=await context.raft.transfer(asked.to or to or None, timeout=timeout))

    return await _by_the_leader(request, context, give, wait)


@post(
    "/raft/members",
    status_code=200,
    opt={"body": MemberRequest, "answer": GenerationView, "refuses": (404,)},
)
async def add_member(request: AnyRequest, context: Given, wait: Wait = DEFAULT_WAIT) -> Response[bytes]:
    """Add a coordinator that was started with `--join`, in one step with the removal of another when
    `replaces` names it; 409 with the reason when that cannot be done. One that is there: how it is.
    """
    asked = await read_body(request, MemberRequest)

    async def add(timeout: float, to: str) -> GenerationView:
        if asked.replaces not in {None, *(node.id for node in context.raft.status().nodes)}:
            await _change(context, remove=asked.replaces, timeout=timeout)  # gone, or never was a member
        return await _change(context, add=asked.id, remove=asked.replaces, timeout=timeout)

    return await _by_the_leader(request, context, add, wait)


@delete("/raft/members/{member_id:str}", status_code=200, opt={"answer": GenerationView})
async def remove_member(
    request: AnyRequest, context: Given, member_id: FromPath[str], wait: Wait = DEFAULT_WAIT
) -> Response[bytes]:
    """Remove a coordinator for good; 409 with the reason when that cannot be done, 404 when it never was a
    member. One that is gone: how it is.
    """
    try:
        check_id(member_id)
    except ValueError as error:
        raise WireError(ErrorCode.BAD_REQUEST, str(error)) from None

    async def remove(timeout: float, to: str) -> GenerationView:
        return await _change(context, remove=member_id, timeout=timeout)

    return await _by_the_leader(request, context, remove, wait)


@get("/snapshot", media_type="application/octet-stream", opt={"anywhere": True})
async def snapshot(context: Given, wait: Wait = DEFAULT_WAIT) -> Response[bytes]:
    """A copy of the whole replicated state, as of after the request came, for `raft snapshot restore`."""
    reason = context.outside()
    if reason is not None:
        raise WireError(ErrorCode.UNAVAILABLE, reason)
    try:
        data = await context.raft.backup(timeout=wait)
    except RaftError as error:
        raise _told(error, context) from None
    name = f"{context.config.cluster_id}-{context.raft.status().applied_index}.backup"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, headers=headers, media_type="application/octet-stream")


def _best_prepared(context: Context) -> str:
    """The other member whose log goes furthest; empty when there is none."""
    me = context.config.node_id
    others = [node for node in context.raft.status().nodes if node.id != me]
    return max(others, key=lambda node: node.match_index or 0).id if others else ""


async def _change(
    context: Context, *, add: str | None = None, remove: str | None = None, timeout: float
) -> GenerationView:
    now = await context.raft.change_members(add=add, remove=remove, timeout=timeout)
    if remove is not None and remove not in {*now.members, *now.retired}:
        raise WireError(
            ErrorCode.NOT_FOUND,
            f"{remove!r} never was a member, so nothing was changed: see `varpulis raft status` for who is",
        )
    return GenerationView(number=now.number, members=list(now.members), retired=list(now.retired))


async def _by_the_leader(
    request: AnyRequest,
    context: Context,
    act: Callable[[float, str], Awaitable[TransferResult | GenerationView]],
    wait: float,
) -> Response[bytes]:
    """What `act(seconds left, who was best prepared)` answers here, or the new leader does when leadership
    has moved; without an `Idempotency-Key` the second is empty, for it need not be the same each time.

    Raises:
        WireError: `conflict` (refused, for a reason), `unavailable`, `not_leader` (not done), `timeout`
            (perhaps done).
    """
    deadline = time.monotonic() + wait
    kept = await once.begin(request, context, lambda: _best_prepared(context))
    if kept.answer is not None:
        return kept.answer
    while True:
        try:
            done = await act(max(deadline - time.monotonic(), 0.0), kept.choice)
            return await kept.end(200, msgspec.json.encode(done))
        except NotLeader as error:
            if time.monotonic() >= deadline:
                raise _told(error, context) from None
        except (ChangeRefused, TransferRefused) as error:
            return await kept.end(409, msgspec.json.encode(_told(error, context).reply()))
        except RaftError as error:
            raise _told(error, context) from None
        await asyncio.sleep(LOOK_AGAIN)
        elsewhere = await to_leader(request)
        if elsewhere is not None:
            return elsewhere


def _told(error: RaftError, context: Context) -> WireError:
    leader = context.ledger.leader_id
    match error:
        case ChangeRefused() | TransferRefused():
            return WireError(ErrorCode.CONFLICT, str(error))
        case NotLeader():
            return WireError(ErrorCode.NOT_LEADER, str(error), leader=leader)
        case Unavailable():
            return WireError(ErrorCode.UNAVAILABLE, str(error), leader=leader)
        case OutcomeUnknown():
            text = (
                f"{error.cause}; it may have been done: look at GET /raft, or ask again, which does no harm"
            )
            return WireError(ErrorCode.TIMEOUT, text, leader=leader)
    return WireError(ErrorCode.INTERNAL, str(error))


HANDLERS = [transfer, add_member, remove_member, snapshot]
