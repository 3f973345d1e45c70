"""`/livez`, `/readyz`, `/health`, `/metrics`, and beside them the commands where those come over HTTP
(`worker.http_carrier`): plain ASGI.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, WireError
from worker.metrics import exposition

JSON: Final = "application/json"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Response = tuple[int, str, bytes]


class HealthApp:
    """The ASGI application.

    Args:
        health: what `/health` shows; its `ready` decides `/readyz`.
        collector: where `/metrics` comes from.
        commands: answers what is under `/api/`; None: nothing is there.
    """

    def __init__(
        self, health: Callable[[], dict[str, Any]], collector: Collector, commands: Application | None = None
    ) -> None:
        self._health = health
        self._collector = collector
        self._commands = commands

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif self._commands is not None and scope["type"] == "http" and scope["path"].startswith("/api/"):
            await self._commands(scope, receive, send)
        elif scope["type"] == "http":
            status, content_type, body = await self._respond(scope["method"], scope["path"])
            headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _respond(self, method: str, path: str) -> Response:
        if path not in ("/livez", "/readyz", "/health", "/metrics"):
            return _refusal(404, ErrorCode.NOT_FOUND, f"no {path[:80]} here: /livez /readyz /health /metrics")
        if method not in ("GET", "HEAD"):
            return _refusal(405, ErrorCode.BAD_REQUEST, f"{method[:16]} is not served here: use GET")
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, await asyncio.to_thread(exposition, self._collector)
        if path == "/livez":
            return 200, JSON, encode({"status": "alive"})
        health = self._health()
        return (200 if path == "/health" or health["ready"] else 503), JSON, encode(health)


def _refusal(status: int, code: ErrorCode, text: str) -> Response:
    return status, JSON, encode(WireError(code, text).reply())


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
