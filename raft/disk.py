"""The disk, in a few verbs, so that a test can lose power between any two of them.

Durability rules kept here and relied on above: bytes written are durable after `sync` of their file; a name
is durable after `sync_directory`; `replace` makes a whole file appear under its name at once, or not at all.
A sync that failed is not tried again on the same file: the system may have dropped what it could not write.
"""

import os
from contextlib import suppress
from pathlib import Path


class Disk:
    """The real disk. Every verb raises OSError when the disk is full or fails."""

    def open_append(self, path: Path) -> int:
        """A descriptor that appends to an existing file."""
        return os.open(path, os.O_WRONLY | os.O_APPEND)

    def create(self, path: Path) -> int:
        """A descriptor that appends to a new file; one of that name is removed first, so that whoever still
        writes to it writes to nobody's file.
        """
        path.unlink(missing_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

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
        descriptor = self.create(temporary)
        try:
            self.write(descriptor, data)
            self.sync(descriptor)
        except OSError:
            with suppress(OSError):  # on a full disk, its room is needed
                self.remove(temporary)
            raise
        finally:
            self.close(descriptor)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source`, which is synced, the name `target`; durable after the next `sync_directory`."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Forget a file; gone for good after the next `sync_directory`."""
        path.unlink(missing_ok=True)

    def make_directory(self, path: Path) -> None:
        """Make sure that the directory is there, durably, with all above it that was missing.

        One that is there already may be the work of a process that was killed before its sync; so all names
        up to the root of the file system are synced, as far as this user may.
        """
        path = path.absolute()
        path.mkdir(parents=True, exist_ok=True)
        device = path.stat().st_dev
        for parent in path.parents:
            if parent.stat().st_dev != device:
                break
            with suppress(PermissionError):  # then this user cannot have made a name in it either
                self.sync_directory(parent)
