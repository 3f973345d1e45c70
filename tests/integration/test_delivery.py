"""A pipeline on a stream: what it puts out when copies die, move, are fenced off, and when the server restarts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from proto_schemas.subjects import Subjects
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import bare_client, command, running
from transport.config import NatsConfig
from transport.jetstream import JetStream, Outgoing
from transport.nats import NatsTransport
from worker.app import Worker

SUBJECTS = Subjects()
STREAM = SUBJECTS.stream("g")
ENTRY = SUBJECTS.pipeline("g", "_external", "p")
EXIT = SUBJECTS.pipeline("g", "p", "_external")
SUMS = """
stream Ins = In
    .partition_by(k)
    .window(60s)
    .aggregate(k: last(k), n: count(), total: sum(n), most: max(n))
    .emit(k: k, n: n, total: total, most: most)
"""


@pytest.fixture
def jetstream_server() -> Any:
    with NatsServer(jetstream=True) as server:
        yield server


@asynccontextmanager
async def streaming(server: NatsServer) -> AsyncIterator[JetStream]:
    """A connection, and the stream of group `g`."""
    bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5.0)
    try:
        jetstream = JetStream(bus)
        config = {"name": STREAM, "subjects": SUBJECTS.stream_subjects("g"), "allow_atomic": True}
        await jetstream.api(f"STREAM.CREATE.{STREAM}", config)
        yield jetstream
    finally:
        await bus.close()


def on_a_shared_store(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"checkpoint_store": f"dir:{tmp_path / 'checkpoints'}", "checkpoint_interval": 0.5, **more}


def event(number: int) -> bytes:
    """Numbers of seven keys; a window of a key closes after sixty of its own."""
    fields = {"n": number, "k": f"k{number % 7}"}
    return json.dumps({"event_type": "In", "timestamp": number // 7 * 1000, "fields": fields}).encode()


async def send(jetstream: JetStream, numbers: range) -> None:
    for first in range(numbers.start, numbers.stop, 200):
        part = range(first, min(first + 200, numbers.stop))
        await jetstream.publish_together([Outgoing(ENTRY, event(number)) for number in part])


async def deploy(client: Client, worker: str, epoch: int, **more: Any) -> dict[str, Any]:
    message = {
        "name": "p",
        "source": SUMS,
        "group": "g",
        "epoch": epoch,
        "queue": "g.p.1",
        "delivery": "exactly_once",
        "restore_from": "latest",
        **more,
    }
    answer: dict[str, Any] = await command(client, "deploy", message, worker)
    return answer


async def outputs(jetstream: JetStream, subject: str = EXIT) -> list[dict[str, Any]]:
    """What lies on a subject of the stream, in order."""
    from worker.delivery.reader import Reader

    reader, found = Reader(jetstream, STREAM, [subject], 0), []
    while True:
        taken = await reader.take(500, 0.2)
        if not taken and reader.caught_up:
            break
        found += [json.loads(fetched.data)["fields"] for fetched in taken]
    await reader.stop()
    return found


def expected(count: int) -> list[dict[str, Any]]:
    """What the closed windows of the first `count` numbers hold."""
    open_: dict[int, list[int]] = {}
    closed = []
    for number in range(count):
        window = open_.setdefault(number % 7, [])
        if window and number // 7 * 1000 >= window[0] // 7 * 1000 + 60_000:
            closed.append(
                {"k": f"k{number % 7}", "n": len(window), "total": sum(window), "most": max(window)}
            )
            window = open_[number % 7] = []
        window.append(number)
    return closed


async def test_what_was_sent_before_anything_ran_is_handled(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)),
        bare_client(jetstream_server) as client,
    ):
        await send(jetstream, range(5000))
        made = await deploy(client, "worker-0", 1)
        assert made["status"] == "running", made
        wanted = expected(5000)

        async def complete() -> bool:
            return len(await outputs(jetstream)) >= len(wanted)

        await until(complete, what="every window")
        assert await outputs(jetstream) == wanted
