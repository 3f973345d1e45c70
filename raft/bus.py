"""What Raft asks of a message bus, in five verbs. The NATS transport offers them, and so does
`raft.memory_bus`.

The bus may lose, duplicate, delay and reorder; the frames carry what is needed to survive that. It must not
change bytes, and it runs the handlers of one subscription one after another. When nobody listens on a
request's subject, the reply subject receives a message with ``no_responders`` set and no data.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol


class Message(Protocol):
    """One message as a handler receives it."""

    @property
    def subject(self) -> str: ...
    @property
    def data(self) -> bytes: ...
    @property
    def reply(self) -> str: ...
    @property
    def no_responders(self) -> bool: ...


class Subscription(Protocol):
    """Interest in a subject, until it is given up."""

    async def unsubscribe(self) -> None: ...


class Bus(Protocol):
    """The connection of one process."""

    @property
    def connected(self) -> bool: ...

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Hand over to the connection; fails at once when it is down."""

    def send(self, subject: str, data: bytes, *, reply: str = "") -> None:
        """Like `publish`, but never waits; what was sent leaves with the next `push`, or soon by itself."""

    def push(self) -> None:
        """Give what was sent to the socket, as far as it has room."""

    async def listen(self, subject: str, handler: Callable[[Message], None]) -> Subscription:
        """Call `handler` for each message as it is read: it must be quick, and must not raise."""
        ...

    async def subscribe(
        self, subject: str, handler: Callable[[Message], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Call `handler` for each message on `subject`, which may hold the wildcards ``*`` and ``>``."""
        ...

    async def request(self, subject: str, data: bytes, *, timeout: float) -> bytes:
        """Publish and wait for one reply, at most `timeout` seconds."""
        ...

    def new_inbox(self) -> str:
        """A subject nobody else uses."""
        ...

    def on_connection_change(self, callback: Callable[[bool], None]) -> None:
        """Call `callback` with True or False whenever the connection comes or goes."""
