"""Sources that wait in JetStream: nothing is lost while nobody reads, and poison holds up nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import bare_client, collect, command, config, running
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport
from worker.app import Worker
from worker.connectors.durable import BUDGET, DurableSource


@asynccontextmanager
async def streamed() -> AsyncIterator[tuple[NatsServer, Any]]:
    """A server with a stream of all below `in`, and nats-py's own way to it."""
    with NatsServer(jetstream=True) as server:
        async with bare_client(server) as client:
            context = client.jetstream()
            await context.add_stream(name="IN", subjects=["in.>"])
            yield server, context


def program(server: NatsServer, source: str = 'topic: "in.>", stream: "IN", durable: "cell-7"') -> str:
    return (
        f'connector Bus = nats(servers: "{server.url}")\n'
        f"stream In = Reading.from(Bus, {source})\n"
        'stream Out = In.where(n >= 0).emit(n: n).to(Bus, topic: "out")\n'
    )


def reading(n: int) -> bytes:
    return json.dumps({"event_type": "Reading", "n": n}).encode()


async def settled(context: Any) -> bool:
    info = await context.consumer_info("IN", "cell-7")
    return bool(info.num_pending == info.num_ack_pending == 0)


async def test_what_comes_while_no_worker_runs_waits_and_each_event_is_acknowledged_once_handled(
    tmp_path: Path,
) -> None:
    async with streamed() as (server, context), bare_client(server) as client:
        heard = await collect(client, "out")
        await context.publish("in.a", b"no json")
        for part in (range(250), range(250, 300), range(300, 620)):
            for n in part:
                await context.publish("in.a", reading(n))
            async with running(server, tmp_path) as worker:
                answer = await command(client, "deploy", {"name": "p", "source": program(server)})
                assert answer.get("status") == "running", answer
                await until(lambda end=part.stop: len(heard.fields) >= end, what="the outputs")
                pipeline = worker.host.get(answer["id"])
                async with asyncio.timeout(10):
                    while not await settled(context):
                        await asyncio.sleep(0.01)
                assert pipeline.refused["bad_json"] == (part.start == 0), "refused once, then done with"
                assert pipeline.connectors.redelivered == 0
        assert [each["n"] for each in heard.fields] == list(range(620))


async def test_a_message_that_fails_each_time_is_ended_and_counted_and_the_others_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.connectors.durable._NAK_DELAY", 0.01)
    handled: list[bytes] = []

    async def handle(message: Message) -> None:
        if message.data == b"poison":
            raise ValueError("it does not agree with me")
        handled.append(message.data)

    async with streamed() as (server, context):
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
        source = DurableSource(bus, "IN", "cell-7", "in.>", handle)
        await source.start()
        for data in (b"1", b"poison", b"2"):
            await context.publish("in.a", data)
        await until(lambda: source.poison == 1, what="the end of the poison")
        assert handled == [b"1", b"2"] and source.redelivered == BUDGET
        async with asyncio.timeout(10):
            while not await settled(context):
                await asyncio.sleep(0.01)
        await source.stop(1)
        await bus.close()


async def test_what_was_not_handled_goes_back_at_once_when_a_reader_leaves() -> None:
    begun, go_on, rest = asyncio.Event(), asyncio.Event(), list[bytes]()

    async def first(message: Message) -> None:
        begun.set()
        await go_on.wait()

    async def second(message: Message) -> None:
        rest.append(message.data)

    async with streamed() as (server, context):
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
        for n in range(10):
            await context.publish("in.a", str(n).encode())
        leaving = DurableSource(bus, "IN", "cell-7", "in.>", first)
        await leaving.start()
        await begun.wait()
        stopping = asyncio.create_task(leaving.stop(5))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
        coming = DurableSource(bus, "IN", "cell-7", "in.>", second)
        await coming.start()
        await until(lambda: len(rest) >= 9, what="what the first one gave back")
        assert sorted(rest) == [b"%d" % n for n in range(1, 10)], "the one at hand was handled, and is done"
        await coming.stop(1)
        await bus.close()


async def test_a_server_that_was_away_is_shown_and_read_on(
    tmp_path: Path,
) -> None:
    async with streamed() as (server, _), bare_client(server, reconnect=True) as client:
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,), ping_interval=0.2), wait=5)
        handled: list[bytes] = []

        async def handle(message: Message) -> None:
            handled.append(message.data)

        source = DurableSource(bus, "IN", "cell-7", "in.>", handle)
        await source.start()
        server.kill()
        await until(lambda: source.error, timeout=10, what="the loss, shown")
        server.restart()
        again = client.jetstream()
        async with asyncio.timeout(10):
            while not client.is_connected:
                await asyncio.sleep(0.01)
        await again.publish("in.a", b"after the restart")
        await until(lambda: handled == [b"after the restart"], timeout=15, what="the message")
        await until(lambda: not source.error, what="that all is well, shown")
        await source.stop(1)
        await bus.close()


async def test_a_consumer_that_somebody_deletes_is_made_again_and_what_is_in_the_stream_comes() -> None:
    async with streamed() as (server, context):
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
        handled: list[bytes] = []

        async def handle(message: Message) -> None:
            handled.append(message.data)

        source = DurableSource(bus, "IN", "cell-7", "in.>", handle)
        await source.start()
        await context.publish("in.a", b"1")
        await until(lambda: handled == [b"1"], what="the message")
        await context.delete_consumer("IN", "cell-7")
        await context.publish("in.a", b"2")
        await until(lambda: handled == [b"1", b"1", b"2"], what="all messages, from another consumer")
        await until(lambda: not source.error, what="that all is well, shown")
        await source.stop(1)
        await bus.close()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('topic: "in.>", durable: "a"', "stream and durable go together"),
        ('topic: "in.>", stream: "IN", durable: "a.b"', "durable must be"),
        ('topic: "in.>", stream: "NONE", durable: "a"', "make the stream"),
        ('topic: "in.>", stream: "IN", durable: "a", queue_group: "g"', "queue_group"),
    ],
)
async def test_a_durable_source_that_cannot_be_is_refused_with_cause_and_remedy(
    tmp_path: Path, source: str, text: str
) -> None:
    async with (
        streamed() as (server, _),
        running(server, tmp_path),
        bare_client(server) as client,
    ):
        answer = await command(client, "deploy", {"name": "p", "source": program(server, source)})
        assert text in answer["error"], answer


async def test_instances_that_share_by_key_cannot_share_a_durable_source(tmp_path: Path) -> None:
    """Each event goes to one of them, which would drop it as another one's."""
    instance = {"of": "p", "number": 0, "count": 2, "key": "n"}
    async with streamed() as (server, _), running(server, tmp_path), bare_client(server) as client:
        wanted = {"name": "p-0", "group": "g", "source": program(server), "instance": instance}
        answer = await command(client, "deploy", wanted)
        assert answer["code"] == "bad_request" and "leave out partition_key" in answer["error"], answer


def summing(server: NatsServer, size: int) -> str:
    return (
        f'connector Bus = nats(servers: "{server.url}")\n'
        'stream In = Reading.from(Bus, topic: "in.>", stream: "IN", durable: "cell-7")\n'
        f"stream Sum = In.window({size}).aggregate(n: count(), total: sum(n))"
        '.emit(n: n, total: total).to(Bus, topic: "out")\n'
    )


async def unacknowledged(context: Any) -> int:
    info = await context.consumer_info("IN", "cell-7")
    return int(info.num_ack_pending)


async def unacknowledged_is(context: Any, count: int) -> bool:
    return await unacknowledged(context) == count


async def test_what_came_since_the_checkpoint_comes_again_and_no_event_is_missing_or_twice_in_the_state(
    tmp_path: Path,
) -> None:
    wanted = {"name": "p", "group": "g", "checkpoint_secs": 3600, "restore_from": "latest"}
    async with streamed() as (server, context), bare_client(server) as client:
        heard = await collect(client, "out")
        dying = Worker(config(server, tmp_path))
        await dying.start()
        answer = await command(client, "deploy", {**wanted, "source": summing(server, 800), "epoch": 1})
        assert answer.get("status") == "running", answer
        pipeline = dying.host.get(answer["id"])
        for part in (range(400), range(400, 700)):
            for n in part:
                await context.publish("in.a", reading(n))
            await until(lambda end=part.stop: pipeline.events_in == end, what="the events")
            assert await unacknowledged(context) == len(part), "nothing is before a checkpoint"
            if part.start == 0:
                await dying.host.save(pipeline)
                await until(lambda: unacknowledged_is(context, 0), what="what it holds is acknowledged")
        await dying.abandon()
        async with running(server, tmp_path) as worker:
            answer = await command(client, "deploy", {**wanted, "source": summing(server, 800), "epoch": 2})
            assert answer.get("status") == "running", answer
            for n in range(700, 800):
                await context.publish("in.a", reading(n))
            await until(lambda: heard.fields, what="the window of all events")
            pipeline = worker.host.get(answer["id"])
            assert pipeline.connectors.redelivered == 300
            await worker.host.save(pipeline)
            async with asyncio.timeout(10):
                while not await settled(context):
                    await asyncio.sleep(0.01)
        assert heard.fields == [{"n": 800, "total": sum(range(800))}]


async def test_a_checkpoint_is_taken_when_too_much_waits_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.connectors.durable.MAX_UNCOVERED", 150)
    async with streamed() as (server, context), bare_client(server) as client:
        heard = await collect(client, "out")
        for n in range(600):
            await context.publish("in.a", reading(n))
        async with running(server, tmp_path) as worker:
            wanted = {"name": "p", "group": "g", "checkpoint_secs": 3600, "source": summing(server, 600)}
            answer = await command(client, "deploy", wanted)
            assert answer.get("status") == "running", answer
            await until(lambda: heard.fields, what="the window of all events")
            assert worker.host.checkpoints.counts["written"] >= 2
        assert heard.fields == [{"n": 600, "total": sum(range(600))}]


async def test_a_pipeline_that_is_gone_for_good_leaves_nothing_to_come_again(tmp_path: Path) -> None:
    async with streamed() as (server, context), bare_client(server) as client:
        for n in range(100):
            await context.publish("in.a", reading(n))
        async with running(server, tmp_path) as worker:
            wanted = {"name": "p", "group": "g", "checkpoint_secs": 3600, "source": summing(server, 600)}
            answer = await command(client, "deploy", wanted)
            await until(lambda: worker.host.get(answer["id"]).events_in == 100, what="all events")
            assert await unacknowledged(context) == 100
            await command(client, "undeploy", {"pipeline_id": answer["id"], "forget": True})
            async with asyncio.timeout(10):
                while not await settled(context):
                    await asyncio.sleep(0.01)
