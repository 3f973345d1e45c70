"""Events from outside into a group whose events are in a stream: stored, and answered when they are.

No worker is asked: whichever runs the pipelines, now or later, finds them in the stream. So what comes out
is not known here. With the client's `Idempotency-Key` each event has a message id made of the key, the
pipeline and its number, under which JetStream stores it once (`coordinator.group_streams.DUPLICATES_FOR`); so
a request that was not answered may be sent again whole, and what was stored of it is not doubled.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from coordinator.api.context import Context
from coordinator.api.routing import takers
from coordinator.state.versions import Group
from proto_schemas.codec import encode_fields
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.matching import matches
from proto_schemas.rest.events import InjectBatchResponse, InjectRequest, InjectResponse, InjectResult
from proto_schemas.subjects import EXTERNAL
from transport.jetstream import Stored

AT_ONCE: Final = 256
"""Events of a batch that are on their way together."""
MAX_ERRORS: Final = 100


async def store(context: Context, group: Group, event: InjectRequest, key: str | None) -> InjectResponse:
    """Store one event for each pipeline that takes it.

    Raises:
        WireError: `no_route`; `unavailable` or `timeout` when none of them has it.
    """
    try:
        data = encode_fields({"event_type": event.event_type, "fields": event.fields})
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"the event cannot be sent: {error}") from None
    names = takers(group, event.event_type)
    outcomes = await asyncio.gather(
        *(_publish(context, group, name, event.event_type, data, _id(key, name, 0)) for name in names)
    )
    failures = [outcome for outcome in outcomes if isinstance(outcome, WireError)]
    if len(failures) == len(outcomes):
        raise failures[0]
    results = [_result(name, outcome) for name, outcome in zip(names, outcomes, strict=True)]
    first = next(each for each, outcome in zip(results, outcomes, strict=True) if isinstance(outcome, Stored))
    return InjectResponse(
        routed_to=first.pipeline, worker_id="", worker_response=first.worker_response, results=results
    )


async def store_batch(
    context: Context, group: Group, events: Iterable[Any], key: str | None
) -> InjectBatchResponse:
    """Store the events of a batch, in order; answers true counts, without `processing_time_us`."""
    sent = failed = 0
    errors: list[str] = []

    def fail(number: int, error: object) -> None:
        nonlocal failed
        failed += 1
        if len(errors) < MAX_ERRORS:
            errors.append(f"event {number}: {error}")

    def readable() -> Iterator[tuple[int, str, str, bytes]]:
        for number, event in enumerate(events):
            event_type = event.get("event_type") if isinstance(event, dict) else None
            if not isinstance(event_type, str) or not event_type:
                fail(number, "it is no object with an event_type")
                continue
            try:
                names, data = takers(group, event_type), encode_fields(event)
            except (WireError, TypeError, ValueError, RecursionError) as error:
                fail(number, error)
                continue
            for name in names:
                yield number, name, event_type, data

    waiting = readable()
    while part := list(islice(waiting, AT_ONCE)):
        outcomes = await asyncio.gather(
            *(
                _publish(context, group, name, event_type, data, _id(key, name, number))
                for number, name, event_type, data in part
            )
        )
        for (number, *_), outcome in zip(part, outcomes, strict=True):
            if isinstance(outcome, WireError):
                fail(number, outcome)
            else:
                sent += 1
    return InjectBatchResponse(
        events_sent=sent, events_failed=failed, output_events=[], errors=errors, processing_time_us=0
    )


async def _publish(
    context: Context, group: Group, pipeline: str, event_type: str, data: bytes, message_id: str | None
) -> Stored | WireError:
    streams = context.deliveries
    subject = streams.entry(group, pipeline, _own_subject(group, pipeline, event_type))
    try:
        return await streams.publish(subject, data, message_id)
    except WireError as error:
        return error


def _own_subject(group: Group, pipeline: str, event_type: str) -> str | None:
    """Of the route from outside that leads the type there."""
    for route in group.spec.routes:
        leads = route.from_pipeline == EXTERNAL and route.to_pipeline == pipeline
        if leads and matches(route.event_types, event_type):
            return route.nats_subject
    return None


def _result(pipeline: str, outcome: Stored | WireError) -> InjectResult:
    if isinstance(outcome, WireError):
        told: dict[str, Any] = {"error": str(outcome), "code": str(outcome.code)}
    else:
        told = {"ok": True, "stored": outcome.sequence, "duplicate": outcome.duplicate, "output_events": []}
    return InjectResult(pipeline=pipeline, worker_id="", worker_response=told)


def _id(key: str | None, pipeline: str, number: int) -> str | None:
    return f"{key}:{pipeline}:{number}" if key is not None else None
