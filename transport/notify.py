"""Tell the service manager that started this process how it stands: sd_notify(3) on one datagram socket.

Theory. systemd names the socket in `NOTIFY_SOCKET` to a service of `Type=notify`; whoever is started
otherwise has none, and then nothing here does anything. What is told is told from the event loop itself, so
that one that hangs tells nothing:

- while the process is not ready, `EXTEND_TIMEOUT_USEC`: a coordinator may wait for a majority as long as it
  takes, while one that hangs at its start is ended after `TimeoutStartSec`;
- `READY=1` once, when what `/readyz` says holds for the first time;
- `WATCHDOG=1`, three times within each `WatchdogSec`: without it the manager ends the process and starts
  another;
- `STATUS=` whenever it changes, for `systemctl status`;
- `STOPPING=1` when a stop begins.

A datagram is sent or is lost, and never waited for: a manager that does not read costs us nothing. What was
lost is told again, readiness above all.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

LOOK_EVERY: Final = 0.1
"""Seconds between looks until the process is ready."""
TELL_EVERY: Final = 5.0
"""Seconds between looks afterwards, and between two signs of life, where no watchdog asks for more."""
EXTENSION: Final = 30.0
"""Seconds by which a start that still turns puts off its end."""

Standing = Callable[[], tuple[bool, str]]
"""Whether a process is ready, and how it stands, in a line for people."""

log = logging.getLogger(__name__)


class ServiceManager:
    """The service manager of this process, or nobody.

    Args:
        environ: where its socket and the time of its watchdog are named; ours when left out.

    Attributes:
        watchdog: seconds after which it ends a process that told nothing; 0: it does not.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog = _watchdog(environ)
        self._every = min(self.watchdog / 3, TELL_EVERY) if self.watchdog else TELL_EVERY
        self._due = 0.0
        self._ready = self._stops = False
        self._status = ""

    @property
    def listens(self) -> bool:
        """Somebody is there to be told."""
        return self._address is not None

    def tell(self, *lines: str) -> bool:
        """Send `NAME=value` lines; False: they could not be sent at once, and are lost."""
        if self._address is None:
            return False
        text = "\n".join(" ".join(line.splitlines()) for line in lines)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto(text.encode(), self._address)
            except OSError as error:
                log.debug("the service manager was not told %s: %s", lines[0], error)
                return False
        return True

    def stopping(self) -> None:
        """A stop begins; how the process stands is of no interest any more."""
        self._stops = True
        self.tell("STOPPING=1", "STATUS=stops")

    def look(self, standing: Standing, now: float) -> None:
        """Tell what there is to tell at `now`, in seconds; what was lost is told again by the next look."""
        ready, status = standing()
        alive = now >= self._due
        lines = ["WATCHDOG=1"] if alive and self.watchdog else []
        if not self._stops:
            if ready and not self._ready:
                lines.append("READY=1")
            elif not ready and not self._ready and alive:
                lines.append(f"EXTEND_TIMEOUT_USEC={int(EXTENSION * 1e6)}")
            if status != self._status:
                lines.append(f"STATUS={status}")
        if lines and self.tell(*lines):
            self._ready, self._status = self._ready or ready, status
            self._due = now + self._every if alive else self._due

    async def attend(self, standing: Standing) -> None:
        """Go on telling how the process stands, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            self.look(standing, clock())
            await asyncio.sleep(self._every if self._ready else min(LOOK_EVERY, self._every))


@contextlib.asynccontextmanager
async def attended(standing: Standing) -> AsyncIterator[ServiceManager]:
    """The service manager, told meanwhile how the process stands; where there is none nothing runs."""
    manager = ServiceManager()
    task = asyncio.create_task(manager.attend(standing), name="service manager") if manager.listens else None
    try:
        yield manager
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait({task})


def _address(named: str) -> str | None:
    """Of a file, or after `@` in the abstract namespace; systemd names no other."""
    if named.startswith("@"):
        return "\0" + named[1:]
    return named if named.startswith("/") else None


def _watchdog(environ: Mapping[str, str]) -> float:
    micros, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    meant = not pid or pid == str(os.getpid())
    return int(micros) / 1e6 if meant and micros.isdecimal() else 0.0
