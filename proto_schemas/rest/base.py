"""What all of the API has: where it begins, what its answers are, and pages of lists."""

import msgspec

API_BASE = "/api/v1/cluster"


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what the API shows: every field is always there."""


class Pagination(View, frozen=True, kw_only=True):
    """Which part of a list this is."""

    total: int
    limit: int
    offset: int
    has_more: bool


class Deleted(View, frozen=True, kw_only=True):
    """Answer to `DELETE /connectors/{name}`."""

    deleted: bool


class HealthView(View, frozen=True, kw_only=True):
    """`GET /health` (outside the base): one coordinator in a few words. `status`: ok or degraded."""

    status: str
    node_id: str
    cluster_id: str
    version: str
    ready: bool
    leader_id: str | None
    is_leader: bool
    term: int
    nats_connected: bool
    reason: str | None
