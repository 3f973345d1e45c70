"""Waiting until a cluster is ready: NATS greets, coordinators have caught up, one leads, workers are
members.

Bounded by a deadline, and ended at once by the death of any process that this start began: its last words
are the error, because that is where the cause stands.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx
import msgspec

from cli.errors import CliError
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

    def wait_for_nats(self, nats: Process, children: Children) -> None:
        """Return once the server greets clients; raises `CliError` as `wait_for_cluster` does."""
        self._wait(lambda: [] if _greets(nats.port) else ["nats"], children)

    def wait_for_cluster(self, processes: list[Process], children: Children) -> None:
        """Return once every coordinator and worker is ready and a leader lists all workers.

        Raises:
            CliError: a process ended, or the deadline passed; names who, its last words, and the log.
        """
        with httpx.Client(timeout=_PROBE_TIMEOUT, trust_env=False) as http:
            self._wait(lambda: _not_ready(http, processes), children)

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


def _not_ready(http: httpx.Client, processes: list[Process]) -> list[str]:
    members = [process for process in processes if process.role in ("coordinator", "worker")]
    waiting = [process.id for process in members if not _says_ready(http, process)]
    if waiting:
        return waiting
    coordinators = [process for process in members if process.role == "coordinator"]
    listed = _ready_workers(http, coordinators[0])
    if listed is None:
        return ["a leader"]
    return [process.id for process in members if process.role == "worker" and process.id not in listed]


def _says_ready(http: httpx.Client, process: Process) -> bool:
    try:
        return http.get(f"{process.url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def _ready_workers(http: httpx.Client, coordinator: Process) -> set[str] | None:
    try:
        answer = http.get(f"{coordinator.url}{API_BASE}/workers", params={"limit": 1000})
        if answer.status_code != 200:
            return None
        workers = msgspec.json.decode(answer.content, type=WorkerList).workers
    except (httpx.HTTPError, msgspec.MsgspecError):
        return None
    return {worker.id for worker in workers if worker.status == "ready"}
