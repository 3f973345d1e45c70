"""Where an event loop stood still, for how long, and on what.

A pulse comes round every `EVERY_SECONDS`. Where the next one is late by more than `LATE_SECONDS` the loop
stood still, and the time since the last one is split up:

- `cpu`: this thread worked;
- `collecting`: the garbage collector did, in this thread or while it held the interpreter in another;
- `queued`: it could have run, and another thread or process had the processor (the machine is busy);
- `disk`: it waited in a verb of the disk, a sync above all;
- what is left it waited for the interpreter (another thread of this process had it), or for the machine.
"""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from raft.disk import Disk

EVERY_SECONDS: Final = 0.002
LATE_SECONDS: Final = 0.008


class Standstill(msgspec.Struct, frozen=True):
    """One of them; `at` is when it began, on the machine's monotonic clock. All in seconds."""

    at: float
    wall: float
    cpu: float
    queued: float
    disk: float
    collecting: float

    @property
    def own(self) -> float:
        """What it would have been with a processor to spare."""
        return self.wall - self.queued

    def told(self) -> dict[str, float]:
        """In milliseconds, for people."""
        parts = {name: getattr(self, name) for name in ("wall", "cpu", "collecting", "queued", "disk")}
        return {f"{name}_ms": round(seconds * 1e3, 1) for name, seconds in parts.items()}


class WatchedDisk(Disk):
    """Adds up the time that one thread, the loop's, waits for the disk."""

    def __init__(self) -> None:
        self.waited = 0.0
        self._thread = threading.get_ident()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            if threading.get_ident() == self._thread:
                self.waited += time.perf_counter() - began

    def write(self, descriptor: int, data: bytes) -> None:
        with self._timed():
            super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        with self._timed():
            super().sync(descriptor)

    def sync_directory(self, path: Path) -> None:
        with self._timed():
            super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        with self._timed():
            super().rename(source, target)

    def remove(self, path: Path) -> None:
        with self._timed():
            super().remove(path)


class Pulse:
    """Watches the running loop from `start` on; `standstills` is what it has seen."""

    def __init__(self, disk: WatchedDisk) -> None:
        self._disk = disk
        self._collecting, self._collector_began = 0.0, 0.0
        self._schedstat = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)
        self._last: tuple[float, float, float, float, float] | None = None
        self.standstills: list[Standstill] = []

    def start(self) -> None:
        """Begin to watch; for as long as the loop runs."""
        gc.callbacks.append(self._on_collector)
        self._beat(asyncio.get_running_loop())

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        queued = int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9
        now = (time.monotonic(), time.thread_time(), queued, self._disk.waited, self._collecting)
        if self._last is not None and now[0] - self._last[0] > EVERY_SECONDS + LATE_SECONDS:
            spent = [later - earlier for earlier, later in zip(self._last, now, strict=True)]
            self.standstills.append(Standstill(self._last[0], *spent))
        self._last = now
        loop.call_later(EVERY_SECONDS, self._beat, loop)

    def _on_collector(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._collector_began = time.perf_counter()
        else:
            self._collecting += time.perf_counter() - self._collector_began
