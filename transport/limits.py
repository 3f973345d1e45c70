"""An ASGI middleware that bounds what a request may cost: the bytes of its body, the time to its answer.

- A `content-length` above the limit is refused before a byte is read; a chunked body once it has grown past
  it.
- The time runs until the response *starts*: it covers a body that trickles in and a handler that hangs. A
  stream (server-sent events) that has started may go on; who stops reading it is the application's to notice.

A refusal is sent whole, and then what still comes of the body is read away for a while (`LINGER` seconds):
closing at once on unread bytes would reset the connection, and the client would see that instead of our
answer.

Both answers are the wire's error object. What the application still says after a refusal is ignored.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, ErrorReply

MAX_BODY: Final = 8 * 1024 * 1024
TIMEOUT: Final = 60.0
LINGER: Final = 2.0


class RequestLimits:
    """Bounds in front of an application.

    Args:
        app: the application behind it.
        max_body: bytes of a request body.
        larger: the same for single paths that take more.
        timeout: seconds from the request's head to the start of its response.

    Attributes:
        too_large: requests refused with 413.
        timed_out: requests answered with 504.
    """

    def __init__(
        self,
        app: Any,
        *,
        max_body: int = MAX_BODY,
        larger: Mapping[str, int] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._app = app
        self._max_body = max_body
        self._larger = larger or {}
        self._timeout = timeout
        self.too_large = 0
        self.timed_out = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_body = self._larger.get(scope["path"], self._max_body)
        exchange = _Exchange(self, max_body, receive, send)
        length = _content_length(scope["headers"])
        if length > max_body:
            await exchange.refuse_body(length)
            return
        try:
            async with asyncio.timeout(self._timeout) as exchange.clock:
                await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if exchange.clock is not None and exchange.clock.expired():
                await exchange.refuse_late()
            elif not exchange.refused:
                raise


class _Exchange:
    """One request and its response, between server and application."""

    def __init__(self, limits: RequestLimits, max_body: int, receive: Any, send: Any) -> None:
        self._limits = limits
        self._max_body = max_body
        self._receive = receive
        self._send = send
        self._seen = 0
        self._more = True
        self._started = False
        self.refused = False
        self.clock: asyncio.Timeout | None = None

    async def receive(self) -> Any:
        if self.refused:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._seen += len(message.get("body", b""))
            self._more = message.get("more_body", False)
            if self._seen > self._max_body:
                await self.refuse_body(self._seen)
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Any) -> None:
        if self.refused:
            return
        if message["type"] == "http.response.start":
            self._started = True
            if self.clock is not None:
                self.clock.reschedule(None)
        await self._send(message)

    async def refuse_body(self, size: int) -> None:
        self._limits.too_large += 1
        text = f"request body of {size} bytes or more, the limit is {self._max_body}: send it in parts"
        await self._refuse(413, ErrorReply(text, ErrorCode.BAD_REQUEST, retryable=False))

    async def refuse_late(self) -> None:
        self._limits.timed_out += 1
        text = f"no answer within {self._limits._timeout:g} s; it may have been done: retry with the same key"
        await self._refuse(504, ErrorReply(text, ErrorCode.TIMEOUT, retryable=True))

    async def _refuse(self, status: int, reply: ErrorReply) -> None:
        self.refused = True
        if self._started:
            return
        body = encode(reply)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self._more:
                    self._more = (await self._receive()).get("more_body", False)
        await self._send({"type": "http.response.body", "body": b""})


def _content_length(headers: Any) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
