"""`/workers/{id}/drain`, `/cordon`, `/uncordon`: give a worker nothing new, or empty it."""

from litestar import delete, get, post
from litestar.params import FromPath

from coordinator.api.context import AnyRequest, Context, Given, not_found, read_optional_body, request_id
from coordinator.state.commands import CordonWorker, EndDrain, StartDrain
from coordinator.state.model import Cause, Drain, DrainPhase
from coordinator.state.views import drain_view
from proto_schemas.rest import Cordoned, DrainRequest, DrainView


@post("/workers/{worker_id:str}/drain", status_code=202, opt={"optional_body": DrainRequest})
async def start_drain(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> DrainView:
    """Cordon a worker and move what it holds elsewhere; the job, which is under way. One that is already is
    the answer to a second request.
    """
    asked = await read_optional_body(request, DrainRequest)
    await context.ledger.propose(
        StartDrain(
            by="api",
            request_id=request_id(request),
            worker_id=worker_id,
            cause=Cause.MANUAL,
            timeout_ms=None if asked.timeout_secs is None else int(asked.timeout_secs * 1000),
        )
    )
    return _view(context, worker_id)


@get("/workers/{worker_id:str}/drain")
async def get_drain(context: Given, worker_id: FromPath[str]) -> DrainView:
    """The drain of a worker that is under way, else the last one."""
    return _view(context, worker_id)


@delete("/workers/{worker_id:str}/drain", status_code=200)
async def cancel_drain(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> DrainView:
    """Stop emptying a worker; what has moved stays where it is. The cordon goes, if the drain brought it."""
    drain = _last(context, worker_id)
    if drain is None:
        raise not_found("drain of worker", worker_id, f"/workers/{worker_id}/drain")
    if drain.ended_at is None:
        await context.ledger.propose(
            EndDrain(
                by="api",
                request_id=request_id(request),
                drain_id=drain.id,
                phase=DrainPhase.CANCELLED,
                reason="somebody asked for it",
            )
        )
    return _view(context, worker_id)


@post("/workers/{worker_id:str}/cordon", status_code=200)
async def cordon(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Cordoned:
    """Place nothing new on a worker; what it has stays."""
    return await _cordon(request, context, worker_id, cordoned=True)


@post("/workers/{worker_id:str}/uncordon", status_code=200)
async def uncordon(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Cordoned:
    """Place pipelines there again; 409 while it is being drained."""
    return await _cordon(request, context, worker_id, cordoned=False)


async def _cordon(request: AnyRequest, context: Context, worker_id: str, *, cordoned: bool) -> Cordoned:
    await context.ledger.propose(
        CordonWorker(by="api", request_id=request_id(request), worker_id=worker_id, cordoned=cordoned)
    )
    return Cordoned(worker_id=worker_id, cordoned=cordoned)


def _last(context: Context, worker_id: str) -> Drain | None:
    state = context.ledger.state
    ended = [drain for drain in state.ended_drains.values() if drain.worker_id == worker_id]
    return state.draining(worker_id) or (ended[-1] if ended else None)


def _view(context: Context, worker_id: str) -> DrainView:
    drain = _last(context, worker_id)
    if drain is None:
        raise not_found("drain of worker", worker_id, "/workers")
    return drain_view(context.ledger.state, drain)


HANDLERS = [start_drain, get_drain, cancel_drain, cordon, uncordon]
