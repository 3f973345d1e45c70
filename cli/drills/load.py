"""The load during a drill: a client that writes and one that reads the API, and numbered events through a
pipeline.

Each runs in a thread of its own and notes when what it began was answered, so that a figure is the time from
the fault to the first success *of something begun after it*. Events go over core NATS, at most once: what a
pipeline misses while it runs nowhere is lost, and that is counted.
"""

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from cli.client import ClusterClient
from cli.drills.bed import PIPELINE, Bed, until
from cli.errors import CliError
from proto_schemas.codec import decode_fields, encode_fields
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport

PAUSE_S: Final = 0.01
"""Between two events, and between two requests."""
PATIENCE_S: Final = 30.0
_SETTLE_S: Final = 2.0
_IN, _OUT = "drill.in", "drill.out"


def group(nats_url: str) -> dict[str, Any]:
    """The body that deploys the pipeline: every `Tick` comes out again with its number."""
    source = f"""
connector Bus = nats(servers: "{nats_url}")
stream Ticks = Tick.from(Bus, topic: "{_IN}")
stream All = Ticks.where(n >= 0).emit(n: n).to(Bus, topic: "{_OUT}")
"""
    return {"name": PIPELINE, "pipelines": [{"name": "echo", "source": source}]}


class Load:
    """What went in and what came of it. Times are of `time.monotonic()`.

    Attributes:
        acknowledged: begin and end of each write that was taken; read: of each read that was answered.
        failed: requests refused or not answered, after all tries of the client.
        sent: when each number was published; received: each output, its number and when.
    """

    def __init__(self) -> None:
        self.acknowledged: list[tuple[float, float]] = []
        self.read: list[tuple[float, float]] = []
        self.failed = 0
        self.sent: dict[int, float] = {}
        self.received: list[tuple[int, float]] = []
        self.stopping = threading.Event()

    def first_write(self, fault: float) -> float | None:
        """Seconds from the fault to the first acknowledgement of a write begun after it."""
        return until(lambda: self._after(fault, list(self.acknowledged)), PATIENCE_S)

    def next_write(self, since: float) -> float | None:
        """Seconds until a write is acknowledged, whenever it began."""
        return until(
            lambda: min((end - since for _, end in list(self.acknowledged) if end > since), default=None),
            PATIENCE_S,
        )

    def first_output(self, fault: float) -> float | None:
        """Seconds from the fault to the first output of an event sent after it."""

        def outputs() -> float | None:
            came = [(self.sent.get(number, 0.0), when) for number, when in list(self.received)]
            return self._after(fault, came)

        return until(outputs, PATIENCE_S)

    def longest_write(self, since: float) -> float:
        """Seconds of the slowest acknowledged write that began or ended after `since`."""
        return max((end - begin for begin, end in list(self.acknowledged) if end > since), default=0.0)

    def writes_within(self, begin: float, end: float) -> int:
        """Writes that began and were acknowledged in that time."""
        return sum(begin < first and last < end for first, last in list(self.acknowledged))

    @staticmethod
    def _after(fault: float, spans: list[tuple[float, float]]) -> float | None:
        return min((end - fault for begin, end in spans if begin > fault), default=None)


@contextmanager
def load(bed: Bed) -> Iterator[Load]:
    """Requests and events for as long as the block lasts; afterwards all that still comes out has come."""
    made = Load()
    threads = [
        threading.Thread(target=_write, args=(made, bed), daemon=True),
        threading.Thread(target=_read, args=(made, bed), daemon=True),
        threading.Thread(target=lambda: asyncio.run(_stream(made, bed.nats_url)), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        begun = time.monotonic()
        if made.first_write(begun) is None or made.first_output(begun) is None:
            raise CliError(f"the load does not get through before any fault: see {bed.logs}")
        yield made
    finally:
        made.stopping.set()
        for thread in threads:
            thread.join(PATIENCE_S + _SETTLE_S)


def deploy(bed: Bed) -> None:
    """Deploy the pipeline and wait until it runs.

    Raises:
        CliError: it does not run in time.
    """
    with bed.client() as client:
        client.post("/pipeline-groups", group(bed.nats_url), wait=5)
        running = until(lambda: client.get(f"/pipeline-groups/{PIPELINE}")["status"] == "running", PATIENCE_S)
    if not running:
        raise CliError(f"the pipeline of the drill does not run: see {bed.logs}")


def _write(load: Load, bed: Bed) -> None:
    with ClusterClient(list(bed.urls.values()), timeout=PATIENCE_S) as client:
        for number in itertools.count():
            if load.stopping.wait(PAUSE_S):
                return
            begun = time.monotonic()
            try:
                client.post("/workers/register", _registration(number))
            except CliError:
                load.failed += 1
            else:
                load.acknowledged.append((begun, time.monotonic()))


def _read(load: Load, bed: Bed) -> None:
    with ClusterClient(list(reversed(bed.urls.values())), timeout=PATIENCE_S) as client:
        while not load.stopping.wait(PAUSE_S):
            begun = time.monotonic()
            try:
                client.get(f"/pipeline-groups/{PIPELINE}")
            except CliError:
                load.failed += 1
            else:
                load.read.append((begun, time.monotonic()))


def _registration(number: int) -> dict[str, Any]:
    """A write that always counts: a worker without an incarnation comes back with another capacity."""
    capacity = {"cpu_cores": number, "pipelines_running": 0, "max_pipelines": 0}
    return {"worker_id": "paper", "address": "", "api_key": "", "capacity": capacity}


async def _stream(load: Load, nats_url: str) -> None:
    async def on_output(message: Message) -> None:
        load.received.append((decode_fields(message.data)["fields"]["n"], time.monotonic()))

    nats = await NatsTransport.connect(NatsConfig(servers=tuple(nats_url.split(","))), wait=5.0)
    try:
        await nats.subscribe(_OUT, on_output)
        await nats.flush(5.0)
        for number in itertools.count():
            if load.stopping.is_set():
                break
            began = time.monotonic()
            with suppress(NatsTransportError):  # without a server nothing is sent, so nothing is lost
                await nats.publish(_IN, encode_fields({"event_type": "Tick", "fields": {"n": number}}))
                load.sent[number] = began
            await asyncio.sleep(PAUSE_S)
        deadline = time.monotonic() + _SETTLE_S
        while len(load.received) < len(load.sent) and time.monotonic() < deadline:
            await asyncio.sleep(PAUSE_S)
    finally:
        await nats.close()
