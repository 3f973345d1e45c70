"""Groups for tests on whole clusters, and a probe that sends numbered events in and sees which come out."""

import asyncio
from typing import Any, Self

from proto_schemas.codec import decode_fields, encode_fields
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport


def echo_program(nats_url: str, name: str) -> str:
    """A program that takes `Tick` on `test.{name}.in` and puts what is even out on `test.{name}.out`."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Ticks = Tick.from(Bus, topic: "test.{name}.in")
stream Even = Ticks.where(n % 2 == 0).emit(n: n).to(Bus, topic: "test.{name}.out")
"""


def echo_group(nats_url: str, name: str, *, worker: str | None = None) -> dict[str, Any]:
    """A group of one such pipeline, called `echo`."""
    pipeline = {"name": "echo", "source": echo_program(nats_url, name)}
    if worker is not None:
        pipeline["worker_affinity"] = worker
    return {"name": name, "pipelines": [pipeline]}


class Probe:
    """Sends numbered events to the echo pipeline of a group and remembers the numbers that come out."""

    def __init__(self, nats_url: str, name: str) -> None:
        self._url, self._name = nats_url, name
        self._next = 0
        self.seen: list[int] = []

    async def __aenter__(self) -> Self:
        self._nats = await NatsTransport.connect(NatsConfig(servers=(self._url,)), wait=5.0)
        await self._nats.subscribe(f"test.{self._name}.out", self._on_output)
        await self._nats.flush(5.0)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._nats.close()

    async def send(self, count: int) -> list[int]:
        """Send the next `count` numbers; returns those that must come out."""
        numbers = range(self._next, self._next + count)
        self._next += count
        for number in numbers:
            event = {"event_type": "Tick", "fields": {"n": number}}
            await self._nats.publish(f"test.{self._name}.in", encode_fields(event))
        await self._nats.flush(5.0)
        return [number for number in numbers if number % 2 == 0]

    async def answers(self) -> bool:
        """Send two numbers; whether one of them, or of earlier ones not seen before, came out in a moment."""
        known = len(self.seen)
        await self.send(2)
        for _ in range(10):
            if len(self.seen) > known:
                return True
            await asyncio.sleep(0.01)
        return False

    async def _on_output(self, message: Message) -> None:
        self.seen.append(decode_fields(message.data)["fields"]["n"])
