"""One subscription: a bounded queue between the read loop and a handler, and the task that runs the handler.

Rules: messages of one subscription are handled in order, one after another (hand over what takes long). The
queue is bounded in messages and bytes; what does not fit is dropped, newest first, and counted. Of those
bytes `OWN_BYTES` are always there; beyond them all subscriptions of the process share one `Room`, and give
back what they took of it when their queue is empty. So floods cannot fill the memory, however many there are,
nor take from a subscription that keeps up what it needs. A handler that raises costs one message, counted and
logged. The task gives way to the event loop every `BURST` messages, and after `TURN_SECS`
(`transport.turns`), so a flooded subscription starves nobody, nor does one whose messages take long: a
handler that never waits would otherwise keep the loop until the queue is empty.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from transport.turns import TURN_SECS, come_back, give_way

OWN_BYTES: Final = 1024 * 1024
SHARED_BYTES: Final = 512 * 1024 * 1024
STEP: Final = 1024 * 1024
"""Bytes of payloads: what each subscription has, what all share, and how much is borrowed at a time."""
BURST: Final = 256
_NO_RESPONDERS: Final = "503"
_LOG_INTERVAL: Final = 1.0
_END_WAIT: Final = 1.0

log = logging.getLogger(__name__)


class Room:
    """Bytes that subscriptions may borrow; `free`: of them, now."""

    __slots__ = ("free",)

    def __init__(self, size: int) -> None:
        self.free = size

    def take(self) -> bool:
        """Borrow `STEP` bytes, if they are there."""
        if self.free < STEP:
            return False
        self.free -= STEP
        return True


ROOM: Final = Room(SHARED_BYTES)
"""Of this process."""


class Message:
    """What arrived: `data` on `subject`; `reply` is where an answer goes, or empty."""

    __slots__ = ("data", "headers", "reply", "subject")

    def __init__(
        self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers

    @property
    def no_responders(self) -> bool:
        """The server's word that nobody listens where a request went."""
        return self.headers is not None and not self.data and self.headers.get("Status") == _NO_RESPONDERS

    def __repr__(self) -> str:
        return f"Message({self.subject!r}, {len(self.data)} bytes, reply={self.reply!r})"


Handler = Callable[[Message], Awaitable[None]]


class Subscription:
    """Made by `NatsTransport.subscribe`.

    Attributes:
        dropped: messages that did not fit into the queue.
        handled: messages whose handler returned.
        failed: messages whose handler raised.
    """

    def __init__(
        self,
        subject: str,
        handler: Handler,
        detach: "Callable[[Subscription], Awaitable[None]]",
        *,
        pending_messages: int,
        pending_bytes: int,
        room: Room = ROOM,
    ) -> None:
        self.subject = subject
        self.dropped = 0
        self.handled = 0
        self.failed = 0
        self._taken_in = 0
        self._handler = handler
        self._detach = detach
        self._max_messages = pending_messages
        self._max_bytes = pending_bytes
        self._queue: deque[Message] = deque()
        self._bytes = 0
        self._room = room
        self._borrowed = 0
        self._allowed = min(OWN_BYTES, pending_bytes)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._taken = (0, 0)
        self._last_log = float("-inf")
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"subscription {subject}")

    @property
    def pending(self) -> int:
        """Messages that wait for the handler."""
        return len(self._queue)

    def offer(self, message: Message) -> None:
        """Queue a message, or drop and count it; called from the read loop."""
        size = len(message.data)
        if (
            self._closed
            or len(self._queue) >= self._max_messages
            or (self._bytes + size > self._allowed and not self._borrow(self._bytes + size))
        ):
            self.dropped += 1
            return
        self._queue.append(message)
        self._taken_in += 1
        self._bytes += size
        if not self._wake.is_set():
            self._wake.set()
            self._idle.clear()

    def _borrow(self, needed: int) -> bool:
        """Be allowed to keep so many bytes."""
        if needed > self._max_bytes:
            return False
        while self._allowed < needed:
            if not self._room.take():
                return False
            self._borrowed += STEP
            self._allowed = min(self._allowed + STEP, self._max_bytes)
        return True

    def _give_back(self) -> None:
        """What was borrowed, for the queue is empty."""
        self._room.free += self._borrowed
        self._borrowed, self._allowed = 0, min(OWN_BYTES, self._max_bytes)

    async def unsubscribe(self) -> None:
        """Stop now: what is queued is thrown away; a handler that runs may finish. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._queue.clear()
        self._give_back()
        self._wake.set()
        await self._detach(self)

    async def join(self) -> None:
        """Wait until everything queued has been handled."""
        await self._idle.wait()

    async def catch_up(self) -> None:
        """Wait until what is queued now has been handled, whatever comes meanwhile."""
        until = self._taken_in
        while not self._closed and self.handled + self.failed < until:
            await asyncio.sleep(0)

    async def end(self) -> None:
        """Stop at once, a running handler included."""
        self._closed = True
        self._give_back()
        self._task.cancel()
        if self._task is not asyncio.current_task():
            await asyncio.wait({self._task}, timeout=_END_WAIT)

    def take_counts(self) -> tuple[int, int]:
        """How many were dropped, and how many failed, since the last call."""
        dropped, failed = self._taken
        self._taken = (self.dropped, self.failed)
        return self.dropped - dropped, self.failed - failed

    async def _run(self) -> None:
        queue, slow = self._queue, True  # until we know better
        while not self._closed:
            if not queue:
                self._idle.set()
                if self._borrowed:
                    self._give_back()
            await self._wake.wait()
            self._idle.clear()
            count, began = 0, monotonic()
            while queue:
                if slow:
                    await come_back()
                    began = monotonic()
                    if not queue:
                        break  # closed meanwhile
                message = queue.popleft()
                self._bytes -= len(message.data)
                await self._handle(message)
                count += 1
                worked = monotonic() - began
                slow = worked > TURN_SECS
                if slow:
                    await give_way(worked)
                elif count % BURST == 0:
                    await asyncio.sleep(0)
                else:
                    continue
                began = monotonic()
            if not self._closed:
                self._wake.clear()
        self._idle.set()

    async def _handle(self, message: Message) -> None:
        try:
            await self._handler(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._report(message, error)  # something the handler waited for was cancelled, not we
        except Exception as error:
            self._report(message, error)
        else:
            self.handled += 1

    def _report(self, message: Message, error: BaseException) -> None:
        self.failed += 1
        now = asyncio.get_running_loop().time()
        if now - self._last_log >= _LOG_INTERVAL:
            self._last_log = now
            log.error(
                "handler of %s failed on %s (%d failures so far); the next message is handled as usual",
                self.subject,
                message.subject,
                self.failed,
                exc_info=error,
            )
