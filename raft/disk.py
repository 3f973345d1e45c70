"""The disk, in a few verbs, so that a test can lose power between any two of them.

Durability rules kept here and relied on above: bytes written are durable after `sync` of their file; a name
is durable after `sync_directory`; `replace` makes a whole file appear under its name at once, or not at all.
"""

import os
from pathlib import Path


class Disk:
    """The real disk. Every verb raises OSError when the disk is full or fails."""

    def open_append(self, path: Path) -> int:
        """A descriptor that appends to an existing file."""
        return os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, descriptor: int, data: bytes) -> None:
        """Append all of `data`."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def close(self, descriptor: int) -> None:
        """Let a descriptor go."""
        os.close(descriptor)

    def sync(self, descriptor: int) -> None:
        """Return once everything written to the file is on the platter."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Return once all names in the directory are on the platter."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Make `data` the durable content of `path`: temporary file, sync, rename, sync of the directory."""
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        self.sync_directory(path.parent)

    def remove(self, path: Path) -> None:
        """Forget a file; gone for good after the next `sync_directory`."""
        path.unlink(missing_ok=True)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes, durably."""
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
