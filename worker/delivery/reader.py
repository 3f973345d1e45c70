"""Messages of a stream from a position on, each once and in order, at most `PREFETCH` ahead.

An ephemeral pull consumer without acknowledgements, which nobody needs to keep: what is consumed is ours to
know. Its messages are numbered one by one; where a number is missing, or where nothing is heard for `SILENCE`
seconds (not even a heartbeat: the server was restarted, or lost the consumer), another consumer begins after
the last message that came. We pull the next messages when half of the others are taken, so a slow copy is
sent no more than it can hold.
"""

import asyncio
import logging
import random
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import orjson

from transport.errors import NatsTransportError
from transport.jetstream import JetStream, JetStreamRefused
from transport.listener import Listener
from transport.nats import Message

PREFETCH: Final = 1024
PULL_BYTES: Final = 4 * 1024 * 1024
EXPIRES: Final = 30.0
HEARTBEAT: Final = 1.0
SILENCE: Final = 2.5
KEPT: Final = 30.0
"""Seconds the server keeps a consumer that nobody pulls from."""
PAUSES: Final = (0.1, 2.0)
"""Seconds between attempts to make a consumer: the first, and the longest."""
_NS: Final = 1_000_000_000
_PULL_OVER: Final = ("Max", "Batch Completed")
"""In a 409: this pull is over, the consumer is not."""

log = logging.getLogger(__name__)


class Fetched(NamedTuple):
    """One message: its sequence in the stream, and when the server stored it (ms)."""

    sequence: int
    at: int
    subject: str
    data: bytes


class Reader:
    """Reads `subjects` of `stream`; begin it with `take`, end it with `stop`.

    Attributes:
        position: sequence of the last message that was taken.
        ahead: messages that the server has and we have not.
        begun: how many consumers were made.
        error: why none can be made; empty while one is there.
    """

    def __init__(self, jetstream: JetStream, stream: str, subjects: Sequence[str], after: int) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._subjects = list(subjects)
        self.position = after
        self.ahead = 0
        self.begun = 0
        self.error = ""
        self._buffer: deque[Fetched] = deque()
        self._arrived = asyncio.Event()
        self._listener: Listener | None = None
        self._consumer = ""
        self._inbox = ""
        self._number = 0
        self._wanted = 0
        self._heard = 0.0
        self._lost = False
        self._failures = 0
        self._not_before = 0.0

    @property
    def lag(self) -> int:
        """Messages that are in the stream and were not taken."""
        return self.ahead + len(self._buffer)

    @property
    def caught_up(self) -> bool:
        """As far as we have heard there is nothing more."""
        return self._listener is not None and not self._lost and self.lag == 0

    @property
    def buffered(self) -> int:
        """Messages that can be taken at once."""
        return len(self._buffer)

    async def take(self, limit: int, wait: float) -> list[Fetched]:
        """Up to `limit` messages; none when there was none for `wait` seconds."""
        if not self._buffer:
            await self._care(wait)
            self._arrived.clear()
            if not self._buffer:
                try:
                    async with asyncio.timeout(wait):
                        await self._arrived.wait()
                except TimeoutError:
                    return []
        buffer = self._buffer
        taken = [buffer.popleft() for _ in range(min(limit, len(buffer)))]
        if taken:
            self.position = taken[-1].sequence
        await self._pull()
        return taken

    def wake(self) -> None:
        """Have `take` return, with what there is."""
        self._arrived.set()

    async def stop(self) -> None:
        """Read no more; what was not taken is forgotten. Safe to call again."""
        listener, self._listener = self._listener, None
        self._buffer.clear()
        self._wanted = 0
        if listener is not None:
            await listener.unsubscribe()
            self._forget_consumer()

    async def _care(self, wait: float) -> None:
        """Have a consumer, another one where this one is silent."""
        now = time.monotonic()
        if self._listener is not None:
            if not self._lost and now - self._heard <= SILENCE:
                await self._pull()
                return
            log.info("stream=%s its consumer is lost: beginning another one", self._stream)
            await self.stop()
        if now < self._not_before:
            await asyncio.sleep(min(self._not_before - now, wait))
            return
        try:
            await self._begin()
            self.error, self._failures = "", 0
        except (NatsTransportError, JetStreamRefused) as error:
            await self.stop()
            first, longest = PAUSES
            pause = min(first * 2 ** min(self._failures, 16), longest) * random.uniform(0.5, 1.0)
            self._failures += 1
            self._not_before = time.monotonic() + pause
            self.error = f"stream {self._stream} cannot be read: {error}"

    async def _begin(self) -> None:
        bus = self._jetstream.bus
        self._consumer, self._inbox = f"read-{secrets.token_hex(8)}", bus.new_inbox()
        self._number, self._wanted, self._lost = 0, 0, False
        config = {
            "name": self._consumer,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": self.position + 1,
            "ack_policy": "none",
            "replay_policy": "instant",
            "filter_subjects": self._subjects,
            "inactive_threshold": int(KEPT * _NS),
            "mem_storage": True,
            "num_replicas": 1,
        }
        query = {"stream_name": self._stream, "config": config, "action": "create"}
        made = await self._jetstream.api(f"CONSUMER.CREATE.{self._stream}.{self._consumer}", query)
        self.ahead = int((made or {}).get("num_pending") or 0)
        self._listener = await bus.listen(self._inbox, self._hear)
        self._heard = time.monotonic()
        self.begun += 1
        await self._pull()

    async def _pull(self) -> None:
        """Ask for more where nothing is on its way and half of what we may hold is free."""
        if self._listener is None or self._lost or self._wanted or len(self._buffer) > PREFETCH // 2:
            return
        self._wanted, self._heard = PREFETCH - len(self._buffer), time.monotonic()
        query = {
            "batch": self._wanted,
            "expires": int(EXPIRES * _NS),
            "idle_heartbeat": int(HEARTBEAT * _NS),
            "max_bytes": PULL_BYTES,
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        try:
            await self._jetstream.bus.publish(subject, orjson.dumps(query), reply=self._inbox)
        except NatsTransportError:
            self._wanted = 0  # the silence that follows begins another consumer

    def _forget_consumer(self) -> None:
        """Tell the server, which forgets it by itself where it does not hear this."""
        try:
            self._jetstream.bus.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}", b"")
            self._jetstream.bus.push()
        except NatsTransportError:
            pass

    def _hear(self, message: Message) -> None:
        """Take what the server sent; called from the read loop."""
        if self._listener is None:
            return
        if not message.reply.startswith("$JS.ACK."):
            self._hear_status(message)
            return
        *_, sequence, number, at, pending = _numbers(message.reply)
        if number != self._number + 1:
            self._lost = True  # begin again after the last that came
            self._arrived.set()
            return
        self._heard = time.monotonic()
        self._number = number
        self._wanted = max(self._wanted - 1, 0)
        self.ahead = pending
        self._buffer.append(Fetched(sequence, at // 1_000_000, message.subject, message.data))
        self._arrived.set()

    def _hear_status(self, message: Message) -> None:
        status = (message.headers or {}).get("Status", "")
        self._heard = time.monotonic()
        if status == "100":
            return
        self._wanted = 0
        described = (message.headers or {}).get("Description", "")
        if status not in ("404", "408") and not any(word in described for word in _PULL_OVER):
            self._lost = True  # the consumer is gone, or has another leader
        self._arrived.set()


def _numbers(reply: str) -> list[int]:
    """[delivered, sequence in the stream, number in the consumer, time in ns, pending] of a message.

    `$JS.ACK.stream.consumer.` and five numbers; or `$JS.ACK.domain.account.stream.consumer.`, them, and more.
    """
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    return [int(token) for token in tokens[first : first + 5]]
