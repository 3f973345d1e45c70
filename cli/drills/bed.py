"""The cluster that a drill breaks: real processes in a temporary directory, gone afterwards.

Three coordinators, two workers and a nats-server, started as `varpulis up` starts them. What a drill needs
beside that is in its `Shape`: ways to NATS that can be cut (`Links`), three nats-servers instead of one,
processes whose disk or clock can fail (`impaired`), or coordinators of another installation.
"""

import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cli.client import ClusterClient
from cli.drills.links import Links
from cli.drills.servers import COUNT, Servers, servers
from cli.errors import CliError
from cli.http import Connections, NoAnswer, NotListening
from cli.interrupts import held_back
from cli.up import cluster, plan, processes, record
from cli.up.ports import free_port_range

T = TypeVar("T")
PIPELINE: Final = "drill"
COORDINATORS: Final = tuple(f"coordinator-{number}" for number in range(3))
WORKERS: Final = ("worker-0", "worker-1")
_PORTS: Final = 40
_READY_S: Final = 90.0
_GONE_S: Final = 30.0
_PROBE_S: Final = 0.3
_INTERVAL: Final = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """What a drill needs. `previous`: an installation whose `varpulis` runs at first."""

    links: bool = False
    nats_cluster: bool = False
    impaired: bool = False
    previous: Path | None = None


class Bed:
    """A running cluster. Make it with `bed()`."""

    def __init__(self, directory: Path, nats_server: str, shape: Shape, ends: ExitStack) -> None:
        self.directory = directory
        port = free_port_range(_PORTS)
        wanted = plan.Wanted(len(COORDINATORS), len(WORKERS), port, port + _PORTS - 1, False)
        self.nats_url = f"nats://127.0.0.1:{wanted.nats_port}"
        self.urls = {name: f"http://127.0.0.1:{port + i}" for i, name in enumerate(COORDINATORS)}
        self.links: Links | None = None
        self.servers: Servers | None = None
        self._ways: dict[str, str] = {}
        self._programs: dict[str, list[str]] = {}
        if shape.links:
            self.links = ends.enter_context(Links((*COORDINATORS, *WORKERS), port + _PORTS - 1))
            self._ways = self.links.urls
        if shape.nats_cluster:
            first = free_port_range(2 * COUNT)
            self.servers = ends.enter_context(servers(directory / "servers", first, nats_server))
            self.nats_url = self.servers.url
            self._ways = dict.fromkeys((*COORDINATORS, *WORKERS), self.nats_url)
        if shape.impaired:
            for name in (*COORDINATORS, *WORKERS):
                self.impairment(name).mkdir(parents=True)
                module = [sys.executable, "-m", "cli.drills.impaired", str(self.impairment(name))]
                self._programs[name] = module
        if shape.previous is not None:
            older = ["env", f"PYTHONPATH={shape.previous.resolve()}", sys.executable, "-m", "cli.main"]
            self._programs = dict.fromkeys((*COORDINATORS, *WORKERS), older)
        self._wanted, self._nats_server = wanted, nats_server

    @property
    def _request(self) -> cluster.Request:
        return cluster.Request(
            self.directory / "cluster",
            self._wanted,
            self._wanted,
            demo=False,
            nats_server=self._nats_server,
            ready_timeout=_READY_S,
            nats_urls=self._ways,
            programs=self._programs,
        )

    @property
    def logs(self) -> Path:
        """Where the processes write."""
        return self._request.logs

    def complete(self) -> None:
        """Start what is missing, and wait until all is ready."""
        if self.servers is not None:
            self.servers.complete()
        cluster.start(self._request, lambda text: None)

    def stop(self) -> None:
        """End all processes."""
        cluster.stop(self._request.data_dir)

    def client(self, timeout: float = 30.0) -> ClusterClient:
        """Of all coordinators."""
        return ClusterClient(list(self.urls.values()), timeout=timeout)

    def impairment(self, name: str) -> Path:
        """The directory that says what is wrong with a process: see `cli.drills.impaired`."""
        return self.directory / "impaired" / name

    def send(self, name: str, number: signal.Signals) -> None:
        """Signal one process.

        Raises:
            CliError: it does not run.
        """
        processes.send(self._process(name), number)

    def kill(self, *names: str) -> None:
        """kill -9 these; they are gone on return."""
        dying = [self._process(name) for name in names]
        for process in dying:
            processes.send(process, signal.SIGKILL)
        until(lambda: not any(process.running for process in dying), _GONE_S)

    def restart(self, name: str) -> None:
        """End one in order, and start it again, by this installation.

        Raises:
            CliError: it does not end.
        """
        process = self._process(name)
        processes.send(process, signal.SIGTERM)
        if not until(lambda: not process.running, _GONE_S):
            raise CliError(f"{name} does not end within {_GONE_S:g} s of SIGTERM: see {self.logs}")
        self._programs.pop(name, None)
        self.complete()

    def _process(self, name: str) -> record.Process:
        known = record.load(self._request.data_dir)
        process = known.find(name) if known else None
        if process is None or not process.running:
            raise CliError(f"{name} does not run: see {self.logs}")
        return process

    def leader(self, *, other_than: str = "", timeout: float = 30.0) -> str | None:
        """Who says that it leads; `None` when nobody does in time. A frozen one is not worth asking."""
        asked = {name: url for name, url in self.urls.items() if name != other_than}
        with closing(Connections()) as connections:
            return until(
                lambda: next((name for name, url in asked.items() if _leads(connections, url)), None), timeout
            )

    def host(self) -> str:
        """The worker on which the pipeline of the load runs."""
        with self.client() as client:
            return str(client.get(f"/pipeline-groups/{PIPELINE}")["placements"][0]["worker_id"])


@contextmanager
def bed(nats_server: str = "", shape: Shape | None = None) -> Iterator[Bed]:
    """A cluster that is ready; Ctrl-C and SIGTERM end it too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="varpulis-drill-", ignore_cleanup_errors=True) as directory,
            ExitStack() as ends,
        ):
            made = Bed(Path(directory), nats_server, shape or Shape(), ends)
            try:
                made.complete()
                yield made
            finally:
                with held_back():
                    made.stop()
    finally:
        signal.signal(signal.SIGTERM, before)


def until(look: Callable[[], T], timeout: float) -> T | None:
    """The first true answer, asked every 10 ms; `None` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := look()):
        if time.monotonic() > deadline:
            return None
        time.sleep(_INTERVAL)
    return answer


def _leads(connections: Connections, url: str) -> bool:
    with contextlib.suppress(NotListening, NoAnswer):
        answer = connections("GET", f"{url}/readyz?leader=true", headers={}, timeout=_PROBE_S)
        return answer.status == 200
    return False


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
