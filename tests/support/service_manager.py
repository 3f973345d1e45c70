"""The socket of a service manager, on which processes tell how they stand (sd_notify)."""

import select
import socket
from pathlib import Path
from typing import Self


class Listener:
    """Bound at `path`; `heard()` gives what has come since it was asked last.

    The kernel keeps ten datagrams or so for it; what comes beyond is lost to the sender.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    @property
    def environ(self) -> dict[str, str]:
        """What a service finds in its environment."""
        return {"NOTIFY_SOCKET": str(self.path)}

    def heard(self, wait: float = 0.0) -> list[str]:
        """All lines that have come; with `wait` the first may take so many seconds."""
        lines: list[str] = []
        while select.select([self._socket], [], [], 0 if lines else wait)[0]:
            lines += self._socket.recv(65536).decode().split("\n")
        return lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
