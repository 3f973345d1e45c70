"""Puts the REST face together: handlers under the base behind the way to the leader, probes beside it.

In front of the handlers: the door (`coordinator.security`). Around everything: no foreign pages, bounds on
body and time (`transport.limits`), one form for every error, and a count of every answer by route template
(never by path: that would be unbounded) and status.
"""

import asyncio
from functools import partial
from typing import Any

from litestar import Litestar, Response, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from coordinator import page
from coordinator.api import (
    cluster,
    connectors,
    drains,
    events,
    groups,
    inject,
    keys,
    members,
    migrations,
    probes,
    rebalance,
    restore,
    stream,
    workers,
)
from coordinator.api.context import MAX_WAIT, AnyRequest, Context, Given, client_key, version
from coordinator.api.cut_off import CutOff
from coordinator.api.errors import on_defect, on_http_exception, on_wire_error
from coordinator.api.leader import DEADLINE, STALENESS, to_leader
from coordinator.api.schema import document
from coordinator.api.traced import Traced
from coordinator.security import roles
from coordinator.security.door import HEADER
from coordinator.security.origin import SameOrigin
from proto_schemas.errors import WireError
from proto_schemas.rest.base import API_BASE
from transport import tracing
from transport.limits import RequestLimits

_TITLE = "Varpulis cluster"


def build(context: Context) -> CutOff:
    """The ASGI application of one coordinator."""

    def provide_context() -> Context:
        return context

    api = Router(
        API_BASE,
        route_handlers=[
            *workers.HANDLERS,
            *drains.HANDLERS,
            *migrations.HANDLERS,
            *groups.HANDLERS,
            *inject.HANDLERS,
            *cluster.HANDLERS,
            *members.HANDLERS,
            *restore.HANDLERS,
            *events.HANDLERS,
            *connectors.HANDLERS,
            *stream.HANDLERS,
            *rebalance.HANDLERS,
            *keys.HANDLERS,
        ],
        before_request=enter,
    )
    app = Litestar(
        route_handlers=[api, *probes.HANDLERS, openapi, *page.HANDLERS],
        dependencies={"context": Provide(provide_context, sync_to_thread=False)},
        exception_handlers={
            WireError: on_wire_error,
            HTTPException: on_http_exception,
            Exception: on_defect,
        },
        before_send=[_finish],
        openapi_config=None,  # `coordinator.api.schema` makes the document
        logging_config=None,
    )
    app.state.context = context
    origin = context.counts.origin = SameOrigin(
        app, local=context.config.is_local and not context.door.required
    )
    limits = context.counts.limits = RequestLimits(
        Traced(origin) if tracing.enabled() else origin,
        larger={API_BASE + restore.PATH: restore.MAX_BODY},
        timeout=MAX_WAIT + DEADLINE,
    )
    return CutOff(limits)


async def enter(request: AnyRequest) -> Response[bytes] | None:
    """Past the door, then to the leader."""
    context: Context = request.app.state.context
    route = roles.route_of(request.method, request.scope["path_template"])
    client = request.scope.get("client")
    await context.door.admit(route, request.headers.get(HEADER), client[0] if client else "")
    if request.method != "GET" and request.route_handler.opt.get("keyed", True):
        client_key(request)  # one that cannot be taken is refused everywhere, and before anything is done
    return await to_leader(request)


@get("/openapi.json")
async def openapi(request: AnyRequest, context: Given) -> dict[str, Any]:
    """This API, described; made once, by a thread, for it would keep a leader from its heartbeats."""
    state = request.app.state
    if "document" not in state:
        make = partial(document, request.app, title=_TITLE, version=version(), keys=context.door.required)
        state["document"] = asyncio.create_task(asyncio.to_thread(make))
    described: dict[str, Any] = await asyncio.shield(state["document"])
    return described


async def _finish(message: Message, scope: Scope) -> None:
    """Add the staleness to the head of an answer, and count it."""
    if message["type"] != "http.response.start":
        return
    age = scope.get("state", {}).get("staleness")
    if age is not None:
        message["headers"] = [*message["headers"], (STALENESS.encode(), str(age).encode())]
    context: Context = scope["litestar_app"].state.context
    context.counts.answered(str(scope.get("path_template", "unknown")), message["status"])
