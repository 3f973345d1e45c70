"""What a worker says of itself, in messages that NATS carries: heartbeats in parts, registrations that fit.

A heartbeat lists every copy, some 370 bytes each, and a nats-server takes 1 MiB. One that is larger goes out
as several messages under one `seq`, each with everything that is not a list and a share of the lists. So

- whoever hears any of them hears that the worker is alive, and a listener that knows no parts hears nothing
  but that: `pipelines` is absent, so he misses no copy that stands in another part;
- what does not run follows from all parts, and only from them (`coordinator.heartbeats`).

Parts are smaller than a message might be, so that neither end is held up by one, and the socket has room in
between. There are at most `MAX_PARTS`. What does not fit into those is left out, lists and all: to be alive
and tell nothing is better than to count as dead.
"""

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from proto_schemas.codec import MAX_PAYLOAD, encode
from proto_schemas.messages.membership import MAX_PARTS, Heartbeat, HeartbeatPart, Register

WHOLE_BYTES: Final = MAX_PAYLOAD - 64 * 1024
"""A heartbeat up to this goes out as one message; the rest is room for a signature."""
PART_BYTES: Final = 256 * 1024
REGISTER_BYTES: Final = 256 * 1024
"""A registration goes through Raft, and is a small part of a message there."""
SMALLER: Final = 0.9
"""Of the list that would fit, were its entries all of one size."""


def in_messages(heartbeat: Heartbeat, limit: int = WHOLE_BYTES) -> list[bytes]:
    """The heartbeat in messages of at most `limit` bytes each, as they are to be sent; without its lists
    where `MAX_PARTS` are too few."""
    whole = encode(heartbeat)
    if len(whole) <= min(limit, WHOLE_BYTES) or heartbeat.pipelines is None:
        return [whole]
    target = min(limit, PART_BYTES)
    count = max(len(whole) // target + 1, 2)
    while count <= MAX_PARTS:
        parts = [encode(part) for part in _parts(heartbeat, count)]
        if max(map(len, parts)) <= limit:
            return parts
        count += count // 2
    return [encode(replace(heartbeat, pipelines=None, loss_windows=None, pipeline_metrics=None))]


def _parts(heartbeat: Heartbeat, count: int) -> Iterator[Heartbeat]:
    copies, windows = heartbeat.pipelines or [], heartbeat.loss_windows
    metrics = heartbeat.pipeline_metrics
    for number in range(count):
        share = slice(len(copies) * number // count, len(copies) * (number + 1) // count)
        yield replace(
            heartbeat,
            pipelines=None,
            loss_windows=None,
            pipeline_metrics=metrics[share] if metrics is not None else None,
            part=HeartbeatPart(
                number=number,
                of=count,
                pipelines=copies[share],
                loss_windows=windows[share] if windows is not None else None,
            ),
        )


def fitting(request: Register, limit: int = REGISTER_BYTES) -> Register:
    """The registration, with as many copies as fit into `limit` bytes: those of the newest epochs, above
    which coordinators that lost their logs go on. The others come with the heartbeats."""
    copies = request.pipelines or []
    while (size := len(encode(request))) > limit and copies:
        newest = sorted(copies, key=lambda copy: copy.epoch, reverse=True)
        copies = newest[: min(len(copies) - 1, int(len(copies) * limit / size * SMALLER))]
        request = replace(request, pipelines=copies)
    return request
