"""Workers for tests, written on raw nats-py against the wire and nothing of ours but the subjects.

`FakeWorker` speaks everything: incarnation, sequence numbers, what it runs, leases. `SeedWorker` speaks only
what the seed speaks: no incarnation, no epochs, heartbeats published without a reply subject.
"""

import asyncio
import contextlib
import json
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

PREFIX = "varpulis.cluster"


class SeedWorker:
    """Registers once, beats, and does what it is told. `commands` keeps all it was told, in order."""

    def __init__(self, worker_id: str, url: str, *, max_pipelines: int = 10, beat: float = 0.1) -> None:
        self.id = worker_id
        self.copies: dict[str, dict[str, Any]] = {}
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, dict[str, Any]] = {}
        self.mute: set[str] = set()
        self.registered: dict[str, Any] = {}
        self._url = url
        self._max = max_pipelines
        self._beat = beat
        self._client: Client | None = None
        self._beating: asyncio.Task[None] | None = None
        self._made = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect, listen, register, beat."""
        self._client = await nats.connect(self._url)
        await self.client.subscribe(f"{PREFIX}.cmd.{self.id}.>", cb=self._on_command)
        await self.client.flush()
        await self.register()
        self._beating = asyncio.create_task(self._keep_beating())

    async def stop(self) -> None:
        """Vanish without a word, as a killed process does."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
            self._client = None

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def register(self) -> None:
        """Until accepted."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(nats.errors.Error):
                    answer = await self.client.request(
                        f"{PREFIX}.register", json.dumps(self.registration()).encode(), timeout=3
                    )
                    self.registered = json.loads(answer.data)
                    if self.registered.get("status") == "registered":
                        return
                await asyncio.sleep(0.05)

    def told(self, command: str) -> list[dict[str, Any]]:
        """The bodies of all commands of one kind."""
        return [body for name, body in self.commands if name == command]

    def registration(self) -> dict[str, Any]:
        capacity = {"cpu_cores": 2, "pipelines_running": len(self.copies), "max_pipelines": self._max}
        return {"worker_id": self.id, "address": "http://x:1", "api_key": "hunter2", "capacity": capacity}

    def heartbeat(self) -> dict[str, Any]:
        return {"events_processed": 7, "pipelines_running": len(self.copies)}

    async def beat(self) -> None:
        """One heartbeat."""
        await self.client.publish(f"{PREFIX}.heartbeat.{self.id}", json.dumps(self.heartbeat()).encode())

    async def silence(self) -> None:
        """Beat no more."""
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)

    async def speak(self) -> None:
        """Beat again."""
        self._beating = asyncio.create_task(self._keep_beating())

    async def _keep_beating(self) -> None:
        while True:
            await self.beat()
            await asyncio.sleep(self._beat)

    async def _on_command(self, message: Msg) -> None:
        command = message.subject.rpartition(".")[2]
        body = json.loads(message.data)
        self.commands.append((command, body))
        if command in self.mute:
            return
        answer = self.refuse.get(command) or self.answer(command, body)
        await message.respond(json.dumps(answer).encode())

    def answer(self, command: str, body: dict[str, Any]) -> dict[str, Any]:
        if command == "deploy":
            return self.deploy(body)
        if body.get("pipeline_id") not in self.copies:
            return {"error": "no such pipeline", "code": "pipeline_not_found", "retryable": False}
        if command == "undeploy":
            del self.copies[body["pipeline_id"]]
            return {"ok": True}
        if command == "inject":
            return {"ok": True, "output_events": [{"event_type": "Out", "fields": body["fields"]}]}
        return {
            "events_sent": len(body["events"]),
            "events_failed": 0,
            "output_events": [],
            "errors": [],
            "processing_time_us": 5,
        }

    def deploy(self, body: dict[str, Any]) -> dict[str, Any]:
        self._made += 1
        pipeline_id = f"{body['name']}-{self.id}-{self._made}"
        self.copies[pipeline_id] = body
        return {"id": pipeline_id, "name": body["name"], "status": "running"}


class FakeWorker(SeedWorker):
    """Speaks all of the wire. `acks` keeps the answers to its heartbeats, `done` the commands that were not
    the same again."""

    def __init__(
        self,
        worker_id: str,
        url: str,
        *,
        incarnation: str = "first",
        labels: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(worker_id, url, **options)
        self.labels = labels or {}
        self.incarnation = incarnation
        self.acks: list[dict[str, Any]] = []
        self.draining = False
        self._seq = 0
        self.done: list[tuple[str, dict[str, Any]]] = []
        self._first_answers: dict[str, dict[str, Any]] = {}

    async def start(self) -> None:
        await super().start()
        await self.client.subscribe(f"_INBOX.{self.id}.{self.incarnation}", cb=self._on_ack)

    def registration(self) -> dict[str, Any]:
        return {
            **super().registration(),
            "incarnation": self.incarnation,
            "attempt": f"attempt of {self.incarnation}",
            "labels": self.labels,
            "pipelines": self.running(),
        }

    def heartbeat(self) -> dict[str, Any]:
        self._seq += 1
        extra = {"incarnation": self.incarnation, "seq": self._seq, "draining": self.draining}
        return {**super().heartbeat(), **extra, "pipelines": self.running()}

    def running(self) -> list[dict[str, Any]]:
        return [
            {
                "pipeline_id": pipeline_id,
                "group": body.get("group", ""),
                "name": body["name"],
                "epoch": body.get("epoch", 0),
                "state": body.get("state", "running"),
            }
            for pipeline_id, body in self.copies.items()
        ]

    async def beat(self) -> None:
        await self.client.publish(
            f"{PREFIX}.heartbeat.{self.id}",
            json.dumps(self.heartbeat()).encode(),
            reply=f"_INBOX.{self.id}.{self.incarnation}",
        )

    def answer(self, command: str, body: dict[str, Any]) -> dict[str, Any]:
        request_id = body.get("request_id")
        if command == "hello":
            own = body.get("attempt") == f"attempt of {self.incarnation}"
            return {"ok": True, "incarnation": self.incarnation, "registers": own}
        if request_id is None:
            return super().answer(command, body)
        first = self._first_answers.get(request_id)
        if first is None:
            self.done.append((command, body))
            first = self._first_answers[request_id] = super().answer(command, body)
        return first

    async def _on_ack(self, message: Msg) -> None:
        if not message.data:
            return
        ack = json.loads(message.data)
        self.acks.append(ack)
        for directive in ack.get("directives") or []:
            if directive["do"] == "undeploy":
                self.copies.pop(directive["pipeline_id"], None)
            elif directive["do"] == "register":
                await self.register()
