"""A pipeline on a stream: what comes out when copies die, move or are fenced off, and the server restarts."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from proto_schemas.subjects import Subjects
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import Collected, bare_client, collect, command, running
from transport.config import NatsConfig
from transport.jetstream import JetStream, Outgoing
from transport.nats import NatsTransport
from worker.app import Worker
from worker.delivery.feed import Feed
from worker.delivery.reader import Reader
from worker.pipeline import Pipeline

SUBJECTS = Subjects()
STREAM = SUBJECTS.stream("g")
ENTRY = SUBJECTS.pipeline("g", "_external", "p")
EXIT = SUBJECTS.pipeline("g", "p", "_external")
SUMS = """
stream Ins = In
    .partition_by(k)
    .window(60s)
    .aggregate(k: last(k), n: count(), total: sum(n), most: max(n))
    .emit(k: k, n: n, total: total, most: most)
"""


@pytest.fixture
def jetstream_server() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


@asynccontextmanager
async def streaming(server: NatsServer) -> AsyncIterator[JetStream]:
    """A connection, and the stream of group `g`."""
    bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5.0)
    try:
        jetstream = JetStream(bus)
        config = {"name": STREAM, "subjects": SUBJECTS.stream_subjects("g"), "allow_atomic": True}
        await jetstream.api(f"STREAM.CREATE.{STREAM}", config)
        yield jetstream
    finally:
        await bus.close()


def on_a_shared_store(tmp_path: Path, interval: float = 0.5) -> dict[str, Any]:
    return {"checkpoint_store": f"dir:{tmp_path / 'checkpoints'}", "checkpoint_interval": interval}


def event(number: int) -> bytes:
    """Numbers of seven keys; a window of a key closes after sixty of its own."""
    fields = {"n": number, "k": f"k{number % 7}"}
    return json.dumps({"event_type": "In", "timestamp": number // 7 * 1000, "fields": fields}).encode()


async def send(jetstream: JetStream, numbers: range) -> None:
    for first in range(numbers.start, numbers.stop, 200):
        part = range(first, min(first + 200, numbers.stop))
        await jetstream.publish_together([Outgoing(ENTRY, event(number)) for number in part])


async def deploy(client: Client, worker: str, epoch: int, **more: Any) -> dict[str, Any]:
    message = {
        "name": "p",
        "source": SUMS,
        "group": "g",
        "epoch": epoch,
        "queue": "g.p.1",
        "delivery": "exactly_once",
        "restore_from": "latest",
        **more,
    }
    answer: dict[str, Any] = await command(client, "deploy", message, worker)
    return answer


async def outputs(jetstream: JetStream, subject: str = EXIT) -> list[dict[str, Any]]:
    """What lies on a subject of the stream, in order."""
    reader, found = Reader(jetstream, STREAM, [subject], 0), []
    while True:
        taken = await reader.take(500, 0.2)
        if not taken and reader.caught_up:
            break
        found += [json.loads(fetched.data)["fields"] for fetched in taken]
    await reader.stop()
    return found


def expected(count: int) -> list[dict[str, Any]]:
    """What the closed windows of the first `count` numbers hold."""
    open_: dict[int, list[int]] = {}
    closed = []
    for number in range(count):
        window = open_.setdefault(number % 7, [])
        if window and number // 7 * 1000 >= window[0] // 7 * 1000 + 60_000:
            closed.append(
                {"k": f"k{number % 7}", "n": len(window), "total": sum(window), "most": max(window)}
            )
            window = open_[number % 7] = []
        window.append(number)
    return closed


async def come_out(jetstream: JetStream, wanted: list[dict[str, Any]]) -> None:
    """Wait until as much has come out, and have it be what was wanted, event for event."""

    async def complete() -> bool:
        return len(await outputs(jetstream)) >= len(wanted)

    await until(complete, what="every window")
    assert await outputs(jetstream) == wanted


def copy_of(worker: Worker) -> Pipeline:
    (pipeline,) = worker.host.pipelines
    return pipeline


def feed_of(worker: Worker) -> Feed:
    feed = copy_of(worker).feed
    assert feed is not None
    return feed


async def has_taken(worker: Worker, count: int) -> None:
    await until(lambda: copy_of(worker).events_in >= count, what=f"{count} events taken")


async def has_saved(worker: Worker) -> None:
    await until(lambda: worker.host.checkpoints.counts["written"] > 0, what="a checkpoint")


async def test_what_was_sent_before_anything_ran_is_handled(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)),
        bare_client(jetstream_server) as client,
    ):
        await send(jetstream, range(5000))
        assert (await deploy(client, "worker-0", 1))["status"] == "running"
        await come_out(jetstream, expected(5000))


async def test_a_copy_goes_on_where_a_dead_one_was_and_puts_out_nothing_twice(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared) as dead,
        running(jetstream_server, tmp_path, worker_id="w-1", **shared) as heir,
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "w-0", 1)
        await send(jetstream, range(2500))
        await has_taken(dead, 2500)
        await has_saved(dead)
        copy_of(dead).checkpoint_secs = 0.0  # and no other one is taken
        await send(jetstream, range(2500, 6000))
        await has_taken(dead, 6000)
        await until(lambda: dead_settled(dead), what="the outputs stored")
        await dead.abandon()  # as kill -9 does: it says nothing, and saves nothing
        made = await deploy(client, "w-1", 2)
        assert "read what came after it again" in made["begun"], made
        await send(jetstream, range(6000, 8000))
        await come_out(jetstream, expected(8000))
        assert feed_of(heir).replayed > 0, "what came after the checkpoint was made again, and left out"


def dead_settled(worker: Worker) -> bool:
    feed = feed_of(worker)
    return feed.lag == 0 and not feed.waiting


async def test_a_copy_that_lives_on_is_refused_by_the_stream_and_stops(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared) as zombie,
        running(jetstream_server, tmp_path, worker_id="w-1", **shared),
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "w-0", 1)
        await send(jetstream, range(3000))
        await has_taken(zombie, 3000)
        await deploy(client, "w-1", 2)  # nobody told the first one
        await send(jetstream, range(3000, 7000))
        await come_out(jetstream, expected(7000))
        await until(lambda: copy_of(zombie).state == "failed", what="the zombie's end")
        assert feed_of(zombie).fenced
        assert "fenced off" in (copy_of(zombie).reason or "")


async def test_a_move_needs_no_held_events_and_changes_no_output(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared),
        running(jetstream_server, tmp_path, worker_id="w-1", **shared),
        bare_client(jetstream_server) as client,
    ):
        copy = (await deploy(client, "w-0", 1))["id"]
        sending = asyncio.create_task(send(jetstream, range(20_000)))
        source, target = "w-0", "w-1"
        for epoch in range(2, 8):
            copy = await move(client, copy, source, target, epoch)
            source, target = target, source
        await sending
        await come_out(jetstream, expected(20_000))


async def move(client: Client, copy: str, source: str, target: str, epoch: int) -> str:
    """The whole of a move, as the coordinator does it; the id of the new copy."""
    new = await deploy(client, target, epoch, hold=True, restore_from=None)
    assert new["status"] == "held", new
    assert (await command(client, "hold", {"pipeline_id": copy}, source))["ok"]
    assert (await command(client, "hold", {"pipeline_id": new["id"]}, target))["ok"]
    given = await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, source)
    assert given["positions"][STREAM] >= 0 and "held" not in given
    back = {"pipeline_id": new["id"], "checkpoint": given, "resume": True, "queue": f"g.p.{epoch}"}
    assert (await command(client, "restore", back, target))["ok"]
    assert (await command(client, "restore", back, target))["ok"], "repeated, it has no effect"
    assert (await command(client, "undeploy", {"pipeline_id": copy}, source))["ok"]
    return str(new["id"])


async def test_a_move_that_is_given_up_after_the_hand_over_lets_the_source_go_on(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared),
        running(jetstream_server, tmp_path, worker_id="w-1", **shared),
        bare_client(jetstream_server) as client,
    ):
        copy = (await deploy(client, "w-0", 1))["id"]
        await send(jetstream, range(2000))
        new = await deploy(client, "w-1", 2, hold=True, restore_from=None)
        await command(client, "hold", {"pipeline_id": copy}, "w-0")
        await command(client, "checkpoint", {"pipeline_id": copy, "handover": True}, "w-0")
        await send(jetstream, range(2000, 4000))
        assert (await command(client, "restore", {"pipeline_id": copy, "resume": True}, "w-0"))["ok"]
        assert (await command(client, "undeploy", {"pipeline_id": new["id"]}, "w-1"))["ok"]
        await come_out(jetstream, expected(4000))


async def test_a_restart_of_the_server_costs_no_event_and_doubles_none(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)) as worker,
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "worker-0", 1)
        await send(jetstream, range(10_000))
        await has_taken(worker, 1000)
        jetstream_server.restart()
        await until(lambda: jetstream.bus.stats.reconnects and jetstream.bus.connected)
        await send(jetstream, range(10_000, 12_000))
        await come_out(jetstream, expected(12_000))


async def test_a_closing_by_the_timer_is_closed_again_where_it_was(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    """What came after it belongs to the next window, also where all of it is read again at once."""
    source = "stream Ins = In.window(300ms).aggregate(n: count(), total: sum(n)).emit(n: n, total: total)"
    shared = on_a_shared_store(tmp_path, 0.0)

    def at_one_time(number: int) -> Outgoing:
        event = {"event_type": "In", "timestamp": 1000, "fields": {"n": number}}
        return Outgoing(ENTRY, json.dumps(event).encode())

    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared) as dead,
        running(jetstream_server, tmp_path, worker_id="w-1", **shared) as heir,
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "w-0", 1, source=source)
        for number in range(3):
            await jetstream.publish(at_one_time(number))
            await until(partial(has_stored, dead, number + 1), what="the timer closed it")
        await dead.abandon()
        await deploy(client, "w-1", 2, source=source)
        await until(lambda: copy_of(heir).events_in == 3, what="all was read again")
        await jetstream.publish(at_one_time(3))
        await come_out(jetstream, [{"n": 1, "total": number} for number in range(4)])
        assert feed_of(heir).counts.outputs == 1


def has_stored(worker: Worker, count: int) -> bool:
    return feed_of(worker).counts.outputs >= count


async def test_no_checkpoint_is_taken_of_what_came_of_outputs_that_are_not_stored(
    jetstream_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who went on from it would leave them out."""
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)) as worker,
        bare_client(jetstream_server) as client,
    ):
        copy = (await deploy(client, "worker-0", 1))["id"]
        writer, may_store = feed_of(worker)._writer, asyncio.Event()
        store = writer.store

        async def store_later(*batch: Any) -> None:
            await may_store.wait()
            await store(*batch)

        monkeypatch.setattr(writer, "store", store_later)
        await send(jetstream, range(2000))
        await until(lambda: feed_of(worker).waiting, what="a batch that is not stored")
        refused = await command(client, "checkpoint", {"pipeline_id": copy})
        assert refused["code"] == "unavailable" and "not stored" in refused["error"], refused
        may_store.set()
        asked = {"pipeline_id": copy}
        both = await asyncio.gather(*(command(client, "checkpoint", asked) for _ in range(2)))
        assert all("error" not in answer for answer in both), both
        await come_out(jetstream, expected(2000))
        assert (await command(client, "checkpoint", {"pipeline_id": copy}))["positions"][STREAM] > 0


async def test_at_least_once_repeats_what_came_after_the_checkpoint_and_loses_nothing(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared) as dead,
        running(jetstream_server, tmp_path, worker_id="w-1", **shared) as heir,
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "w-0", 1, delivery="at_least_once")
        await send(jetstream, range(2500))
        await has_taken(dead, 2500)
        await has_saved(dead)
        copy_of(dead).checkpoint_secs = 0.0  # and no other one is taken
        await send(jetstream, range(2500, 6000))
        await has_taken(dead, 6000)
        await until(lambda: dead_settled(dead), what="the outputs stored")
        await dead.abandon()
        await deploy(client, "w-1", 2, delivery="at_least_once")
        await has_taken(heir, 1000)
        await send(jetstream, range(6000, 8000))
        wanted = expected(8000)
        found: list[dict[str, Any]] = []

        async def complete() -> bool:
            found[:] = await outputs(jetstream)
            return bool(found) and found[-1] == wanted[-1]

        await until(complete, what="the last window")
    assert [each for number, each in enumerate(found) if each not in found[:number]] == wanted
    assert len(found) > len(wanted), "what came out after the checkpoint came out again"


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        (
            {"source": 'stream Ins = In.emit(n: n).to(B, topic: "x")', "connectors": "B"},
            "bad_request",
            "twice",
        ),
        (
            {"source": 'stream Ins = In.from(B, topic: "x").emit(n: n)', "connectors": "B"},
            "bad_request",
            "in no stream",
        ),
        ({"delivery": "twice"}, "bad_request", "not known"),
    ],
)
async def test_what_cannot_be_promised_is_refused(
    jetstream_server: NatsServer, tmp_path: Path, more: dict[str, Any], code: str, text: str
) -> None:
    if name := more.pop("connectors", None):
        params = {"servers": jetstream_server.url}
        more = {**more, "connectors": [{"name": name, "connector_type": "nats", "params": params}]}
    async with (
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)) as worker,
        bare_client(jetstream_server) as client,
    ):
        refused = await deploy(client, "worker-0", 1, **more)
        assert refused["code"] == code and text in refused["error"], refused
        assert worker.host.pipelines == []


async def test_a_worker_whose_checkpoints_nobody_else_can_read_refuses(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(jetstream_server, tmp_path),
        bare_client(jetstream_server) as client,
    ):
        refused = await deploy(client, "worker-0", 1)
    assert refused["code"] == "unavailable" and "--checkpoint-store" in refused["error"]


async def test_without_its_stream_a_deploy_is_refused_for_now(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)),
        bare_client(jetstream_server) as client,
    ):
        refused = await deploy(client, "worker-0", 1)
    assert refused["code"] == "engine_error" and refused["retryable"], refused
    assert "stream not found" in refused["error"]


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning_and_that_is_told(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        running(jetstream_server, tmp_path, worker_id="w-0", **on_a_shared_store(tmp_path)) as before,
        running(jetstream_server, tmp_path, worker_id="w-1", **on_a_shared_store(tmp_path)),
        bare_client(jetstream_server) as client,
    ):
        async with streaming(jetstream_server) as jetstream:
            await deploy(client, "w-0", 1)
            await send(jetstream, range(2000))
            await has_taken(before, 2000)
            await has_saved(before)
            await before.abandon()
            await jetstream.api(f"STREAM.DELETE.{STREAM}")
        async with streaming(jetstream_server):
            assert "made anew" in (await deploy(client, "w-1", 2))["begun"]


async def test_events_that_were_removed_unread_are_told_and_counted(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    shared = on_a_shared_store(tmp_path)
    async with (
        streaming(jetstream_server) as jetstream,
        running(jetstream_server, tmp_path, worker_id="w-0", **shared) as before,
        running(jetstream_server, tmp_path, worker_id="w-1", **shared) as heir,
        bare_client(jetstream_server) as client,
    ):
        await deploy(client, "w-0", 1)
        await send(jetstream, range(500))
        await has_taken(before, 500)
        await until(lambda: copy_of(before).loss_window(time.monotonic()) == 0, what="all saved")
        await before.abandon()
        await send(jetstream, range(500, 900))
        await jetstream.api(f"STREAM.PURGE.{STREAM}", {"filter": f"{SUBJECTS.prefix}.>"})
        made = await deploy(client, "w-1", 2)
        assert "were removed from its stream unread" in made["begun"], made
        assert feed_of(heir).expired >= 400


async def test_at_least_once_a_connector_is_given_every_output_though_its_server_was_away(
    jetstream_server: NatsServer, tmp_path: Path
) -> None:
    with NatsServer() as outside:
        source = (
            f'connector Out = nats(servers: "{outside.url}")\n'
            'stream Each = In.emit(n: n).to(Out, topic: "out")'
        )
        async with (
            streaming(jetstream_server) as jetstream,
            running(jetstream_server, tmp_path, **on_a_shared_store(tmp_path)) as worker,
            bare_client(jetstream_server) as client,
        ):
            await deploy(client, "worker-0", 1, source=source, delivery="at_least_once")
            outside.kill()
            await send(jetstream, range(500))
            await until(lambda: feed_of(worker).counts.sent_again > 0, what="attempts in vain")
            outside.restart()
            async with bare_client(outside) as listener:
                heard = await collect(listener, "out")
                await listener.flush()
                await send(jetstream, range(500, 1000))
                await until(lambda: 999 in {each["n"] for each in heard.fields}, what="the last one")
        assert numbers(heard) >= set(range(500, 1000))


def numbers(heard: Collected) -> set[int]:
    return {fields["n"] for fields in heard.fields}
