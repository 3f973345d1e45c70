"""Simulated workers: many members of a cluster in one process, on one connection to NATS.

Each speaks what a worker speaks: it registers with an incarnation of its own, sends heartbeats of the real
shape (counters and connector health of each pipeline, what really runs under which epoch) with a reply
subject, takes in the leader's answer, and has a subscription of its own to its commands, so that NATS says
"no responders" once it is gone. It runs nothing: a deploy is answered at once, as running.

They beat at phases of their own, from the first one on, so that a rate is a rate and no burst.

What that leaves out of a real worker is its programs and its checkpoints, not what the coordinators see. One
process and one connection for all make the load cheap where it stands beside the cluster on the same cores.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
import secrets
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, Self

import msgspec

from proto_schemas.codec import decode, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.membership import (
    Capacity,
    ConnectorHealth,
    Heartbeat,
    HeartbeatAck,
    PipelineMetrics,
    Register,
    Registered,
    RunningPipeline,
)
from proto_schemas.subjects import Subjects, last_token
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.listener import Listener
from transport.nats import Message, NatsTransport
from worker.parts import in_messages

AT_ONCE: Final = 128
"""Registrations under way at a time."""
ANSWER_SECONDS: Final = 5.0
TRIES: Final = 20
PAUSE: Final = 0.05
"""Seconds before a registration that was put off is tried again, times the number of the try."""
TICK: Final = 0.005
"""Seconds between two looks at which heartbeats are due."""
WAITING: Final = 50_000
"""Heartbeats whose answer is waited for at most."""

_log = logging.getLogger(__name__)


class Simulated:
    """One worker. `copies`: what it runs, by group and name; a `seed` one knows no incarnations."""

    __slots__ = ("copies", "events", "id", "incarnation", "interval", "listener", "room", "seq")

    def __init__(self, worker_id: str, room: int, *, seed: bool = False) -> None:
        self.id = worker_id
        self.room = room
        self.incarnation = None if seed else f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"
        self.copies: dict[tuple[str, str], RunningPipeline] = {}
        self.interval = 1.0
        self.seq = 0
        self.events = 0
        self.listener: Listener | None = None

    def registration(self) -> Register:
        """What it says to join."""
        ours = self.incarnation is not None
        return Register(
            worker_id=self.id,
            address=f"http://10.0.0.1:9000/{self.id}",
            api_key="",
            capacity=Capacity(cpu_cores=4, pipelines_running=len(self.copies), max_pipelines=self.room),
            incarnation=self.incarnation,
            version="0.1.0" if ours else None,
            labels={"zone": f"z-{hash(self.id) % 3}"} if ours else None,
            pipelines=list(self.copies.values()) if ours else None,
        )

    def heartbeat(self) -> Heartbeat:
        """The next one; its counters move, as they do where events flow."""
        self.seq += 1
        self.events += 100 * len(self.copies)
        counters = [
            PipelineMetrics(
                pipeline_name=copy.name,
                events_in=100 * self.seq,
                events_out=50 * self.seq,
                connector_health=[
                    ConnectorHealth(
                        connector_name="Bus",
                        connector_type="nats",
                        connected=True,
                        messages_received=100 * self.seq,
                        seconds_since_last_message=0,
                    )
                ],
            )
            for copy in self.copies.values()
        ]
        ours = self.incarnation is not None
        return Heartbeat(
            events_processed=self.events,
            pipelines_running=len(self.copies),
            pipeline_metrics=counters,
            incarnation=self.incarnation,
            seq=self.seq if ours else None,
            pipelines=list(self.copies.values()) if ours else None,
            load=0.2 + 0.01 * (self.seq % 3) if ours else None,
        )

    def answer(self, command: str, data: bytes) -> msgspec.Struct:
        """What it answers to a command, having done it."""
        if command == "deploy":
            deploy = decode(data, Deploy)
            key = (deploy.group or "", deploy.name)
            known = self.copies.get(key)
            if known is None or known.epoch != deploy.epoch:
                known = self.copies[key] = RunningPipeline(
                    pipeline_id=secrets.token_hex(8),
                    group=key[0],
                    name=deploy.name,
                    epoch=deploy.epoch or 0,
                )
            return Deployed(id=known.pipeline_id, name=deploy.name, status="running")
        if command == "undeploy":
            unwanted = decode(data, Undeploy).pipeline_id
            for key in [key for key, copy in self.copies.items() if copy.pipeline_id == unwanted]:
                del self.copies[key]
            return Ok(ok=True)
        if command == "hello":
            return Ok(ok=True)
        return WireError(ErrorCode.UNKNOWN_COMMAND, f"a simulated worker knows no {command}").reply()


class Fleet:
    """All of them. `async with Fleet(url) as fleet:` connects; at the end all are gone.

    Attributes:
        workers: by id, those that live.
        beats, acks: heartbeats that went out, and answers that came back.
        batches: in how many writes to the socket they went out.
        round_trips: seconds from a heartbeat to its answer.
        commands: that came, by name. `directives`: that came with answers, by what they ask.
        put_off: registrations that were told to come again.
        last_command: when the last one came, monotonic seconds.
    """

    def __init__(self, url: str, subjects: Subjects | None = None) -> None:
        self._url, self._subjects = url, subjects or Subjects()
        self.workers: dict[str, Simulated] = {}
        self.beats = self.acks = self.put_off = self.batches = 0
        self.round_trips: list[float] = []
        self.commands: Counter[str] = Counter()
        self.directives: Counter[str] = Counter()
        self.last_command = 0.0
        self._waiting: dict[str, float] = {}
        self._due: list[tuple[float, int, Simulated]] = []
        self._numbers = itertools.count()
        self._tick = TICK
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Self:
        self._bus = await NatsTransport.connect(NatsConfig(servers=(self._url,), name="fleet"), wait=10.0)
        self._inbox = self._bus.new_inbox()
        await self._bus.listen(f"{self._inbox}.*", self._on_ack)
        self._tasks = [asyncio.create_task(self._beat())]
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.close()

    async def join(self, workers: Iterable[Simulated], at_once: int = AT_ONCE) -> list[float]:
        """Register them, `at_once` at a time, and have them beat from then on; seconds that each took.

        Raises:
            WireError, NatsTransportError: one of them was refused for good, or too often.
        """
        took: list[float] = []
        turn = iter(list(workers))

        async def one_after_another() -> None:
            for worker in turn:
                began = time.perf_counter()
                await self._join(worker)
                took.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_another())
        return took

    async def _join(self, worker: Simulated) -> None:
        if worker.listener is None:
            worker.listener = await self._bus.listen(
                self._subjects.commands(worker.id), lambda message: self._on_command(worker, message)
            )
        for attempt in itertools.count(1):
            try:
                answer = await self._bus.request_message(
                    self._subjects.register, worker.registration(), Registered, timeout=ANSWER_SECONDS
                )
                break
            except (WireError, NatsTransportError) as error:
                if attempt == TRIES or not getattr(error, "retryable", True):
                    raise
                self.put_off += 1
                await asyncio.sleep(PAUSE * attempt)
        worker.interval = answer.heartbeat_interval_secs
        if worker.id not in self.workers:
            self.workers[worker.id] = worker
            due = time.monotonic() + random.uniform(0, worker.interval)
            heapq.heappush(self._due, (due, next(self._numbers), worker))

    def pace(self, interval: float, tick: float) -> None:
        """From now on every worker beats every `interval` seconds, at a phase of its own; what is due goes
        out every `tick` seconds."""
        self._tick = tick
        now = time.monotonic()
        for worker in self.workers.values():
            worker.interval = interval
        self._due = [
            (now + random.uniform(0, interval), next(self._numbers), worker)
            for worker in self.workers.values()
        ]
        heapq.heapify(self._due)

    async def kill(self, worker_id: str) -> None:
        """As a process dies: it beats no more, and nobody listens to its commands."""
        worker = self.workers.pop(worker_id)
        if worker.listener is not None:
            await worker.listener.unsubscribe()
        await self._bus.flush()

    def forget_counts(self) -> None:
        """Count anew from here."""
        self.beats = self.acks = self.put_off = self.batches = 0
        self.round_trips.clear()
        self.commands.clear()
        self.directives.clear()

    async def _beat(self) -> None:
        while True:
            now, before = time.monotonic(), self.beats
            while self._due and self._due[0][0] <= now:
                due, number, worker = heapq.heappop(self._due)
                if self.workers.get(worker.id) is worker:
                    self._send(worker, now)
                    heapq.heappush(self._due, (max(due + worker.interval, now - self._tick), number, worker))
            self._bus.push()
            self.batches += self.beats > before
            await asyncio.sleep(max(now + self._tick - time.monotonic(), 0))

    def _send(self, worker: Simulated, now: float) -> None:
        reply = ""
        if worker.incarnation is not None:
            reply = f"{self._inbox}.{next(self._numbers)}"
            self._waiting[reply] = now
            if len(self._waiting) > WAITING:
                del self._waiting[next(iter(self._waiting))]
        with contextlib.suppress(NatsTransportError):
            first, *others = in_messages(worker.heartbeat())
            self._bus.send(self._subjects.heartbeat(worker.id), first, reply=reply)
            for part in others:
                self._bus.send(self._subjects.heartbeat(worker.id), part)
            self.beats += 1

    def _on_ack(self, message: Message) -> None:
        sent = self._waiting.pop(message.subject, None)
        if sent is None or message.no_responders:
            return
        ack = decode(message.data, HeartbeatAck)
        self.acks += 1
        self.round_trips.append(time.monotonic() - sent)
        self.directives.update(directive.do for directive in ack.directives or ())

    def _on_command(self, worker: Simulated, message: Message) -> None:
        command = last_token(message.subject)
        self.commands[command] += 1
        self.last_command = time.monotonic()
        answer = worker.answer(command, message.data)
        if message.reply:
            self._bus.send(message.reply, encode(answer))
            self._bus.push()
