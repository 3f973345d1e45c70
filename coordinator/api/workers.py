"""`/workers`: join, heartbeat, look, take out.

Registrations and heartbeats are writes like others, so whichever node a worker asks, the leader hears it and
answers. What a worker that speaks REST says there, the leader relays to the other coordinators.
"""

from typing import Annotated, Final

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter

from coordinator.api.context import (
    AnyRequest,
    Context,
    Given,
    Limit,
    Offset,
    not_found,
    page,
    read_body,
    request_id,
)
from coordinator.nats_handlers import register
from coordinator.security.actor import acting
from coordinator.state.commands import RemoveWorker
from coordinator.state.records import NATS, REST, WorkerStatus
from coordinator.state.views import worker_view
from coordinator.worker_rest import check_registration
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import Heartbeat, Register, Registered
from proto_schemas.rest.workers import Acknowledged, Removed, WorkerList, WorkerView
from proto_schemas.worker_rest import WORKER_KEY_HEADER

HEARTBEAT_PATIENCE: Final = 0.2
"""Seconds a heartbeat waits for a leader; a worker gives each coordinator at least half a second."""

Force = Annotated[bool, QueryParameter(name="force", description="also when it holds pipelines")]


@post("/workers/register", opt={"body": Register, "headers": (WORKER_KEY_HEADER,)})
async def register_worker(request: AnyRequest, context: Given) -> Registered:
    """A worker joins, as over NATS."""
    message = await read_body(request, Register)
    key = request.headers.get(WORKER_KEY_HEADER)
    if message.carrier not in (None, NATS, REST):
        raise WireError(
            ErrorCode.BAD_REQUEST, f"Register: $.carrier is {message.carrier[:40]!r}: give nats or rest"
        )
    if message.carrier == REST:
        check_registration(message, key, insecure=context.config.insecure)
        _refuse_older(context, message.worker_id, message.incarnation, while_alive=True)
    key_id = acting()
    context.door.admit_name(message.worker_id, key_id)
    once = request_id(request)
    # One that was taken in already holds the name itself.
    displaces = 0 if context.ledger.remembers(once) else await context.proof.demand(message, key_id)
    joined = await register(
        context.ledger,
        context.config,
        message,
        request_id=once,
        key_id=key_id,
        displaces=displaces,
    )
    context.by_rest.learn(message.worker_id, message.incarnation, key)
    return joined


@post(
    "/workers/{worker_id:str}/heartbeat",
    status_code=200,
    opt={
        "body": Heartbeat,
        "patience": HEARTBEAT_PATIENCE,
        "headers": (WORKER_KEY_HEADER,),
        "keyed": False,
        "refuses": (409,),
    },
)
async def heartbeat(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Acknowledged:
    """A worker is alive, as over NATS; 404 tells it to register again."""
    message = await read_body(request, Heartbeat)
    worker = context.ledger.state.workers.get(worker_id)
    if worker is None:
        raise not_found("worker", worker_id, "/workers")
    context.door.admit_voice(worker_id)
    if worker.carrier == REST:
        _refuse_older(context, worker_id, message.incarnation)
        context.by_rest.learn(worker_id, message.incarnation, request.headers.get(WORKER_KEY_HEADER))
    context.listener.hear(worker_id, message)
    if worker.carrier == REST:
        await context.listener.relay(worker_id, message)
    ack = context.listener.answer(worker_id, message)
    if ack is None:
        return Acknowledged(acknowledged=True, term=context.ledger.term, lease_secs=None)
    return Acknowledged(acknowledged=True, **msgspec.structs.asdict(ack))


def _refuse_older(
    context: Context, worker_id: str, incarnation: str | None, *, while_alive: bool = False
) -> None:
    """Tell a process that a newer one has its id; with `while_alive` only when that one is heard.

    Over NATS workers find this out among themselves.

    Raises:
        WireError: `conflict`.
    """
    worker = context.ledger.state.workers.get(worker_id)
    if worker is None or worker.incarnation is None or incarnation is None:
        return
    if incarnation < worker.incarnation and (not while_alive or worker.status is WorkerStatus.READY):
        text = (
            f"incarnation {worker.incarnation} of worker {worker_id} is registered, newer than {incarnation}"
        )
        raise WireError(ErrorCode.CONFLICT, text)


@get("/workers")
async def list_workers(context: Given, limit: Limit = 50, offset: Offset = 0) -> WorkerList:
    """All workers, by id."""
    state = context.ledger.state
    names, pagination = page(sorted(state.workers), limit, offset)
    views = [worker_view(state, state.workers[name], context.observed(name)) for name in names]
    return WorkerList(workers=views, total=pagination.total, pagination=pagination)


@get("/workers/{worker_id:str}")
async def get_worker(context: Given, worker_id: FromPath[str]) -> WorkerView:
    """One worker."""
    worker = context.ledger.state.workers.get(worker_id)
    if worker is None:
        raise not_found("worker", worker_id, "/workers")
    return worker_view(context.ledger.state, worker, context.observed(worker_id))


@delete("/workers/{worker_id:str}", status_code=200)
async def remove_worker(
    request: AnyRequest, context: Given, worker_id: FromPath[str], force: Force = False
) -> Removed:
    """Take a worker out; with `force` also one that holds pipelines, which are then placed elsewhere."""
    await context.ledger.propose(
        RemoveWorker(by="api", request_id=request_id(request), worker_id=worker_id, force=force)
    )
    return Removed(removed=True)


HANDLERS = [register_worker, heartbeat, list_workers, get_worker, remove_worker]
