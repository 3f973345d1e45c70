"""A subscription whose handler runs in the read loop, for what must lose no turn of the loop.

Nothing is dropped here and nothing waits, so the handler must be quick: while it runs nothing else is read.
"""

import logging
from collections.abc import Callable

from nats.aio.subscription import Subscription as NatsSubscription

from transport.client import Client
from transport.subscription import Message

log = logging.getLogger(__name__)


class Listener:
    """Made by `NatsTransport.listen`. `failed`: messages whose handler raised."""

    def __init__(
        self, subject: str, handler: Callable[[Message], None], client: Client, *, queue: str = ""
    ) -> None:
        self.subject, self._handler, self._client, self._queue = subject, handler, client, queue
        self._subscription: NatsSubscription | None = None
        self.failed = 0

    async def begin(self) -> None:
        """Subscribe; raises nats-py's errors."""
        self._subscription = await self._client.attach(self.subject, self._queue, self._handle)

    async def unsubscribe(self) -> None:
        """Stop now. Safe to call twice."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            self._client.forget(subscription)
            await self._client.detach(subscription)

    def _handle(self, message: Message) -> None:
        try:
            self._handler(message)
        except Exception:
            self.failed += 1
            if self.failed & (self.failed - 1) == 0:
                log.exception("the listener of %s raised (%d so far)", self.subject, self.failed)
