"""`/workers/{id}/drain`, `/cordon`, `/uncordon`: give a worker nothing new, or empty it.

To cancel is about the drain that was the last one when that was asked first: asked again under its key
(`once`), it ends no later one.
"""

from typing import Final

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath

from coordinator.api import once
from coordinator.api.context import AnyRequest, Context, Given, not_found, read_optional_body, request_id
from coordinator.state.commands import CordonWorker, EndDrain, StartDrain
from coordinator.state.records import Cause, Drain, DrainPhase
from coordinator.state.results import Started
from coordinator.state.views import drain_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.jobs import DrainRequest, DrainView
from proto_schemas.rest.workers import Cordoned

_NONE: Final = "none"


@post("/workers/{worker_id:str}/drain", status_code=202, opt={"optional_body": DrainRequest})
async def start_drain(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> DrainView:
    """Cordon a worker and move what it holds elsewhere; the job, which is under way. One that is already is
    the answer to a second request.
    """
    asked = await read_optional_body(request, DrainRequest)
    started = await context.ledger.propose(
        StartDrain(
            by="api",
            request_id=request_id(request),
            worker_id=worker_id,
            cause=Cause.MANUAL,
            timeout_ms=None if asked.timeout_secs is None else int(asked.timeout_secs * 1000),
        )
    )
    if not isinstance(started, Started):
        raise WireError(ErrorCode.INTERNAL, "a defect: a drain began without an id")
    return _view(context, worker_id, started.id)


@get("/workers/{worker_id:str}/drain")
async def get_drain(context: Given, worker_id: FromPath[str]) -> DrainView:
    """The drain of a worker that is under way, else the last one."""
    return _view(context, worker_id)


@delete("/workers/{worker_id:str}/drain", status_code=200)
async def cancel_drain(
    request: AnyRequest, context: Given, worker_id: FromPath[str]
) -> DrainView | Response[bytes]:
    """Stop emptying a worker; what has moved stays where it is. The cordon goes, if the drain brought it."""
    last = _last(context, worker_id)
    kept = await once.begin(request, context, lambda: last.id if last is not None else _NONE)
    if kept.answer is not None:
        return kept.answer
    drain_id = kept.choice or (last.id if last is not None else _NONE)
    if drain_id == _NONE:
        told = not_found("drain of worker", worker_id, f"/workers/{worker_id}/drain")
        return await kept.end(told.status, msgspec.json.encode(told.reply()))
    if drain_id in context.ledger.state.drains:
        await _cancel(context, drain_id)
    return await kept.end(200, msgspec.json.encode(_view(context, worker_id, drain_id)))


@post("/workers/{worker_id:str}/cordon", status_code=200)
async def cordon(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Cordoned:
    """Place nothing new on a worker; what it has stays."""
    return await _cordon(request, context, worker_id, cordoned=True)


@post("/workers/{worker_id:str}/uncordon", status_code=200)
async def uncordon(request: AnyRequest, context: Given, worker_id: FromPath[str]) -> Cordoned:
    """Place pipelines there again; 409 while it is being drained."""
    return await _cordon(request, context, worker_id, cordoned=False)


async def _cancel(context: Context, drain_id: str) -> None:
    """Once it is over, however that came about."""
    command = EndDrain(
        by="api", drain_id=drain_id, phase=DrainPhase.CANCELLED, reason="somebody asked for it"
    )
    try:
        await context.ledger.propose(command)
    except WireError as error:
        if error.code != ErrorCode.CONFLICT:  # it ended meanwhile
            raise


async def _cordon(request: AnyRequest, context: Context, worker_id: str, *, cordoned: bool) -> Cordoned:
    await context.ledger.propose(
        CordonWorker(by="api", request_id=request_id(request), worker_id=worker_id, cordoned=cordoned)
    )
    return Cordoned(worker_id=worker_id, cordoned=cordoned)


def _last(context: Context, worker_id: str) -> Drain | None:
    state = context.ledger.state
    ended = [drain for drain in state.ended_drains.values() if drain.worker_id == worker_id]
    return state.draining(worker_id) or (ended[-1] if ended else None)


def _view(context: Context, worker_id: str, drain_id: str = "") -> DrainView:
    """A drain of a worker; the last one unless told."""
    state = context.ledger.state
    drain = state.drains.get(drain_id) or state.ended_drains.get(drain_id) or _last(context, worker_id)
    if drain is None:
        raise not_found("drain of worker", worker_id, "/workers")
    return drain_view(context.ledger.state, drain)


HANDLERS = [start_drain, get_drain, cancel_drain, cordon, uncordon]
