"""Signatures on what travels over NATS: a bus that strangers can write to moves nothing.

Everything sent through a `SignedTransport` or `SignedFrames` carries a MAC (keyed BLAKE2b, 16 bytes) under a
key derived from the cluster key for that purpose; what comes in without a right one is dropped before anybody
reads it, counted by reason, and told of at each power of two. The MAC covers the subject, the reply subject
and the bytes: a message that was recorded counts on no other subject, and no answer to it goes elsewhere.

- **Messages** (`SignedTransport`: registrations, heartbeats, commands, and the answers to them) carry it in
  the header `Varpulis-Mac: <tag>.<ms since 1970, hex>.<mac>`, so their JSON stays what the wire says, and a
  seed peer that knows no header reads them as ever. One that is older or newer than `WINDOW` is dropped
  (clocks may differ by less), and where a repetition would do harm (`once`) so is one that was seen.
- **Frames** (`SignedFrames`: Raft) carry it behind their bytes, tag and MAC, 20 in all: no header to parse,
  and Raft itself knows what is old or doubled.

The tag names the key. Several are accepted and one signs, so keys change while everything runs
(`transport.keyring`). Both classes are views of one connection: they share it, and its counters, with the
transport they were made from.

`unsigned` lets messages without a signature pass (never those with a wrong one, and never frames): for seed
peers, at the price that strangers are let in with them. What the server itself says (nobody listens) is
signed by nobody, and passes.
"""

import hashlib
import hmac
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from transport.errors import ErrorKind, NatsTransportError
from transport.keyring import TAG_BYTES, KeyRing
from transport.listener import Listener
from transport.nats import NatsTransport
from transport.stats import Stats
from transport.subscription import Message, Subscription

HEADER: Final = "Varpulis-Mac"
MAC_BYTES: Final = 16
WINDOW: Final = 60.0
"""Seconds by which the clocks of two processes and the way between them may differ."""
MAX_SEEN: Final = 100_000
HEADER_ROOM: Final = 128
"""Bytes that the header of one message takes at most."""
TRAILER: Final = TAG_BYTES + MAC_BYTES

log = logging.getLogger(__name__)


class Signatures:
    """Makes and checks MACs for one purpose.

    Args:
        ring: whose keys are used, as they are now and as they become.
        purpose: what these MACs are good for; one made for another purpose is wrong here.

    Attributes:
        refused: messages dropped, by reason.
    """

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self.refused: Counter[str] = Counter()
        self._ring, self._purpose = ring, f"mac/1/{purpose}"
        self._load()
        ring.watch(self._load)

    def _load(self) -> None:
        def keyed(key: bytes) -> Any:
            return hashlib.blake2b(key=key, digest_size=MAC_BYTES)

        self._keyed = {key.tag: keyed(key.derive(self._purpose)) for key in self._ring.keys}
        self.tag = self._ring.signing.tag
        self._signing = self._keyed[self.tag]

    def sign(self, head: str, data: bytes) -> bytes:
        """The MAC of a message under the signing key, whose tag is `tag`.

        Args:
            head: subject, reply subject and whatever else counts, a line each: no line end is in any of them.
        """
        state = self._signing.copy()
        state.update(head.encode())
        state.update(data)
        mac: bytes = state.digest()
        return mac

    def fault(self, tag: bytes, mac: bytes, head: str, data: bytes) -> str | None:
        """Why a MAC does not count; None when it is right."""
        keyed = self._keyed.get(tag)
        if keyed is None:
            return "unknown_key"
        state = keyed.copy()
        state.update(head.encode())
        state.update(data)
        return None if hmac.compare_digest(mac, state.digest()) else "wrong"

    def refuse(self, reason: str, subject: str, stats: Stats) -> None:
        """Count one that is dropped, here and for the connection."""
        self.refused[reason] += 1
        stats.refused_signatures[reason] += 1
        count = self.refused[reason]
        if count & (count - 1) == 0:
            log.warning("dropped a message on %s: %s (%d so far)", subject, _WHY[reason], count)


_WHY: Final = {
    "unsigned": "it carries no signature; does its sender have the cluster key? (--cluster-key-file)",
    "unknown_key": "signed with a key that is not in the cluster key file here",
    "wrong": "its signature is wrong",
    "old": f"signed more than {WINDOW:g} s ago, or ahead of our time: do the clocks agree?",
    "repeated": "it came before",
}


class SignedTransport(NatsTransport):
    """Messages with the MAC in a header.

    Args:
        inner: the connection this is a view of.
        unsigned: whether what carries no signature passes.
        once: whether a message that comes a second time is dropped.
        clock: seconds since 1970.
    """

    __slots__ = ("_clock", "_once", "_seen", "_unsigned", "signatures")

    def __init__(
        self,
        inner: NatsTransport,
        signatures: Signatures,
        *,
        unsigned: bool = False,
        once: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.__dict__ = inner.__dict__
        self.signatures = signatures
        self._unsigned, self._once, self._clock = unsigned, once, clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    @property
    def max_payload(self) -> int:
        """Bytes of one message that the server takes beside its signature."""
        return super().max_payload - HEADER_ROOM

    def _send(
        self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None, *, wake: bool = True
    ) -> bool:
        signatures, at = self.signatures, f"{int(self._clock() * 1000):x}"
        mac = signatures.sign(f"{subject}\n{reply}\n{at}\n", data)
        signed = {**(headers or {}), HEADER: f"{signatures.tag.hex()}.{at}.{mac.hex()}"}
        return super()._send(subject, data, reply, signed, wake=wake)

    async def _exchange(
        self, subject: str, data: bytes, timeout: float, headers: dict[str, str] | None
    ) -> Message:
        message = await super()._exchange(subject, data, timeout, headers)
        # A seed peer that uses nats-py answers with our own header, which is none for its answer.
        if not self._unsigned and not self._admits(message):
            text = "the answer carries no right signature: do both ends have the same cluster key?"
            raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=subject)
        return message

    async def subscribe(
        self, subject: str, handler: Callable[[Message], Awaitable[None]], **options: Any
    ) -> Subscription:
        """As `NatsTransport.subscribe`, for messages that are signed."""

        async def checked(message: Message) -> None:
            if self._admits(message):
                await handler(message)

        return await super().subscribe(subject, checked, **options)

    async def listen(
        self, subject: str, handler: Callable[[Message], None], *, alone: bool = False
    ) -> Listener:
        """As `NatsTransport.listen`, for messages that are signed."""

        def checked(message: Message) -> None:
            if self._admits(message):
                handler(message)

        return await super().listen(subject, checked, alone=alone)

    def _admits(self, message: Message) -> bool:
        if message.no_responders:
            return True
        header = message.headers.get(HEADER) if message.headers else None
        if header is None and self._unsigned:
            return True
        reason = "unsigned" if header is None else self._fault(header, message)
        if reason is not None:
            self.signatures.refuse(reason, message.subject, self._stats)
        return reason is None

    def _fault(self, header: str, message: Message) -> str | None:
        try:
            tag, at, given = header.split(".")
            sent, mac = int(at, 16) / 1000, bytes.fromhex(given)
            head = f"{message.subject}\n{message.reply}\n{at}\n"
            fault = self.signatures.fault(bytes.fromhex(tag), mac, head, message.data)
        except (ValueError, OverflowError):
            return "wrong"
        if fault is not None:
            return fault
        now = self._clock()
        if abs(now - sent) > WINDOW:
            return "old"
        return "repeated" if self._once and self._saw(mac, now) else None

    def _saw(self, mac: bytes, now: float) -> bool:
        seen = self._seen
        if mac in seen:
            return True
        seen[mac] = now
        while len(seen) > MAX_SEEN or now - next(iter(seen.values())) > 2 * WINDOW:
            seen.popitem(last=False)
        return False


class SignedFrames(NatsTransport):
    """Raft's frames with the MAC behind their bytes; satisfies `raft.bus.Bus`."""

    __slots__ = ("signatures",)

    def __init__(self, inner: NatsTransport, signatures: Signatures) -> None:
        self.__dict__ = inner.__dict__
        self.signatures = signatures

    @property
    def max_payload(self) -> int:
        """Bytes of one frame that the server takes beside its signature."""
        return super().max_payload - TRAILER

    def _send(
        self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None, *, wake: bool = True
    ) -> bool:
        signatures = self.signatures
        signed = data + signatures.tag + signatures.sign(f"{subject}\n{reply}\n", data)
        return super()._send(subject, signed, reply, headers, wake=wake)

    async def _exchange(
        self, subject: str, data: bytes, timeout: float, headers: dict[str, str] | None
    ) -> Message:
        message = self._opened(await super()._exchange(subject, data, timeout, headers))
        if message is None:
            text = "the answer carries no right signature: do both ends have the same cluster key?"
            raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=subject)
        return message

    async def subscribe(
        self, subject: str, handler: Callable[[Message], Awaitable[None]], **options: Any
    ) -> Subscription:
        """As `NatsTransport.subscribe`, for frames that are signed."""

        async def opened(message: Message) -> None:
            if (frame := self._opened(message)) is not None:
                await handler(frame)

        return await super().subscribe(subject, opened, **options)

    async def listen(
        self, subject: str, handler: Callable[[Message], None], *, alone: bool = False
    ) -> Listener:
        """As `NatsTransport.listen`, for frames that are signed."""

        def opened(message: Message) -> None:
            if (frame := self._opened(message)) is not None:
                handler(frame)

        return await super().listen(subject, opened, alone=alone)

    def _opened(self, message: Message) -> Message | None:
        """The message without what was behind its bytes, which nobody else has a hold of; None when that is
        wrong."""
        data = message.data
        if len(data) < TRAILER:
            if message.no_responders:
                return message
            self.signatures.refuse("unsigned", message.subject, self._stats)
            return None
        frame, tag, mac = data[:-TRAILER], data[-TRAILER:-MAC_BYTES], data[-MAC_BYTES:]
        fault = self.signatures.fault(tag, mac, f"{message.subject}\n{message.reply}\n", frame)
        if fault is not None:
            self.signatures.refuse(fault, message.subject, self._stats)
            return None
        message.data = frame
        return message
