"""Stand-ins for other coordinators that lead, and for what a node knows of who does."""

import asyncio
from types import SimpleNamespace
from typing import Any

from transport.http import HttpServer


class Leader:
    """A server that keeps what it was asked, and answers once `awake` is set, with its own name."""

    def __init__(self, name: str, *, awake: bool) -> None:
        self.name = name
        self.asked = asyncio.Event()
        self.awake = asyncio.Event()
        self.status = 200
        self.text = name
        self.keys: list[str] = []
        self.server = HttpServer(self)
        if awake:
            self.awake.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{answer}.complete"})
            return
        self.keys.append(dict(scope["headers"]).get(b"idempotency-key", b"").decode())
        self.asked.set()
        await self.awake.wait()
        headers = [(b"content-type", b"text/plain"), (b"x-secret", b"stays there")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.text.encode()})


class Ledger:
    """Who leads, as this node knows; counts how often somebody looks."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(coordinators={})
        self.looks = 0
        self.now: str | None = "old"

    @property
    def leader_id(self) -> str | None:
        self.looks += 1
        return self.now

    @property
    def is_leader(self) -> bool:
        return self.now == "me"

    async def barrier(self, *, timeout: float) -> None:
        """Up to date."""
