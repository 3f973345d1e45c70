"""Waiting until a cluster is ready: NATS greets, coordinators have caught up, one leads, workers are
members.

Bounded by a deadline, and ended at once by the death of a process that this start began: its last words are
the error, because that is where the cause stands. A coordinator that dies is only `lost` as long as a
majority of them may still come up: the cluster works without it, so it must not cost the others.
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
from proto_schemas.rest.base import API_BASE
from proto_schemas.rest.workers import WorkerList

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
        coordinators: how many coordinators the cluster has, running or not.
        key: API key to ask them with, where they want one.

    Attributes:
        lost: coordinators that died during this start, and how.
    """

    def __init__(
        self, logs: Path, deadline: float, progress: Progress, coordinators: int, key: str = ""
    ) -> None:
        self._logs = logs
        self._deadline = deadline
        self._progress = progress
        self._coordinators = coordinators
        self._key = key
        self.lost: dict[str, str] = {}

    def wait_for_nats(self, port: int, children: Children) -> None:
        """Return once the server greets clients; raises `CliError` as `wait_for_members` does."""
        self._wait(lambda: [] if _greets(port) else ["nats"], children)

    def wait_for_members(self, processes: list[Process], children: Children) -> None:
        """Return once each coordinator and worker among these is ready and a leader lists these workers; a
        coordinator that is lost is not waited for.

        Raises:
            CliError: a process ended that is needed, or the deadline passed; names who, its last words, and
                the log.
        """

        def pending() -> list[str]:
            return _not_ready(connections, self._key, [one for one in processes if one.id not in self.lost])

        with closing(Connections()) as connections:
            self._wait(pending, children)

    def _wait(self, pending: Callable[[], list[str]], children: Children) -> None:
        told: list[str] = []
        while True:
            waiting_for, lost = pending(), len(self.lost)
            self.check_alive(children)
            if not waiting_for and lost == len(self.lost):
                return
            if waiting_for and waiting_for != told:
                self._progress(f"waiting for {', '.join(waiting_for)}")
                told = waiting_for
            if time.monotonic() > self._deadline:
                raise CliError(self._too_late(waiting_for))
            time.sleep(_INTERVAL)

    def check_alive(self, children: Children) -> None:
        """Note a coordinator that ended as lost; raise `CliError`, with its last words, when another child
        ended, or when no majority of the coordinators is left.
        """
        for process_id, child in children.items():
            if process_id in self.lost or child.poll() is None:
                continue
            log = self._logs / f"{process_id}.log"
            said = last_line(log) or "it said nothing"
            how = f"{process_id} {ending(child.returncode)} during startup: {said} (log: {log})"
            if not process_id.startswith("coordinator-") or 2 * (len(self.lost) + 1) >= self._coordinators:
                raise CliError("; ".join([*self.lost.values(), how]))
            self.lost[process_id] = how

    def _too_late(self, waiting_for: list[str]) -> str:
        logs = {name: self._logs / f"{name}.log" for name in waiting_for}
        words = [f"{name} last said: {last_line(log)}" for name, log in logs.items() if last_line(log)]
        said = "; ".join([*self.lost.values(), *words])
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


def _not_ready(connections: Connections, key: str, processes: list[Process]) -> list[str]:
    members = [process for process in processes if process.role in ("coordinator", "worker")]
    waiting = [process.id for process in members if _get(connections, key, process, "/readyz") is None]
    if waiting:
        return waiting
    coordinators = [process for process in members if process.role == "coordinator"]
    listed = (
        _get(connections, key, coordinators[0], f"{API_BASE}/workers?limit=1000") if coordinators else None
    )
    if listed is None:
        return ["a leader"]
    workers = msgspec.json.decode(listed, type=WorkerList).workers
    ready = {worker.id for worker in workers if worker.status == "ready"}
    return [process.id for process in members if process.role == "worker" and process.id not in ready]


def _get(connections: Connections, key: str, process: Process, path: str) -> bytes | None:
    """What the process answers, when it answers with 200."""
    try:
        headers = {"x-api-key": key} if key else {}
        answer = connections("GET", f"{process.url}{path}", headers=headers, timeout=_PROBE_TIMEOUT)
    except (NotListening, NoAnswer):
        return None
    return answer.body if answer.status == 200 else None
