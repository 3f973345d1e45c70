"""What one copy of a pipeline hears: the subjects of its routes, and the sources of its connectors.

The copies of one line (see `Deploy.queue`) subscribe in one queue group, so that while one takes over from
the other each event goes to exactly one of them. Without a line every copy hears everything.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from transport.listener import Listener
from transport.nats import Message, NatsTransport, Subscription
from transport.subscription import Handler
from vpl import SourceBinding
from worker.connectors.registry import ConnectorRegistry


class Inputs:
    """Opened, left, opened again. `queue`: the line, empty for none; it counts from the next `open`. Without
    a `bus` there are no subjects."""

    def __init__(
        self,
        bus: NatsTransport | None,
        connectors: ConnectorRegistry,
        sources: Sequence[SourceBinding],
        subjects: Sequence[str],
        queue: str,
    ) -> None:
        self.queue = queue
        self._bus = bus
        self._connectors = connectors
        self._sources = sources
        self._subjects = subjects
        self._subscriptions: list[Subscription] = []
        self._witnesses: list[Listener] = []
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Messages that came faster than they were handled."""
        return self._dropped + sum(each.dropped for each in self._subscriptions) + self._connectors.dropped

    async def open(self, receive: Handler, wait: float) -> None:
        """Have everything brought to `receive`; on return, after up to `wait` seconds, the servers know.

        Raises:
            ConnectorError, NatsTransportError: some may be open; `stop` closes them.
        """
        for source in self._sources:
            await self._connectors.start_source(source, receive, self.queue)
        if self._bus is None:
            return
        for subject in self._subjects:
            self._subscriptions.append(await self._bus.subscribe(subject, receive, queue=self.queue))
        if self._subjects:
            await self._bus.flush(wait)

    async def watch(self, see: Callable[[Message], None], wait: float) -> None:
        """Have everything *seen* beside whoever takes it; raises as `open`."""
        for source in self._sources:
            await self._connectors.watch_source(source, see)
        if self._bus is None:
            return
        for subject in self._subjects:
            self._witnesses.append(await self._bus.listen(subject, see))
        if self._subjects:
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
