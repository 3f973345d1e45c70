"""A disk that loses power: what was not synced is gone, or torn, and the process dies between any two verbs.

Real files in a real directory, no real syncs. `power_off` cuts each open file back to what was synced plus a
random part of what was not. A fuse makes the n-th verb from now the last one: it happens in part, and
`PowerCut` ends the process.
"""

import os
import random
from pathlib import Path

from raft.disk import Disk


class PowerCut(BaseException):
    """The machine is off. No handler in the process may survive it."""


class FlakyDisk(Disk):
    """One node's disk; `fuse` counts down the verbs until the power is cut."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[int, tuple[Path, int]] = {}  # descriptor -> (path, bytes that are durable)
        self.fuse: int | None = None
        self.off = False

    def power_on(self) -> None:
        """A new process uses the disk."""
        self.off, self.fuse = False, None

    def power_off(self) -> None:
        """Lose what is not durable."""
        self.off = True
        for descriptor, (path, durable) in self._files.items():
            os.close(descriptor)
            if path.exists() and path.stat().st_size > durable:
                os.truncate(path, self._rng.randint(durable, path.stat().st_size))
        self._files.clear()

    def _burn(self) -> None:
        if self.off:
            raise PowerCut
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.off = True
                raise PowerCut

    def open_append(self, path: Path) -> int:
        self._burn()
        descriptor = super().open_append(path)
        self._files[descriptor] = (path, path.stat().st_size)
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        try:
            self._burn()
        except PowerCut:
            if descriptor in self._files:
                super().write(descriptor, data[: self._rng.randint(0, len(data))])
            raise
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._burn()
        path, _ = self._files[descriptor]
        self._files[descriptor] = (path, path.stat().st_size)

    def close(self, descriptor: int) -> None:
        if descriptor in self._files:
            del self._files[descriptor]
            super().close(descriptor)

    def sync_directory(self, path: Path) -> None:
        self._burn()

    def replace(self, path: Path, data: bytes) -> None:
        try:
            self._burn()
        except PowerCut:
            if self._rng.random() < 0.5:
                path.write_bytes(data)
            raise
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        temporary.replace(path)

    def remove(self, path: Path) -> None:
        self._burn()
        super().remove(path)

    def truncate(self, path: Path, size: int) -> None:
        self._burn()
        os.truncate(path, size)
