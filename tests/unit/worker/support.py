"""What worker tests share: a worker in this process, and coordinators played on bare nats-py, or as an HTTP
server for a worker that speaks REST. A scenario that makes sense over both takes the `carrier` it is played
over.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from proto_schemas.subjects import DEFAULT_PREFIX
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from transport.config import NatsConfig
from transport.http import HttpServer
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
        **{"cpu_cores": 2, **given},
    )


KEY = "the-key-of-this-worker"


def over_rest(tmp_path: Path, *urls: str) -> dict[str, Any]:
    """What makes a worker speak REST, to these coordinators or to nobody."""
    file = tmp_path / "worker.key"
    file.write_text(f"{KEY}\n")
    return {"coordinators": urls or (f"http://127.0.0.1:{free_port()}",), "worker_key_file": file}


@asynccontextmanager
async def running(
    server: NatsServer, tmp_path: Path, *, carrier: str = "nats", by: Any = None, **given: Any
) -> AsyncIterator[Worker]:
    """A worker that answers commands until the block ends; `by`: a played coordinator, where there is one."""
    if carrier == "rest":
        given |= over_rest(tmp_path, *((by.url,) if by is not None else ()))
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


class Commander:
    """Sends commands over HTTP to one worker, by the words of wire.md.

    Attributes:
        statuses: what was answered, in order.
    """

    def __init__(self, url: str, key: str = KEY) -> None:
        self.http = httpx.AsyncClient(
            base_url=f"{url}/api/v1", headers={"x-api-key": key}, timeout=20, trust_env=False
        )
        self.statuses: list[int] = []

    async def send(self, name: str, message: dict[str, Any]) -> bytes:
        """The body of the answer."""
        rest = dict(message)
        pipeline = f"/pipelines/{rest.pop('pipeline_id', '')}"
        if name == "undeploy":
            answer = await self.http.delete(pipeline, params=rest)
        else:
            paths = {
                "deploy": "/pipelines",
                "inject": f"{pipeline}/events",
                "inject_batch": f"{pipeline}/events-batch",
                "hold": f"{pipeline}/hold",
                "checkpoint": f"{pipeline}/checkpoint",
                "restore": f"{pipeline}/restore",
            }
            answer = await self.http.post(paths.get(name, f"/{name}"), json=rest)
        self.statuses.append(answer.status_code)
        return answer.content


@asynccontextmanager
async def commanding(server: NatsServer, worker: Worker) -> AsyncIterator["Client | Commander"]:
    """Who commands this worker, by its carrier."""
    if worker.config.coordinators:
        commander = Commander(worker.url)
        async with commander.http:
            yield commander
    else:
        async with bare_client(server) as client:
            yield client


async def command(client: "Client | Commander", name: str, message: Any, worker_id: str = "worker-0") -> Any:
    """Send a command as a coordinator would; the answer, read."""
    if isinstance(client, Commander):
        return json.loads(await client.send(name, message))
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
    await client.flush()  # the first may be answered by a PONG that was on its way; the second is not
    return heard


class Played:
    """A coordinator: what it heard, and what it says.

    Attributes:
        registrations, heartbeats: what came, read.
        directives: sent with the next answer, once.
        lease_secs: None plays a seed coordinator, which only listens.
        answers: whether it grants the lease now.
        more: further fields of each answer.
        end_all: it wants nothing to run that a heartbeat lists.
    """

    def __init__(self, *, lease_secs: float | None = None, interval: float = 0.05) -> None:
        self._interval = interval
        self.lease_secs = lease_secs
        self.term = 1
        self.answers = True
        self.registrations: list[Any] = []
        self.heartbeats: list[Any] = []
        self.directives: list[dict[str, Any]] = []
        self.more: dict[str, Any] = {}
        self.end_all = False

    def register(self, request: Any) -> dict[str, Any]:
        """Note a registration; the answer."""
        self.registrations.append(request)
        return {
            "worker_id": request["worker_id"],
            "status": "registered",
            "heartbeat_interval_secs": self._interval,
        }

    def hear(self, heartbeat: Any) -> dict[str, Any] | None:
        """Note a heartbeat; the leader's word, or None."""
        self.heartbeats.append(heartbeat)
        if self.lease_secs is None or not self.answers:
            return None
        if self.end_all:
            ids = [each["pipeline_id"] for each in heartbeat["pipelines"]]
            self.directives = [{"do": "undeploy", "pipeline_id": each} for each in ids]
        word = {"term": self.term, "lease_secs": self.lease_secs, "directives": self.directives}
        answer = {**word, **self.more}
        self.directives = []
        return answer


class FakeCoordinator(Played):
    """One that is reached over NATS."""

    def __init__(self, client: Client, **given: Any) -> None:
        super().__init__(**given)
        self._client = client

    async def start(self) -> None:
        await self._client.subscribe(f"{DEFAULT_PREFIX}.register", queue="coordinators", cb=self._on_register)
        await self._client.subscribe(f"{DEFAULT_PREFIX}.heartbeat.>", cb=self._on_heartbeat)
        await self._client.flush()

    async def _on_register(self, message: Msg) -> None:
        await message.respond(json.dumps(self.register(json.loads(message.data))).encode())

    async def _on_heartbeat(self, message: Msg) -> None:
        answer = self.hear(json.loads(message.data))
        if answer is not None and message.reply:
            await message.respond(json.dumps(answer).encode())


class FakeRestCoordinator(Played):
    """One that is reached over HTTP.

    Attributes:
        refusal: status and error object that answer everything, when there is one.
        keys: the worker's keys that came, and the keys of ours.
        paths: what was asked.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.keys: list[tuple[str | None, str | None]] = []
        self.paths: list[str] = []
        self.server = HttpServer(self)

    @property
    def url(self) -> str:
        return self.server.url

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        body, more = b"", True
        while more:
            part = await receive()
            body += part.get("body", b"")
            more = part.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.keys.append((headers.get("x-worker-key"), headers.get("x-api-key")))
        self.paths.append(scope["path"])
        status, answer = self.refusal or self._answer(scope["path"], json.loads(body))
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _answer(self, path: str, message: Any) -> tuple[int, dict[str, Any]]:
        if path.endswith("/register"):
            return 201, self.register(message)
        word = self.hear(message) or {"term": self.term, "lease_secs": None}
        return 200, {"acknowledged": True, **word}


@asynccontextmanager
async def coordinated_over_rest(**given: Any) -> AsyncIterator[FakeRestCoordinator]:
    """A played coordinator that listens on a port of its own."""
    coordinator = FakeRestCoordinator(**given)
    await coordinator.server.start()
    try:
        yield coordinator
    finally:
        await coordinator.server.stop(1.0)


@asynccontextmanager
async def coordinated(server: NatsServer, *, carrier: str = "nats", **given: Any) -> AsyncIterator[Played]:
    """A played coordinator with a connection of its own."""
    if carrier == "rest":
        async with coordinated_over_rest(**given) as rest:
            yield rest
        return
    async with bare_client(server, reconnect=True) as client:
        coordinator = FakeCoordinator(client, **given)
        await coordinator.start()
        yield coordinator


async def gather_answers(*requests: Any) -> list[Any]:
    """Several requests side by side."""
    return list(await asyncio.gather(*requests))
