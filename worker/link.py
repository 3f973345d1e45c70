"""The way to the coordinators: what a membership needs of a carrier, and NATS as one.

A link registers, sends heartbeats, and reports what comes back to the `Ears` it was opened with. The other
link is `worker.rest_link`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from proto_schemas.codec import decode
from proto_schemas.errors import WireError
from proto_schemas.messages.membership import Heartbeat, HeartbeatAck, Register, Registered
from proto_schemas.subjects import Subjects, last_token
from transport.nats import Message, NatsTransport
from worker.parts import fitting, in_messages

REQUEST_TIMEOUT = 2.0
"""Seconds a registration, or the server's word that a heartbeat went out, may take."""


@dataclass(frozen=True, slots=True)
class Ears:
    """Who is told of what comes back.

    Attributes:
        acknowledged: the leader answered the heartbeat of this number.
        unreadable: an answer that is none.
        namesake: an incarnation that says that it is this worker; it may be ours.
        superseded: the coordinators know a newer incarnation; their word for it.
        unknown: the coordinators do not know this worker.
        connection: the connection was lost, or is back.
    """

    acknowledged: Callable[[int, HeartbeatAck], Awaitable[None]]
    unreadable: Callable[[], None]
    namesake: Callable[[str], None]
    superseded: Callable[[str], None]
    unknown: Callable[[], None]
    connection: Callable[[bool], None]


class Link(Protocol):
    """One carrier. What does not go out raises `NatsTransportError` or, refused, `WireError`."""

    @property
    def connected(self) -> bool:
        """Whether what is sent now would go out, as far as is known."""
        ...

    async def open(self, ears: Ears) -> None:
        """Be ready to hear."""
        ...

    async def register(self, request: Register) -> Registered:
        """Ask to be a member."""
        ...

    async def beat(self, seq: int, heartbeat: Heartbeat, interval: float) -> None:
        """Return once the heartbeat went out; beats come every `interval` seconds."""
        ...


class NatsLink:
    """Over NATS. A heartbeat carries a reply subject of its own, so an answer tells which one it belongs to;
    it counts as gone out once the server has confirmed it, and nobody has to answer. One in parts is answered
    by its first.
    """

    def __init__(self, bus: NatsTransport, subjects: Subjects, worker_id: str) -> None:
        self._bus = bus
        self._register = subjects.register
        self._heartbeat = subjects.heartbeat(worker_id)
        self._inbox = bus.new_inbox()

    @property
    def connected(self) -> bool:
        """Whether there is a connection to a server."""
        return self._bus.connected

    async def open(self, ears: Ears) -> None:
        """Subscribe the answers, and the heartbeats under our own id.

        Raises:
            NatsTransportError: there is no connection.
        """

        async def on_ack(message: Message) -> None:
            if message.no_responders:
                return
            try:
                ack = decode(message.data, HeartbeatAck)
                seq = int(last_token(message.subject))
            except (WireError, ValueError):
                ears.unreadable()
            else:
                await ears.acknowledged(seq, ack)

        async def on_namesake(message: Message) -> None:
            try:
                other = decode(message.data, Heartbeat).incarnation
            except WireError:
                return
            if other is not None:
                ears.namesake(other)

        await self._bus.subscribe(f"{self._inbox}.*", on_ack)
        await self._bus.subscribe(self._heartbeat, on_namesake)
        self._bus.on_connection_change(ears.connection)

    async def register(self, request: Register) -> Registered:
        """See `Link`."""
        request = fitting(request)
        return await self._bus.request_message(self._register, request, Registered, timeout=REQUEST_TIMEOUT)

    async def beat(self, seq: int, heartbeat: Heartbeat, interval: float) -> None:
        """See `Link`."""
        first, *others = in_messages(heartbeat, self._bus.max_payload)
        await self._bus.publish(self._heartbeat, first, reply=f"{self._inbox}.{seq}")
        for part in others:
            await self._bus.publish(self._heartbeat, part)
        await self._bus.flush(REQUEST_TIMEOUT)
