"""A bus inside one process: for tests, simulations and a cluster in a single process.

It keeps NATS's contract: handlers of one subscription run one after another, each connection's messages stay
in order, a request nobody hears is answered with ``no_responders``, and a connection that is down refuses to
publish and hears nothing. Cuts between connections (`MemoryBus.cut`) drop what passes; nothing is kept for
later.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from raft.bus import Message

Handler = Callable[[Message], Awaitable[None]]
QUEUE_LIMIT = 65_536


class BusClosed(ConnectionError):
    """The connection is down. Wait until it is up again, then retry."""


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """One message on the bus."""

    subject: str
    data: bytes
    reply: str = ""
    no_responders: bool = False


def subject_matches(pattern: str, subject: str) -> bool:
    """Whether `subject` falls under `pattern`, by NATS's rules for ``*`` and ``>``."""
    wanted, tokens = pattern.split("."), subject.split(".")
    for position, token in enumerate(wanted):
        if token == ">":
            return len(tokens) > position
        if position >= len(tokens) or token not in ("*", tokens[position]):
            return False
    return len(wanted) == len(tokens)


class MemorySubscription:
    """Interest of one connection in one subject; a bounded queue and the task that works it off."""

    def __init__(self, owner: "MemoryConnection", pattern: str, handler: Handler) -> None:
        self.owner, self.pattern, self._handler = owner, pattern, handler
        self.dropped = 0
        self._queue: deque[MemoryMessage] = deque()
        self._arrived = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._deliver())

    def push(self, message: MemoryMessage) -> None:
        """Queue a message; the newest is dropped and counted when the queue is full, as nats-py does."""
        if len(self._queue) >= QUEUE_LIMIT:
            self.dropped += 1
            return
        self._queue.append(message)
        self._arrived.set()

    async def _deliver(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._handler(self._queue.popleft())

    async def unsubscribe(self) -> None:
        """Stop; what is queued is dropped."""
        self.owner.bus.subscriptions.discard(self)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class MemoryBus:
    """The shared medium. `connect` gives each participant a connection of its own."""

    def __init__(self) -> None:
        self.subscriptions: set[MemorySubscription] = set()
        self._cuts: set[tuple[str, str]] = set()
        self._inboxes = itertools.count(1)

    def connect(self, name: str) -> "MemoryConnection":
        """A connection; `name` is what `cut` refers to."""
        return MemoryConnection(self, name)

    def cut(self, one: str, other: str) -> None:
        """Drop everything between two connections, both ways."""
        self._cuts |= {(one, other), (other, one)}

    def heal(self) -> None:
        """Let everything pass again."""
        self._cuts.clear()

    def next_inbox(self) -> str:
        return f"_INBOX.{next(self._inboxes)}"

    def deliver(self, source: str, message: MemoryMessage) -> int:
        """Hand a message to all who listen; returns how many there are, cut off or not."""
        listeners = [
            s for s in self.subscriptions if s.owner.connected and subject_matches(s.pattern, message.subject)
        ]
        for listener in listeners:
            if (source, listener.owner.name) not in self._cuts:
                listener.push(message)
        return len(listeners)


class MemoryConnection:
    """One participant's connection; satisfies `raft.bus.Bus`."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        self.bus, self.name = bus, name
        self._connected = True
        self._callbacks: list[Callable[[bool], None]] = []

    @property
    def connected(self) -> bool:
        return self._connected

    def set_connected(self, connected: bool) -> None:
        """Take the connection down or up, and tell the callbacks."""
        self._connected = connected
        for callback in self._callbacks:
            callback(connected)

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Raises `BusClosed` when the connection is down."""
        self.send(subject, data, reply=reply)

    def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Raises `BusClosed` when the connection is down."""
        if not self._connected:
            raise BusClosed(f"connection {self.name!r} is down. Wait until it is up again, then retry")
        heard = self.bus.deliver(self.name, MemoryMessage(subject, data, reply))
        if reply and not heard:
            self.bus.deliver(self.name, MemoryMessage(reply, b"", no_responders=True))

    def push(self) -> None:
        """Nothing waits here."""

    async def listen(self, subject: str, handler: Callable[[Message], None]) -> MemorySubscription:
        """As `subscribe`, with a handler that never waits."""

        async def handle(message: Message) -> None:
            handler(message)

        return await self.subscribe(subject, handle)

    async def subscribe(self, subject: str, handler: Handler, *, queue: str = "") -> MemorySubscription:
        """Queue groups are not offered here: `queue` must be empty."""
        if queue:
            raise ValueError(f"queue group {queue!r} is not offered by the memory bus. Subscribe without one")
        subscription = MemorySubscription(self, subject, handler)
        self.bus.subscriptions.add(subscription)
        return subscription

    async def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        """Raises `TimeoutError` without an answer and `BusClosed` when nobody listens."""
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def on_reply(message: Message) -> None:
            if not answer.done():
                answer.set_result(message)

        inbox = self.new_inbox()
        subscription = await self.subscribe(inbox, on_reply)
        try:
            await self.publish(subject, data, reply=inbox)
            message = await asyncio.wait_for(answer, timeout)
        finally:
            await subscription.unsubscribe()
        if message.no_responders:
            raise BusClosed(f"nobody listens on {subject!r}. Start the node that should, then retry")
        return message.data

    def new_inbox(self) -> str:
        return self.bus.next_inbox()

    def on_connection_change(self, callback: Callable[[bool], None]) -> None:
        self._callbacks.append(callback)
