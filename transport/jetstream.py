"""JetStream as plain requests on a `NatsTransport`: each has a deadline, and each refusal keeps its code.

Only what our streams need: make, look at and remove one; the last message of a subject; store one message, or
several that are stored together or not at all (an atomic batch, nats-server 2.12: `Nats-Batch-Id`,
`Nats-Batch-Sequence` 1..n, `Nats-Batch-Commit: 1` on the last). What the server requires of a subject's last
sequence (`EXPECTED`) stands on the first message of a batch; where that does not hold nothing is stored.
"""

import base64
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from transport.nats import NatsTransport

DEADLINE: Final = 5.0
"""Seconds for one request; with three replicas a publish takes about a millisecond."""
MAX_TOGETHER: Final = 1000
"""Messages of one batch that a server takes."""
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"
MESSAGE_ID: Final = "Nats-Msg-Id"

NO_MESSAGE: Final = 10037
STREAM_EXISTS: Final = 10058
NO_STREAM: Final = 10059
WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})


class JetStreamRefused(Exception):
    """JetStream said no; `code` is its err_code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"JetStream: {text} ({code})")
        self.code = code


class Stored(NamedTuple):
    """Where a message lies; `duplicate`: it did so before, under the same message id."""

    sequence: int
    duplicate: bool = False


class Outgoing(NamedTuple):
    """A message to be stored."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = {}


class JetStream:
    """Requests to JetStream over `bus`.

    Each raises `JetStreamRefused`, or `NatsTransportError`: nobody answered, and it may have been done.
    """

    def __init__(self, bus: NatsTransport, *, deadline: float = DEADLINE) -> None:
        self.bus = bus
        self._deadline = deadline

    async def api(self, verb: str, query: Any = None, *, none: Collection[int] = ()) -> dict[str, Any] | None:
        """What the API answers; None where it refuses with one of the codes `none`."""
        data = orjson.dumps(query) if query is not None else b""
        answer: dict[str, Any] | None = await self._ask(f"$JS.API.{verb}", data, none=none)
        return answer

    async def last(self, stream: str, subject: str) -> tuple[bytes, int] | None:
        """The last message on `subject` and its sequence; None: there is none. The stream's leader answers,
        never a replica that may be behind."""
        query = {"last_by_subj": subject}
        answer = await self.api(f"STREAM.MSG.GET.{stream}", query, none=(NO_MESSAGE,))
        if answer is None:
            return None
        try:
            message = answer["message"]
            return base64.b64decode(message.get("data") or ""), int(message["seq"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise JetStreamRefused(0, "the answer holds no message") from None

    async def publish(self, message: Outgoing) -> Stored:
        """Store one message."""
        answer = await self._ask(message.subject, message.data, dict(message.headers))
        return _stored(answer)

    async def publish_together(self, messages: Sequence[Outgoing]) -> Stored:
        """Store up to `MAX_TOGETHER` messages of one stream, or none of them; where the last one lies."""
        if len(messages) == 1:
            return await self.publish(messages[0])
        batch, bus = secrets.token_hex(8), self.bus
        *others, last = messages
        for number, message in enumerate(others, start=1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number), **message.headers}
            bus.send(message.subject, message.data, headers=headers)
        headers = {
            "Nats-Batch-Id": batch,
            "Nats-Batch-Sequence": str(len(messages)),
            "Nats-Batch-Commit": "1",
            **last.headers,
        }
        return _stored(await self._ask(last.subject, last.data, headers))

    async def _ask(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, *, none: Collection[int] = ()
    ) -> Any:
        answer = await self.bus.request(subject, data, timeout=self._deadline, headers=headers)
        try:
            found = orjson.loads(answer)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise JetStreamRefused(0, "the answer cannot be read: is it JetStream that answers?")
        fault = found.get("error")
        if fault is None:
            return found
        code = fault.get("err_code") if isinstance(fault, dict) else None
        if code in none:
            return None
        text = fault.get("description") if isinstance(fault, dict) else None
        raise JetStreamRefused(code if isinstance(code, int) else 0, str(text or "refused"))


def _stored(answer: Any) -> Stored:
    try:
        return Stored(int(answer["seq"]), bool(answer.get("duplicate")))
    except (KeyError, TypeError, ValueError):
        raise JetStreamRefused(0, "it did not say where the message lies") from None
