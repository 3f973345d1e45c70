"""Reads the lines of one file, whole or as it grows, and knows how far it has come.

The position is the byte after the last line that was given away, noted *before* the line is handled and
without a pause between: whenever a checkpoint may be taken, the state has seen exactly the lines before the
position. A line that has no end yet is not one: it is read again when it has (read whole, the
last one needs none).

While it is followed, a file that became shorter, or another file of that name, is read from its beginning;
of the old one everything is read first. A file that is not there, or cannot be read, is waited for.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Final

from worker.payload import MAX_BYTES

PIECE: Final = 256 * 1024
POLL: Final = 0.1
"""Seconds between looks whether the file has grown."""
PAUSES: Final = (0.1, 5.0)
"""Seconds between attempts at a file that cannot be read: the first, and the longest."""
log = logging.getLogger(__name__)
_BREATH: Final = 100
"""Lines after which others have their turn."""


class LineReader:
    """One file.

    Args:
        open_file: gives a descriptor; raises `OSError`, `ValueError`.
        take: takes a line, without its end. One that is too long comes cut, and still too long for an event.
        note: is told the new position.

    Attributes:
        position: bytes that were read; error: why it cannot be read now; restarts: times it began anew.
    """

    def __init__(
        self,
        open_file: Callable[[], int],
        take: Callable[[bytes], Awaitable[None]],
        note: Callable[[int], None],
        *,
        position: int,
        follow: bool,
    ) -> None:
        self._open_file = open_file
        self._take = take
        self._note = note
        self._follow = follow
        self.position = position
        self.error = ""
        self.restarts = 0
        self._stop = asyncio.Event()
        self._count = 0

    def stop(self) -> None:
        """Take no further line."""
        self._stop.set()

    async def run(self) -> None:
        """Read on until the end, or until it is stopped."""
        pause, longest = PAUSES
        while not self._stop.is_set():
            try:
                descriptor = await asyncio.to_thread(self._open_file)
            except (OSError, ValueError) as error:
                self.error = getattr(error, "strerror", None) or str(error)
                await self._rest(pause)
                pause = min(pause * 2, longest)
                continue
            self.error, pause = "", PAUSES[0]
            try:
                if await self._read(descriptor):
                    return
            except OSError as error:
                self.error = error.strerror or str(error)
                await self._rest(pause)
            except Exception:
                self.error = "a line could not be handled: see the worker's log"
                log.exception("the reader of a file ended at byte %d", self.position)
                return
            finally:
                os.close(descriptor)

    async def _read(self, descriptor: int) -> bool:
        """Read one file; whether that was all there is to read."""
        rest, at, skipping = b"", self.position, False
        while not self._stop.is_set():
            size = os.fstat(descriptor).st_size
            if size < self.position:
                self._begin_anew()
                rest, at, skipping = b"", 0, False
            data = await asyncio.to_thread(os.pread, descriptor, PIECE, at)
            if not data:
                if not self._follow:
                    if rest and not skipping:
                        await self._give(rest, at)
                    return True
                if await asyncio.to_thread(self._is_replaced, descriptor):
                    self._begin_anew()
                    return False
                await self._rest(POLL)
                continue
            end = at - len(rest)
            at += len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                end += len(line) + 1
                if skipping:
                    skipping = False
                    self._note_position(end)
                else:
                    await self._give(line, end)
                if self._stop.is_set():
                    return False
            if skipping or len(rest) > MAX_BYTES:
                if not skipping:
                    await self._give(rest[: MAX_BYTES + 1], self.position)
                rest, skipping = b"", True
        return False

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _give(self, line: bytes, position: int) -> None:
        self._note_position(position)
        if line.strip():
            await self._take(line)
        self._count += 1
        if self._count % _BREATH == 0:
            await asyncio.sleep(0)

    def _note_position(self, position: int) -> None:
        self.position = position
        self._note(position)

    def _begin_anew(self) -> None:
        self.restarts += 1
        self._note_position(0)

    def _is_replaced(self, descriptor: int) -> bool:
        try:
            other = self._open_file()
        except (OSError, ValueError):
            return False  # moved away; what is still appended to it comes
        try:
            return not os.path.sameopenfile(descriptor, other)
        finally:
            os.close(other)
