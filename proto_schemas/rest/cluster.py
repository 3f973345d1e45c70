"""The cluster as a whole: routes, figures, advice, the trail of events and its stream."""

from typing import Literal

import msgspec

from proto_schemas.messages.base import Count
from proto_schemas.rest.base import Pagination, View
from proto_schemas.rest.groups import GroupView
from proto_schemas.rest.workers import WorkerView


class RouteView(View, frozen=True, kw_only=True):
    """One arrow of the topology."""

    group: str
    from_pipeline: str
    to_pipeline: str
    event_types: list[str]
    subject: str


class TopologyView(View, frozen=True, kw_only=True):
    """`GET /topology`: what runs where, and how events flow; `_external` included."""

    workers: list[WorkerView]
    groups: list[GroupView]
    routes: list[RouteView]


class SummaryView(View, frozen=True, kw_only=True):
    """`GET /summary`: the cluster in a few numbers."""

    cluster_id: str
    leader_id: str | None
    term: int
    workers: dict[str, int]
    pipeline_groups: dict[str, int]
    pipelines: dict[str, int]
    events_processed: Count


class LiveSummary(SummaryView, frozen=True, kw_only=True):
    """Event `summary` of `GET /stream`: the summary and how many events a second the workers take now."""

    events_per_sec: float


class StreamEvent(View, frozen=True, kw_only=True):
    """One event of `GET /stream`. `data`: JSON, an `EventView` in `change` and a `LiveSummary` in `summary`;
    `id`: of what `Last-Event-ID` can name."""

    event: Literal["change", "summary", "reset", "end"]
    data: str
    id: str | msgspec.UnsetType = msgspec.UNSET
    retry: int | msgspec.UnsetType = msgspec.UNSET


class ScalingView(View, frozen=True, kw_only=True):
    """`GET /scaling`. `advice`: scale_up, scale_down or hold, since `since_ms` (ms since 1970); the numbers
    after it are of this moment. `load`: sum over the ready workers of the part of their cores in use."""

    advice: str
    workers_wanted: int
    reason: str
    since_ms: int
    workers_ready: int
    capacity: int
    assigned: int
    pending: int
    load: float


class EventView(View, frozen=True, kw_only=True):
    """One decision. `seq` rises and is at least `at`, the time in ms since 1970."""

    seq: int
    at: int
    by: str
    what: str
    about: str
    why: str


class EventList(View, frozen=True, kw_only=True):
    """`GET /events`, oldest first. `newest`: the number of the last decision there is; `complete`: nothing
    that was asked for has been cut off the bounded trail."""

    events: list[EventView]
    newest: int
    complete: bool
    total: int
    pagination: Pagination
