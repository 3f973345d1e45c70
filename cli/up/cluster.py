"""Start what is missing, wait until all is ready, stop everything.

The order of effects is a contract: the lock is taken before the record is read; a process is in the
record before the next one is started, so that whatever interrupts a start, `down` finds all; and a start
that fails stops what it began, and nothing that ran before it. Ctrl-C waits while a process is started and
noted, and while what was begun is stopped.
"""

import secrets
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cli.demo import group as demo_group
from cli.errors import CliError
from cli.interrupts import held_back
from cli.up import keys, nats_conf, plan, ports, processes, record, targets
from cli.up.readiness import Progress, Readiness
from cli.up.record import Process, Record
from transport.nats_binary import NatsServerNotFound, nats_server_binary


@dataclass(frozen=True, slots=True)
class Request:
    """What one `up` asks for. `config`: the TOML file that was named, handed on to the processes."""

    data_dir: Path
    wanted: plan.Wanted
    defaults: plan.Wanted
    demo: bool = True
    nats_server: str = ""
    config: Path | None = None
    ready_timeout: float = 30.0
    nats_urls: Mapping[str, str] = field(default_factory=dict)
    """By process, where it finds NATS, if not at the server that is started with it; ways of their own."""
    programs: Mapping[str, list[str]] = field(default_factory=dict)
    """By process, the begin of the command line that runs it, if not this installation of `varpulis`."""

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs"


@dataclass(slots=True)
class Started:
    """A cluster that is ready, the children among its processes (those that this start began), how the
    coordinators died that it runs without, and the admin's API key when this start has made it.
    """

    record: Record
    children: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    admin_key: str | None = field(default=None, repr=False)


def start(request: Request, progress: Progress) -> Started:
    """Complete the cluster of a data directory; a minority of its coordinators may die in the attempt.

    Raises:
        CliError: a port is taken, a process ended, it was not ready in time; what this call began is stopped.
    """
    with record.locked(request.data_dir, timeout=request.ready_timeout):
        cluster_id = f"c-{secrets.token_hex(4)}"
        remembered = record.load(request.data_dir)
        alive = {process.id for process in remembered.running} if remembered else set()
        settled = plan.settle(
            request.wanted, remembered, alive, defaults=request.defaults, cluster_id=cluster_id
        )
        made = None
        if settled.cluster_key or settled.require_keys:
            made = keys.make(request.data_dir, api_keys=settled.require_keys)
        launch = _Launch(request, settled, progress)
        try:
            launch.run(plan.missing(settled, alive))
        except BaseException:
            with held_back():
                launch.undo()
            raise
        return Started(launch.record, launch.children, launch.lost, made)


def stop(data_dir: Path) -> list[Process]:
    """Stop what runs of the cluster of a data directory; returns what was stopped, which may be nothing."""
    if not (data_dir / "cluster.json").exists():
        return []
    with record.locked(data_dir):
        current = record.load(data_dir)
        if current is None:
            return []
        stopping = current.running
        processes.stop(stopping)
        for process in current.processes:  # also those that had died
            current = current.with_process(msgspec.structs.replace(process, pid=0, created=0.0))
        _remember(data_dir, current)
        return stopping


def _remember(data_dir: Path, current: Record) -> None:
    record.save(data_dir, current)
    targets.write(data_dir, current)


class _Launch:
    """One start in progress."""

    def __init__(self, request: Request, settled: Record, progress: Progress) -> None:
        self.record = settled
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._request = request
        self._progress = progress
        self._deadline = time.monotonic() + request.ready_timeout
        self._key = keys.of(request.data_dir, settled)
        self._readiness = Readiness(request.logs, self._deadline, progress, settled.coordinators, self._key)

    @property
    def lost(self) -> dict[str, str]:
        return self._readiness.lost

    def run(self, missing: list[Process]) -> None:
        self._require_ports(missing)
        _remember(self._request.data_dir, self.record)
        self._spawn_all(missing, "nats")
        self._readiness.wait_for_nats(self.record.nats_port, self.children)
        self._spawn_all(missing, "coordinator")
        self._readiness.wait_for_members(self.record.running, self.children)
        self._spawn_all(missing, "worker")  # not earlier: without a leader they would only be refused
        self._readiness.wait_for_members(self.record.running, self.children)
        if self._request.demo and self.record.workers:
            self._run_demo()

    def undo(self) -> None:
        """Stop what this start began."""
        began = [process for process in self.record.processes if process.id in self.children]
        processes.stop(began)
        for process in began:
            self.record = self.record.with_process(msgspec.structs.replace(process, pid=0, created=0.0))
        if began:
            _remember(self._request.data_dir, self.record)

    def _require_ports(self, missing: list[Process]) -> None:
        for process in missing:
            if process.role == "nats":
                ports.require_free(process.port, "nats-server", "--nats-port")
            elif process.role == "coordinator":
                ports.require_free(process.port, process.id, "--http-port")

    def _spawn_all(self, missing: list[Process], role: str) -> None:
        for process in missing:
            if process.role == role:
                self._spawn(process)

    def _spawn(self, process: Process) -> None:
        if process.role == "worker":
            process = msgspec.structs.replace(process, port=self._worker_port(process))
        self._progress(f"starting {process.id}")
        log = self._request.logs / f"{process.id}.log"
        command = self._command(process)
        with held_back():
            started, self.children[process.id] = processes.spawn(process, command, log)
            self.record = self.record.with_process(started)
            _remember(self._request.data_dir, self.record)

    def _worker_port(self, process: Process) -> int:
        if process.port and ports.is_free(process.port):
            return process.port
        taken = {other.port for other in self.record.processes if other.id != process.id} | {
            self.record.nats_port
        }
        return ports.next_free(self.record.http_port + plan.WORKER_PORT_OFFSET, taken)

    def _command(self, process: Process) -> list[str]:
        directory = self._request.data_dir / process.id
        own = f"nats://127.0.0.1:{self.record.nats_port}"
        nats_url = self._request.nats_urls.get(process.id, own)
        if process.role == "nats":
            binary = self._nats_server()
            conf = nats_conf.write(directory, process.port, nats_conf.version_of(binary))
            return [str(binary), "-c", str(conf)]
        if process.role == "generator":
            return processes.varpulis("demo-generator", "--nats", nats_url)
        arguments = [process.role, "--id", process.id, "--nats", nats_url, "--http-port", str(process.port)]
        arguments += ["--data-dir", str(directory)]
        if process.role == "coordinator":
            members = ",".join(f"coordinator-{number}" for number in range(self.record.coordinators))
            arguments += ["--members", members, "--cluster-id", self.record.cluster_id]
        if process.role == "worker":
            arguments += ["--checkpoint-store", f"dir:{self._request.data_dir.resolve() / 'checkpoints'}"]
        arguments += self._keys(process)
        if self._request.config:
            arguments += ["--config", str(self._request.config.resolve())]
        return [*self._request.programs.get(process.id, processes.varpulis()), *arguments]

    def _keys(self, process: Process) -> list[str]:
        """Where a process finds the keys it needs; that is, on its command line, paths."""
        directory, found = self._request.data_dir, []
        if self.record.cluster_key:
            found += ["--cluster-key-file", str(keys.cluster(directory))]
            found += ["--sign" if self.record.require_keys else "--no-sign"]
        if self.record.require_keys and process.role == "coordinator":
            found += ["--admin-key-file", str(keys.admin(directory))]
            found += ["--worker-key-file", str(keys.worker(directory))]
        elif self.record.require_keys:
            found += ["--api-key-file", str(keys.worker(directory))]
        return found

    def _nats_server(self) -> Path:
        try:
            return nats_server_binary(self._request.nats_server or None)
        except NatsServerNotFound as error:
            raise CliError(str(error)) from None

    def _run_demo(self) -> None:
        self._progress("deploying the demo group")
        urls = [
            process.url for process in self.record.running if process.role == "coordinator" and process.url
        ]
        left = max(1.0, self._deadline - time.monotonic())
        demo_group.ensure(urls, f"nats://127.0.0.1:{self.record.nats_port}", timeout=left, key=self._key)
        known = self.record.find("generator")
        if known is None or not known.running:
            self._spawn(Process(role="generator", id="generator"))
            self._readiness.check_alive(self.children)
