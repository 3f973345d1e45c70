"""A server process of a benchmark: started, killed, frozen, started again; gone when the benchmark is.

On Linux the kernel kills it when the benchmark dies, however that dies. What it prints goes to a file, whose
end belongs to the text of any error about it.
"""

import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.nats_server import die_with_parent

STOP_SECONDS: Final = 5.0


class Process:
    """One command line; `with` starts it and ends it."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._command, self._log = command, log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        if self._process is None:
            raise RuntimeError(f"{self._command[0]} is not running: start it first")
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-2000:] if self._log.exists() else ""

    def start(self) -> None:
        """Start it; it may still take a moment until it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),
            )

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=STOP_SECONDS)
            self._process = None

    def stop(self) -> None:
        """SIGTERM; after 5 s by force."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=STOP_SECONDS)
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
