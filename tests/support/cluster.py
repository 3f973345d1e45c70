"""A whole cluster of real processes for a test: `varpulis up --detach` in a directory of its own, gone
afterwards.

`with Cluster(tmp_path) as cluster:` gives one that is ready. Every process is named by its id
(`coordinator-0`, `worker-1`, `nats`); what was killed comes back with `up()`, which starts only what is
missing. What is left of it is killed at the end, by pid, whatever the test did.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import psutil

from cli.client import ClusterClient
from cli.up import processes, record
from cli.up.ports import free_port_range
from proto_schemas.rest.base import API_BASE

ROOT = Path(__file__).resolve().parents[2]
COMMAND_TIMEOUT = 120.0
_PORTS_NEEDED = 40


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a `varpulis` process: ours, without settings of the user's, with our sources."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VARPULIS_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **(extra or {})}


def varpulis(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = COMMAND_TIMEOUT
) -> "subprocess.CompletedProcess[str]":
    """Run one `varpulis` command to its end, in `cwd`."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def poll(predicate: Callable[[], Any], *, timeout: float = 15.0, what: str = "") -> Any:
    """The first true answer of `predicate`, asked every 50 ms; `AssertionError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or predicate}")
        time.sleep(0.05)
    return answer


class Cluster:
    """One cluster on this machine.

    Args:
        directory: where its data directory is made.
        coordinators, workers: how many.
        demo: run the demo as well.
        env: further environment of all its processes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        coordinators: int = 3,
        workers: int = 2,
        demo: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = directory / "cluster"
        self.demo = demo
        self.http_port = free_port_range(_PORTS_NEEDED)
        self.nats_port = self.http_port + _PORTS_NEEDED - 1
        self.processes: dict[str, dict[str, Any]] = {}
        self.cwd = directory
        self._counts = ("--coordinators", str(coordinators), "--workers", str(workers))
        self._env = dict(env or {})
        self._ever: dict[int, psutil.Process] = {}

    @property
    def nats_url(self) -> str:
        return f"nats://127.0.0.1:{self.nats_port}"

    @property
    def coordinators(self) -> list[str]:
        """Ids of the coordinators."""
        return [name for name, process in self.processes.items() if process["role"] == "coordinator"]

    @property
    def workers(self) -> list[str]:
        """Ids of the workers."""
        return [name for name, process in self.processes.items() if process["role"] == "worker"]

    @property
    def urls(self) -> list[str]:
        """Base URLs of all coordinators, dead or alive."""
        return [self.url(name) for name in self.coordinators]

    def url(self, process_id: str) -> str:
        """Base URL of one process."""
        return str(self.processes[process_id]["url"])

    def pid(self, process_id: str) -> int:
        """The pid that the last `up()` reported."""
        return int(self.processes[process_id]["pid"])

    def client(self, timeout: float = 15.0) -> ClusterClient:
        """A REST client that tries all coordinators; close it, or use it in a `with`."""
        return ClusterClient(self.urls, timeout=timeout)

    def up_command(self, *arguments: str) -> list[str]:
        """The arguments of `varpulis` that start this cluster."""
        ports = ("--http-port", str(self.http_port), "--nats-port", str(self.nats_port))
        demo = "--demo" if self.demo else "--no-demo"
        patience = ("--ready-timeout", "90")
        return ["up", "--data-dir", str(self.data_dir), *ports, *self._counts, *patience, demo, *arguments]

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One `varpulis` command beside this cluster."""
        return varpulis(*arguments, cwd=self.cwd, env=self._env)

    def up(self, *arguments: str) -> dict[str, Any]:
        """Start what is not running and wait until all is ready; returns what `up -o json` printed."""
        done = self.run(*self.up_command("--detach", "-o", "json", *arguments))
        assert done.returncode == 0, f"up ended with {done.returncode}:\n{done.stderr}\n{self.logs()}"
        report: dict[str, Any] = json.loads(done.stdout)
        self.adopt(report)
        return report

    def adopt(self, report: dict[str, Any]) -> None:
        """Take over what an `up -o json` reported, to kill it at the end."""
        self.processes = {process["id"]: process for process in report["processes"]}
        for process in report["processes"]:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._ever.setdefault(process["pid"], psutil.Process(process["pid"]))

    def down(self) -> None:
        """Stop it in order."""
        done = self.run("down", "--data-dir", str(self.data_dir))
        assert done.returncode == 0, done.stderr

    def signal(self, process_id: str, number: signal.Signals) -> None:
        """Send a signal to one process."""
        os.kill(self.pid(process_id), number)

    def kill(self, process_id: str) -> None:
        """`kill -9` one process, and wait until it is gone."""
        self.signal(process_id, signal.SIGKILL)
        handle = self._ever[self.pid(process_id)]
        poll(lambda: not lives(handle), what=f"{process_id} gone")

    def alive(self) -> list[int]:
        """Pids of all processes this cluster ever had that still run."""
        return [pid for pid, handle in self._ever.items() if lives(handle)]

    def leader(self, timeout: float = 15.0) -> str:
        """Id of the coordinator that leads, once one does."""
        return str(poll(self._leader, timeout=timeout, what="a leader"))

    def logs(self) -> str:
        """The end of each process's log, for the text of a failed assertion."""
        directory = self.data_dir / "logs"
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in directory.glob("*.log")
        )

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Kill what is left, also what the last `up()` did not live to report."""
        known = record.load(self.data_dir)
        for process in known.running if known else []:
            processes.send(process, signal.SIGKILL)
        for handle in self._ever.values():
            if lives(handle):
                handle.kill()
        poll(lambda: not self.alive() and not (known and known.running), what="all gone")

    def _leader(self) -> str | None:
        for name in self.coordinators:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(
                    f"{self.url(name)}/readyz",
                    params={"leader": "true"},
                    timeout=1.0,
                    trust_env=False,
                    verify=False,
                )
                if answer.status_code == 200:
                    return name
        return None


def api(url: str) -> str:
    """The base of the REST API of a coordinator."""
    return url + API_BASE


def lives(handle: psutil.Process) -> bool:
    """It runs, and is no zombie."""
    try:
        return handle.is_running() and handle.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
