"""A durable pull consumer of JetStream: messages that wait for us, each acknowledged once it is done with.

The consumer has a name, and stays when nobody reads: whoever comes next goes on with what was not
acknowledged. Rules:

1. At most `BATCH` messages are here at a time; the next are asked for when all are handled. The rest waits in
   the stream, so a slow pipeline drops nothing.
2. A message is acknowledged after its handler returned; where a state depends on it (`keeps`), not before a
   checkpoint holds it: `cover` says so. Until then it is ours, and the server is told that we are still at
   it. Over `MAX_UNCOVERED` of them no more are asked for. A refused one (no JSON, say) has been counted by
   then, and will never become better: it is acknowledged like any other.
3. One that comes again is counted, and handled again: delivery is at least once.
4. One that was handed out more than `BUDGET` times is poison: whoever handles it fails, or dies of it. It is
   ended (`+TERM`) without being handled, and counted as `poison`. With a state that is `KEPT_BUDGET`, for
   then also the neighbours of a poisonous message come again.
5. What is here and not handled when we leave is given back at once (`-NAK`), so nobody waits for it; so is
   what is not covered when `close` comes, unless its state went on elsewhere (`settle`).
6. A consumer that is gone, or silent, is made again, with growing pauses; `error` says why meanwhile. With
   one that somebody deleted goes what had been acknowledged: all that is in the stream comes again.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from typing import Final

import orjson

from transport.errors import NatsTransportError
from transport.jetstream import JetStream, JetStreamRefused
from transport.listener import Listener
from transport.nats import Message, NatsTransport
from transport.subscription import Handler

BATCH: Final = 100
BUDGET: Final = 5
"""Times a message is handed out before it counts as poison."""
KEPT_BUDGET: Final = 20
MAX_UNCOVERED: Final = 5_000
ACK_WAIT: Final = 30.0
"""Seconds after which one that was not acknowledged is handed out again."""
EXPIRES: Final = 5.0
HEARTBEAT: Final = 1.0
SILENCE: Final = 3.0
PAUSES: Final = (0.1, 5.0)
_NAK_DELAY: Final = 0.5
_PULL_OVER: Final = ("Max", "Batch Completed")
"""In a 409: this pull is over, the consumer is not."""
_NS: Final = 1_000_000_000

log = logging.getLogger(__name__)


class DurableSource:
    """Reads `subject` of `stream` as the consumer `durable`. `keeps`: a state depends on what it read, so it
    is acknowledged when that is safe.

    Attributes:
        handled: messages whose handler has returned.
        redelivered: messages that came more than once; poison: those that were ended for it.
        error: why nothing can be read; empty while it can.
    """

    def __init__(
        self,
        bus: NatsTransport,
        stream: str,
        durable: str,
        subject: str,
        handler: Handler,
        *,
        keeps: bool = False,
    ) -> None:
        self._bus = bus
        self._jetstream = JetStream(bus)
        self._stream = stream
        self._durable = durable
        self._subject = subject
        self._handler = handler
        self._keeps = keeps
        self._budget = KEPT_BUDGET if keeps else BUDGET
        self._uncovered: deque[str] = deque()
        self._told = time.monotonic()
        self._inbox = bus.new_inbox()
        self._listener: Listener | None = None
        self._buffer: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._stop = asyncio.Event()
        self._open = 0
        self._heard = 0.0
        self._trouble = ""
        self._task: asyncio.Task[None] | None = None
        self.handled = 0
        self.redelivered = 0
        self.poison = 0
        self.error = ""

    async def start(self) -> None:
        """Make the consumer, or find it, and begin to read.

        Raises:
            JetStreamRefused, NatsTransportError.
        """
        await self._make()
        self._listener = await self._bus.listen(self._inbox, self._hear)
        self._task = asyncio.create_task(self._run())

    async def stop(self, timeout: float) -> None:
        """Take no more: the message at hand is handled, for up to `timeout` seconds; the others go back."""
        self._stop.set()
        self._arrived.set()
        if self._task is not None and self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=timeout)
            self._task.cancel()
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.unsubscribe()
        while self._buffer:
            await self._answer(self._buffer.popleft(), b"-NAK")

    @property
    def crowded(self) -> bool:
        """A checkpoint is wanted soon, or there will be nothing more to read."""
        return len(self._uncovered) > MAX_UNCOVERED // 2

    async def cover(self, handled: int) -> None:
        """A checkpoint holds what the first `handled` messages did: these are done with."""
        for _ in range(len(self._uncovered) - (self.handled - handled)):
            await self._say(self._uncovered.popleft(), b"+ACK")
        self._arrived.set()

    async def settle(self) -> None:
        """The state is safe elsewhere, or nobody wants it any more."""
        await self.cover(self.handled)

    async def close(self) -> None:
        """After `stop`: what nothing covers is given back."""
        while self._uncovered:
            await self._say(self._uncovered.popleft(), b"-NAK")

    async def _make(self) -> None:
        config = {
            "durable_name": self._durable,
            "name": self._durable,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT * _NS),
            "max_ack_pending": MAX_UNCOVERED + 10 * BATCH,
            "filter_subjects": [self._subject],
            "replay_policy": "instant",
            "max_deliver": -1,
        }
        query = {"stream_name": self._stream, "config": config}
        await self._jetstream.api(f"CONSUMER.CREATE.{self._stream}.{self._durable}", query)
        self._heard = time.monotonic()

    async def _run(self) -> None:
        pause, longest = PAUSES
        while not self._stop.is_set():
            try:
                await self._read()
                self.error, pause = "", PAUSES[0]
            except (JetStreamRefused, NatsTransportError) as error:
                self.error = f"stream {self._stream}, consumer {self._durable}: {error}"
                await self._rest(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, longest)

    async def _read(self) -> None:
        """Handle what is here; ask for more where nothing is under way."""
        trouble, self._trouble = self._trouble, ""
        if trouble:
            raise JetStreamRefused(0, trouble)
        await self._still_at_it()
        if len(self._uncovered) >= MAX_UNCOVERED:
            self._heard = time.monotonic()
        elif not self._open or time.monotonic() - self._heard > SILENCE:
            if self._open or self.error:
                self._open = 0
                await self._make()
            await self._pull()
        self._arrived.clear()
        if not self._buffer:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    await self._arrived.wait()
        while self._buffer and not self._stop.is_set():
            await self._handle(self._buffer.popleft())

    async def _still_at_it(self) -> None:
        """Keep the server from handing out again what waits for a checkpoint."""
        if self._uncovered and time.monotonic() - self._told > ACK_WAIT / 3:
            self._told = time.monotonic()
            for reply in list(self._uncovered):
                await self._say(reply, b"+WPI")

    async def _pull(self) -> None:
        query = {"batch": BATCH, "expires": int(EXPIRES * _NS), "idle_heartbeat": int(HEARTBEAT * _NS)}
        self._open, self._heard = BATCH, time.monotonic()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        await self._bus.publish(subject, orjson.dumps(query), reply=self._inbox)

    async def _handle(self, message: Message) -> None:
        delivered = _times_delivered(message.reply)
        self.redelivered += delivered > 1
        if delivered > self._budget:
            self.poison += 1
            log.error(
                "stream=%s subject=%s a message failed %d times", self._stream, message.subject, self._budget
            )
            await self._answer(message, b"+TERM")
            return
        try:
            await self._handler(message)
        except Exception:
            log.exception("stream=%s subject=%s a message failed", self._stream, message.subject)
            await self._answer(message, b'-NAK {"delay": %d}' % int(_NAK_DELAY * _NS))
            return
        self.handled += 1
        if self._keeps:
            self._uncovered.append(message.reply)
        else:
            await self._answer(message, b"+ACK")

    async def _answer(self, message: Message, word: bytes) -> None:
        await self._say(message.reply, word)

    async def _say(self, reply: str, word: bytes) -> None:
        with contextlib.suppress(NatsTransportError):  # unanswered it comes again, and is counted
            await self._bus.publish(reply, word)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    def _hear(self, message: Message) -> None:
        self._heard = time.monotonic()
        if message.reply.startswith("$JS.ACK."):
            self._open = max(self._open - 1, 0)
            self._buffer.append(message)
        else:
            self._hear_status(message.headers or {})
        self._arrived.set()

    def _hear_status(self, headers: dict[str, str]) -> None:
        status, described = headers.get("Status", ""), headers.get("Description", "")
        if status == "100":
            return
        self._open = 0
        if status not in ("404", "408") and not any(word in described for word in _PULL_OVER):
            self._trouble = described or f"the server answers {status or 'nothing that we know'}"


def _times_delivered(reply: str) -> int:
    tokens = reply.split(".")
    return int(tokens[4 if len(tokens) == 9 else 6])
