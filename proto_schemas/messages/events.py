"""Events: those between pipelines, and those that are handed to one."""

from typing import Any

from proto_schemas.messages.base import Count, Fence, Fields, Message, Name


class Event(Message, frozen=True, kw_only=True):
    """One event: a type and free fields; integers stay integers."""

    event_type: Name
    fields: Fields = {}


class OutputEvent(Message, frozen=True, kw_only=True):
    """An event that came out of a pipeline: every field, also when there is none."""

    event_type: str
    fields: Fields


class Inject(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.inject`: one event into a pipeline."""

    pipeline_id: str
    event_type: Name
    fields: Fields = {}


class Injected(Message, frozen=True, kw_only=True):
    """Answer to `inject`: what the pipeline put out because of it."""

    ok: bool
    output_events: list[OutputEvent]


class InjectBatch(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.inject_batch`. Each event is checked on its own: a bad one does not refuse the batch."""

    pipeline_id: str
    events: list[Any]


class BatchInjected(Message, frozen=True, kw_only=True):
    """Answer to `inject_batch`, with true counts."""

    events_sent: Count
    events_failed: Count
    output_events: list[OutputEvent]
    errors: list[str]
    processing_time_us: Count
