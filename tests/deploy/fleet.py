"""Processes under names, each with a log of its own; whatever the test did, none outlives it."""

import ctypes
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.support.cluster import environment
from tests.support.nats_server import die_with_parent

_END = 10.0
"""Seconds that a process has after SIGTERM."""


_LIBC: Final = ctypes.CDLL(None)
_DIE_WITH_PARENT: Final = die_with_parent()
_NO_NEW_PRIVS: Final = 38
_MEMORY_DENY_WRITE_EXECUTE: Final = 65


def _hardened() -> None:
    if _DIE_WITH_PARENT is not None:
        _DIE_WITH_PARENT()
        _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
        _LIBC.prctl(_MEMORY_DENY_WRITE_EXECUTE, 1, 0, 0, 0)


class Fleet:
    """Logs go to `directory`.

    Args:
        hardened: no process may gain privileges, or make memory executable that it can write: what systemd
            calls `NoNewPrivileges` and `MemoryDenyWriteExecute`, where the kernel has the latter (Linux 6.3).
    """

    def __init__(self, directory: Path, *, hardened: bool = False) -> None:
        self.directory = directory
        self._in_child = _hardened if hardened else die_with_parent()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, command: Sequence[str | Path], env: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        """Start a process in an environment that has nothing else of ours."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                command,
                cwd=cwd or self.directory,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self._in_child,
            )

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def runs(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        process = self._running.pop(name)
        process.kill()
        process.wait(_END)

    def end(self, name: str, within: float = _END) -> int:
        """SIGTERM; its exit code."""
        process = self._running.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(within)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END)
            raise AssertionError(f"{name} did not end:\n{self.log(name)}") from None

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        """The end of each log, for the text of a failed assertion."""
        names = sorted(path.stem for path in self.directory.glob("*.log"))
        return "\n".join(f"== {name}\n{self.log(name)[-1500:]}" for name in names)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait(_END)
