"""Servers that speak the registers' part of the API, and break one promise each, now and then.

They are what the harness is held to: the same clients, the same notes and the same checker must find each of
them out, and must let the honest one pass. A lie is told on every `EVERY`th request of its kind.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, MutableMapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import Register
from proto_schemas.rest.base import API_BASE
from proto_schemas.rest.workers import Removed, WorkerView

EVERY: Final = 6
_LATER: Final = 0.05
"""Seconds after which a write that is repeated takes effect again."""
_WORK: Final = 0.004
"""Seconds a request takes, at most, on either side of its effect."""

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class Lie(StrEnum):
    """What a store does wrong."""

    NONE = "none"
    STALE_READ = "a read gives the value before the last one"
    LOST_WRITE = "a write is acknowledged and has no effect"
    REPEATED_WRITE = "a write that was acknowledged takes effect again later"
    APPLIED_REFUSAL = "a write is refused as not applied and has effect"


class BrokenStore:
    """An ASGI application; `lies` counts those that were told."""

    def __init__(self, lie: Lie, seed: int) -> None:
        self.lies = 0
        self._lie = lie
        self._rng = random.Random(seed)
        self._values: dict[str, list[str | None]] = {}
        self._asked = 0
        self._later: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        body = await _body(receive)
        await asyncio.sleep(self._rng.uniform(0, _WORK))
        answer = self._answer(scope["method"], scope["path"].removeprefix(f"{API_BASE}/workers/"), body)
        await asyncio.sleep(self._rng.uniform(0, _WORK))
        status = answer.status if isinstance(answer, WireError) else 200
        data = msgspec.json.encode(answer.reply() if isinstance(answer, WireError) else answer)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": data})

    def _answer(self, method: str, name: str, body: bytes) -> msgspec.Struct | WireError:
        if method == "POST":
            register = msgspec.json.decode(body, type=Register)
            return self._write(register.worker_id, register.address)
        if method == "DELETE":
            return self._write(name, None)
        values = self._values.get(name, [None])
        stale = len(values) > 1 and self._lies_about(Lie.STALE_READ)
        value = values[-2] if stale else values[-1]
        return _worker(name, value) if value is not None else WireError(ErrorCode.NOT_FOUND, "none")

    def _write(self, name: str, value: str | None) -> msgspec.Struct | WireError:
        values = self._values.setdefault(name, [None])
        if self._lies_about(Lie.LOST_WRITE):
            return Removed(removed=True)
        values.append(value)
        if self._lies_about(Lie.APPLIED_REFUSAL):
            return WireError(ErrorCode.UNAVAILABLE, "not applied")
        if self._lies_about(Lie.REPEATED_WRITE):
            again = asyncio.create_task(self._write_later(values, value))
            self._later.add(again)
            again.add_done_callback(self._later.discard)
        return Removed(removed=True)

    async def _write_later(self, values: list[str | None], value: str | None) -> None:
        await asyncio.sleep(_LATER)
        values.append(value)

    def _lies_about(self, lie: Lie) -> bool:
        if lie is not self._lie:
            return False
        self._asked += 1
        lies = self._asked % EVERY == 0
        self.lies += lies
        return lies


async def _body(receive: _Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body


async def _live(receive: _Receive, send: _Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _worker(name: str, address: str) -> WorkerView:
    return WorkerView(
        id=name,
        address=address,
        status="ready",
        pipelines_running=0,
        max_pipelines=1,
        cpu_cores=1,
        carrier="nats",
        assigned_pipelines=[],
        events_processed=0,
        labels={},
        cordoned=False,
        last_heartbeat_age_ms=None,
        incarnation=None,
    )
