"""`/pipeline-groups/{id}/inject` and `/inject-batch`: events from outside into a group, with what came out.

Events of a batch are checked one by one, kept in order for each pipeline, and cut into parts that fit a NATS
message; the pipelines get theirs side by side. Counts are over all targets: an event that goes into two
pipelines counts twice, one that nothing takes counts as failed. Nothing is sent twice: a part that was not
answered is reported as failed, though it may have been taken.

With the client's `Idempotency-Key` a request may come again: each pipeline's share travels under a request id
made of the key, the pipeline and the number of the part, and the same body gives the same parts, so a worker
that remembers the id answers what it answered first. A key belongs to one body. Without a key there is no id
(a made-up one would fill the workers' memory of answers), and nobody sends the request a second time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from litestar import post
from litestar.params import FromPath
from msgspec.structs import replace

from coordinator.api import stored
from coordinator.api.context import AnyRequest, Context, Given, client_key, not_found, read_body
from coordinator.api.leader import DEADLINE
from coordinator.api.routing import Chooser, Copy, fields_of, running_copy, takers
from coordinator.state.versions import Group
from proto_schemas.codec import decode_fields, encode_fields
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.events import BatchInjected, Inject, InjectBatch, Injected
from proto_schemas.rest.events import (
    InjectBatchRequest,
    InjectBatchResponse,
    InjectRequest,
    InjectResponse,
    InjectResult,
)
from transport.errors import ErrorKind, NatsTransportError
from transport.limits import MAX_BODY

PART_BYTES: Final = 256 * 1024
"""Of events in one message: well below a NATS payload, because what comes out has to fit into one as well."""
MAX_ERRORS: Final = 100
MOVE_PATIENCE: Final = 10.0
"""Seconds an event waits for a pipeline that moves; a move takes well below one."""
FIRST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1
"""Seconds between tries meanwhile."""
T = TypeVar("T")
_CODES: Final = {
    ErrorKind.TIMEOUT: ErrorCode.TIMEOUT,
    ErrorKind.DISCONNECTED: ErrorCode.TIMEOUT,
    ErrorKind.TOO_LARGE: ErrorCode.BAD_REQUEST,
    ErrorKind.BAD_PAYLOAD: ErrorCode.ENGINE_ERROR,
}
"""What it means that a command to a worker failed; anything else: `unavailable`, surely not carried out."""


@post(
    "/pipeline-groups/{group_id:str}/inject",
    status_code=200,
    opt={"body": InjectRequest, "repeatable": False, "refuses": (502,)},
)
async def inject(request: AnyRequest, context: Given, group_id: FromPath[str]) -> InjectResponse:
    """One event; answers what each pipeline put out."""
    event = await read_body(request, InjectRequest)
    group, key = _group(context, group_id), client_key(request)
    if group.spec.delivery != AT_MOST_ONCE:
        return await stored.store(context, group, event, key)
    chooser = Chooser(context.ledger.state, group, key)
    names = [chooser.instance(name, event.fields) for name in takers(group, event.event_type)]
    outcomes = await asyncio.gather(*(_inject_one(context, group_id, name, event, key) for name in names))
    results = [outcome for outcome in outcomes if isinstance(outcome, InjectResult)]
    failures = [outcome for outcome in outcomes if isinstance(outcome, WireError)]
    if failures and len(failures) == len(outcomes):
        raise next((each for each in failures if each.code == ErrorCode.TIMEOUT), failures[0])
    for name, outcome in zip(names, outcomes, strict=True):
        if isinstance(outcome, WireError):
            told: dict[str, Any] = msgspec.to_builtins(outcome.reply())
            results.append(InjectResult(pipeline=name, worker_id="", worker_response=told))
    first = results[0]
    return InjectResponse(
        routed_to=first.pipeline,
        worker_id=first.worker_id,
        worker_response=first.worker_response,
        results=results,
    )


@post(
    "/pipeline-groups/{group_id:str}/inject-batch",
    status_code=200,
    opt={"body": InjectBatchRequest, "repeatable": False},
)
async def inject_batch(request: AnyRequest, context: Given, group_id: FromPath[str]) -> InjectBatchResponse:
    """Many events; answers true counts."""
    started = time.monotonic()
    body = await read_body(request, InjectBatchRequest, limit=MAX_BODY)
    group, key = _group(context, group_id), client_key(request)
    if group.spec.delivery != AT_MOST_ONCE:
        answer = await stored.store_batch(context, group, _events(body), key)
        return replace(answer, processing_time_us=int((time.monotonic() - started) * 1_000_000))
    batch = _Batch(group, key, Chooser(context.ledger.state, group, key))
    for number, event in enumerate(_events(body)):
        batch.add(number, event)
    await asyncio.gather(
        *(
            _send(context, batch, name, events, started + DEADLINE)
            for name, events in batch.by_pipeline.items()
        )
    )
    return InjectBatchResponse(
        events_sent=batch.sent,
        events_failed=batch.failed,
        output_events=batch.outputs,
        errors=batch.errors,
        processing_time_us=int((time.monotonic() - started) * 1_000_000),
    )


class _Batch:
    """The events of a batch by pipeline, and what became of them."""

    def __init__(self, group: Group, key: str | None, chooser: Chooser) -> None:
        self.group = group
        self._chooser = chooser
        self.key = key
        self.by_pipeline: dict[str, list[bytes]] = {}
        self.sent = 0
        self.failed = 0
        self.errors: list[str] = []
        self.outputs: list[dict[str, Any]] = []

    def add(self, number: int, event: Any) -> None:
        """Route one event; a bad one is failed and hurts no other."""
        event_type = event.get("event_type") if isinstance(event, dict) else None
        if not isinstance(event_type, str) or not event_type:
            self.fail(1, f"event {number}: it is no object with an event_type")
            return
        try:
            fields = fields_of(event)
            names = [self._chooser.instance(name, fields, number) for name in takers(self.group, event_type)]
            data = encode_fields(event)
        except WireError as error:
            self.fail(1, f"event {number}: {error}")
            return
        except (TypeError, ValueError, RecursionError) as error:
            self.fail(1, f"event {number}: {error}")
            return
        for name in names:
            if len(data) > PART_BYTES:
                self.fail(1, f"event {number}: {len(data)} bytes, the limit is {PART_BYTES}")
            else:
                self.by_pipeline.setdefault(name, []).append(data)

    def fail(self, count: int, reason: str) -> None:
        self.failed += count
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(reason)

    def take(self, answer: BatchInjected) -> None:
        self.sent += answer.events_sent
        self.failed += answer.events_failed
        self.errors.extend(answer.errors[: MAX_ERRORS - len(self.errors)])
        self.outputs.extend(msgspec.to_builtins(answer.output_events))


def _events(body: InjectBatchRequest) -> Iterator[Any]:
    if (body.events is None) == (body.events_text is None):
        raise WireError(ErrorCode.BAD_REQUEST, "InjectBatchRequest: give either events or events_text")
    if body.events is not None:
        yield from body.events
        return
    for text in (body.events_text or "").split("\n"):  # as JSON lines do: a text may hold U+2028
        if text.strip():
            try:
                yield decode_fields(text.encode())
            except (ValueError, RecursionError):
                yield None


async def _inject_one(
    context: Context, group: str, pipeline: str, event: InjectRequest, key: str | None
) -> InjectResult | WireError:
    connected, asked = context.nats.connected, ""

    async def send(copy: Copy) -> Injected:
        nonlocal connected, asked
        connected, asked = context.nats.connected, copy.worker_id
        message = Inject(
            pipeline_id=copy.pipeline_id,
            event_type=event.event_type,
            fields=event.fields,
            request_id=_request_id(key, group, pipeline),
        )
        return await context.commands.inject(copy.worker_id, message)

    try:
        copy, answer = await _to_live_copy(context, group, pipeline, time.monotonic() + MOVE_PATIENCE, send)
    except WireError as error:
        return error
    except NatsTransportError as error:
        code = _CODES.get(error.kind, ErrorCode.UNAVAILABLE) if connected else ErrorCode.UNAVAILABLE
        status = 413 if error.kind is ErrorKind.TOO_LARGE else None
        return WireError(code, f"worker {asked}: {error}", status=status)
    response: dict[str, Any] = msgspec.to_builtins(answer)
    return InjectResult(pipeline=pipeline, worker_id=copy.worker_id, worker_response=response)


async def _to_live_copy(
    context: Context, group: str, pipeline: str, deadline: float, send: Callable[[Copy], Awaitable[T]]
) -> tuple[Copy, T]:
    """Send to the copy that runs; while the pipeline moves, wait for the next one, for it took nothing yet.

    Raises:
        WireError, NatsTransportError: of the last try.
    """
    pause = FIRST_PAUSE
    while True:
        copy = running_copy(context.ledger.state, group, pipeline)
        try:
            return copy, await send(copy)
        except WireError as error:
            moved = error.code == ErrorCode.PIPELINE_NOT_FOUND and copy != _known(context, group, pipeline)
            if not (moved or error.code == ErrorCode.UNAVAILABLE) or time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _known(context: Context, group: str, pipeline: str) -> Copy | None:
    try:
        return running_copy(context.ledger.state, group, pipeline)
    except WireError:
        return None


async def _send(context: Context, batch: _Batch, pipeline: str, events: list[bytes], deadline: float) -> None:
    group = batch.group.spec.name
    for number, part in enumerate(_parts(events)):
        try:
            if time.monotonic() > deadline:
                raise WireError(ErrorCode.TIMEOUT, f"not sent within {DEADLINE:g} s: send smaller batches")
            send = partial(_send_part, context, part, _request_id(batch.key, group, pipeline, number))
            _, answer = await _to_live_copy(context, group, pipeline, deadline, send)
            batch.take(answer)
        except (WireError, NatsTransportError) as error:
            batch.fail(len(part), f"pipeline {pipeline}: {len(part)} events: {error}")


async def _send_part(
    context: Context, part: list[bytes], request_id: str | None, copy: Copy
) -> BatchInjected:
    events = [msgspec.Raw(event) for event in part]
    message = InjectBatch(pipeline_id=copy.pipeline_id, events=events, request_id=request_id)
    return await context.commands.inject_batch(copy.worker_id, message)


def _request_id(key: str | None, group: str, pipeline: str, part: int = 0) -> str | None:
    """Under which a worker takes this once; None: it does not look."""
    return f"key:{key}:{group}/{pipeline}:{part}" if key is not None else None


def _parts(events: list[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for event in events:
        if part and size + len(event) > PART_BYTES:
            yield part
            part, size = [], 0
        part.append(event)
        size += len(event) + 1
    if part:
        yield part


def _group(context: Context, name: str) -> Group:
    group = context.ledger.state.groups.get(name)
    if group is None or group.deleting:
        raise not_found("group", name, "/pipeline-groups")
    return group


HANDLERS = [inject, inject_batch]
