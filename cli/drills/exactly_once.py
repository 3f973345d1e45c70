"""The drill that proves exactly once: what comes out under every fault is what comes out without any.

Numbered events go through the two pipelines of `cli.drills.proof`, a filter and then a keyed window and a
sequence, while workers are killed, frozen and moved, the leader is killed and the nats-server is restarted,
one after the other. The outputs are then compared with those of the same programs, run here without a
cluster.
"""

import asyncio
import signal
import threading
import time
from collections import Counter
from typing import Any, Final

import msgspec

from cli.client import ClusterClient
from cli.drills import proof
from cli.drills.bed import Bed, until
from cli.drills.load import PATIENCE_S, Load
from cli.drills.scenarios import REST_S, Figures, leading
from cli.drills.sender import Sender
from cli.errors import CliError
from proto_schemas.subjects import EXTERNAL, Subjects
from transport.config import NatsConfig
from transport.jetstream import JetStream
from transport.nats import NatsTransport
from worker.delivery.reader import Reader

EVENTS: Final = 10_000
SECONDS: Final = 15.0
_OUT_WITHIN_S: Final = 90.0
_QUIET_S: Final = 0.5


def exactly_once(bed: Bed, load: Load) -> Figures:
    """Workers killed, frozen and moved, the leader killed, the nats-server restarted: event for event."""
    del load  # it brings its own
    with bed.client() as client:
        client.post("/pipeline-groups", proof.spec("exactly_once"), wait=5)
        _all_run(client, bed)
        found: list[list[dict[str, Any]]] = []
        sending = threading.Thread(target=lambda: found.append(asyncio.run(_through(bed))), daemon=True)
        began = time.monotonic()
        sending.start()
        for fault in (_freeze_worker, _move, _kill_worker, _kill_leader, _kill_nats):
            fault(client, bed)
            bed.complete()
            _all_run(client, bed)
        sending.join(SECONDS + _OUT_WITHIN_S + PATIENCE_S)
        took = time.monotonic() - began
        client.delete(f"/pipeline-groups/{proof.GROUP}", wait=5)
    if not found:
        raise CliError(f"the outputs did not all come: see {bed.logs}")
    wanted, got = proof.outputs(EVENTS), found[0]
    missing = Counter(map(msgspec.json.encode, wanted))
    missing.subtract(map(msgspec.json.encode, got))
    return {
        "took_s": took,
        "outputs": float(len(got)),
        "outputs_lost": float(sum(count for count in missing.values() if count > 0)),
        "outputs_doubled": float(-sum(count for count in missing.values() if count < 0)),
        "out_of_order": float(sum(one != other for one, other in zip(got, wanted, strict=False))),
    }


async def _through(bed: Bed) -> list[dict[str, Any]]:
    """Send the events, and read what comes out."""
    subjects = Subjects()
    bus = await NatsTransport.connect(NatsConfig(servers=(bed.nats_url,)), wait=5.0)
    try:
        jetstream, stream = JetStream(bus), subjects.stream(proof.GROUP)
        entry = subjects.pipeline(proof.GROUP, EXTERNAL, next(iter(proof.PROGRAMS)))
        await Sender(jetstream, stream, entry).send(EVENTS, SECONDS)
        out = Reader(jetstream, stream, [subjects.pipeline(proof.GROUP, proof.LAST, EXTERNAL)], 0)
        count, got = len(proof.outputs(EVENTS)), list[dict[str, Any]]()
        deadline = time.monotonic() + _OUT_WITHIN_S
        while time.monotonic() < deadline:
            taken = await out.take(1000, _QUIET_S)
            got += [msgspec.json.decode(fetched.data)["fields"] for fetched in taken]
            if not taken and out.caught_up and len(got) >= count:
                break
        await out.stop()
        return got
    finally:
        await bus.close()


def _all_run(client: ClusterClient, bed: Bed) -> None:
    def runs() -> bool:
        return bool(client.get(f"/pipeline-groups/{proof.GROUP}")["status"] == "running")

    if not until(runs, PATIENCE_S):
        raise CliError(f"the pipelines of the drill do not run: see {bed.logs}")


def _host(client: ClusterClient) -> str:
    """The worker that runs the last pipeline."""
    placed = client.get(f"/pipeline-groups/{proof.GROUP}")["placements"]
    return next(str(each["worker_id"]) for each in placed if each["pipeline_name"] == proof.LAST)


def _freeze_worker(client: ClusterClient, bed: Bed) -> None:
    worker = _host(client)
    bed.send(worker, signal.SIGSTOP)
    until(lambda: _host(client) != worker, PATIENCE_S)
    bed.send(worker, signal.SIGCONT)
    time.sleep(REST_S)


def _move(client: ClusterClient, bed: Bed) -> None:
    worker = _host(client)
    client.post(f"/workers/{worker}/drain", {})
    until(lambda: client.get(f"/workers/{worker}/drain")["status"] == "done", PATIENCE_S)
    client.post(f"/workers/{worker}/uncordon", {})


def _kill_worker(client: ClusterClient, bed: Bed) -> None:
    bed.kill(_host(client))


def _kill_leader(client: ClusterClient, bed: Bed) -> None:
    bed.kill(leading(bed))


def _kill_nats(client: ClusterClient, bed: Bed) -> None:
    bed.kill("nats")
