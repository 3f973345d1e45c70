"""Outputs that leave through connectors (`.to`), at least once: sent until the servers have them.

One that was sent, and of which nobody knows whether it arrived, is sent again with all of its batch. What
will never leave (a topic that is none, a value that JSON does not carry) is dropped and counted, as ever.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from transport.errors import NatsTransportError
from worker.connectors.base import OutputDropped
from worker.pipeline import Output, Pipeline

FLUSH_WAIT: Final = 2.0
"""Seconds in which servers must say that they have them."""
PAUSES: Final = (0.05, 2.0)
"""Seconds between attempts: the first, and the longest."""
_TRANSIENT: Final = frozenset({"disconnected", "congested", "disk_full"})


class Outside:
    """Sends for one copy. `sent_again`: outputs that may have come twice."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self.sent_again = 0

    async def send(self, outputs: Sequence[Output]) -> None:
        """Send them in their order; returns when they are there, however long that takes."""
        pause, longest = PAUSES
        while not await self._are_sent(outputs):
            self.sent_again += len(outputs)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, longest)

    async def _are_sent(self, outputs: Sequence[Output]) -> bool:
        pipeline = self._pipeline
        try:
            for output in outputs:
                try:
                    await pipeline.send(output)
                except OutputDropped as error:
                    if error.reason in _TRANSIENT:
                        return False
                    pipeline.dropped[error.reason] += 1
            await pipeline.connectors.flush(FLUSH_WAIT)
        except NatsTransportError:
            return False
        return True
