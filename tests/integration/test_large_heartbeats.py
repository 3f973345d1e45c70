"""Workers that run more than one message can list, on three coordinators, by either carrier."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.heartbeats import Heard
from proto_schemas.messages.membership import (
    Capacity,
    ConnectorHealth,
    Heartbeat,
    HeartbeatAck,
    PipelineMetrics,
    Register,
    RunningPipeline,
)
from proto_schemas.subjects import Subjects
from tests.integration.test_rest_membership import table_of
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, three
from tests.unit.worker.support import KEY
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.http_client import HttpClient
from transport.nats import NatsTransport
from worker.link import Ears, Link, NatsLink
from worker.rest_link import RestLink

CARRIERS = ("nats", "rest")
SLOW: dict[str, Any] = {"heartbeat_interval": 5.0, "heartbeat_timeout": 20.0}
"""Nobody listens to commands here, so no heartbeat may be late."""


def copies(count: int) -> list[RunningPipeline]:
    """Of no group, so nobody wants them, and nobody minds."""
    return [RunningPipeline(pipeline_id=f"{n:032x}", name=f"pipeline-{n}", epoch=0) for n in range(count)]


def heartbeat(seq: int, running: list[RunningPipeline]) -> Heartbeat:
    health = ConnectorHealth(
        connector_name="Bus",
        connector_type="nats",
        connected=True,
        messages_received=9,
        seconds_since_last_message=0,
    )
    return Heartbeat(
        events_processed=seq,
        pipelines_running=len(running),
        incarnation="i1",
        seq=seq,
        load=0.25,
        pipelines=running,
        pipeline_metrics=[
            PipelineMetrics(pipeline_name=copy.name, events_in=9, events_out=9, connector_health=[health])
            for copy in running
        ],
        loss_windows=[n % 7 for n in range(len(running))],
    )


def registration(carrier: str, running: list[RunningPipeline]) -> Register:
    return Register(
        worker_id="w",
        address="http://127.0.0.1:7001",
        api_key="",
        capacity=Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=30_000),
        incarnation="i1",
        carrier="rest" if carrier == "rest" else None,
        pipelines=running,
    )


@dataclass
class Losing:
    """Loses messages of heartbeats: `lose` holds which of the next ones, counted from 0."""

    lose: set[int] = field(default_factory=set)
    sent: int = 0

    def next_is_lost(self) -> bool:
        self.sent += 1
        return self.sent - 1 in self.lose

    def begin(self, *lose: int) -> None:
        self.lose, self.sent = set(lose), 0


@dataclass
class Said:
    """A link to the coordinators, and what came back on it."""

    link: Link
    losing: Losing
    acks: list[tuple[int, HeartbeatAck]] = field(default_factory=list)
    seq: int = 0


@contextlib.asynccontextmanager
async def linked(stage: Three, carrier: str) -> AsyncIterator[Said]:
    losing = Losing()
    if carrier == "rest":
        http = HttpClient()
        urls = [node.url.rstrip("/") for node in stage.nodes.values()]
        send = http.send

        async def sent(method: str, base: str, target: str, *rest: Any, **more: Any) -> Any:
            if target.endswith("/heartbeat") and losing.next_is_lost():
                raise NatsTransportError(ErrorKind.TIMEOUT, "lost", subject=base)
            return await send(method, base, target, *rest, **more)

        http.send = sent  # type: ignore[method-assign]
        link: Link = RestLink(http, urls[:1], "w", api_key="", worker_key=KEY)
        close = http.close
    else:
        bus = await NatsTransport.connect(NatsConfig(servers=(stage.nats_url,)), wait=5.0)
        publish = bus.publish

        async def published(subject: str, data: bytes, **more: Any) -> None:
            if not losing.next_is_lost():
                await publish(subject, data, **more)

        bus.publish = published  # type: ignore[method-assign]
        link = NatsLink(bus, Subjects(), "w")
        close = bus.close
    said = Said(link, losing)

    async def acknowledged(seq: int, ack: HeartbeatAck) -> None:
        said.acks.append((seq, ack))

    def nothing(*_: object) -> None:
        pass

    try:
        await link.open(Ears(acknowledged, nothing, nothing, nothing, nothing, nothing))
        yield said
    finally:
        await close()


def heard(stage: Three) -> list[Heard]:
    """By each coordinator."""
    found = [table_of(node).get("w") for node in stage.nodes.values()]
    return [each for each in found if each is not None]


async def beaten(stage: Three, w: Said, running: list[RunningPipeline]) -> int:
    """Beat, as a worker does, until all three have heard the whole of one heartbeat; its number. Each of them
    gets more time than the one before: the next one would end what is still on its way."""
    patience = 1.0

    async def all_have_it() -> bool:
        nonlocal patience
        patience *= 2
        w.seq += 1
        with contextlib.suppress(NatsTransportError):  # late on a busy machine: the next one may be in time
            await w.link.beat(w.seq, heartbeat(w.seq, running), 1.0)
        with contextlib.suppress(AssertionError):
            await until(lambda: has_come(w.seq), timeout=patience, what="this one")
        return has_come(w.seq)

    def has_come(seq: int) -> bool:
        lists = [each.pipelines for each in heard(stage) if each.seq == seq]
        return [len(each) for each in lists if each is not None] == [len(running)] * 3

    await until(all_have_it, timeout=60, what=f"all three hear of {len(running)} copies")
    return w.seq


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("count", [5_000, 20_000])
async def test_every_coordinator_hears_all_copies_of_a_large_worker(
    nats_server: NatsServer, tmp_path: Path, carrier: str, count: int
) -> None:
    running = copies(count)
    async with three(nats_server.url, tmp_path, **SLOW) as stage, linked(stage, carrier) as w:
        await w.link.register(registration(carrier, running))

        async def answered() -> bool:  # while nobody leads for a moment, nobody answers
            seq = await beaten(stage, w, running)
            with contextlib.suppress(AssertionError):
                await until(lambda: w.acks and w.acks[-1][0] == seq, timeout=1, what="its answer")
            return bool(w.acks) and w.acks[-1][0] == seq

        await until(answered, timeout=90, what="an answer")
        numbers = [seq for seq, _ in w.acks]
        assert len(set(numbers)) == len(numbers), "one for each heartbeat"
        assert all(ack.lease_secs > 0 for _, ack in w.acks)
        for each in heard(stage):
            assert each.loss_window(running[-1].pipeline_id) == (count - 1) % 7
            assert each.load is not None
        for node in stage.nodes.values():
            view = (await stage.ask("GET", "/workers/w?consistency=stale", node=node)).json()
            assert view["status"] in {"ready", "suspect"} and view["pipelines_running"] == count


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_lost_parts_keep_a_worker_alive_and_its_copies_known(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    running = copies(5_000)
    async with three(nats_server.url, tmp_path, **SLOW) as stage, linked(stage, carrier) as w:
        await w.link.register(registration(carrier, []))
        whole = await beaten(stage, w, running)
        before = heard(stage)
        given_up = [table_of(node).incomplete for node in stage.nodes.values()]
        for number in range(1, 4):
            seq = w.seq = w.seq + 1
            w.losing.begin(number)  # a part in the middle, another one each time
            if carrier == "rest":  # where it is known at once, and the rest need not go
                with pytest.raises(NatsTransportError):
                    await w.link.beat(seq, heartbeat(seq, running), 1.0)
            else:
                await w.link.beat(seq, heartbeat(seq, running), 1.0)

            def alive(seq: int = seq) -> bool:
                return all(each.events_processed == seq for each in heard(stage))

            await until(alive, what="all hear that it lives")
        for last, then in zip(heard(stage), before, strict=True):
            assert (last.seq, last.count) == (whole, then.count) and last.pipelines is then.pipelines
            assert last.at > then.at
        await until(lambda: w.acks[-1][0] > whole, what="its lease goes on")
        w.losing.begin()
        await beaten(stage, w, running[:-1])
        for node, earlier in zip(stage.nodes.values(), given_up, strict=True):
            assert table_of(node).incomplete >= earlier + 3
