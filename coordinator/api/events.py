"""`/events`: the trail of decisions, who decided what about whom, why and when."""

from collections.abc import Sequence
from typing import Annotated, Final

from litestar import get
from litestar.params import QueryParameter

from coordinator.api.context import Given, Limit
from coordinator.state import trail
from coordinator.state.records import Event
from proto_schemas.rest.base import Pagination
from proto_schemas.rest.cluster import EventList, EventView

Since = Annotated[
    int,
    QueryParameter(
        name="since", ge=-1, le=2**53, description="only events above this number, or time in ms; -1: any"
    ),
]
About = Annotated[
    str | None, QueryParameter(name="about", description="only what is about this, or lies below it")
]
What = Annotated[str | None, QueryParameter(name="what", description="only this decision, or `prefix*`")]
By = Annotated[str | None, QueryParameter(name="by", description="only what this one decided")]
From = Annotated[
    int, QueryParameter(name="offset", ge=-1, description="how many to leave out; -1: see above")
]
_ABSENT: Final = -1
"""None would let the word `null` in."""


@get("/events")
async def list_events(
    context: Given,
    limit: Limit = 50,
    offset: From = _ABSENT,
    since: Since = _ABSENT,
    about: About = None,
    what: What = None,
    by: By = None,
) -> EventList:
    """Decisions, oldest first. Without `since` and `offset` the last `limit` of them; with `since` the first
    `limit` above it. `complete` is false when the trail no longer holds all that came after `since`.
    """
    audit = context.ledger.state.audit
    asked: Sequence[Event] = audit if since == _ABSENT else trail.after(audit, since)
    found = [event for event in asked if trail.matches(event, about=about, what=what, by=by)]
    total = len(found)
    begin = offset if offset != _ABSENT else max(total - limit, 0) if since == _ABSENT else 0
    part = found[begin : begin + limit]
    return EventList(
        events=[view(event) for event in part],
        newest=trail.newest(audit),
        complete=trail.complete_since(audit, max(since, 0)),
        total=total,
        pagination=Pagination(total=total, limit=limit, offset=begin, has_more=begin + len(part) < total),
    )


def view(event: Event) -> EventView:
    """One event as the API shows it."""
    return EventView(
        seq=event.seq, at=event.at, by=event.by, what=event.what, about=event.about, why=event.why
    )


HANDLERS = [list_events]
