"""`/stream`: server-sent events, answered by whichever node is asked, from what it has applied."""

import time
from collections import deque
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from litestar import get
from litestar.params import QueryParameter
from litestar.types import ASGIApp

from coordinator.api.context import AnyRequest, Context, Given
from coordinator.security.actor import acting
from coordinator.state.views import summary_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.rest.cluster import LiveSummary, StreamEvent

RATE_OVER: Final = 5
"""Looks, a second apart, that the rate is taken over: heartbeats come once a second and not in step."""

Since = Annotated[
    str | None, QueryParameter(name="since", description="as Last-Event-ID, for clients without headers")
]


@get(
    "/stream",
    opt={"anywhere": True, "answer": StreamEvent, "headers": ("last-event-id",)},
    media_type="text/event-stream",
)
async def stream(request: AnyRequest, context: Given, since: Since = None) -> ASGIApp:
    """Changes as they are applied here (`change`, `summary`, `reset`, `end`); `Last-Event-ID` resumes."""
    reason = context.outside()
    if reason is not None:
        raise WireError(ErrorCode.UNAVAILABLE, reason)
    last = request.headers.get("last-event-id", since)
    return context.streams.open(last, context.door.still(), acting())


def live_summary(context: Context) -> Callable[[], bytes]:
    """A function that gives the summary as it is, with the rate of events since its last calls."""
    looks: deque[tuple[float, int]] = deque(maxlen=RATE_OVER + 1)

    def look() -> bytes:
        now = summary_view(
            context.ledger.state,
            context.observed_all(),
            cluster_id=context.config.cluster_id,
            leader_id=context.ledger.leader_id,
            term=context.ledger.term,
        )
        looks.append((time.monotonic(), now.events_processed))
        (began, before), (ended, after) = looks[0], looks[-1]
        rate = max(after - before, 0) / (ended - began) if ended > began else 0.0
        fields = {name: getattr(now, name) for name in now.__struct_fields__}
        return msgspec.json.encode(LiveSummary(**fields, events_per_sec=round(rate, 1)))

    return look


HANDLERS = [stream]
