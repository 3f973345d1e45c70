"""Commands over HTTP: the paths of `proto_schemas.worker_rest`, behind the worker's own key.

In order: the key (401, before a byte of the body is read, compared in constant time), the path (404, 405),
the type of the body (415), its size and the time until the answer (413, 504; `transport.limits`), the message
(400), and then the dispatcher with its rules. Answers are those of NATS with a status; 429 and 503 say when
to come back. Every answer is counted by route template and status, never by path: that would be unbounded.
"""

import secrets
from collections import Counter
from typing import Any, Final

from proto_schemas.codec import MAX_PAYLOAD, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.base import Message
from proto_schemas.worker_rest import KEY_HEADER, read_request, route_of
from transport import tracing
from transport.limits import RequestLimits
from worker.dispatcher import Dispatcher

TIMEOUT: Final = 30.0
"""Seconds from the head of a request to its answer; coordinators ask for less."""
RETRY_AFTER: Final = 1
"""Seconds, told with 429 and 503."""
_JSON_TYPES: Final = frozenset({b"", b"application/json", b"text/json"})


class HttpCarrier:
    """The ASGI application of the commands.

    Args:
        key: what a request must show.

    Attributes:
        counts: answers by (route template, status); route `?` is a path that is none.
        limits: the bounds in front, with their counters.
    """

    def __init__(self, dispatcher: Dispatcher, key: str) -> None:
        self._dispatcher = dispatcher
        self._key = key.encode()
        self.counts: Counter[tuple[str, int]] = Counter()
        self.limits = RequestLimits(self._serve, max_body=MAX_PAYLOAD, timeout=TIMEOUT)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if self._admits(scope):
            await self.limits(scope, receive, send)
        else:
            self._dispatcher.count("?", ErrorCode.UNAUTHORIZED)
            text = f"{KEY_HEADER} is missing or wrong: only this worker's coordinators know its key"
            await self._answer(send, "?", WireError(ErrorCode.UNAUTHORIZED, text))

    def _admits(self, scope: Any) -> bool:
        shown = _header(scope, KEY_HEADER.encode())
        return secrets.compare_digest(shown, self._key)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        route = command = "?"
        outcome: bytes | WireError
        try:
            path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
            command, route, pipeline_id = route_of(scope["method"], path)
            _check_type(scope)
            body = await _whole_body(receive)
        except WireError as error:
            self._dispatcher.count(command, error.code)
            outcome = error
        else:
            query = scope["query_string"].decode("latin-1")

            def read(kind: type[Message]) -> Message:
                return read_request(command, pipeline_id, query, body)

            given = _header(scope, tracing.HEADER.encode()).decode("latin-1") or None
            with tracing.span(f"worker {command}", "server", tracing.parent_of(given)):
                outcome = await self._dispatcher.answer(command, read)
        await self._answer(send, route, outcome)

    async def _answer(self, send: Any, route: str, outcome: bytes | WireError) -> None:
        status, headers = 200, [(b"content-type", b"application/json")]
        if isinstance(outcome, WireError):
            status, body = outcome.status, encode(outcome.reply())
            if status in (429, 503):
                headers.append((b"retry-after", str(RETRY_AFTER).encode()))
        else:
            body = outcome
        headers.append((b"content-length", str(len(body)).encode()))
        self.counts[route, status] += 1
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _header(scope: Any, wanted: bytes) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == wanted), b"")


def _check_type(scope: Any) -> None:
    given = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    if given not in _JSON_TYPES and not given.endswith(b"+json"):
        shown = given[:80].decode("latin-1")
        text = f"content-type {shown!r} is not understood: send application/json"
        raise WireError(ErrorCode.BAD_REQUEST, text, status=415)


async def _whole_body(receive: Any) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise WireError(ErrorCode.BAD_REQUEST, "the body did not come whole")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
