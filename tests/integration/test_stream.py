"""`/events` and `/stream` of three coordinators: what was decided, to whoever asks and whoever listens."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from coordinator import streams
from coordinator.app import Coordinator
from coordinator.state.limits import MAX_AUDIT
from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import Three, group, three
from transport.limits import RequestLimits


class Listener:
    """One client of a stream; `events` are (name, id, data) in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None, Any]] = []
        self.comments = 0
        self.status = 0
        self.ended = False

    def of(self, name: str) -> list[Any]:
        return [data for kind, _, data in self.events if kind == name]

    @property
    def last_id(self) -> str:
        return [number for _, number, _ in self.events if number is not None][-1]

    async def read(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                self.events.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
                fields = {}
            else:
                fields = {}
        self.ended = True


@contextlib.asynccontextmanager
async def listening(stage: Three, node: Coordinator, last: str | None = None) -> AsyncIterator[Listener]:
    listener = Listener()
    headers = {} if last is None else {"last-event-id": last}

    async def listen() -> None:
        async with stage.http.stream("GET", node.url + API_BASE + "/stream", headers=headers) as answer:
            await listener.read(answer)

    task = asyncio.create_task(listen())
    await until(lambda: listener.status, what="the stream began")
    try:
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_trail_tells_who_decided_what_and_why_and_can_be_asked_for_a_part(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        assert (await stage.ask("POST", "/pipeline-groups", group("g", "p", "q"))).status_code == 201
        answer = (await stage.ask("GET", "/events", params={"limit": 1000})).json()
        numbers = [event["seq"] for event in answer["events"]]
        assert numbers == sorted(set(numbers)) and answer["newest"] == numbers[-1] and answer["complete"]
        placed = [event for event in answer["events"] if event["what"] == "pipeline_placed"]
        assert [event["why"] for event in placed] == [
            "on w1: least loaded (0 of 10)",
            "on w1: least loaded (1 of 10)",
        ]
        assert all(event["by"] == "placement" and event["at"] <= event["seq"] for event in placed)

        async def about(**query: Any) -> list[str]:
            page = (await stage.ask("GET", "/events", node=stage.follower, params=query)).json()
            return [event["what"] for event in page["events"]]

        assert await about(about="g/p") == ["pipeline_placed", "pipeline_running"]
        assert await about(about="g", what="group_*") == ["group_created"]
        assert await about(by="register") == ["worker_registered"]
        assert await about(limit=1) == ["pipeline_running"], "the newest, when nobody says since when"
        assert await about(since=numbers[0], limit=2) == [event["what"] for event in answer["events"][1:3]], (
            "the oldest above it"
        )
        assert await about(since=numbers[-1]) == []


async def test_a_change_is_streamed_by_every_node_and_resumed_at_another_one_without_a_gap(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        async with listening(stage, stage.follower) as one, listening(stage, stage.leader) as other:
            await stage.ask("POST", "/pipeline-groups", group("g"))
            for listener in (one, other):  # a follower may hear now that the worker has registered
                await until(
                    lambda it=listener: any(each["what"] == "pipeline_running" for each in it.of("change")),
                    what="the changes came",
                )
            assert [each["what"] for each in one.of("change") if each["what"] != "worker_registered"] == [
                "group_created",
                "pipeline_placed",
                "pipeline_running",
            ]
            await until(lambda: one.of("summary"), what="a summary")
            await until(
                lambda: one.of("summary")[-1]["pipelines"]["running"] == 1, what="a summary that shows it"
            )
            await until(
                lambda: one.of("summary")[-1]["workers"]["ready"] == 1,
                what="one in which no heartbeat is late",
            )
            assert "events_per_sec" in one.of("summary")[-1]
        await stage.ask("DELETE", "/pipeline-groups/g")
        everything = (await stage.ask("GET", "/events", params={"limit": 1000})).json()["events"]
        async with listening(stage, stage.leader, one.last_id) as again:
            missed = [each for each in everything if each["seq"] > int(one.last_id)]
            await until(lambda: len(again.of("change")) >= len(missed), what="what was missed")
            assert again.of("change") == missed and missed[-1]["what"] == "group_removed"
            assert not again.of("reset")


async def test_who_is_too_far_behind_or_of_another_trail_is_told_to_load_anew(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        for last in ("99999999999999", "nonsense"):
            async with listening(stage, stage.leader, last) as listener:
                await until(lambda it=listener: it.of("reset"), what="reset")
                newest = listener.of("reset")[0]["newest"]
                assert listener.last_id == str(newest), "and goes on from there"


async def test_a_large_deploy_is_streamed_whole(nats_server: NatsServer, tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(100)]
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url, max_pipelines=200),
        listening(stage, stage.follower) as listener,
    ):
        body = group("g", *names)
        assert (await stage.ask("POST", "/pipeline-groups", body, params={"wait": 30})).status_code == 201

        def running() -> list[str]:
            changes = [each for each in listener.of("change") if each["what"] == "pipeline_running"]
            return [each["about"].split("@")[0] for each in changes]

        await until(lambda: len(running()) >= 100, timeout=15, what="all changes")
        assert sorted(running()) == sorted(f"g/{name}" for name in names) and not listener.of("reset")


async def test_streams_are_bounded_and_end_when_the_coordinator_stops(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: Any
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        node = stage.follower
        monkeypatch.setattr(node._streams, "_max_clients", 1)
        async with listening(stage, node) as listener:
            answer = await stage.http.get(node.url + API_BASE + "/stream")
            assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == "unavailable" and "1 clients" in answer.json()["error"]
            await stage.stop(node.config.node_id)
            await until(lambda: listener.ended, what="the stream ended")
            assert listener.of("end")
        async with listening(stage, stage.leader):
            assert stage.leader._streams is not None and stage.leader._streams.clients == 1
        hub = stage.leader._streams
        await until(lambda: hub is not None and hub.clients == 0, what="a client that left is forgotten")


async def test_an_idle_stream_outlives_the_time_a_request_may_take_and_shows_that_it_lives(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: Any
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        node = stage.follower
        assert node._streams is not None
        monkeypatch.setattr(node._streams, "_heartbeat", 0.1)
        (limits,) = (layer for layer in stage.layers(node) if isinstance(layer, RequestLimits))
        monkeypatch.setattr(limits, "_timeout", 0.2)
        async with listening(stage, node) as listener:
            await until(lambda: listener.comments >= 5, what="signs of life")
            assert not listener.ended


async def test_a_client_that_does_not_read_is_let_go_and_one_that_is_slow_is_reset() -> None:
    """Without sockets: `send` is the client, and takes what it likes when it likes."""
    from coordinator.machine import ClusterMachine
    from coordinator.state.apply import apply
    from coordinator.state.commands import Announce

    machine = ClusterMachine()
    hub = streams.Streams(lambda: machine.state, patience=0.05)
    taken: list[bytes] = []
    stuck, free = asyncio.Event(), asyncio.Event()

    def change(number: int) -> None:
        apply(machine.state, Announce(at=number, by="t", node_id="n", url=f"http://{number}"))
        hub.changed(())

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if b"event: change" in message.get("body", b""):
            stuck.set()
            await free.wait()
        taken.append(message.get("body", b""))

    slow = asyncio.create_task(hub.open("0")({}, receive, send))
    change(1)
    await stuck.wait()
    await until(lambda: slow.done(), what="it was let go")
    assert hub.let_go == 1 and hub.clients == 0

    patient = streams.Streams(lambda: machine.state)
    stuck.clear()
    task = asyncio.create_task(patient.open("0")({}, receive, send))
    await stuck.wait()
    for number in range(2, MAX_AUDIT + 10):
        change(number)
    free.set()
    await until(lambda: any(b"event: reset" in part for part in taken), what="reset")
    assert patient.resets == 1
    patient.close()
    await asyncio.wait_for(task, 5)
    assert b"event: end" in taken[-1]
