"""Events through one worker in each delivery, in the same run: at most once, at least once, exactly once.

A program with a keyed window and an output for each event. With a stream (JetStream that syncs each write,
`sync_interval: always`) the events are there before the worker is, and the time is that until the last output
is stored, checkpoints each second included. At most once they are sent by core NATS, never more than
`UNDERWAY` ahead of the outputs that have come, or the worker would drop some; so there the sender has a part
in it.
"""

import asyncio
import json
import tempfile
import time
from typing import Any, Final

import nats

from benchmarks import stage
from proto_schemas.subjects import Subjects
from transport.config import NatsConfig
from transport.jetstream import JetStream, Outgoing
from transport.loop import run as run_loop
from transport.nats import Message, NatsTransport

TARGET: Final = 20_000
UNDERWAY: Final = 20_000
BATCH: Final = 500
MOST: Final = 80.0
"""Seconds for one delivery."""
SOURCE: Final = """
stream Each = In.where(n >= 0).emit(n: n, k: k)
stream Sums = In.partition_by(k).window(60s).aggregate(k: last(k), n: count(), total: sum(n)).emit(k: k)
"""
DELIVERIES: Final = ("at_most_once", "at_least_once", "exactly_once")
_SUBJECTS: Final = Subjects()


def run(events: int = 200_000, keys: int = 1000) -> dict[str, Any]:
    """Events per second in each delivery; that of exactly once must reach `TARGET`."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as store, stage.nats_server(jetstream=True) as url:
        for delivery in DELIVERIES:
            with stage.worker(url, checkpoint_store=f"dir:{store}", checkpoint_interval=1.0):

                async def main(delivery: str = delivery) -> int:
                    found[delivery] = await _measure(url, delivery, events, keys)
                    return 0

                run_loop(main())
    rate = found["exactly_once"]["events_per_s"]
    return {**found, "exactly_once_target": {"value": rate, "target": f">= {TARGET}", "met": rate >= TARGET}}


async def _measure(url: str, delivery: str, events: int, keys: int) -> dict[str, Any]:
    bus = await NatsTransport.connect(NatsConfig(servers=(url,)), wait=stage.WAIT)
    client = await nats.connect(url)
    group = delivery.replace("_", "-")
    entry, out = _SUBJECTS.pipeline(group, "_external", "p"), _SUBJECTS.pipeline(group, "p", "q")
    payloads = [_event(number, keys) for number in range(events)]
    deploy = {
        "name": "p",
        "group": group,
        "source": SOURCE,
        "epoch": 1,
        "delivery": delivery,
        "restore_from": "latest",
        "routes": [{"from_pipeline": "p", "to_pipeline": "q", "event_types": ["Each"]}],
    }
    came = 0
    complete = asyncio.Event()

    def count(_: Message) -> None:
        nonlocal came
        came += 1
        if came >= events:
            complete.set()

    await bus.listen(out, count)
    if delivery != "at_most_once":
        await _fill(bus, group, entry, payloads)
    made = await stage.command(client, "deploy", deploy) if delivery == "at_most_once" else None
    began = time.perf_counter()
    if made is None:
        made = await stage.command(client, "deploy", deploy)
    assert made.get("status") == "running", made
    async with asyncio.timeout(MOST):
        if delivery == "at_most_once":
            for number, payload in enumerate(payloads):
                await bus.publish(entry, payload)
                while number - came > UNDERWAY:
                    await asyncio.sleep(0.001)
        await complete.wait()
        if delivery != "at_most_once":
            await _stored(JetStream(bus), _SUBJECTS.stream(group), out, events - 1)
    took = time.perf_counter() - began
    await client.close()
    await bus.close()
    return {"events_per_s": round(events / took), "seconds": round(took, 2)}


async def _stored(jetstream: JetStream, stream: str, out: str, number: int) -> None:
    """Wait until the output of that number lies in the stream: who listens hears of it before."""
    while True:
        found = await jetstream.last(stream, out)
        if found is not None and json.loads(found[0])["fields"]["n"] == number:
            return
        await asyncio.sleep(0.001)


async def _fill(bus: NatsTransport, group: str, entry: str, payloads: list[bytes]) -> None:
    jetstream, stream = JetStream(bus), _SUBJECTS.stream(group)
    config = {"name": stream, "subjects": _SUBJECTS.stream_subjects(group), "allow_atomic": True}
    await jetstream.api(f"STREAM.CREATE.{stream}", config)
    for first in range(0, len(payloads), BATCH):
        part = payloads[first : first + BATCH]
        await jetstream.publish_together([Outgoing(entry, payload) for payload in part])


def _event(number: int, keys: int) -> bytes:
    fields = {"n": number, "k": f"key-{number % keys}"}
    event = {"event_type": "In", "timestamp": number // keys * 1000, "fields": fields}
    return json.dumps(event, separators=(",", ":")).encode()
