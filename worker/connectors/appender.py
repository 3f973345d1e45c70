"""Appends lines to one file, beside the event loop and in order.

Lines wait in a buffer of `MAX_BUFFER` bytes, and one task writes them in a thread. When the disk is full, or
fails, what was not written stays, and is tried again with growing pauses; meanwhile the buffer fills, and
what finds no room is dropped as `disk_full`, or as `congested` where the disk is merely slow. A write that
was cut off goes on where it stopped, so a full disk leaves no half line once there is room. Only a death
does, and the next one who appends ends that line first, so that it spoils no other.
"""

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Final

from worker.connectors.base import OutputDropped

MAX_BUFFER: Final = 4 * 1024 * 1024
"""Bytes that wait to be written, for each file."""
SYNCS: Final = ("always", "interval", "never")
"""When the disk is made to keep it: after each write, once a second, when the system likes."""
SYNC_SECS: Final = 1.0
PAUSES: Final = (0.05, 2.0)
"""Seconds between attempts: the first, and the longest."""
_PIECE: Final = 1024 * 1024
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

log = logging.getLogger(__name__)


class Appender:
    """One file, open for appending.

    Attributes:
        error: why the last attempt failed; empty when it did not.
        lost: lines that were taken and never written, as it was closed before that.
    """

    def __init__(
        self, descriptor: int, path: str, sync: str, write: Callable[[int, bytes], int] = os.write
    ) -> None:
        self._descriptor = descriptor
        self._path = path
        self._sync = sync
        self._write_to = write
        self._waiting = bytearray()
        self._changed = asyncio.Condition()
        self._more = asyncio.Event()
        self._unsynced = False
        self._synced_at = time.monotonic()
        self._full = False
        self.error = ""
        self.lost = 0
        if os.fstat(descriptor).st_size and not _ends_a_line(descriptor):
            self._waiting += b"\n"
        self._attempt: asyncio.Future[int] | None = None
        self._task = asyncio.create_task(self._keep_writing())

    def put(self, line: bytes) -> None:
        """Take one line, without its end.

        Raises:
            OutputDropped: `disk_full`, `congested`.
        """
        if len(self._waiting) + len(line) + 1 > MAX_BUFFER:
            raise OutputDropped("disk_full" if self._full else "congested", self.error)
        self._waiting += line + b"\n"
        self._more.set()

    async def flush(self, timeout: float) -> bool:
        """Wait until all that was put is in the file, and, unless `sync` is never, on the disk; whether that
        was so within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                self._synced_at = 0.0
                self._more.set()
                await self._changed.wait_for(lambda: not self._waiting and not self._owes_sync)
        except TimeoutError:
            return False
        return True

    async def close(self, timeout: float) -> None:
        """Write what waits, for up to `timeout` seconds; the rest is lost, and counted."""
        await self.flush(timeout)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=timeout)
        if self._attempt is not None:
            await asyncio.wait({self._attempt}, timeout=timeout)
            if self._attempt.done():
                del self._waiting[: self._attempt.result()]
        self.lost += self._waiting.count(b"\n")
        if self.lost:
            log.error(
                "file=%s %d lines were not written: %s", self._path, self.lost, self.error or "too slow"
            )
        self._waiting.clear()
        if self._attempt is None or self._attempt.done():  # else a thread hangs on it, and nobody may get it
            os.close(self._descriptor)

    @property
    def _owes_sync(self) -> bool:
        return self._unsynced and self._sync != "never"

    async def _keep_writing(self) -> None:
        pause, longest = PAUSES
        while True:
            if not self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SYNC_SECS if self._owes_sync else None):
                        await self._more.wait()
            self._more.clear()
            piece = bytes(self._waiting[:_PIECE])
            self._attempt = asyncio.ensure_future(asyncio.to_thread(self._write, piece))
            written = await asyncio.shield(self._attempt)
            self._attempt = None
            del self._waiting[:written]
            async with self._changed:
                self._changed.notify_all()
            if self.error:
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)
            else:
                pause = PAUSES[0]

    def _write(self, data: bytes) -> int:
        """Write what can be written, sync where that is due; how much was written. In a thread."""
        written = 0
        try:
            while written < len(data):
                written += self._write_to(self._descriptor, data[written:])
                self._unsynced = True
            if self._owes_sync and (self._sync == "always" or self._is_sync_due()):
                os.fdatasync(self._descriptor)
                self._unsynced, self._synced_at = False, time.monotonic()
        except OSError as error:
            self._full = error.errno in _FULL
            remedy = "make room" if self._full else "mend the disk"
            if not self.error:
                log.error("file=%s cannot be written: %s; trying on", self._path, error.strerror)
            self.error = f"{self._path}: {error.strerror}: {remedy}; what waits is tried again"
            return written
        self.error, self._full = "", False
        return written

    def _is_sync_due(self) -> bool:
        return time.monotonic() - self._synced_at >= SYNC_SECS


def _ends_a_line(descriptor: int) -> bool:
    return os.pread(descriptor, 1, os.fstat(descriptor).st_size - 1) == b"\n"
