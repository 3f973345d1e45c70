"""`/workers`: join, heartbeat, look, take out."""

from typing import Annotated

from litestar import delete, get, post
from litestar.params import FromPath, QueryParameter

from coordinator.api.context import (
    AnyRequest,
    Given,
    Limit,
    Offset,
    not_found,
    page,
    read_body,
    request_id,
)
from coordinator.nats_handlers import register
from coordinator.state.commands import RemoveWorker
from coordinator.state.model import WorkerStatus
from coordinator.state.views import worker_view
from proto_schemas.messages import Heartbeat, Register, Registered
from proto_schemas.rest import Acknowledged, Removed, WorkerList, WorkerView

Force = Annotated[bool, QueryParameter(name="force", description="also when it holds pipelines")]


@post("/workers/register", opt={"body": Register})
async def register_worker(request: AnyRequest, context: Given) -> Registered:
    """A worker joins, as over NATS."""
    message = await read_body(request, Register)
    return await register(context.ledger, context.config, message, request_id=request_id(request))


@post("/workers/{worker_id:str}/heartbeat", status_code=200, opt={"body": Heartbeat})
async def heartbeat(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Acknowledged:
    """A worker is alive, as over NATS; 404 tells it to register again."""
    message = await read_body(request, Heartbeat)
    worker = context.ledger.state.workers.get(worker_id)
    if worker is None:
        raise not_found("worker", worker_id, "/workers")
    context.listener.hear(worker_id, message)
    lease = context.config.lease_secs if worker.status is not WorkerStatus.UNHEALTHY else None
    return Acknowledged(acknowledged=True, term=context.ledger.term, lease_secs=lease)


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
