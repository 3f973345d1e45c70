"""The answer to a request that is under way when its coordinator stops.

A stop gives open requests a moment and then cancels them. Who asked is told then what is true, `timeout`: it
may have been carried out, ask another coordinator with the same key. Left to the server it would be a 500
without an error object, and a traceback in the log.
"""

import asyncio
from typing import Any

from proto_schemas.codec import encode
from proto_schemas.errors import HTTP_STATUS, ErrorCode, ErrorReply

_TEXT = "this coordinator stops; it may have been carried out: ask another with the same Idempotency-Key"


class CutOff:
    """In front of an ASGI application; outermost, because it takes every cancellation for a stop."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = False

        async def watched(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started:
                raise
            await _answer(send)


async def _answer(send: Any) -> None:
    body = encode(ErrorReply(_TEXT, ErrorCode.TIMEOUT, retryable=True))
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": HTTP_STATUS[ErrorCode.TIMEOUT], "headers": headers})
    await send({"type": "http.response.body", "body": body})
