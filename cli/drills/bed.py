"""The cluster that a drill breaks: real processes in a temporary directory, gone afterwards."""

import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from cli.client import ClusterClient
from cli.errors import CliError
from cli.http import Connections, NoAnswer, NotListening
from cli.interrupts import held_back
from cli.up import cluster, plan, processes, record
from cli.up.ports import free_port_range

T = TypeVar("T")
PIPELINE: Final = "drill"
_PORTS: Final = 40
_READY_S: Final = 90.0
_PROBE_S: Final = 0.3
_INTERVAL: Final = 0.01


class Bed:
    """Three coordinators, two workers, one nats-server. Make it with `bed()`."""

    def __init__(self, directory: Path, nats_server: str) -> None:
        port = free_port_range(_PORTS)
        wanted = plan.Wanted(3, 2, port, port + _PORTS - 1, False)
        self.request = cluster.Request(
            directory, wanted, wanted, demo=False, nats_server=nats_server, ready_timeout=_READY_S
        )
        self.nats_url = f"nats://127.0.0.1:{wanted.nats_port}"
        self.urls = {f"coordinator-{number}": f"http://127.0.0.1:{port + number}" for number in range(3)}

    def complete(self) -> None:
        """Start what is missing, and wait until all is ready."""
        cluster.start(self.request, lambda text: None)

    def client(self, timeout: float = 30.0) -> ClusterClient:
        return ClusterClient(list(self.urls.values()), timeout=timeout)

    def send(self, process_id: str, number: signal.Signals) -> None:
        """Signal one process.

        Raises:
            CliError: it does not run.
        """
        known = record.load(self.request.data_dir)
        process = known.find(process_id) if known else None
        if process is None or not process.running:
            raise CliError(f"{process_id} does not run: see {self.request.logs}")
        processes.send(process, number)

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
def bed(nats_server: str = "") -> Iterator[Bed]:
    """A cluster that is ready; Ctrl-C and SIGTERM end it too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="varpulis-drill-", ignore_cleanup_errors=True) as directory:
            made = Bed(Path(directory), nats_server)
            try:
                made.complete()
                yield made
            finally:
                with held_back():
                    cluster.stop(made.request.data_dir)
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
