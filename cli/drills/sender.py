"""Sends numbered events, each once and in order, whatever happens to the server: a batch is stored only after
the one before it, and one of which nothing was heard is looked for before it is sent again."""

import asyncio
import time
from typing import Final

from cli.drills import proof
from transport.errors import NatsTransportError
from transport.jetstream import EXPECTED, WRONG_LAST_SEQUENCE, JetStream, JetStreamRefused, Outgoing

BATCH: Final = 50
_PAUSE: Final = 0.1


class Sender:
    """Attributes:
    sent: how many events are stored.
    repeated: batches of which nothing was heard.
    """

    def __init__(self, jetstream: JetStream, stream: str, subject: str) -> None:
        self._jetstream, self._stream, self._subject = jetstream, stream, subject
        self._last = 0
        self.sent = 0
        self.repeated = 0

    async def send(self, count: int, seconds: float) -> None:
        """Send the first `count` events, evenly over `seconds`, or more slowly where there are faults."""
        began = time.monotonic()
        while self.sent < count:
            await asyncio.sleep(began + seconds * self.sent / count - time.monotonic())
            numbers = range(self.sent, min(self.sent + BATCH, count))
            while not await self._store(numbers):
                self.repeated += 1
                await asyncio.sleep(_PAUSE)
            self.sent = numbers.stop

    async def _store(self, numbers: range) -> bool:
        first, *others = (Outgoing(self._subject, proof.encoded(number)) for number in numbers)
        expecting = first._replace(headers={EXPECTED: str(self._last)})
        try:
            self._last = (await self._jetstream.publish_together([expecting, *others])).sequence
            return True
        except JetStreamRefused as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                return False
            return await self._is_stored(numbers[-1])
        except NatsTransportError:
            return False

    async def _is_stored(self, number: int) -> bool:
        try:
            found = await self._jetstream.last(self._stream, self._subject)
        except (JetStreamRefused, NatsTransportError):
            return False
        if found is None or found[0] != proof.encoded(number):
            return False
        self._last = found[1]
        return True
