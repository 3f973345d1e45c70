"""One trial: a cluster, a group on a stream, events, faults while they come, and what came out."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.drills import proof as group
from cli.drills.sender import Sender
from proto_schemas.rest.base import API_BASE
from proto_schemas.subjects import EXTERNAL, Subjects
from tests.chaos.fleet import AS_SHIPPED as WORKER
from tests.chaos.fleet import Fleet
from tests.delivery.faults import Faults
from tests.support.linked import AS_SHIPPED, Cluster
from tests.support.poll import until
from transport.config import NatsConfig
from transport.jetstream import JetStream
from transport.nats import NatsTransport
from worker.delivery.reader import Reader

WORKERS: Final = ("w0", "w1", "w3")
"""By the names of `tests.chaos.plan`, those that speak NATS."""
START_WITHIN: Final = 60.0
OUT_WITHIN: Final = 120.0
"""Seconds in which all must have come out after the last fault."""
QUIET: Final = 0.5
"""Seconds in which nothing more comes out."""


@dataclass
class Found:
    """What a trial found. `complaints`: broken promises; `figures`: what the workers counted."""

    seed: int
    events: int = 0
    outputs: int = 0
    wanted: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    resent: int = 0
    complaints: list[str] = field(default_factory=list)


async def run(
    directory: Path,
    *,
    seed: int,
    events: int,
    seconds: float,
    delivery: str = "exactly_once",
    replicas: int = 1,
    kinds: tuple[str, ...] | None = None,
    progress: Callable[[str], None] = print,
) -> Found:
    """Send `events` over `seconds` of faults, of the `kinds` in turn or as the seed says; compare. Where the
    last pipeline has `replicas`, which share by key, the order is that of each key."""
    rng, subjects, found = random.Random(f"{seed}/delivery"), Subjects(), Found(seed)
    store = ("--checkpoint-store", f"dir:{directory / 'checkpoints'}", "--checkpoint-interval", "1")
    began = time.monotonic()
    async with (
        Cluster(directory, program=AS_SHIPPED, cluster_id="delivery", jetstream=True) as cluster,
        Fleet(cluster, directory, program=WORKER, flags=store) as fleet,
    ):
        faults = Faults(cluster, fleet, group.instances(replicas), rng, progress)
        await asyncio.gather(*map(fleet.join, WORKERS))
        await until(fleet.all_ready, timeout=START_WITHIN, what="all workers")
        await _create(cluster, group.spec(delivery, replicas))
        await faults.all_run()
        bus = await NatsTransport.connect(NatsConfig(servers=(cluster.nats.url,)), wait=START_WITHIN)
        try:
            jetstream, stream = JetStream(bus), subjects.stream(group.GROUP)
            entry = subjects.pipeline(group.GROUP, EXTERNAL, next(iter(group.PROGRAMS)))
            sender = Sender(jetstream, stream, entry)
            progress(f"runs after {time.monotonic() - began:.1f} s; {events} events")
            sending = asyncio.create_task(sender.send(events, seconds))
            await _harm(faults, sending, kinds)
            await sending
            wanted = group.outputs(events)
            left = [subjects.pipeline(group.GROUP, name, EXTERNAL) for name in group.instances(replicas)]
            out = Reader(jetstream, stream, left, 0)
            got = await _all(out, len(wanted))
            await out.stop()
            found.resent = sender.repeated
        finally:
            await bus.close()
        found.complaints += [*cluster.deaths, *fleet.deaths, *cluster.alarms, *fleet.alarms]
    found.events, found.outputs, found.wanted = events, len(got), len(wanted)
    found.faults, found.seconds = faults.done, time.monotonic() - began
    if replicas > 1:
        got, wanted = (sorted(outputs, key=lambda each: each["k"]) for outputs in (got, wanted))
    found.complaints += _compare(got, wanted, exact=delivery == "exactly_once")
    return found


async def _create(cluster: Cluster, spec: dict[str, Any]) -> None:
    body = msgspec.json.encode(spec)
    said: list[str] = []

    async def accepted() -> bool:
        answer = await cluster.ask(
            cluster.nodes[0], "POST", f"{API_BASE}/pipeline-groups?wait=0", body, timeout=5.0, key="group"
        )
        said.append("no answer" if answer is None else f"{answer.status} {answer.content[:300]!r}")
        return answer is not None and answer.status in (201, 202)

    try:
        await until(accepted, timeout=START_WITHIN)
    except AssertionError:
        raise AssertionError(f"the group was not accepted: {said[-3:]}") from None


async def _harm(faults: Faults, sending: "asyncio.Task[None]", kinds: tuple[str, ...] | None) -> None:
    """One fault after another while events are sent; those of `kinds` in any case."""
    for kind in kinds if kinds is not None else faults.order():
        if kinds is None and sending.done():
            return
        await faults.bring(kind)


async def _all(out: Reader, count: int) -> list[dict[str, Any]]:
    """What has come out, once that is `count`, or no more comes; and nothing after it for a while."""
    got: list[dict[str, Any]] = []
    deadline = time.monotonic() + OUT_WITHIN
    while time.monotonic() < deadline:
        taken = await out.take(1000, QUIET)
        got += [msgspec.json.decode(fetched.data)["fields"] for fetched in taken]
        if not taken and out.caught_up and len(got) >= count:
            break
    return got


def _compare(got: list[dict[str, Any]], wanted: list[dict[str, Any]], *, exact: bool) -> list[str]:
    if exact:
        for number, (one, other) in enumerate(zip(got, wanted, strict=False)):
            if one != other:
                return [f"output {number} is {one}, without faults it is {other}"]
        if len(got) != len(wanted):
            return [f"{len(got)} outputs, without faults there are {len(wanted)}"]
        return []
    seen = {msgspec.json.encode(each) for each in got}
    missing = [each for each in wanted if msgspec.json.encode(each) not in seen]
    return [f"{len(missing)} outputs are missing, the first {missing[0]}"] if missing else []
