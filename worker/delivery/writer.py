"""Stores outputs in the stream, a batch at a time: all of it or nothing, one in flight.

A *fenced* writer stores a mark with each batch (`worker.delivery.marks`), which expects to follow the last
mark that this writer stored. When the stream refuses it, the last mark says why:

    it is this very batch        an answer was lost: it is stored
    it is a newer epoch's        `Fenced`: another copy has taken over, and nothing of ours was stored
    there is none any more       it has expired: the next one begins anew

A writer that is not fenced stores a batch again where it did not hear that it was: its outputs may be there
twice. Either tries until it is told to stop: what is not stored waits, and so does what comes after it.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final

from transport.errors import NatsTransportError
from transport.jetstream import (
    EXPECTED,
    WRONG_LAST_SEQUENCE,
    JetStream,
    JetStreamRefused,
    Outgoing,
)
from worker.delivery.marks import Closing, Done, Mark, Unreadable, decode, encode

PAUSES: Final = (0.05, 2.0)
"""Seconds between attempts to store a batch: the first, and the longest."""
CLAIMS: Final = 20
"""Attempts to write a claim while the copy before still stores outputs."""

log = logging.getLogger(__name__)


class Fenced(Exception):
    """Another copy of the pipeline, of epoch `seen`, stores its outputs now."""

    def __init__(self, own: int, seen: int) -> None:
        super().__init__(f"epoch {seen} stores its outputs now, this is a copy of epoch {own}")
        self.own, self.seen = own, seen


class Writer:
    """Stores the outputs of one copy.

    Args:
        subject: of the marks; None: it is not fenced.
        copy, epoch: as whom it writes.

    Attributes:
        sequence: of the last mark of this pipeline that we know.
        batches, outputs: that were stored; `repeated`: batches that were sent again.
        error: why the last attempt failed; empty when it did not.
    """

    def __init__(self, jetstream: JetStream, stream: str, subject: str | None, copy: str, epoch: int) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._subject = subject
        self._copy = copy
        self._epoch = epoch
        self._number = 0
        self.sequence = 0
        self.batches = 0
        self.outputs = 0
        self.repeated = 0
        self.error = ""

    @property
    def fenced(self) -> bool:
        """It notes what it stores, and no other copy can."""
        return self._subject is not None

    async def claim(self) -> Done | None:
        """Take over from whoever stored outputs before; up to which they are. None: nobody did.

        Raises:
            Fenced: a newer copy has done so already.
            JetStreamRefused, NatsTransportError: it cannot be known now.
        """
        assert self._subject is not None, "only a fenced writer claims"
        for _ in range(CLAIMS):
            last = await self._last()
            sequence, before = (last[0], last[1]) if last is not None else (0, None)
            if before is not None and before.epoch > self._epoch:
                raise Fenced(self._epoch, before.epoch)
            done = before.done if before is not None else None
            try:
                stored = await self._jetstream.publish(self._mark(done or Done(), [], sequence))
            except JetStreamRefused as error:
                if error.code not in WRONG_LAST_SEQUENCE:
                    raise
                continue
            self.sequence = stored.sequence
            return done
        raise JetStreamRefused(0, "another copy stores outputs faster than this one can claim them")

    async def store(self, outputs: Sequence[Outgoing], done: Done, closings: list[Closing]) -> None:
        """Store a batch; returns when it is there.

        Raises:
            Fenced: it is not, and will not be.
        """
        self._number += 1
        first, longest = PAUSES
        failures = 0
        while True:
            try:
                if await self._try(outputs, done, closings):
                    break
            except (JetStreamRefused, NatsTransportError, Unreadable) as error:
                if not self.error:
                    log.warning("copy=%s its outputs wait: %s", self._copy, error)
                self.error = str(error)
                self.repeated += 1
            pause = min(first * 2 ** min(failures, 16), longest)
            failures += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        self.error = ""
        self.batches += 1
        self.outputs += len(outputs)

    async def _try(self, outputs: Sequence[Outgoing], done: Done, closings: list[Closing]) -> bool:
        if self._subject is None:
            await self._jetstream.publish_together(outputs)
            return True
        if self.error and await self._is_stored():
            return True
        mark = self._mark(done, closings, self.sequence)
        try:
            stored = await self._jetstream.publish_together([mark, *outputs])
        except JetStreamRefused as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                raise
            return await self._is_stored()
        self.sequence = stored.sequence - len(outputs)
        return True

    async def _is_stored(self) -> bool:
        """Whether the batch of the present number is there; when not, what the next mark has to expect is
        known afterwards. Raises as `store`, and what requests raise."""
        last = await self._last()
        if last is None:
            self.sequence = 0
            return False
        self.sequence, mark = last
        if mark.copy == self._copy:
            return mark.number == self._number
        if mark.epoch >= self._epoch:
            raise Fenced(self._epoch, mark.epoch)
        return False

    async def _last(self) -> tuple[int, Mark] | None:
        assert self._subject is not None
        found = await self._jetstream.last(self._stream, self._subject)
        return (found[1], decode(found[0])) if found is not None else None

    def _mark(self, done: Done, closings: list[Closing], expected: int) -> Outgoing:
        assert self._subject is not None
        mark = Mark(self._copy, self._epoch, self._number, done, closings)
        return Outgoing(self._subject, encode(mark), {EXPECTED: str(expected)})
