"""Outside the base, for machines that watch: `/livez`, `/readyz`, `/health`, `/metrics`."""

import asyncio
from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter
from prometheus_client import CONTENT_TYPE_LATEST

from coordinator.api.context import Given, version
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.base import HealthView

Leader = Annotated[bool, QueryParameter(name="leader", description="200 only on the leader")]


@get("/livez", media_type="text/plain")
async def livez() -> str:
    """The process runs and its loop turns."""
    return "ok"


@get("/readyz", media_type="text/plain", opt={"refuses": (400, 503)})
async def readyz(context: Given, leader: Leader = False) -> str:
    """This node has caught up and reaches NATS; 503 with the reason otherwise."""
    reason = context.not_ready()
    if reason is not None:
        raise WireError(ErrorCode.UNAVAILABLE, reason)
    if leader and not context.ledger.is_leader:
        raise WireError(
            ErrorCode.UNAVAILABLE,
            f"{context.config.node_id} does not lead: ask {context.ledger.leader_id or 'again'}",
        )
    return "ok"


@get("/health")
async def health(context: Given) -> HealthView:
    """This node in a few words; always 200 while it can say anything."""
    reason = context.not_ready()
    return HealthView(
        status="ok" if reason is None else "degraded",
        node_id=context.config.node_id,
        cluster_id=context.config.cluster_id,
        version=version(),
        ready=reason is None,
        leader_id=context.ledger.leader_id,
        is_leader=context.ledger.is_leader,
        term=context.ledger.term,
        nats_connected=context.nats.connected,
        reason=reason,
    )


@get("/metrics", media_type="text/plain", opt={"answer": str})
async def metrics(context: Given) -> Response[bytes]:
    """For Prometheus; written in a thread, so that a large page holds up nothing."""
    page = await asyncio.to_thread(context.exposition)
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})


HANDLERS = [livez, readyz, health, metrics]
