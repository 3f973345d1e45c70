"""What a connector is.

A connector is declared in a program (`connector Bus = nats(...)`), made when the program is deployed, and
belongs to that one pipeline. Its client is made at the first use, by a source or a sink. Two kinds of
failure: `ConnectorError` while it is set up refuses the deploy; `OutputDropped` afterwards costs one
output, counted under a reason from a small fixed set. No text of either holds a secret.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import orjson

from proto_schemas.codec import encode_fields
from proto_schemas.messages.membership import ConnectorHealth
from transport.subscription import Handler, Message

DROP_REASONS: Final = (
    "disconnected",
    "congested",
    "too_large",
    "bad_topic",
    "not_encodable",
    "lease_expired",
    "sink_error",
    "disk_full",
    "not_written",
    "poison",
)
"""Why an output did not leave; they become metric labels."""


class ConnectorError(Exception):
    """A connector that cannot be set up; the text says why, and what to do. `retryable`: it may pass."""

    def __init__(self, text: str, *, retryable: bool = False) -> None:
        super().__init__(text)
        self.retryable = retryable


class OutputDropped(Exception):
    """One output that did not leave; `reason` is one of `DROP_REASONS`."""

    def __init__(self, reason: str, text: str = "") -> None:
        super().__init__(text or reason)
        self.reason = reason


class Sink(Protocol):
    """Takes the outputs of one stream."""

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        """Send one output, at most once.

        Raises:
            OutputDropped: it did not leave.
        """
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """What the worker gives its connectors. `files`: the directory whose files programs may name, if any."""

    files: Path | None = None


class Connector(ABC):
    """One declared connector of one pipeline.

    Attributes:
        positions: how far its sources have come, by source, where they can go on from there; part of the
            pipeline's checkpoint, and set from one before a source starts.
        keeps: a state depends on what its sources read, and checkpoints are taken of it: what can be
            acknowledged later is not before one holds it. Set before a source starts.
    """

    type: ClassVar[str]
    resumes: ClassVar[bool] = False
    """Its sources note their `positions`."""

    def __init__(self, name: str, params: Mapping[str, Any], site: Site) -> None:
        self.name = name
        self.params = params
        self.site = site
        self.positions: dict[str, int] = {}
        self.keeps = False
        self.messages_received = 0
        self.last_message = time.monotonic()

    @abstractmethod
    async def start_source(self, params: Mapping[str, Any], receive: Handler, queue: str = "") -> None:
        """Bring messages to `receive`; what the first call subscribed already is not subscribed again.

        Args:
            queue: of the copies that name it one gets each message, unless the program names a group.

        Raises:
            ConnectorError: the parameters are wrong, or there is no connection in bounded time.
        """

    @abstractmethod
    async def watch_source(self, params: Mapping[str, Any], see: Callable[[Message], None]) -> None:
        """Have `see` told of every message, whoever takes it; raises as `start_source`."""

    @abstractmethod
    async def stop_watching(self) -> None:
        """Tell no more."""

    @abstractmethod
    async def create_sink(self, stream: str, params: Mapping[str, Any]) -> Sink:
        """A sink for the outputs of `stream`.

        Raises:
            ConnectorError: as `start_source`.
        """

    @abstractmethod
    async def stop_sources(self) -> None:
        """Stop intake now; what is queued is thrown away."""

    async def drain_sources(self, timeout: float) -> None:
        """Stop intake and lose nothing: what was sent until then is handled, for up to `timeout` seconds."""
        await self.stop_sources()

    def handled(self) -> Mapping[str, int]:
        """By source, how many messages have been handled that are acknowledged only when they are covered."""
        return {}

    async def cover(self, handled: Mapping[str, int]) -> None:
        """A checkpoint holds what so many messages did, of each source."""
        return

    async def settle(self) -> None:
        """What was handled will not be asked for again: its state went on elsewhere, or is not wanted."""
        return

    @property
    def crowded(self) -> bool:
        """So much waits to be covered that a checkpoint is wanted soon."""
        return False

    async def catch_up(self) -> None:
        """Wait until what has arrived by now is handled; at once where nothing is queued."""
        return

    async def flush(self, timeout: float) -> None:
        """Wait until what was put out has left this process; at once where it leaves as it is put out.

        Raises:
            NatsTransportError: not within `timeout` seconds.
        """
        return

    async def close(self, timeout: float) -> None:
        """Stop intake, send what is to be sent, let go; within about `timeout` seconds."""
        await self.stop_sources()

    @property
    @abstractmethod
    def connected(self) -> bool:
        """The truth about the connection now."""

    @property
    def dropped(self) -> int:
        """Messages that came in faster than they were handled, and were thrown away."""
        return 0

    @classmethod
    def is_handed_out(cls, params: Mapping[str, Any]) -> bool:
        """Whether of all who read such a source only one gets each message, whichever key it has."""
        return False

    @property
    def redelivered(self) -> int:
        """Messages that came more than once."""
        return 0

    @property
    def lost(self) -> Counter[str]:
        """Messages and outputs that were taken and given up after all, by reason."""
        return Counter()

    @property
    def last_error(self) -> str | None:
        """What went wrong last, without secrets."""
        return None

    def health(self) -> ConnectorHealth:
        """As heartbeats carry it; without any message, the seconds count from the connector's making."""
        return ConnectorHealth(
            connector_name=self.name,
            connector_type=self.type,
            connected=self.connected,
            last_error=self.last_error,
            messages_received=self.messages_received,
            seconds_since_last_message=int(time.monotonic() - self.last_message),
        )

    def count_message(self) -> None:
        """One message came in."""
        self.messages_received += 1
        self.last_message = time.monotonic()


def known_params(owner: str, params: Mapping[str, Any], *known: str) -> None:
    """Refuse parameters that nobody reads: a misspelt one must not be silently without effect.

    Raises:
        ConnectorError: naming the first unknown one.
    """
    for key in params:
        if key not in known:
            raise ConnectorError(
                f"{owner}: unknown parameter {key!r}: known are {', '.join(known) or 'none'}"
            )


def encode_output(event_type: str, fields: dict[str, Any], ts: int) -> bytes:
    """The wire's form of an event.

    Raises:
        OutputDropped: a value that JSON cannot carry (a lone surrogate, say).
    """
    return _encode({"event_type": event_type, "timestamp": ts, "fields": fields})


def encode_flat(event_type: str, fields: dict[str, Any], ts: int) -> bytes:
    """The flat form: the event's fields beside its type and time, which win over fields of those names."""
    return _encode(
        {"event_type": event_type, "timestamp": ts} | fields | {"event_type": event_type, "timestamp": ts}
    )


Encode = Callable[[str, dict[str, Any], int], bytes]
FORMATS: Final[Mapping[str, Encode]] = {"nested": encode_output, "flat": encode_flat}


def output_format(name: str, params: Mapping[str, Any]) -> Encode:
    """What `format` of a sink asks for; raises `ConnectorError` for an unknown one."""
    form = params.get("format", "nested")
    if form not in FORMATS:
        raise ConnectorError(
            f"connector {name}: format {form!r} is unknown: use {' or '.join(sorted(FORMATS))}"
        )
    return FORMATS[form]


def _encode(message: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(message)
    except TypeError:  # integers beyond 64 bits, which the general encoder keeps whole
        try:
            return encode_fields(message)
        except (TypeError, ValueError, RecursionError) as error:
            raise OutputDropped("not_encodable", str(error)) from None
