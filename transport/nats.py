"""NATS for a process: connect, publish, request, subscribe, each within a deadline or refused at once.

One `NatsTransport` is one connection, which is kept for ever: a lost server is tried again every 0.1 s (or
the next one of the cluster), subscriptions are restored, and nothing that was published before the loss is
replayed. While there is no connection `publish` and `request` fail at once with `DISCONNECTED`: the caller
decides, not a buffer.

Backpressure: above `SOFT_LIMIT` unsent bytes a publish gives the socket up to `ROOM_WAIT` seconds to take
some; above `HARD_LIMIT` it is refused at once (`CONGESTED`, counted). A frozen server is noticed by these
bounds first, and by the pings next (three times `ping_interval`).

A request that timed out, or whose connection was lost (it fails then, not at its deadline), may have been
carried out. `transport.client` says what is taken from nats-py and what is done otherwise.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from secrets import token_hex
from typing import Any, Final, Self, TypeVar

import msgspec
from nats import errors as nats_errors

from proto_schemas.codec import decode, encode, refusal_in
from proto_schemas.errors import WireError
from transport import tracing
from transport.client import RECONNECT_WAIT, Client, is_refusal
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError, refused, unreachable
from transport.frames import Subjects, check_payload, check_reply, header_block
from transport.listener import Listener
from transport.replies import Replies, inbox_prefix, new_inbox
from transport.stats import RAW, Stats
from transport.subscription import Handler, Message, Subscription

__all__ = ["Message", "NatsTransport", "Stats", "Subscription"]

_MAYBE_DONE: Final = "it may have been carried out: retry with the same request id"

T = TypeVar("T", bound=msgspec.Struct)
log = logging.getLogger(__name__)


class NatsTransport:
    """One connection to NATS. Make it with `await NatsTransport.connect(config)`; end it with `close()`."""

    def __init__(self, config: NatsConfig) -> None:
        self._config = config
        self._client = Client(config)
        self._replies = Replies(config.name)
        self._subjects = Subjects()
        self._subscriptions: dict[Subscription, Any] = {}
        self._watchers: list[Callable[[bool], None]] = []
        self._give_up: Callable[[Exception], None] | None = None
        self._closing = False
        self._last_error = ""
        self._stats = Stats()

    @classmethod
    async def connect(cls, config: NatsConfig, *, wait: float | None = None) -> Self:
        """Connect.

        Args:
            wait: seconds to keep trying while no server is there; without it each server is tried once.

        Raises:
            NatsTransportError: `DISCONNECTED` (nobody there, in time), or `UNAUTHORIZED` (refused: at once).
            ConfigError: a certificate or credentials file that cannot be used.
        """
        transport = cls(config)
        deadline = asyncio.get_running_loop().time() + (wait or 0.0)
        transport._give_up = transport._patience(deadline)
        try:
            async with asyncio.timeout_at(deadline if wait else None):
                await transport._open()
        except TimeoutError as error:
            raise unreachable(transport.server_url, transport._client.last_error or error) from None
        finally:
            transport._give_up = None
            if not transport.connected:
                transport._client.link.abort()
        return transport

    def _patience(self, deadline: float) -> Callable[[Exception], None]:
        """What ends a first attempt, as nats-py would go on for ever: raise from its error callback."""
        loop = asyncio.get_running_loop()
        failures = 0

        def give_up(error: Exception) -> None:
            nonlocal failures
            failures += 1
            if is_refusal(error):
                raise refused(self.server_url, error) from None
            if failures >= len(self._config.servers) and loop.time() >= deadline:
                raise unreachable(self.server_url, error) from None

        return give_up

    async def _open(self) -> None:
        config = self._config
        options: dict[str, Any] = {
            "name": config.name,
            "inbox_prefix": inbox_prefix(config.name),
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnect,
            "reconnected_cb": self._on_reconnect,
            "reconnect_to_server_handler": self._client.choose_server,
            "connect_timeout": config.connect_timeout,
            "reconnect_time_wait": RECONNECT_WAIT,
            "max_reconnect_attempts": -1,
            "ping_interval": config.ping_interval,
            "max_outstanding_pings": 2,
            "pending_size": 0,
            "tls": config.ssl_context() if config.wants_tls else None,
            "tls_hostname": config.tls_hostname or None,
        }
        options.update(config.credentials())
        await self._client.connect(servers=list(config.servers), **options)
        await self._client.attach(self._replies.subject, "", self._replies.deliver)

    # --- state

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def server_url(self) -> str:
        """Where we are connected, or would like to be; never with credentials."""
        return self._client.server_url

    @property
    def max_payload(self) -> int:
        """Bytes of one message, headers included, that the server takes."""
        return int(self._client.max_payload)

    @property
    def stats(self) -> Stats:
        """The counters as of now (one object, brought up to date by reading it here)."""
        stats = self._stats
        stats.late_replies = self._replies.late
        stats.malformed_messages = self._client.malformed
        for subscription in self._subscriptions:
            self._collect(subscription)
        return stats

    def on_connection_change(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(connected)` whenever the connection is lost or back; it must not wait."""
        self._watchers.append(callback)

    def new_inbox(self) -> str:
        """A subject nobody else knows, to be answered on."""
        return new_inbox(self._config.name)

    def jetstream(self, **options: Any) -> Any:
        """nats-py's JetStream context on this connection."""
        return self._client.jetstream(**options)

    # --- verbs

    async def publish(
        self, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send one message, at most once; it is on its way when this returns, not yet delivered.

        Raises:
            NatsTransportError: `DISCONNECTED`, `CONGESTED`, `TOO_LARGE`, `BAD_SUBJECT` or `BAD_PAYLOAD`.
        """
        stats = self._stats
        try:
            if reply:
                check_reply(reply)
            crowded = self._send(subject, data, reply, headers)
        except NatsTransportError:
            stats.refused_publishes += 1
            raise
        stats.publishes += 1
        if crowded:
            await self._client.make_room()

    def send(
        self, subject: str, data: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """`publish` for who must not wait: several messages, then one `push` in the same turn of the loop.

        Raises:
            NatsTransportError: as `publish`.
        """
        try:
            if reply:
                check_reply(reply)
            self._send(subject, data, reply, headers, wake=False)
        except NatsTransportError:
            self._stats.refused_publishes += 1
            self._client.push()
            raise
        self._stats.publishes += 1

    def push(self) -> None:
        """Give what was sent to the socket."""
        self._client.push()

    async def request(
        self,
        subject: str,
        data: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        kind: str = RAW,
    ) -> bytes:
        """Send and wait for the first answer.

        Args:
            timeout: seconds until it is given up.
            kind: as what its duration is counted: one of few words.

        Raises:
            NatsTransportError: as `publish`, or `TIMEOUT`, `NO_RESPONDERS`.
        """
        stats, began = self._stats, time.monotonic()
        stats.requests += 1
        try:
            answer = await self._exchange(subject, data, timeout, headers)
        except NatsTransportError as error:
            stats.request_errors[error.kind] += 1
            raise
        stats.answered(kind, time.monotonic() - began)
        return answer.data

    async def _exchange(
        self, subject: str, data: bytes, timeout: float, headers: dict[str, str] | None
    ) -> Message:
        with self._replies.expect(timeout) as (reply, answer):
            if self._send(subject, data, reply, headers):
                await self._client.make_room()
            try:
                message = await answer
            except TimeoutError:
                text = f"no answer within {timeout:g} s; {_MAYBE_DONE}, or allow more time"
                raise NatsTransportError(ErrorKind.TIMEOUT, text, subject=subject) from None
            except ConnectionError:
                text = f"the connection was lost before the answer came; {_MAYBE_DONE}"
                raise NatsTransportError(ErrorKind.DISCONNECTED, text, subject=subject) from None
        if message.no_responders:
            text = "nobody listens there: is the receiver running?"
            raise NatsTransportError(ErrorKind.NO_RESPONDERS, text, subject=subject)
        return message

    async def request_message(
        self, subject: str, message: msgspec.Struct, reply_type: type[T], *, timeout: float
    ) -> T:
        """Send a message of the wire, in the trace we are in, and read the answer.

        Raises:
            NatsTransportError: as `request`, or `BAD_PAYLOAD` when the answer is no `reply_type`.
            WireError: the peer answered with an error.
        """
        kind, headers = type(message).__name__, tracing.headers() or None
        data = await self.request(subject, encode(message), timeout=timeout, headers=headers, kind=kind)
        if (refusal := refusal_in(data)) is not None:
            raise refusal
        try:
            return decode(data, reply_type, limit=self.max_payload)
        except WireError as error:
            self._stats.request_errors[ErrorKind.BAD_PAYLOAD] += 1
            text = f"the answer cannot be read: {error}; do both ends have the same version?"
            raise NatsTransportError(ErrorKind.BAD_PAYLOAD, text, subject=subject) from None

    async def subscribe(
        self,
        subject: str,
        handler: Handler,
        *,
        queue: str = "",
        pending_messages: int = 65_536,
        pending_bytes: int = 64 * 1024 * 1024,
    ) -> Subscription:
        """Call `await handler(message)` for each message, in order; see `transport.subscription` for bounds.

        Without a connection it counts from the next one on.

        Args:
            queue: of those that subscribe with the same queue name, one gets each message.

        Raises:
            NatsTransportError: `BAD_SUBJECT`, or `DISCONNECTED` after `close()`.
        """
        subscription = Subscription(
            subject, handler, self._detach, pending_messages=pending_messages, pending_bytes=pending_bytes
        )
        try:
            handle = await self._client.attach(subject, queue, subscription.offer)
        except nats_errors.Error as error:
            await subscription.end()
            wrong = isinstance(error, nats_errors.BadSubjectError)
            kind = ErrorKind.BAD_SUBJECT if wrong else ErrorKind.DISCONNECTED
            text = f"cannot subscribe (queue {queue!r}): {error}"
            raise NatsTransportError(kind, text, subject=subject) from None
        self._subscriptions[subscription] = handle
        return subscription

    async def leave(self, subscriptions: Collection[Subscription], timeout: float) -> None:
        """Unsubscribe and lose nothing: first the server is told, then what it had sent is handled.

        What is not handled after `timeout` seconds is thrown away. Without a connection there is nothing
        more to come.
        """
        leaving = [each for each in subscriptions if each in self._subscriptions]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                for subscription in leaving:
                    await self._client.detach(self._subscriptions[subscription])
                with contextlib.suppress(NatsTransportError):
                    await self.flush(timeout)
                for subscription in leaving:
                    await subscription.join()
        for subscription in leaving:
            await subscription.unsubscribe()

    async def listen(
        self, subject: str, handler: Callable[[Message], None], *, alone: bool = False
    ) -> Listener:
        """Call `handler(message)` from the read loop: no queue between, so it must be quick. One that raises
        costs one message, counted and logged.

        Args:
            alone: in a queue group of its own. Who is in none hears a message twice that one server of a
                cluster passed on to another because its last member of a group had left.

        Raises:
            NatsTransportError: as `subscribe`.
        """
        queue = f"alone-{token_hex(8)}" if alone else ""
        listener = Listener(subject, handler, self._client, queue=queue)
        try:
            await listener.begin()
        except nats_errors.Error as error:
            wrong = isinstance(error, nats_errors.BadSubjectError)
            kind = ErrorKind.BAD_SUBJECT if wrong else ErrorKind.DISCONNECTED
            raise NatsTransportError(kind, f"cannot listen: {error}", subject=subject) from None
        return listener

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has taken everything published so far.

        Raises:
            NatsTransportError: `DISCONNECTED` or `TIMEOUT`.
        """
        if not self.connected:
            raise self._client.absence()
        try:
            async with asyncio.timeout(timeout):
                await self._client.flush()
        except (TimeoutError, nats_errors.Error, OSError):
            text = f"{self.server_url} did not confirm within {timeout:g} s: is it frozen or overloaded?"
            raise NatsTransportError(ErrorKind.TIMEOUT, text) from None

    async def close(self, timeout: float = 5.0) -> None:
        """Unsubscribe, handle what is queued, flush, disconnect; after `timeout` seconds the rest is cut."""
        self._closing = True
        if self.connected:
            with contextlib.suppress(TimeoutError, NatsTransportError):
                async with asyncio.timeout(timeout):
                    await self._drain(timeout)
        for subscription in list(self._subscriptions):
            self._retire(subscription)
            await subscription.end()
        await self._client.end()
        self._replies.close()

    async def _drain(self, timeout: float) -> None:
        for handle in list(self._subscriptions.values()):
            await self._client.detach(handle)
        await self.flush(timeout)  # what the server sent before it heard of it has arrived
        for subscription in list(self._subscriptions):
            await subscription.join()
        await self.flush(timeout)  # and what the handlers answered has left

    def _send(
        self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None, *, wake: bool = True
    ) -> bool:
        if subject not in self._subjects.known:
            self._subjects.check(subject)
        if type(data) is not bytes:
            check_payload(data)
        block = header_block(headers) if headers else b""
        return self._client.write(subject, reply, data, block, wake=wake)

    # --- subscriptions

    async def _detach(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            await self._client.detach(self._subscriptions[subscription])
            self._retire(subscription)

    def _retire(self, subscription: Subscription) -> None:
        self._client.forget(self._subscriptions.pop(subscription))
        self._collect(subscription)

    def _collect(self, subscription: Subscription) -> None:
        dropped, failed = subscription.take_counts()
        self._stats.dropped_messages += dropped
        self._stats.handler_errors += failed

    # --- what nats-py calls

    async def _on_error(self, error: Exception) -> None:
        if self._give_up is not None:
            self._give_up(error)
        self._stats.server_errors += 1
        text = str(error) or type(error).__name__
        if text != self._last_error:
            self._last_error = text
            log.warning("nats %s: %s", self.server_url, text)

    async def _on_disconnect(self) -> None:
        if not self._closing:
            log.warning("lost the connection to %s", ",".join(self._config.servers))
        self._replies.fail_all()
        self._notify(False)

    async def _on_reconnect(self) -> None:
        self._stats.reconnects += 1
        self._last_error = ""
        log.warning("connected to %s again", self.server_url)
        self._notify(True)

    def _notify(self, connected: bool) -> None:
        for callback in self._watchers:
            try:
                callback(connected)
            except Exception:
                log.exception("a connection watcher failed; the others are told as usual")
