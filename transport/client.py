"""nats-py's client with the seams that a cluster needs; the only module that touches its private names.

What nats-py does by itself, and what is done here instead (a test holds each, so an upgrade that moves a
seam shows):

- *A frozen server.* With bytes unsent, nats-py waits for ever in `wait_closed`. `Link` sets TCP_USER_TIMEOUT,
  so the kernel gives up on unacknowledged bytes, and aborts a socket that does not close within `CLOSE_WAIT`.
- *A full flush queue.* With 1,024 flushes waiting, nats-py's subscribe and unsubscribe wait too, without
  end. One that waits is enough.
- *A flush that vouches for nothing.* nats-py's PING overtakes what waits to be sent, so its PONG says nothing
  about that; here it queues behind. A PONG for a flush that was given up ends nats-py's read loop; here not.
- *Stale bytes.* What was not yet written when a connection dies is thrown away: nothing late is replayed. So
  is what nats-py queued until the next one stands, whose subscriptions are told anew: one that was made and
  given up meanwhile would be told, and take its share of a queue group's messages for nobody.
- *An error from the server* (credentials expired, too many connections) closes nats-py for good. Here it is
  a lost connection like any other, retried with backoff, as an operator may mend it; so is whatever else a
  connect or a login raises, which would end nats-py's reconnecting for good, without a word.
- *A downgrade.* Where TLS was asked for, a server without it is told nothing.
- *Foreign bytes.* A subject or header that is not UTF-8 ends nats-py's read loop. Here it costs one counted
  message.
- *Delivery.* Messages go from the socket straight to a sink (see `transport.shortcut`), without nats-py's
  queue and task per subscription; those that it must parse, from its read loop. Publishing is synchronous,
  and the caller bounds `pending_data_size`.
- *Flushing.* What is published leaves at the end of the loop's turn, in one write; nats-py's flusher, a task
  with a queue, is left what a slow socket does not take at once.
"""

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from nats import errors as nats_errors
from nats.aio.client import PING_PROTO, Server
from nats.aio.client import Client as NatsPy
from nats.aio.subscription import Subscription as NatsSubscription
from nats.aio.transport import TcpTransport
from nats.protocol import command
from nats.protocol.parser import AWAITING_CONTROL_LINE

from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError, disconnected
from transport.shortcut import Shortcut, Sink
from transport.subscription import Message

UNSENT_TIMEOUT: Final = 1.0
"""Seconds after which the kernel gives up on bytes that the other side does not take."""
CLOSE_WAIT: Final = 0.25
"""Seconds a socket is given to send its last bytes."""
RECONNECT_WAIT: Final = 0.1
REFUSED_WAIT_MAX: Final = 5.0
"""Seconds between attempts: constant when nobody is there, doubling up to the second when we are refused."""
SHORT_LIFE: Final = 1.0
"""Seconds: a connection that lived less is not tried again at once."""
_REFUSALS: Final = ("authorization", "authentication", "during login")

SOFT_LIMIT: Final = 256 * 1024
HARD_LIMIT: Final = 1024 * 1024
ROOM_WAIT: Final = 0.05
"""Unsent bytes above which a publisher waits (at most so many seconds), and above which it is refused."""

log = logging.getLogger(__name__)


class Link(TcpTransport):
    """A TCP connection (perhaps with TLS) whose end is bounded, which tells when it has room again, and whose
    messages take the short way to their sinks; see `Shortcut` for the arguments.
    """

    def __init__(
        self,
        sinks: Mapping[int, Sink] | None = None,
        idle: Callable[[], bool] = lambda: False,
        malformed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.writable = asyncio.Event()
        self.writable.set()
        self._sinks: Mapping[int, Sink] = sinks if sinks is not None else {}
        self._idle, self._malformed = idle, malformed
        self._shortcut: Shortcut | None = None

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: float) -> None:
        self.abort()
        try:
            await super().connect(uri, buffer_size, connect_timeout)  # type: ignore[arg-type]
        except UnicodeError as error:  # of a host name that DNS cannot carry; nats-py expects OSError
            raise OSError(f"host name {uri.hostname!r}: {error}") from None
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert self._io_writer is not None
            raw = self._io_writer.get_extra_info("socket")
            if raw is None:  # what uvloop says of a socket that was reset meanwhile
                raise ConnectionResetError("the connection was reset as soon as it stood")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNSENT_TIMEOUT * 1000))
        self._take_shortcut()

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)  # type: ignore[arg-type]
        self._take_shortcut()

    def _take_shortcut(self) -> None:
        assert self._io_writer is not None
        way = self._io_writer.transport
        stream = way.get_protocol()
        assert isinstance(stream, asyncio.Protocol)
        self._shortcut = Shortcut(stream, self._sinks, self._malformed)
        way.set_protocol(self._shortcut)

    def write(self, payload: bytes) -> None:
        try:
            super().write(payload)  # type: ignore[no-untyped-call]
        except RuntimeError as error:  # uvloop's word for a socket that is closed
            raise ConnectionResetError(str(error)) from None

    async def read(self, buffer_size: int) -> bytes:
        if self._shortcut is not None:
            self._shortcut.open = self._idle()
        try:
            return bytes(await super().read(buffer_size))
        finally:
            if self._shortcut is not None:
                self._shortcut.open = False

    @property
    def has_room(self) -> bool:
        """Whether a write would not wait behind much else."""
        if self._io_writer is None or not self.writable.is_set():
            return False
        return bool(self._io_writer.transport.get_write_buffer_size() < SOFT_LIMIT)

    @property
    def encrypted(self) -> bool:
        return self._io_writer is not None and self._io_writer.get_extra_info("ssl_object") is not None

    async def drain(self) -> None:
        self.writable.clear()
        try:
            await super().drain()  # type: ignore[no-untyped-call]
        finally:
            self.writable.set()

    async def wait_closed(self) -> None:
        with contextlib.suppress(OSError):
            try:
                async with asyncio.timeout(CLOSE_WAIT):
                    await super().wait_closed()  # type: ignore[no-untyped-call]
            finally:
                self.abort()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        for writer in (self._io_writer, self._bare_io_writer):
            if writer is not None:
                writer.transport.abort()

    def __bool__(self) -> bool:
        return True  # nats-py makes a transport of its own in place of one that is false


class Client(NatsPy):
    """One connection; see the module for what differs from nats-py.

    Attributes:
        malformed: messages thrown away because their subject or headers could not be read.
        refusals: logins refused in a row, which the backoff grows with.
    """

    def __init__(self, config: NatsConfig) -> None:
        super().__init__()
        self._config = config
        self._sinks: dict[int, Sink] = {}
        self._transport = self.link = Link(self._sinks, self._has_parsed_all, self._count_malformed)
        self._loop = asyncio.get_running_loop()
        self._will_push = False
        self._login_at = float("-inf")
        self.malformed = 0
        self.refusals = 0

    @property
    def server_url(self) -> str:
        """Where we are connected, or would like to be; never with credentials."""
        url = self.connected_url
        return f"{url.scheme}://{url.netloc}" if url else ",".join(self._config.servers)

    # --- sending

    def write(
        self, subject: str, reply: str, payload: bytes, headers: bytes = b"", *, wake: bool = True
    ) -> bool:
        """Queue one message; never waits. The caller has checked the subjects.

        `wake`: it leaves in the loop's next turn; without, the caller calls `push` in this one.

        Returns:
            Whether so much waits already that the caller should give the socket time.

        Raises:
            NatsTransportError: `DISCONNECTED`, `CONGESTED` or `TOO_LARGE`; nothing was queued.
        """
        size = len(payload) + len(headers)
        if self._status != Client.CONNECTED and not self.is_connected:
            raise self.absence(subject)
        if self._pending_data_size > HARD_LIMIT:
            text = f"{self._pending_data_size} bytes wait to be sent: send less, or retry later"
            raise NatsTransportError(ErrorKind.CONGESTED, text, subject=subject)
        if size > self._max_payload:
            text = (
                f"{size} bytes, the server takes {self._max_payload}: send parts, or raise max_payload there"
            )
            raise NatsTransportError(ErrorKind.TOO_LARGE, text, subject=subject)
        if headers:
            packet = command.hpub_cmd(subject, reply, headers, payload)
        else:
            packet = f"PUB {subject} {reply} {size}\r\n".encode() + payload + b"\r\n"
        self._pending.append(packet)
        self._pending_data_size += len(packet)
        if wake and not self._will_push:
            self._will_push = True
            self._loop.call_soon(self._push_soon)
        return self._pending_data_size > SOFT_LIMIT

    def _push_soon(self) -> None:
        self._will_push = False
        self.push()

    def push(self) -> None:
        """Write what is queued to the socket at once; leave it to the flusher where the socket is slow."""
        if self._pending_data_size == 0:
            return
        if not self.is_connected or not self.link.has_room:
            self._wake_flusher()
            return
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        try:
            self.link.write(b"".join(waiting))
        except OSError as error:
            log.debug("not written, and thrown away: %s", error)  # the read loop notices as well

    def absence(self, subject: str = "") -> NatsTransportError:
        """Why nothing can be sent now."""
        if self.is_closed:
            text = "this connection was closed: make a new one"
            return NatsTransportError(ErrorKind.DISCONNECTED, text, subject=subject)
        return disconnected(self.server_url, self._err, subject=subject)

    def _wake_flusher(self) -> None:
        assert self._flush_queue is not None, "there is one since connect"
        if self._flush_queue.empty():
            self._flush_queue.put_nowait(self._loop.create_future())

    async def _send_ping(self, future: "asyncio.Future[bool] | None" = None) -> None:
        self._pongs.append(future if future is not None else self._loop.create_future())
        self._pending.append(PING_PROTO)
        self._pending_data_size += len(PING_PROTO)
        self._wake_flusher()

    async def _process_pong(self) -> None:
        self._pings_outstanding = 0
        if self._pongs and not (future := self._pongs.pop(0)).done():
            future.set_result(True)

    async def _flush_pending(self, force_flush: bool = False) -> None:
        if self.is_connected:
            self._wake_flusher()

    async def make_room(self) -> None:
        """Hand over what is queued; wait for a slow socket, but not long."""
        self.push()
        await asyncio.sleep(0)  # to the flusher, if it was left to that
        if not self.link.writable.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROOM_WAIT):
                    await self.link.writable.wait()

    def _discard_unsent(self) -> None:
        self._pending.clear()
        self._pending_data_size = 0

    # --- receiving

    async def attach(self, subject: str, queue: str, sink: Sink) -> NatsSubscription:
        """Subscribe; each message goes to `sink` from the read loop, which must not be held up."""
        sid = self._sid + 1
        self._sinks[sid] = sink
        try:
            return await self.subscribe(subject, queue=queue)
        except nats_errors.Error:
            del self._sinks[sid]
            raise

    async def detach(self, subscription: NatsSubscription) -> None:
        """Tell the server that no more is wanted; what it has sent already still goes to the sink."""
        with contextlib.suppress(nats_errors.Error):
            await subscription.unsubscribe()

    def forget(self, subscription: NatsSubscription) -> None:
        """Throw away what still comes."""
        self._sinks.pop(subscription._id, None)

    def _has_parsed_all(self) -> bool:
        return self._ps.state == AWAITING_CONTROL_LINE and not self._ps.buf

    def _count_malformed(self) -> None:
        self.malformed += 1

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        sink = self._sinks.get(sid)
        try:
            if sink is None:  # one of nats-py's own (JetStream)
                await super()._process_msg(sid, subject, reply, data, headers)
                return
            parsed = await self._process_headers(headers) if headers else None
            message = Message(subject.decode(), data, reply.decode(), parsed)
        except (UnicodeDecodeError, IndexError, ValueError):
            self.malformed += 1
            return
        sink(message)

    # --- connecting

    def _connect_command(self) -> bytes:
        if self._config.wants_tls and not self.link.encrypted:
            raise nats_errors.SecureConnWantedError
        return bytes(super()._connect_command())

    async def _connect_to_server(self, s: Any) -> None:
        try:
            await super()._connect_to_server(s)
        except (OSError, TimeoutError, nats_errors.Error):
            raise
        except Exception as error:  # anything else would end nats-py's reconnecting for good
            raise nats_errors.Error(f"nats: connect failed: {type(error).__name__}: {error}") from error

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except (OSError, TimeoutError, nats_errors.Error) as error:
            self.refusals = self.refusals + 1 if is_refusal(error) else 0
            raise
        except Exception as error:  # anything else would end nats-py's reconnecting for good
            raise nats_errors.Error(f"nats: login failed: {type(error).__name__}") from error
        if not self.is_connected:  # nats-py takes a connection closed during login for a success
            for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
                if task is not None:
                    task.cancel()
            self.refusals += 1
            raise nats_errors.Error("nats: the server closed the connection during login")
        self._discard_unsent()
        self.refusals = 0
        self._login_at = self._loop.time()

    async def _process_err(self, err_msg: str) -> None:
        error = nats_errors.Error(f"nats: {err_msg}")
        if "permissions violation" in err_msg:
            await self._error_cb(error)
            return
        self.refusals += is_refusal(error)
        await self._error_cb(error)
        await self._process_op_err(error)

    async def end(self) -> None:
        """Close now, within 2 s whatever the server does; what is unsent is thrown away."""
        self._discard_unsent()
        closing = self._loop.create_task(self.close())
        done, _ = await asyncio.wait({closing}, timeout=1.0)
        self.link.abort()
        await asyncio.sleep(
            0
        )  # the loop closes an aborted socket in its next turn; there may be none after us
        if not done:
            closing.cancel()
            await asyncio.wait({closing}, timeout=1.0)
        elif (error := closing.exception()) is not None:
            log.debug("closing a connection: %s", error)

    async def _attempt_reconnect(self) -> None:
        self._discard_unsent()
        with contextlib.suppress(asyncio.InvalidStateError):  # the last step of one that a newer one replaced
            await super()._attempt_reconnect()

    def choose_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server, float]:
        """nats-py's reconnect handler: the server that failed least, and the seconds to wait before it."""
        chosen = min(servers, key=lambda server: (server.reconnects, random.random()))
        if self.refusals:
            doubled = RECONNECT_WAIT * 2 ** min(self.refusals, 10)  # a power without bound would overflow
            return chosen, min(REFUSED_WAIT_MAX, doubled) * random.uniform(0.5, 1.0)
        if self._loop.time() - self._login_at < SHORT_LIFE:
            return chosen, RECONNECT_WAIT
        return chosen, RECONNECT_WAIT if chosen.reconnects else 0.0


def is_refusal(error: BaseException) -> bool:
    """The server answered, and does not want us: other credentials are needed, or TLS."""
    if isinstance(error, ssl.SSLError | nats_errors.SecureConnWantedError):
        return True
    text = str(error).lower()
    return any(word in text for word in _REFUSALS)
