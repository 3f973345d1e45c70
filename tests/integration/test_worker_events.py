"""Events through workers: sources, routes, sinks; what is moved, broken, drained, cut off."""

import asyncio
import json
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import (
    PASS,
    Played,
    bare_client,
    collect,
    command,
    coordinated,
    running,
)
from worker.budget import Limits

FAILURE_BUDGET = Limits().in_a_row
CHAIN = [
    {"from_pipeline": "_external", "to_pipeline": "first", "event_types": ["*"]},
    {"from_pipeline": "first", "to_pipeline": "second", "event_types": ["Big*"]},
]
FIRST = "stream Bigger = In.where(n > 10).emit(n: n)\nstream Other = In.emit(n: n)"
SECOND = "stream Twice = Bigger.emit(n: n, double: n * 2)"


async def deploy(client: Client, name: str, source: str, worker_id: str = "worker-0", **more: Any) -> str:
    answer = await command(client, "deploy", {"name": name, "source": source, **more}, worker_id)
    assert answer.get("status") == "running", answer
    return str(answer["id"])


def bus(server: NatsServer, program: str) -> str:
    return f'connector Bus = nats(servers: "{server.url}")\n{program}'


async def send(client: Client, subject: str, *events: dict[str, Any]) -> None:
    for event in events:
        await client.publish(subject, json.dumps(event).encode())
    await client.flush()


async def test_an_event_goes_from_outside_through_two_workers(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    out = [
        *CHAIN,
        {"from_pipeline": "second", "to_pipeline": "x", "event_types": ["*"], "nats_subject": "out"},
    ]
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        await deploy(client, "first", FIRST, "w-0", group="g", routes=CHAIN)
        await deploy(client, "second", SECOND, "w-1", group="g", routes=out)
        subject = "varpulis.cluster.pipeline.g._external.first"
        await send(
            client, subject, {"event_type": "In", "n": 2**70}, {"event_type": "In", "fields": {"n": 11}}
        )
        await send(client, subject, {"event_type": "In", "n": 3})
        await until(lambda: len(heard.messages) == 2, what="both outputs")
    assert heard.fields == [{"n": 2**70, "double": 2**71}, {"n": 11, "double": 22}]
    assert {message["event_type"] for message in heard.messages} == {"Twice"}


async def test_a_pipeline_that_moved_keeps_receiving_without_a_word_to_its_sender(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    out = [
        *CHAIN,
        {"from_pipeline": "second", "to_pipeline": "x", "event_types": ["*"], "nats_subject": "out"},
    ]
    async with (
        running(nats_server, tmp_path, worker_id="w-0"),
        running(nats_server, tmp_path, worker_id="w-1"),
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        await deploy(client, "first", FIRST, "w-0", group="g", routes=CHAIN, epoch=1)
        old = await deploy(client, "second", SECOND, "w-1", group="g", routes=out, epoch=2)
        await send(client, "varpulis.cluster.pipeline.g._external.first", {"event_type": "In", "n": 20})
        await until(lambda: len(heard.messages) == 1, what="the output before the move")
        await command(client, "undeploy", {"pipeline_id": old, "epoch": 2}, "w-1")
        await deploy(client, "second", SECOND, "w-0", group="g", routes=out, epoch=3)
        await send(client, "varpulis.cluster.pipeline.g._external.first", {"event_type": "In", "n": 30})
        await until(lambda: len(heard.messages) == 2, what="the output after the move")
    assert [each["n"] for each in heard.fields] == [20, 30]


async def test_an_injected_event_takes_the_routes_like_any_other(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        heard = await collect(client, "varpulis.cluster.pipeline.g.first.second")
        pipeline_id = await deploy(client, "first", FIRST, group="g", routes=CHAIN)
        message = {"pipeline_id": pipeline_id, "event_type": "In", "fields": {"n": 50}}
        answer = await command(client, "inject", message)
        await until(lambda: heard.messages, what="the routed event")
    assert {event["event_type"] for event in answer["output_events"]} == {"Bigger", "Other"}
    assert [message["event_type"] for message in heard.messages] == ["Bigger"]


async def test_a_window_is_closed_by_the_timer_when_nothing_comes_any_more(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = bus(
        nats_server,
        'stream Counts = In.from(Bus, topic: "in").window(200ms).aggregate(n: count())'
        '.emit(n: n).to(Bus, topic: "out")',
    )
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        heard = await collect(client, "out")
        await deploy(client, "p", source)
        await send(client, "in", *[{"event_type": "In"}] * 3)
        await until(lambda: heard.messages, what="the closed window")
    assert heard.fields == [{"n": 3}]


async def test_a_pipeline_whose_sink_hangs_does_not_hold_up_the_timer_of_another(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    class HangingSink:
        async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
            await asyncio.Event().wait()

    window = "stream Counts = In.window(100ms).aggregate(n: count()).emit(n: n)"
    out = {"from_pipeline": "good", "to_pipeline": "x", "event_types": ["*"], "nats_subject": "out"}
    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        heard = await collect(client, "out")
        bad = await deploy(client, "bad", window, group="g")
        await deploy(client, "good", window, group="g", routes=[out])
        worker.host.get(bad)._sinks[-1] = HangingSink()
        for expected in (1, 2):
            for name in ("bad", "good"):
                await send(client, f"varpulis.cluster.pipeline.g.x.{name}", {"event_type": "In"})
            await until(
                lambda wanted=expected: len(heard.messages) == wanted, what="the window of the good one"
            )


async def test_messages_that_are_no_events_are_counted_by_reason_and_neighbours_undisturbed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = bus(nats_server, 'stream Out = In.from(Bus, topic: "in").emit(n: n).to(Bus, topic: "out")')
    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        heard = await collect(client, "out")
        await deploy(client, "p", source)
        for data in (
            b"",
            b"{",
            b"[]",
            b'{"event_type":7}',
            b'{"event_type":"In","n":' + b"[" * 40 + b"]" * 40 + b"}",
        ):
            await client.publish("in", data)
        await send(client, "in", {"event_type": "In", "n": 1})
        await until(lambda: heard.messages, what="the good event")
        losses = worker.host.losses()
    assert heard.fields == [{"n": 1}]
    assert losses == {"bad_json": 2, "not_an_object": 1, "no_type": 1, "too_deep": 1}


async def test_a_pipeline_whose_engine_fails_is_stopped_with_a_reason_and_its_neighbour_runs_on(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    def explode(event_type: str, fields: dict[str, Any], ts: int) -> None:
        raise RuntimeError("a bug in the engine")

    async with (
        coordinated(nats_server) as coordinator,
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        bad = await deploy(client, "bad", PASS, group="g", epoch=1)
        good = await deploy(client, "good", PASS, group="g")
        worker.host.get(bad).engine.process = explode
        await send(client, "varpulis.cluster.pipeline.g.x.bad", *[{"event_type": "In"}] * FAILURE_BUDGET)
        await until(lambda: worker.host.get(bad).state == "failed", what="the failure")
        refused = await command(client, "inject", {"pipeline_id": bad, "event_type": "In"})
        fine = await command(client, "inject", {"pipeline_id": good, "event_type": "In", "fields": {"n": 1}})
        states = await reported(coordinator, bad, "failed")
        again = await deploy(client, "bad", PASS, group="g", epoch=1)
    assert refused["code"] == "engine_error" and "a bug in the engine" in refused["error"]
    assert fine["output_events"] == [{"event_type": "Out", "fields": {"n": 1}}]
    assert "a bug in the engine" in states[bad]["reason"]
    assert states[good]["state"] == "running"
    assert again != bad


async def test_a_single_failing_event_costs_that_event(nats_server: NatsServer, tmp_path: Path) -> None:
    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        pipeline_id = await deploy(client, "p", PASS)
        engine = worker.host.get(pipeline_id).engine
        process = engine.process

        def fail_on_odd(event_type: str, fields: dict[str, Any], ts: int) -> None:
            process(event_type, fields, ts)
            if fields["n"] % 2:
                raise RuntimeError("odd")

        engine.process = fail_on_odd
        events = [{"event_type": "In", "fields": {"n": number}} for number in range(4 * FAILURE_BUDGET)]
        answer = await command(client, "inject_batch", {"pipeline_id": pipeline_id, "events": events})
        assert worker.host.get(pipeline_id).state == "running"
    assert (answer["events_sent"], answer["events_failed"]) == (2 * FAILURE_BUDGET, 2 * FAILURE_BUDGET)
    assert all(event["fields"]["n"] % 2 == 0 for event in answer["output_events"])


async def test_a_drain_handles_what_was_sent_checkpoints_and_takes_no_more(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = bus(nats_server, 'stream Out = In.from(Bus, topic: "in").emit(n: n).to(Bus, topic: "out")')
    count = 5000
    async with (
        coordinated(nats_server) as coordinator,
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        heard = await collect(client, "out")
        pipeline_id = await deploy(client, "p", source)
        await send(client, "in", *[{"event_type": "In", "n": number} for number in range(count)])
        assert await command(client, "drain", {}) == {"ok": True, "pipelines": 1}
        assert worker.host.get(pipeline_id).events_in == count
        await send(client, "in", {"event_type": "In", "n": -1})
        late = await command(client, "inject", {"pipeline_id": pipeline_id, "event_type": "In"})
        refused = await command(client, "deploy", {"name": "q", "source": PASS})
        again = await command(client, "drain", {})
        states = await reported(coordinator, pipeline_id, "drained")
        await until(lambda: len(heard.messages) >= count, what="all outputs")
        ref = {"pipeline_id": pipeline_id, "checkpoint_ref": f"~.{pipeline_id}"}
        assert await command(client, "restore", ref) == {"ok": True}
    assert coordinator.heartbeats[-1]["draining"]
    assert states[pipeline_id]["state"] == "drained"
    assert [each["n"] for each in heard.fields] == list(range(count))
    assert late["code"] == refused["code"] == "unavailable"
    assert again == {"ok": True, "pipelines": 1}


async def test_undeploy_unsubscribes_before_it_answers(nats_server: NatsServer, tmp_path: Path) -> None:
    source = bus(nats_server, 'stream Out = In.from(Bus, topic: "in").emit(n: n).to(Bus, topic: "out")')
    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        heard = await collect(client, "out")
        pipeline_id = await deploy(client, "p", source)
        assert await command(client, "undeploy", {"pipeline_id": pipeline_id}) == {"ok": True}
        await send(client, "in", {"event_type": "In", "n": 1})
        assert worker.host.pipelines == []
        await client.flush()
    assert heard.messages == []


async def test_sources_and_routes_are_alive_again_after_the_server_was_restarted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = bus(nats_server, 'stream Out = In.from(Bus, topic: "in").emit(n: n).to(Bus, topic: "out")')
    async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
        pipeline_id = await deploy(client, "p", source, group="g")
        await asyncio.to_thread(nats_server.restart)
        pipeline = worker.host.get(pipeline_id)
        async with bare_client(nats_server) as fresh:
            heard = await collect(fresh, "out")

            async def both_arrive() -> bool:
                await send(fresh, "in", {"event_type": "In", "n": 1})
                await send(fresh, "varpulis.cluster.pipeline.g.x.p", {"event_type": "In", "n": 2})
                return {1, 2} <= {each["n"] for each in heard.fields}

            await until(both_arrive, what="events from the source and from the route")
    assert pipeline.state == "drained"


async def test_a_worker_cut_off_longer_than_its_lease_drops_outputs_until_it_is_acknowledged_again(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with NatsServer() as data:
        source = bus(data, 'stream Out = In.from(Bus, topic: "in").emit(n: n).to(Bus, topic: "out")')
        async with (
            coordinated(nats_server, lease_secs=0.5) as coordinator,
            running(nats_server, tmp_path) as worker,
            bare_client(nats_server) as client,
            bare_client(data) as outside,
        ):
            heard = await collect(outside, "out")
            pipeline = worker.host.get(await deploy(client, "p", source))
            await until(lambda: worker.health()["lease_open"] and coordinator.heartbeats, what="the lease")
            nats_server.kill()
            await until(lambda: not worker.health()["lease_open"], what="the end of the lease")
            await send(outside, "in", {"event_type": "In", "n": 1})
            await until(lambda: pipeline.dropped["lease_expired"], what="the dropped output")
            coordinator.answers = False
            await asyncio.to_thread(nats_server.restart)
            before = len(coordinator.heartbeats)
            await until(lambda: len(coordinator.heartbeats) > before + 2, what="heartbeats without answers")
            assert not worker.health()["lease_open"]
            coordinator.answers = True
            await until(lambda: worker.health()["lease_open"], what="the answer")
            await send(outside, "in", {"event_type": "In", "n": 2})
            await until(lambda: heard.messages, what="the output")
        assert heard.fields == [{"n": 2}]


async def test_without_any_coordinator_the_pipelines_run_on(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        coordinated(nats_server, lease_secs=0.2) as coordinator,
        running(nats_server, tmp_path) as worker,
        bare_client(nats_server) as client,
    ):
        pipeline_id = await deploy(client, "p", PASS, group="g")
        await until(lambda: coordinator.heartbeats, what="a heartbeat")
        coordinator.answers = False
        before = len(coordinator.heartbeats)
        await until(lambda: len(coordinator.heartbeats) > before + 10, what="half a second of silence")
        await command(client, "inject", {"pipeline_id": pipeline_id, "event_type": "In", "fields": {"n": 1}})
        assert worker.health()["lease_open"]
        assert worker.host.get(pipeline_id).dropped["lease_expired"] == 0


async def reported(coordinator: Played, pipeline_id: str, state: str) -> dict[str, Any]:
    """What the first heartbeat says in which `pipeline_id` has `state`."""

    def found() -> dict[str, Any] | None:
        pipelines = {each["pipeline_id"]: each for each in coordinator.heartbeats[-1].get("pipelines", [])}
        return pipelines if pipelines.get(pipeline_id, {}).get("state") == state else None

    await until(found, what=f"{pipeline_id} {state} in a heartbeat")
    pipelines = found()
    assert pipelines is not None
    return pipelines
