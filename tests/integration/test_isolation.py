"""One pipeline that misbehaves, and what its neighbours on the same worker notice of it: nothing."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from proto_schemas.subjects import Subjects
from tests.integration.test_delivery import on_a_shared_store, outputs, streaming
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import three
from tests.unit.worker.support import (
    PASS,
    Collected,
    Played,
    bare_client,
    collect,
    command,
    coordinated,
    running,
)
from transport.jetstream import JetStream, Outgoing
from worker.app import Worker
from worker.budget import Limits
from worker.delivery.feed import BATCH, BURST
from worker.delivery.reader import PREFETCH

SUBJECTS = Subjects()
ENDLESS = "\n".join(
    [
        'fn g0(x: str) -> str:\n    replace(replace(x, "a", "b"), "b", "a")',
        *(f"fn g{n}(x: str) -> str:\n    g{n - 1}(g{n - 1}(x))" for n in range(1, 9)),
        "stream Long = In.emit(n: n, "
        + ", ".join(f"x{n}: len(g8(g8(g8(g8(text)))))" for n in range(4))
        + ")",
    ]
)
"""A millisecond for a short text, and eight seconds for a long one."""
LONG = "a" * 900_000
SHORT = "a"
ROUTES = [
    {"from_pipeline": name, "to_pipeline": "x", "event_types": ["*"], "nats_subject": f"out.{name}"}
    for name in ("bad", "good")
]


@pytest.fixture
def jetstream_server() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


def ingress(name: str) -> str:
    return SUBJECTS.pipeline("g", "_external", name)


def event(number: int, text: str = SHORT) -> bytes:
    return json.dumps({"event_type": "In", "fields": {"n": number, "text": text}}).encode()


async def deploy(client: Client, name: str, source: str, **more: Any) -> str:
    message = {"name": name, "source": source, "group": "g", "epoch": 1, "routes": ROUTES, **more}
    answer = await command(client, "deploy", message)
    assert answer.get("status") == "running", answer
    return str(answer["id"])


class Neighbour:
    """A pipeline that runs beside, is sent an event every few milliseconds, and must miss none."""

    def __init__(self, client: Client, heard: Collected) -> None:
        self._client, self._heard, self._sent = client, heard, 0

    async def keep_sending(self) -> None:
        while True:
            await self._client.publish(ingress("good"), event(self._sent))
            self._sent += 1
            await asyncio.sleep(0.002)

    async def has_all(self) -> None:
        """What was sent until now comes out, each once, in order."""
        await until(lambda: len(self._heard.messages) >= self._sent, what="the neighbour's outputs")
        assert [each["n"] for each in self._heard.fields] == list(range(self._sent))


@asynccontextmanager
async def beside(client: Client) -> AsyncIterator[Neighbour]:
    """A neighbour that is sent events during the block."""
    neighbour = Neighbour(client, await collect(client, "out.good"))
    await deploy(client, "good", PASS)
    sending = asyncio.create_task(neighbour.keep_sending())
    try:
        yield neighbour
    finally:
        sending.cancel()
        await asyncio.wait({sending})
    await neighbour.has_all()


async def is_reported(coordinator: Played, pipeline_id: str) -> str:
    """The reason with which heartbeats tell that a copy failed."""

    def found() -> str:
        copies = coordinator.heartbeats[-1].get("pipelines") or () if coordinator.heartbeats else ()
        return next(
            (
                each["reason"]
                for each in copies
                if each["pipeline_id"] == pipeline_id and each["state"] == "failed"
            ),
            "",
        )

    await until(lambda: bool(found()), what="the reason in a heartbeat")
    return found()


async def test_an_event_that_takes_too_long_is_cut_off_while_neighbours_and_lease_go_on(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        coordinated(nats_server, lease_secs=6) as coordinator,
        running(nats_server, tmp_path, event_secs=0.2) as worker,
        bare_client(nats_server) as client,
    ):
        await until(lambda: worker._lease.granted, what="the lease")
        async with beside(client):
            bad = await deploy(client, "bad", ENDLESS)
            await client.publish(ingress("bad"), event(0, LONG))
            reason = await is_reported(coordinator, bad)
        losses = worker.host.losses()
    assert "'In' took more than 0.2 s of processor time" in reason
    assert losses["lease_expired"] == 0, "heartbeats kept the lease meanwhile"
    assert worker.host.watchdog.ended == 1


async def test_a_limit_that_may_cost_the_lease_is_told(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with coordinated(nats_server, lease_secs=1.5), running(nats_server, tmp_path, event_secs=2.0):
        await until(lambda: "Lower event_secs" in caplog.text, what="the warning")
    assert caplog.text.count("Lower event_secs") == 1


async def test_a_pipeline_that_fails_on_every_event_is_stopped_and_costs_its_neighbours_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    def explode(event_type: str, fields: dict[str, Any], ts: int) -> None:
        raise RuntimeError("a bug in the engine")

    async with (
        coordinated(nats_server, lease_secs=1.5) as coordinator,
        running(nats_server, tmp_path, error_budget=20) as worker,
        bare_client(nats_server) as client,
        beside(client),
    ):
        bad = await deploy(client, "bad", PASS)
        worker.host.get(bad).engine.process = explode
        for number in range(2000):
            await client.publish(ingress("bad"), event(number))
        reason = await is_reported(coordinator, bad)
        assert reason == "20 events in a row failed, the last with RuntimeError: a bug in the engine"


async def test_more_keys_than_a_stream_may_keep_evict_the_oldest_and_are_counted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = "stream Seen = In.partition_by(n).window(1h).aggregate(n: count()).emit(n: n)"
    async with (
        running(nats_server, tmp_path, max_keys=1000) as worker,
        bare_client(nats_server) as client,
        beside(client),
    ):
        bad = worker.host.get(await deploy(client, "bad", source))
        for number in range(20_000):
            await client.publish(ingress("bad"), event(number))
        await until(lambda: bad.events_in == 20_000, what="all keys")
        ((_, keeper),) = bad.engine._keepers
        assert keeper.weigh(10**9) <= 1000 * 4
        assert bad.losses()["window_evicted"] >= 19_000


async def test_a_flood_is_bounded_counted_and_leaves_neighbours_their_turns(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
        bare_client(nats_server) as flood,
        beside(client),
    ):
        bad = worker.host.get(await deploy(client, "bad", PASS))
        (subscription,) = [each for each in bad.inputs._subscriptions if each.subject.endswith(".bad")]
        subscription._max_messages, most = 500, 0
        for number in range(50_000):
            await flood.publish(ingress("bad"), event(number))
            most = max(most, subscription.pending)
        await flood.flush()

        def accounted() -> int:
            return bad.events_in + bad.losses()["slow_consumer"]

        await until(lambda: accounted() == 50_000, what="each event handled, or counted")
        assert most <= 500


async def test_a_sink_that_takes_nothing_holds_no_memory_and_no_neighbour(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with NatsServer() as slow:
        sink = f'connector Slow = nats(servers: "{slow.url}")\nstream Out = In.emit(text: text).to(Slow)'
        async with (
            running(nats_server, tmp_path) as worker,
            bare_client(nats_server) as client,
            beside(client),
        ):
            bad = worker.host.get(await deploy(client, "bad", sink, routes=None))
            slow.pause()
            try:
                text = "a" * 10_000
                sent = 0
                while not (bad.losses()["congested"] + bad.losses()["disconnected"]):
                    for _ in range(100):
                        await client.publish(ingress("bad"), event(sent, text))
                        sent += 1
                    await until(lambda all_=sent: bad.events_in == all_, what="they are handled all the same")
                    assert sent < 5_000, "50 MB are nowhere: they were kept"
            finally:
                slow.resume()


async def test_a_stream_that_stores_nothing_slows_its_reader_and_nothing_is_kept_or_dropped(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    events, may_store = 6000, asyncio.Event()
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path, 0.0)) as worker,
        bare_client(jetstream_server) as client,
    ):
        bad = worker.host.get(await deploy(client, "bad", PASS, delivery="exactly_once", routes=None))
        feed = bad.feed
        assert feed is not None and feed._reader is not None
        reader, store = feed._reader, feed._writer.store

        async def store_later(*batch: Any) -> None:
            await may_store.wait()
            await store(*batch)

        feed._writer.store = store_later  # type: ignore[method-assign,assignment]
        for first in range(0, events, 200):
            batch = [Outgoing(ingress("bad"), event(number)) for number in range(first, first + 200)]
            await jetstream.publish_together(batch)
        await until(lambda: feed.waiting > BATCH and reader.buffered > PREFETCH // 2, what="it waits")
        assert bad.events_in <= 2 * BATCH + 2 * BURST
        assert reader.buffered <= PREFETCH
        may_store.set()
        await until(lambda: feed.counts.outputs == events, what="all of them stored")
        assert not bad.dropped and not bad.refused
        assert [each["n"] for each in await what_came_out(jetstream)] == list(range(events))


async def test_the_coordinators_say_why_a_pipeline_was_cut_off_and_leave_its_neighbour_alone(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        running(nats_server, tmp_path, event_secs=0.2) as worker,
        bare_client(nats_server) as client,
    ):
        pipelines = [{"name": "bad", "source": ENDLESS}, {"name": "good", "source": PASS}]
        made = await stage.ask("POST", "/pipeline-groups", {"name": "g", "pipelines": pipelines})
        assert made.status_code == 201, made.text
        before = {each["pipeline_name"]: each for each in await stage.placements()}
        await client.publish(ingress("bad"), event(0, LONG))

        async def has_failed() -> bool:
            (bad, _) = await stage.placements()
            return bool(bad["status"] == "failed")

        await until(has_failed, what="the placement failed")
        bad, good = await stage.placements()
        assert "took more than 0.2 s of processor time" in bad["reason"]
        assert bad["epoch"] == before["bad"]["epoch"], "it is not placed again at once"
        assert good == before["good"]
        assert worker.host.losses()["lease_expired"] == 0


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
async def test_an_event_that_cut_a_copy_off_is_left_out_when_the_next_one_reads_it_again(
    jetstream_server: NatsServer, tmp_path: Path, delivery: str
) -> None:
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, event_secs=0.2, **on_a_shared_store(tmp_path)) as worker,
        bare_client(jetstream_server) as client,
    ):
        again = {"delivery": delivery, "restore_from": "latest", "routes": None}
        source = f"{ENDLESS}\nstream Sums = In.window(2).aggregate(n: sum(n)).emit(n: n)"
        for number, text in enumerate((SHORT, LONG, SHORT, LONG, SHORT)):
            await jetstream.bus.publish(ingress("bad"), event(number, text))
        for epoch in (1, 2):
            bad = worker.host.get(await deploy(client, "bad", source, epoch=epoch, **again))
            await until(lambda bad=bad: bad.state == "failed" and not bad.last_word_due, what="its end")
            await has_said_its_last_word(worker)
        last = worker.host.get(await deploy(client, "bad", source, epoch=3, **again))
        await until(lambda: last.events_in == 3, what="the rest")
        assert last.losses()["cut_off"] == 2
        await until(lambda: last.feed is not None and not last.feed.waiting, what="the outputs stored")
        assert last.state == "running"
        found = [each["n"] for each in await what_came_out(jetstream)]
    whole = [0, 2, 2, 4]  # three short events, and the sum of the first two
    assert found == whole if delivery == "exactly_once" else found[-4:] == whole


async def has_said_its_last_word(worker: Worker) -> None:
    archive, (pipeline,) = worker.host.checkpoints.archive, worker.host.pipelines

    async def known() -> bool:
        assert pipeline.feed is not None
        manifest, _ = await archive._store.manifest(pipeline.owner.place)
        return manifest is not None and pipeline.feed.cut_off in manifest.left_out

    await until(known, what="the input that is to be left out")


async def what_came_out(jetstream: JetStream) -> list[dict[str, Any]]:
    return await outputs(jetstream, SUBJECTS.pipeline("g", "bad", "_external"))


async def test_events_that_used_the_budget_up_are_not_read_again(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    def explode(event_type: str, fields: dict[str, Any], ts: int) -> None:
        raise RuntimeError("a bug in the engine")

    budget = Limits().in_a_row
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path, 0.0)) as worker,
        bare_client(jetstream_server) as client,
    ):
        again = {"delivery": "exactly_once", "restore_from": "latest", "routes": None}
        source = "stream Sums = In.window(2).aggregate(n: sum(n)).emit(n: n)"
        bad = worker.host.get(await deploy(client, "bad", source, **again))
        await jetstream.bus.publish(ingress("bad"), event(1))
        await until(lambda: bad.events_in == 1, what="the first event")
        bad.engine.process = explode
        for number in range(budget + 1):
            await jetstream.bus.publish(ingress("bad"), event(1000 + number))
        await until(lambda: worker.host.checkpoints.counts["written"] == 1, what="its last checkpoint")
        assert bad.state == "failed"
        await deploy(client, "bad", source, epoch=2, **again)
        await until_out(jetstream, [1 + 1000 + budget])


async def until_out(jetstream: JetStream, wanted: list[int]) -> None:
    async def out() -> bool:
        return [each["n"] for each in await what_came_out(jetstream)] == wanted

    await until(out, what=f"the window of {wanted}")
