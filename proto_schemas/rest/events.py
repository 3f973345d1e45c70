"""Events that come in through the API."""

from typing import Any

from proto_schemas.messages.base import Message
from proto_schemas.messages.events import Event
from proto_schemas.rest.base import View


class InjectRequest(Event, frozen=True, kw_only=True):
    """`POST /pipeline-groups/{id}/inject`."""


class InjectResult(View, frozen=True, kw_only=True):
    """What one target pipeline answered."""

    pipeline: str
    worker_id: str
    worker_response: dict[str, Any]


class InjectResponse(View, frozen=True, kw_only=True):
    """The first three tell of the first target, `results` of all."""

    routed_to: str
    worker_id: str
    worker_response: dict[str, Any]
    results: list[InjectResult]


class InjectBatchRequest(Message, frozen=True, kw_only=True):
    """Exactly one of `events` and `events_text` (JSON lines)."""

    events: list[Any] | None = None
    events_text: str | None = None


class InjectBatchResponse(View, frozen=True, kw_only=True):
    """Counts over all targets; an event that nothing takes is a failed one."""

    events_sent: int
    events_failed: int
    output_events: list[dict[str, Any]]
    errors: list[str]
    processing_time_us: int
