"""`connector Bus = nats(servers: "...", queue_group: "...")`: events from and to NATS.

One client for each declared connector, made at its first use and kept connected by `transport`. Isolation
is worth a socket: a slow sink of one pipeline cannot hold up another pipeline, or the cluster's own
messages.

In: `topic` (with `*` and `>`) and `queue_group`; one subscription for each (subject, group), however many
streams read from it, and none for a subject that another one covers: an event must not come twice. With
`stream` and `durable` a source is a consumer of JetStream, where events wait for us (`durable`). Out:
`topic`, which may hold `{field}`, default the stream's name; `format: "flat"` or "nested". A value that
would break out of its token (a dot, a space, a wildcard, nothing) drops that output. While there is no
connection outputs are dropped and counted: delivery is at most once.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from proto_schemas.subjects import check_publishable
from transport.config import NatsConfig
from transport.errors import ConfigError, NatsTransportError
from transport.jetstream import JetStreamRefused
from transport.listener import Listener
from transport.nats import Message, NatsTransport, Subscription
from transport.subscription import Handler
from worker.connectors.base import (
    Connector,
    ConnectorError,
    Encode,
    OutputDropped,
    Sink,
    Site,
    known_params,
    output_format,
)
from worker.connectors.durable import DurableSource

CONNECT_WAIT: Final = 2.0
"""Seconds a deploy waits for the connection and for the server's word that it has the subscriptions."""

_SERVER_KEYS: Final = ("servers", "url", "server")
_PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SOURCE_SUBJECT: Final = re.compile(r"[^\s.*>]+|\*")
_CONSUMER: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TOKEN: Final = re.compile(r"[^\s.*>\x00-\x1f]{1,128}")
_DROP_REASON: Final = {"bad_subject": "bad_topic", "bad_payload": "not_encodable", "timeout": "congested"}


class ManagedNatsConnector(Connector):
    """A NATS client shared by the sources and sinks of one declared connector."""

    type = "nats"

    def __init__(self, name: str, params: Mapping[str, Any], site: Site) -> None:
        super().__init__(name, params, site)
        settings = dict(params)
        self._queue_group = _text(name, settings.pop("queue_group", ""), "queue_group")
        given = [key for key in _SERVER_KEYS if key in settings]
        if len(given) > 1:
            raise ConnectorError(
                f"connector {name}: {' and '.join(given)} contradict each other: give servers"
            )
        if given:
            settings["servers"] = settings.pop(given[0])
        try:
            self._config = NatsConfig.from_params({"name": f"varpulis-{name}", **settings})
        except ConfigError as error:
            raise ConnectorError(f"connector {name}: {error}") from None
        self._transport: NatsTransport | None = None
        self._connecting = asyncio.Lock()
        self._subscriptions: dict[tuple[str, str], Subscription] = {}
        self._durables: dict[tuple[str, str], DurableSource] = {}
        self._left: dict[tuple[str, str], DurableSource] = {}  # they take no more, and wait to be covered
        self._redelivered = 0
        self._lost: Counter[str] = Counter()
        self._witnesses: dict[str, Listener] = {}
        self._last_error: str | None = None

    async def start_source(self, params: Mapping[str, Any], receive: Handler, queue: str = "") -> None:
        if self.is_handed_out(params):
            await self._start_durable(params, receive)
            return
        subject, given = self._source(params)
        group = given or queue
        if any(group == other and covers(known, subject) for known, other in self._subscriptions):
            return

        async def count_and_receive(message: Message) -> None:
            self.count_message()
            await receive(message)

        transport = await self._client()
        try:
            subscription = await transport.subscribe(subject, count_and_receive, queue=group)
            self._subscriptions[subject, group] = subscription
            for known, other in list(self._subscriptions):
                if group == other and known != subject and covers(subject, known):
                    await self._subscriptions.pop((known, other)).unsubscribe()
            await transport.flush(CONNECT_WAIT)
        except NatsTransportError as error:
            raise ConnectorError(f"connector {self.name}: {error}", retryable=error.retryable) from None

    async def watch_source(self, params: Mapping[str, Any], see: Callable[[Message], None]) -> None:
        if self.is_handed_out(params):
            self._durable(params)
            await self._client()  # nothing to witness: what one copy acknowledged no other one gets
            return
        subject, _ = self._source(params)
        if any(covers(known, subject) for known in self._witnesses):
            return
        transport = await self._client()
        try:
            self._witnesses[subject] = await transport.listen(subject, see, alone=True)
            for known in [known for known in self._witnesses if known != subject and covers(subject, known)]:
                await self._witnesses.pop(known).unsubscribe()
            await transport.flush(CONNECT_WAIT)
        except NatsTransportError as error:
            raise ConnectorError(f"connector {self.name}: {error}", retryable=error.retryable) from None

    async def stop_watching(self) -> None:
        witnesses, self._witnesses = self._witnesses, {}
        for witness in witnesses.values():
            await witness.unsubscribe()

    @classmethod
    def is_handed_out(cls, params: Mapping[str, Any]) -> bool:
        return "durable" in params or "stream" in params

    async def _start_durable(self, params: Mapping[str, Any], receive: Handler) -> None:
        stream, durable, subject = self._durable(params)
        if (stream, durable) in self._durables:
            raise ConnectorError(
                f"connector {self.name}: two sources read stream {stream} as {durable!r}: give each its own"
            )

        async def count_and_receive(message: Message) -> None:
            self.count_message()
            await receive(message)

        source = DurableSource(
            await self._client(), stream, durable, subject, count_and_receive, keeps=self.keeps
        )
        try:
            await source.start()
        except JetStreamRefused as error:
            raise ConnectorError(
                f"connector {self.name}: stream {stream}, durable {durable!r}: {error}: make the stream, or "
                "give a durable of which nobody else made another consumer"
            ) from None
        except NatsTransportError as error:
            raise ConnectorError(f"connector {self.name}: {error}", retryable=error.retryable) from None
        self._durables[stream, durable] = source

    def _durable(self, params: Mapping[str, Any]) -> tuple[str, str, str]:
        """The stream, the consumer's name, and the subject of a source that waits for us."""
        known_params(f"source of connector {self.name}", params, "topic", "stream", "durable")
        for key in ("stream", "durable"):
            text = params.get(key)
            if not isinstance(text, str) or _CONSUMER.fullmatch(text) is None:
                raise ConnectorError(
                    f"connector {self.name}: {key} must be 1 to 64 letters, digits, '_' or '-', and stream "
                    "and durable go together"
                )
        return params["stream"], params["durable"], _source_subject(self.name, params.get("topic"))

    def _source(self, params: Mapping[str, Any]) -> tuple[str, str]:
        """The subject of a source, and the queue group that the program names, if any."""
        known_params(f"source of connector {self.name}", params, "topic", "queue_group")
        subject = _source_subject(self.name, params.get("topic"))
        return subject, _text(self.name, params.get("queue_group", self._queue_group), "queue_group")

    async def create_sink(self, stream: str, params: Mapping[str, Any]) -> Sink:
        known_params(f"sink of connector {self.name}", params, "topic", "format")
        topic = _text(self.name, params.get("topic", stream), "topic")
        encode = output_format(self.name, params)
        try:
            check_publishable(_PLACEHOLDER.sub("x", topic), "topic")
        except ValueError as error:
            raise ConnectorError(f"connector {self.name}: {error}") from None
        return _NatsSink(await self._client(), topic, encode)

    async def stop_sources(self) -> None:
        await self._stop_durables(0.0)
        leaving, self._subscriptions = self._subscriptions, {}
        for subscription in leaving.values():
            await subscription.unsubscribe()

    async def _stop_durables(self, timeout: float) -> None:
        leaving, self._durables = self._durables, {}
        await asyncio.gather(*(source.stop(timeout) for source in leaving.values()))
        for place, source in leaving.items():
            self._redelivered += source.redelivered
            self._lost["poison"] += source.poison
            if (before := self._left.pop(place, None)) is not None:
                await before.close()
            self._left[place] = source

    async def drain_sources(self, timeout: float) -> None:
        await self._stop_durables(timeout)
        leaving, self._subscriptions = self._subscriptions, {}
        if self._transport is not None:
            await self._transport.leave(leaving.values(), timeout)

    async def catch_up(self) -> None:
        await asyncio.gather(*(each.catch_up() for each in self._subscriptions.values()))

    async def flush(self, timeout: float) -> None:
        if self._transport is not None:
            await self._transport.flush(timeout)

    def handled(self) -> Mapping[str, int]:
        if not self.keeps:
            return {}
        return {_place(*place): source.handled for place, source in (self._left | self._durables).items()}

    async def cover(self, handled: Mapping[str, int]) -> None:
        for place, source in (self._left | self._durables).items():
            if _place(*place) in handled:
                await source.cover(handled[_place(*place)])

    async def settle(self) -> None:
        for source in (*self._left.values(), *self._durables.values()):
            await source.settle()

    @property
    def crowded(self) -> bool:
        return any(source.crowded for source in self._durables.values())

    async def close(self, timeout: float) -> None:
        await self._stop_durables(0.0)
        for source in self._left.values():
            await source.close()
        self._left.clear()
        if self._transport is not None:
            await self._transport.close(timeout)

    @property
    def connected(self) -> bool:
        if self._transport is None or not self._transport.connected:
            return False
        return not any(source.error for source in self._durables.values())

    @property
    def dropped(self) -> int:
        return 0 if self._transport is None else self._transport.stats.dropped_messages

    @property
    def last_error(self) -> str | None:
        if self._transport is not None and not self._transport.connected:
            return f"not connected to {self._transport.server_url}"
        errors = (source.error for source in self._durables.values())
        return next(filter(None, errors), self._last_error)

    @property
    def lost(self) -> Counter[str]:
        return self._lost + Counter(poison=sum(source.poison for source in self._durables.values()))

    @property
    def redelivered(self) -> int:
        return self._redelivered + sum(source.redelivered for source in self._durables.values())

    async def _client(self) -> NatsTransport:
        async with self._connecting:
            if self._transport is None:
                try:
                    self._transport = await NatsTransport.connect(self._config, wait=CONNECT_WAIT)
                except (NatsTransportError, ConfigError) as error:
                    self._last_error = str(error)
                    retryable = isinstance(error, NatsTransportError)
                    raise ConnectorError(f"connector {self.name}: {error}", retryable=retryable) from None
            return self._transport


class _NatsSink:
    def __init__(self, transport: NatsTransport, topic: str, encode: Encode) -> None:
        self._transport = transport
        self._topic = topic
        self._templated = _PLACEHOLDER.search(topic) is not None
        self._encode = encode

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        topic = _fill(self._topic, fields) if self._templated else self._topic
        try:
            await self._transport.publish(topic, self._encode(event_type, fields, ts))
        except NatsTransportError as error:
            raise OutputDropped(drop_reason(error), str(error)) from None


def covers(pattern: str, subject: str) -> bool:
    """Whether a subscription of `pattern` hears all that one of `subject` would."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(given) <= len(wanted):
            return False
    elif len(given) != len(wanted) or given[-1] == ">":
        return False
    return all(token in ("*", other) for token, other in zip(wanted, given, strict=False))


def drop_reason(error: NatsTransportError) -> str:
    """The drop reason for a publish that failed."""
    return _DROP_REASON.get(error.kind.value, error.kind.value)


def _fill(template: str, fields: dict[str, Any]) -> str:
    def token(match: re.Match[str]) -> str:
        value = fields.get(match[1])
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if _TOKEN.fullmatch(text) is None:
            raise OutputDropped("bad_topic", f"field {match[1]} cannot be a token of {template!r}")
        return text

    return _PLACEHOLDER.sub(token, template)


def _place(stream: str, durable: str) -> str:
    return f"{stream} {durable}"


def _source_subject(name: str, topic: Any) -> str:
    subject = _text(name, topic, "topic")
    tokens = subject.split(".")
    if tokens[-1] == ">":
        tokens.pop()
    if len(subject) > 255 or not all(_SOURCE_SUBJECT.fullmatch(token) for token in tokens):
        raise ConnectorError(
            f"connector {name}: topic {subject[:80]!r} is no subject: "
            "tokens joined by dots, '*' for one, '>' for the rest"
        )
    return subject


def _text(name: str, value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ConnectorError(f'connector {name}: {what} must be given as text, such as {what}: "doors.>"')
    return value
