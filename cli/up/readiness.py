"""Waiting until a cluster is ready: NATS greets, coordinators have caught up, one leads, workers are
members.

Bounded by a deadline, and ended at once by the death of any process that this start began: its last words
are the error, because that is where the cause stands.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from cli.errors import CliError
from cli.http import Connections, NoAnswer, NotListening
from cli.up.processes import last_line
from cli.up.record import Process
from proto_schemas.rest import API_BASE, WorkerList

Progress = Callable[[str], None]
Children = Mapping[str, "subprocess.Popen[bytes]"]
_INTERVAL: Final = 0.05
_PROBE_TIMEOUT: Final = 1.0


class Readiness:
    """Asks the processes of one cluster how they are.

    Args:
        logs: the directory of their logs.
        deadline: `time.monotonic()` at which patience ends.
        progress: told what is being waited for, whenever that changes.
    """

    def __init__(self, logs: Path, deadline: float, progress: Progress) -> None:
        self._logs = logs
        self._deadline = deadline
        self._progress = progress

    def wait_for_nats(self, port: int, children: Children) -> None:
        """Return once the server greets clients; raises `CliError` as `wait_for_members` does."""
        self._wait(lambda: [] if _greets(port) else ["nats"], children)

    def wait_for_members(self, processes: list[Process], children: Children) -> None:
        """Return once each coordinator and worker among these is ready and a leader lists these workers.

        Raises:
            CliError: a process ended, or the deadline passed; names who, its last words, and the log.
        """
        with closing(Connections()) as connections:
            self._wait(lambda: _not_ready(connections, processes), children)

    def _wait(self, pending: Callable[[], list[str]], children: Children) -> None:
        told: list[str] = []
        while waiting_for := pending():
            self.check_alive(children)
            if waiting_for != told:
                self._progress(f"waiting for {', '.join(waiting_for)}")
                told = waiting_for
            if time.monotonic() > self._deadline:
                raise CliError(self._too_late(waiting_for))
            time.sleep(_INTERVAL)
        self.check_alive(children)

    def check_alive(self, children: Children) -> None:
        """Raise `CliError`, with its last words, when one of the children ended."""
        for process_id, child in children.items():
            if child.poll() is not None:
                log = self._logs / f"{process_id}.log"
                said = last_line(log) or "it said nothing"
                raise CliError(f"{process_id} {ending(child.returncode)} during startup: {said} (log: {log})")

    def _too_late(self, waiting_for: list[str]) -> str:
        logs = {name: self._logs / f"{name}.log" for name in waiting_for}
        said = "; ".join(
            f"{name} last said: {last_line(log)}" for name, log in logs.items() if last_line(log)
        )
        return (
            f"not ready in time: {', '.join(waiting_for)}. {said or 'nothing in their logs'}. "
            f"See {self._logs}, or allow more with --ready-timeout"
        )


def ending(returncode: int | None) -> str:
    """How a process ended, in words."""
    if returncode is None:
        return "ended"
    return f"ended (signal {-returncode})" if returncode < 0 else f"ended (exit {returncode})"


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_PROBE_TIMEOUT) as probe:
            return probe.recv(4) == b"INFO"
    except OSError:
        return False


def _not_ready(connections: Connections, processes: list[Process]) -> list[str]:
    members = [process for process in processes if process.role in ("coordinator", "worker")]
    waiting = [process.id for process in members if _get(connections, process, "/readyz") is None]
    if waiting:
        return waiting
    coordinators = [process for process in members if process.role == "coordinator"]
    listed = _get(connections, coordinators[0], f"{API_BASE}/workers?limit=1000") if coordinators else None
    if listed is None:
        return ["a leader"]
    workers = msgspec.json.decode(listed, type=WorkerList).workers
    ready = {worker.id for worker in workers if worker.status == "ready"}
    return [process.id for process in members if process.role == "worker" and process.id not in ready]


def _get(connections: Connections, process: Process, path: str) -> bytes | None:
    """What the process answers, when it answers with 200."""
    try:
        answer = connections("GET", f"{process.url}{path}", timeout=_PROBE_TIMEOUT)
    except (NotListening, NoAnswer):
        return None
    return answer.body if answer.status == 200 else None
