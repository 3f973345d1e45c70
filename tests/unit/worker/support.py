"""What worker tests share: a worker in this process, and coordinators played on bare nats-py."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from proto_schemas.subjects import DEFAULT_PREFIX
from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from worker.app import Worker
from worker.config import WorkerConfig

FILTER = "stream Held = Door.where(held_ms > 30000).emit(badge: badge, held_ms: held_ms)"
PASS = "stream Out = In.emit(n: n)"


def config(server: NatsServer, tmp_path: Path, worker_id: str = "worker-0", **given: Any) -> WorkerConfig:
    """A worker's configuration against a test's server."""
    return WorkerConfig(
        worker_id=worker_id,
        nats=NatsConfig(servers=(server.url,)),
        data_dir=tmp_path / worker_id,
        cpu_cores=2,
        **given,
    )


@asynccontextmanager
async def running(server: NatsServer, tmp_path: Path, **given: Any) -> AsyncIterator[Worker]:
    """A worker that answers commands until the block ends."""
    worker = Worker(config(server, tmp_path, **given))
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def bare_client(server: NatsServer, *, reconnect: bool = False) -> AsyncIterator[Client]:
    """nats-py as it comes: what any other program uses. One closed while it reconnects leaks a socket."""
    client = await nats.connect(
        server.url, allow_reconnect=reconnect, reconnect_time_wait=0.1, max_reconnect_attempts=-1
    )
    try:
        yield client
    finally:
        await client.close()


async def command(client: Client, name: str, message: Any, worker_id: str = "worker-0") -> Any:
    """Send a command as a coordinator would; the answer, read."""
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    answer = await client.request(f"{DEFAULT_PREFIX}.cmd.{worker_id}.{name}", data, timeout=10)
    return json.loads(answer.data)


@dataclass
class Collected:
    """Messages heard on one subject, read."""

    messages: list[Any] = field(default_factory=list)

    @property
    def fields(self) -> list[Any]:
        return [message["fields"] for message in self.messages]


async def collect(client: Client, subject: str) -> Collected:
    """Hear `subject` from now on."""
    heard = Collected()

    async def hear(message: Msg) -> None:
        heard.messages.append(json.loads(message.data))

    await client.subscribe(subject, cb=hear)
    await client.flush()
    return heard


class FakeCoordinator:
    """Answers registrations, hears heartbeats; with a lease it also answers them, as a leader of ours does.

    Attributes:
        registrations, heartbeats: what came, read.
        directives: sent with the next answer, once.
        lease_secs: None plays a seed coordinator, which only listens.
    """

    def __init__(self, client: Client, *, lease_secs: float | None = None, interval: float = 0.05) -> None:
        self._client = client
        self._interval = interval
        self.lease_secs = lease_secs
        self.term = 1
        self.answers = True
        self.registrations: list[Any] = []
        self.heartbeats: list[Any] = []
        self.directives: list[dict[str, Any]] = []

    async def start(self) -> None:
        await self._client.subscribe(f"{DEFAULT_PREFIX}.register", queue="coordinators", cb=self._on_register)
        await self._client.subscribe(f"{DEFAULT_PREFIX}.heartbeat.>", cb=self._on_heartbeat)
        await self._client.flush()

    async def _on_register(self, message: Msg) -> None:
        request = json.loads(message.data)
        self.registrations.append(request)
        answer = {
            "worker_id": request["worker_id"],
            "status": "registered",
            "heartbeat_interval_secs": self._interval,
        }
        await message.respond(json.dumps(answer).encode())

    async def _on_heartbeat(self, message: Msg) -> None:
        self.heartbeats.append(json.loads(message.data))
        if self.lease_secs is not None and self.answers and message.reply:
            answer = {"term": self.term, "lease_secs": self.lease_secs, "directives": self.directives}
            self.directives = []
            await message.respond(json.dumps(answer).encode())


@asynccontextmanager
async def coordinated(server: NatsServer, **given: Any) -> AsyncIterator[FakeCoordinator]:
    """A played coordinator with a connection of its own."""
    async with bare_client(server, reconnect=True) as client:
        coordinator = FakeCoordinator(client, **given)
        await coordinator.start()
        yield coordinator


async def gather_answers(*requests: Any) -> list[Any]:
    """Several requests side by side."""
    return list(await asyncio.gather(*requests))
