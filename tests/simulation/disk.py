"""A disk that fails: power is lost between any two verbs or within one, it is full, it is slow.

Real files in a real directory, no real syncs. What the system holds in memory survives the end of a process
and not the loss of power: for each file it is known how much of it is durable, also when the process that
wrote it is long gone. `power_off` cuts each file back to that, plus a random part of the rest. A fuse makes
the n-th verb from now the last one: it happens in part, and `PowerCut` ends the process.

Not played here: names that come back because a directory was not synced. `tests/unit/raft` goes through those
for every prefix of a small log.
"""

import errno
import os
import random
from pathlib import Path

from raft.disk import Disk


class PowerCut(BaseException):
    """The machine is off. No handler in the process may survive it."""


class FlakyDisk(Disk):
    """One machine's disk. Times in virtual seconds."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._open: dict[int, Path] = {}
        self._durable: dict[Path, int] = {}  # of files that were written to; all others are durable
        self.fuse: int | None = None
        """Verbs until the power is cut; None: it is not."""
        self.off = False
        self.full = False
        """Whether writes find no room."""
        self.slowest_sync = 0.0
        """A sync takes up to this long."""
        self._spent = 0.0

    # -- the machine -------------------------------------------

    def power_on(self) -> None:
        """A new process uses the disk."""
        self.off, self.fuse = False, None

    def power_off(self) -> None:
        """Lose what is not durable."""
        self.end_process()
        self.off = True
        for path, durable in self._durable.items():
            if path.exists() and path.stat().st_size > durable:
                os.truncate(path, self._rng.randint(durable, path.stat().st_size))
        self._durable.clear()

    def end_process(self) -> None:
        """The process is gone, its files stay as they are."""
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()

    @property
    def spent(self) -> float:
        """The time that syncs took since the last `take_spent`."""
        return self._spent

    def take_spent(self) -> float:
        """The time that syncs took since the last call."""
        spent, self._spent = self._spent, 0.0
        return spent

    def _burn(self) -> None:
        if self.off:
            raise PowerCut
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.off = True
                raise PowerCut

    # -- the verbs ---------------------------------------------

    def open_append(self, path: Path) -> int:
        self._burn()
        descriptor = super().open_append(path)
        self._open[descriptor] = path
        self._durable.setdefault(path, path.stat().st_size)
        return descriptor

    def create(self, path: Path) -> int:
        self._burn()
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        descriptor = super().create(path)
        self._open[descriptor] = path
        self._durable[path] = 0
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        some = data[: self._rng.randint(0, len(data))] if self.fuse is not None or self.full else b""
        try:
            self._burn()
        except PowerCut:
            super().write(descriptor, some)
            raise
        if self.full:
            super().write(descriptor, some)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._burn()
        path = self._open[descriptor]
        self._durable[path] = path.stat().st_size
        if self.slowest_sync:
            self._spent += self._rng.uniform(0, self.slowest_sync)

    def close(self, descriptor: int) -> None:
        if self._open.pop(descriptor, None) is not None:
            super().close(descriptor)

    def sync_directory(self, path: Path) -> None:
        self._burn()

    def replace(self, path: Path, data: bytes) -> None:
        try:
            self._burn()
        except PowerCut:
            if self._rng.random() < 0.5:
                self._put(path, data)
            raise
        if self.full:
            path.with_name(path.name + ".tmp").write_bytes(data[: self._rng.randint(0, len(data))])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._put(path, data)

    def _put(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)
        self._durable.pop(path, None)

    def rename(self, source: Path, target: Path) -> None:
        try:
            self._burn()
        except PowerCut:
            if self._rng.random() < 0.5:
                self._move(source, target)
            raise
        self._move(source, target)

    def _move(self, source: Path, target: Path) -> None:
        """A file, or a directory with all that is in it."""
        super().rename(source, target)
        self._durable.pop(target, None)

        def moved(path: Path) -> Path:
            return target / path.relative_to(source) if path.is_relative_to(source) else path

        self._durable = {moved(path): size for path, size in self._durable.items()}
        self._open = {at: moved(path) for at, path in self._open.items()}

    def remove(self, path: Path) -> None:
        self._burn()
        self._durable.pop(path, None)
        super().remove(path)

    def truncate(self, path: Path, size: int) -> None:
        self._burn()
        os.truncate(path, size)
        self._durable[path] = size
