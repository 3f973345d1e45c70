"""What one copy of a pipeline hears: the subjects of its routes, and the sources of its connectors.

The copies of one line (see `Deploy.queue`) subscribe in one queue group, so that while one takes over from
the other each event goes to exactly one of them. Without a line every copy hears everything.

A copy is in one line, but for an instance that shares by key and took over shares of instances that are gone:
it is in their lines too, and is told with each message in whose line that came (`worker.intake`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from transport.errors import NatsTransportError
from transport.listener import Listener
from transport.nats import Message, NatsTransport, Subscription
from transport.subscription import Handler
from vpl import SourceBinding
from worker.connectors.registry import ConnectorRegistry


class Receive(Protocol):
    """Takes a message that came in the line of a share; None: there are no shares."""

    async def __call__(self, message: Message, share: int | None = None) -> None: ...


class Line(NamedTuple):
    """What a copy hears in one queue group; `sources`: also its connectors' sources."""

    queue: str
    subjects: Sequence[str]
    share: int | None = None
    sources: bool = True


class Inputs:
    """Opened, left, opened again. Without a `bus` there are no subjects."""

    def __init__(
        self,
        bus: NatsTransport | None,
        connectors: ConnectorRegistry,
        sources: Sequence[SourceBinding],
        lines: Sequence[Line],
    ) -> None:
        self._bus = bus
        self._connectors = connectors
        self._sources = sources
        self._lines = list(lines)
        self._subscriptions: list[Subscription] = []
        self._witnesses: list[Listener] = []
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Messages that came faster than they were handled."""
        return self._dropped + sum(each.dropped for each in self._subscriptions) + self._connectors.dropped

    @property
    def queue(self) -> str:
        """The queue group of its line; empty when it is in none."""
        return self._lines[0].queue if self._lines else ""

    @property
    def shares(self) -> frozenset[int]:
        """The shares whose events it hears."""
        return frozenset(line.share for line in self._lines if line.share is not None and line.sources)

    def change_lines(self, queue: str | None, others: Mapping[str, str]) -> bool:
        """From the next `open` on be in these lines: `queue` instead of the first one, and by share `others`;
        whether that is a change."""
        before, self._lines = self._lines, list(self._changed(queue, others))
        return before != self._lines

    def _changed(self, queue: str | None, others: Mapping[str, str]) -> Iterator[Line]:
        for number, line in enumerate(self._lines):
            given = queue if number == 0 else others.get(str(line.share))
            yield line if given is None else line._replace(queue=given)

    async def open(self, receive: Receive, wait: float) -> None:
        """Have everything brought to `receive`; on return, after up to `wait` seconds, the servers know.

        Raises:
            ConnectorError, NatsTransportError: some may be open; `stop` closes them.
        """
        for line in self._lines:
            take: Handler = receive if line.share is None else partial(receive, share=line.share)
            for source in self._sources if line.sources else ():
                await self._connectors.start_source(source, take, line.queue)
            if self._bus is None:
                continue
            for subject in line.subjects:
                self._subscriptions.append(await self._bus.subscribe(subject, take, queue=line.queue))
        if self._subscriptions and self._bus is not None:
            await self._bus.flush(wait)

    async def watch(self, see: Callable[[Message], None], wait: float) -> None:
        """Have everything *seen* beside whoever takes it; raises as `open`."""
        for source in self._sources if any(line.sources for line in self._lines) else ():
            await self._connectors.watch_source(source, see)
        if self._bus is None:
            return
        for subject in dict.fromkeys(subject for line in self._lines for subject in line.subjects):
            self._witnesses.append(await self._bus.listen(subject, see, alone=True))
        if self._witnesses:
            await self._bus.flush(wait)

    async def unwatch(self) -> None:
        """See no more."""
        witnesses, self._witnesses = self._witnesses, []
        for witness in witnesses:
            await witness.unsubscribe()
        await self._connectors.stop_watching()

    async def leave(self, timeout: float) -> None:
        """Take no more and lose nothing: what the servers sent until they heard of it has been received."""
        leaving: list[Coroutine[Any, Any, None]] = [self._connectors.drain_sources(timeout)]
        if self._bus is not None:
            leaving.append(self._bus.leave(self._subscriptions, timeout))
        await asyncio.gather(*leaving)
        self._forget()

    async def catch_up(self, timeout: float) -> None:
        """Wait until what the servers had sent by now has been received; of a server that is gone, what came.

        Raises:
            TimeoutError: it was not in time.
        """
        with contextlib.suppress(NatsTransportError):
            await self.flush(timeout)
        async with asyncio.timeout(timeout):
            await asyncio.gather(
                self._connectors.catch_up(), *(each.catch_up() for each in self._subscriptions)
            )

    async def flush(self, timeout: float) -> None:
        """Wait until the servers have what was put out.

        Raises:
            NatsTransportError: they did not say so in time.
        """
        flushing: list[Coroutine[Any, Any, None]] = [self._connectors.flush(timeout)]
        if self._bus is not None:
            flushing.append(self._bus.flush(timeout))
        await asyncio.gather(*flushing)

    async def stop(self) -> None:
        """Take no more, at once; what is queued is thrown away."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._forget()
        await self._connectors.stop_sources()
        await self.unwatch()

    def _forget(self) -> None:
        self._dropped += sum(each.dropped for each in self._subscriptions)
        self._subscriptions = []
