"""`python -m benchmarks.routing.bare URL filter|relay IN OUT`: what a bare nats-py callback does with events.

`filter` parses, compares and publishes; `relay` publishes what came.
"""

import asyncio
import sys
from typing import Any

import nats
import orjson

from benchmarks.routing.load import LIMIT
from transport.loop import run


async def serve(url: str, kind: str, subject: str, out: str) -> int:
    """Until the process ends."""
    client = await nats.connect(url)

    async def filter_held(message: Any) -> None:
        event = orjson.loads(message.data)
        fields = event["fields"]
        if fields["held_ms"] > LIMIT:
            kept = {"badge": fields["badge"], "held_ms": fields["held_ms"]}
            output = {"event_type": "Held", "timestamp": event["timestamp"], "fields": kept}
            await client.publish(out, orjson.dumps(output))

    async def relay(message: Any) -> None:
        await client.publish(out, message.data)

    await client.subscribe(subject, cb=filter_held if kind == "filter" else relay)
    await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    _, server, what, heard, told = sys.argv
    run(serve(server, what, heard, told))
