"""The numbered events, what comes out of them, and the verdict on it.

`Witness` is pure: it is told of each output and complains of

- an event that comes out of a pipeline twice;
- an output of a copy, put out after a newer copy of the same instance had put out one.

`Load` sends a number into all pipelines every so often and listens. While NATS is away numbers are lost, as
delivery at most once allows; none may be doubled.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from proto_schemas.codec import decode_fields, encode_fields
from tests.chaos.groups import IN, OUT
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport

RATE: Final = 25.0
"""Numbers a second."""
_MOST: Final = 40
"""Complaints that are kept; the first ones tell."""


@dataclass(frozen=True, slots=True)
class Output:
    """One number that came out of a pipeline: of which version, and of which copy."""

    n: int
    version: int
    by: str
    copy: str
    instance: str
    epoch: int
    at: float

    def __str__(self) -> str:
        return f"{self.n} by {self.copy} (epoch {self.epoch}) on {self.by} at {self.at:.3f}"


@dataclass
class Witness:
    """Everything that came out, by group and pipeline, and what is wrong with it."""

    outputs: dict[tuple[str, str], dict[int, Output]] = field(default_factory=lambda: defaultdict(dict))
    complaints: list[str] = field(default_factory=list)
    count: int = 0
    _first: dict[tuple[str, str], dict[int, Output]] = field(default_factory=lambda: defaultdict(dict))
    _last: dict[tuple[str, str], dict[int, Output]] = field(default_factory=lambda: defaultdict(dict))

    def heard(self, group: str, pipeline: str, output: Output) -> None:
        """Note an output."""
        self.count += 1
        known = self.outputs[group, pipeline].setdefault(output.n, output)
        if known is not output:
            self._complain(f"{group}/{pipeline}: {output}, and before {known}: doubled")
        key = (group, output.instance)
        first, last = self._first[key], self._last[key]
        if output.epoch not in first or output.at < first[output.epoch].at:
            first[output.epoch] = output
        if output.epoch not in last or output.at > last[output.epoch].at:
            last[output.epoch] = output

    @property
    def successions(self) -> int:
        """How often a copy put out after an older one of its instance had."""
        return sum(len(first) - 1 for first in self._first.values())

    def two_at_once(self) -> list[str]:
        """Copies that put out after a newer one had; of each pair the last such output."""
        found = []
        for (group, instance), first in self._first.items():
            for epoch, late in self._last[group, instance].items():
                newer = [other for other in first.values() if other.epoch > epoch and other.at < late.at]
                if newer:
                    begun = min(newer, key=lambda other: other.at)
                    by = late.at - begun.at
                    found.append(f"{group}/{instance}: {late}, {by:.3f} s after a newer copy began: {begun}")
        return found

    def _complain(self, text: str) -> None:
        if len(self.complaints) < _MOST:
            self.complaints.append(text)


class Load:
    """Sends and listens, beside whatever else goes on."""

    def __init__(self, nats_url: str) -> None:
        self.witness = Witness()
        self.sent: list[float] = []
        """When each number was."""
        self._url = nats_url

    @property
    def next(self) -> int:
        """The number that is sent next."""
        return len(self.sent)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send and listen until the block ends."""
        config = NatsConfig(servers=(self._url,))
        bus = await NatsTransport.connect(config, wait=5)
        await bus.subscribe(f"{OUT}.*.*", self._on_output)
        await bus.flush()
        sending = asyncio.create_task(self._send(bus))
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await bus.close()

    async def _send(self, bus: NatsTransport) -> None:
        begin, number = time.monotonic(), 0
        while True:
            number += 1
            await asyncio.sleep(max(0.0, begin + number / RATE - time.monotonic()))
            event = {"event_type": "Tick", "fields": {"n": self.next}}
            self.sent.append(time.monotonic())
            with contextlib.suppress(NatsTransportError):
                await bus.publish(IN, encode_fields(event))

    async def _on_output(self, message: Message) -> None:
        _, _, group, pipeline = message.subject.split(".")
        fields: dict[str, Any] = decode_fields(message.data)["fields"]
        output = Output(
            n=fields["n"],
            version=fields["v"],
            by=fields["by"],
            copy=fields["copy"],
            instance=fields["instance"],
            epoch=fields["epoch"],
            at=fields["at"],
        )
        self.witness.heard(group, pipeline, output)
