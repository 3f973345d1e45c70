"""Starting and ending the processes of a cluster.

Each runs in a session of its own, so a Ctrl-C in the terminal reaches only `varpulis`, which ends the
others in order: generator, workers, coordinators, NATS, each tier with its share of four seconds; what is
left then is killed. Workers are told by SIGINT, which means now: SIGTERM would have them wait until their
pipelines have been moved, to workers that are about to go as well. Output goes to `logs/ID.log`, appended.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import psutil

from cli.errors import CliError
from cli.up.record import Process

STOP_ORDER: Final = (("generator", 0.4), ("worker", 2.0), ("coordinator", 3.4), ("nats", 4.0))
"""Role, and the second after the begin of a stop up to which the next role waits for it."""
KILL_AFTER: Final = 4.0
"""Seconds after the begin of a stop at which what is left is killed."""
_INTERVAL: Final = 0.02
_TAIL_BYTES: Final = 8192


def varpulis(*arguments: str) -> list[str]:
    """The command line that runs this very installation of `varpulis`."""
    return [sys.executable, "-m", "cli.main", *arguments]


def spawn(process: Process, command: Sequence[str], log: Path) -> tuple[Process, subprocess.Popen[bytes]]:
    """Start `command` as `process`, detached from this terminal.

    Raises:
        CliError: it cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise CliError(f"{process.id} cannot be started: {error}: check the installation") from None
    try:
        created = psutil.Process(child.pid).create_time()
    except psutil.Error:
        created = time.time()
    return Process(role=process.role, id=process.id, pid=child.pid, created=created, port=process.port), child


def stop(processes: Sequence[Process]) -> list[Process]:
    """End these processes in order, within about four seconds; returns those that had to be killed."""
    begin = time.monotonic()
    for role, until in STOP_ORDER:
        tier = [process for process in processes if process.role == role]
        for process in tier:
            send(process, signal.SIGINT if role == "worker" else signal.SIGTERM)
        _wait_until_gone(tier, begin + until)
    _wait_until_gone(processes, begin + KILL_AFTER)
    stragglers = [process for process in processes if process.running]
    for process in stragglers:
        send(process, signal.SIGKILL)
    _wait_until_gone(stragglers, time.monotonic() + 1.0)
    return stragglers


def send(process: Process, number: signal.Signals) -> None:
    """Signal a process and its children, if it is alive and ours."""
    handle = process.handle()
    if handle is None:
        return
    try:
        os.killpg(handle.pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise CliError(
            f"not allowed to stop {process.id} (pid {process.pid}): run as the user who started it"
        ) from None


def last_line(log: Path) -> str:
    """The last line that a process wrote that is not empty."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _wait_until_gone(processes: Sequence[Process], deadline: float) -> None:
    while any(process.running for process in processes) and time.monotonic() < deadline:
        time.sleep(_INTERVAL)
