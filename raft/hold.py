"""One process per data directory: an advisory lock that the system gives back when the process dies."""

import fcntl
import os
from pathlib import Path

from raft.disk import Disk
from raft.errors import DirectoryInUse


class DirectoryHold:
    """Holds `directory/lock` from construction until `release`; raises `DirectoryInUse`, OSError."""

    def __init__(self, directory: Path) -> None:
        Disk().make_directory(directory)
        path = directory / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise DirectoryInUse(str(directory), path.read_text().strip() or "unknown") from None
        os.truncate(self._descriptor, 0)
        os.write(self._descriptor, str(os.getpid()).encode())

    def release(self) -> None:
        """Let another process have the directory."""
        os.close(self._descriptor)
