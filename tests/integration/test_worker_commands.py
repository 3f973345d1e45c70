"""The seven commands as any other program sends them, over a real NATS server and over HTTP."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from tests.unit.worker.support import (
    FILTER,
    PASS,
    Commander,
    bare_client,
    collect,
    command,
    commanding,
    running,
)
from worker import checkpoints

GOLDEN = Path(__file__).parent.parent / "unit" / "worker" / "golden" / "commands.txt"


@pytest.fixture(params=["nats", "rest"])
def carrier(request: pytest.FixtureRequest) -> str:
    """What carries the commands."""
    return str(request.param)


async def deploy(client: Any, name: str = "p", source: str = FILTER, **more: Any) -> Any:
    return await command(client, "deploy", {"name": name, "source": source, **more})


async def inject(client: Any, pipeline_id: str, event_type: str = "Door", **fields: Any) -> Any:
    message = {"pipeline_id": pipeline_id, "event_type": event_type, "fields": fields}
    return await command(client, "inject", message)


async def test_the_golden_script_is_answered_byte_for_byte(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    pipeline_id = ""
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        answer = ""
        for line in GOLDEN.read_text().splitlines():
            if line.startswith(">"):
                name, request = line[2:].replace("<ID>", pipeline_id).split(" ", 1)
                if isinstance(client, Commander):
                    answer = (await client.send(name, json.loads(request))).decode()
                else:
                    subject = f"varpulis.cluster.cmd.worker-0.{name}"
                    answer = (await client.request(subject, request.encode(), timeout=10)).data.decode()
                if name == "deploy" and not pipeline_id:
                    pipeline_id = json.loads(answer)["id"]
                    assert re.fullmatch(r"doors-[0-9a-f]{8}", pipeline_id)
            elif line.startswith("<") and (carrier == "nats" or name != "reboot"):
                expected = re.escape(line[2:].replace("<ID>", pipeline_id))
                expected = expected.replace("<N>", r"\d+").replace("<TEXT>", '[^"]+')
                assert re.fullmatch(expected, answer), f"\nexpected {line[2:]}\nanswered {answer}"


async def test_all_errors_of_a_program_come_back_at_once(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    source = "stream A = Door.where(contain(x, 1)).emit(a: b.c)\nstream A = Door.to(Nowhere)"
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        answer = await deploy(client, source=source)
    assert answer["code"] == "parse_error"
    assert len(answer["diagnostics"]) >= 3
    assert all(
        finding["line"] and finding["column"] and finding["message"] for finding in answer["diagnostics"]
    )


async def test_a_newer_epoch_replaces_and_an_older_is_refused(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        first = await deploy(client, group="g", epoch=5, term=2)
        again = await deploy(client, group="g", epoch=5, term=2)
        second = await deploy(client, group="g", epoch=6, term=2, source=PASS)
        stale = await deploy(client, group="g", epoch=5, term=2)
        deposed = await deploy(client, group="g", epoch=7, term=1)
        gone = await inject(client, first["id"])
        late = await command(client, "undeploy", {"pipeline_id": second["id"], "epoch": 5, "term": 2})
        alive = await inject(client, second["id"], "In", n=1)
        seed = await command(client, "undeploy", {"pipeline_id": second["id"]})
    assert again == first and second["id"] != first["id"]
    assert first["listed_from"]["incarnation"] == worker.health()["incarnation"]
    assert 0 < first["listed_from"]["seq"] <= second["listed_from"]["seq"]
    assert stale["code"] == deposed["code"] == late["code"] == "stale_epoch"
    assert "epoch 5" in stale["error"] and "epoch 6" in stale["error"]
    assert gone["code"] == "pipeline_not_found"
    assert alive["output_events"] == [{"event_type": "Out", "fields": {"n": 1}}]
    assert seed == {"ok": True}


async def test_the_same_name_in_two_groups_is_two_pipelines(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        ids = {(await deploy(client, **where))["id"] for where in ({}, {"group": "g"}, {"group": "h"})}
    assert len(ids) == 3


async def test_a_duplicate_request_runs_once_also_when_both_are_under_way(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        deployed = await asyncio.gather(*(deploy(client, request_id="d1") for _ in range(10)))
        pipeline_id = deployed[0]["id"]
        message = {"pipeline_id": pipeline_id, "event_type": "Door", "fields": {}, "request_id": "i1"}
        await asyncio.gather(*(command(client, "inject", message) for _ in range(10)))
        checkpoint = await command(client, "checkpoint", {"pipeline_id": pipeline_id})
    assert len({each["id"] for each in deployed}) == 1
    assert checkpoint["counters"]["events_in"] == 1


async def test_more_pipelines_than_allowed_are_refused_until_one_goes(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        running(nats_server, tmp_path, carrier=carrier, max_pipelines=2) as worker,
        commanding(nats_server, worker) as client,
    ):
        answers = await asyncio.gather(*(deploy(client, name) for name in "abcd"))
        running_ids = [answer["id"] for answer in answers if "id" in answer]
        assert len(running_ids) == 2
        assert {answer.get("code") for answer in answers} == {None, "quota_exceeded"}
        await command(client, "undeploy", {"pipeline_id": running_ids[0]})
        assert (await deploy(client, "e"))["status"] == "running"


async def test_a_deploy_whose_connector_cannot_connect_fails_with_its_cause_and_leaves_nothing(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    port = free_port()
    source = (
        f'connector Bus = nats(servers: "nats://127.0.0.1:{port}", user: "u", password: "hunter2")\n'
        'stream A = Door.from(Bus, topic: "x").emit(a: a)'
    )
    async with (
        running(nats_server, tmp_path, carrier=carrier, max_pipelines=1) as worker,
        commanding(nats_server, worker) as client,
    ):
        answer = await deploy(client, source=source, request_id="r")
        assert answer["code"] == "engine_error" and answer["retryable"]
        assert str(port) in answer["error"] and "hunter2" not in answer["error"]
        with NatsServer(port=port, user="u", password="hunter2"):
            again = await deploy(client, source=source, request_id="r")
            assert again["status"] == "running"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"group": "g", "name": "a.b"}, "not valid"),
        ({"delivery": "exactly_once"}, "needs a group"),
        ({"source": "connector K = kafka()\nstream A = Door.to(K)"}, "unknown type 'kafka'"),
        (
            {
                "group": "g",
                "routes": [
                    {"from_pipeline": "a", "to_pipeline": "p", "event_types": ["*"], "nats_subject": "a.>"}
                ],
            },
            "nats_subject",
        ),
    ],
)
async def test_a_deploy_that_makes_no_sense_is_refused_with_the_reason(
    nats_server: NatsServer, tmp_path: Path, message: dict[str, Any], text: str
) -> None:
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        answer = await command(client, "deploy", {"name": "p", "source": FILTER} | message)
    assert answer["code"] in ("bad_request", "parse_error")
    assert text in answer["error"]


async def test_a_batch_counts_truly_and_tells_at_most_a_hundred_errors(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    good = [{"event_type": "In", "fields": {"n": number}} for number in range(1000)]
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        pipeline_id = (await deploy(client, source=PASS))["id"]
        message = {"pipeline_id": pipeline_id, "events": good + [None] * 250}
        answer = await command(client, "inject_batch", message)
    assert (answer["events_sent"], answer["events_failed"]) == (1000, 250)
    assert [event["fields"]["n"] for event in answer["output_events"]] == list(range(1000))
    assert len(answer["errors"]) == 100
    assert answer["processing_time_us"] > 0


async def test_a_batch_whose_outputs_do_not_fit_an_answer_says_so_and_keeps_true_counts(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    source = "stream Out = In.emit(" + ", ".join(f"n{copy}: n" for copy in range(20)) + ")"
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        pipeline_id = (await deploy(client, source=source))["id"]
        events = [{"event_type": "In", "fields": {"n": "x" * 900}} for _ in range(500)]
        answer = await command(client, "inject_batch", {"pipeline_id": pipeline_id, "events": events})
    assert answer["events_sent"] == 500 and answer["events_failed"] == 0
    assert 0 < len(answer["output_events"]) < 500
    assert f"{len(answer['output_events'])} of 500" in answer["errors"][-1]


async def test_a_large_state_becomes_a_file_and_is_restored_from_it(
    nats_server: NatsServer, tmp_path: Path, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "INLINE_LIMIT", 1000)
    source = "stream N = In.partition_by(k).window(1000).aggregate(k: last(k), n: count()).emit(k: k, n: n)"
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        pipeline_id = (await deploy(client, source=source))["id"]
        events = [{"event_type": "In", "fields": {"k": number % 100}} for number in range(999 * 100)]
        for start in range(0, len(events), 9990):
            batch = {"pipeline_id": pipeline_id, "events": events[start : start + 9990]}
            await command(client, "inject_batch", batch)
        ref = (await command(client, "checkpoint", {"pipeline_id": pipeline_id}))["checkpoint_ref"]
        assert ref.startswith(f"~.{pipeline_id}.") and (tmp_path / "worker-0" / "checkpoints" / "~").exists()

        await command(client, "undeploy", {"pipeline_id": pipeline_id})
        fresh = (await deploy(client, source=source))["id"]
        restored = await command(client, "restore", {"pipeline_id": fresh, "checkpoint_ref": ref})
        completed = await inject(client, fresh, "In", k=7)

        resumed = (await deploy(client, "resumed", source=source, checkpoint_ref=ref))["id"]
        completed_too = await inject(client, resumed, "In", k=8)
        missing = await deploy(client, "missing", source=source, checkpoint_ref="~.nothing-00000000")
    assert restored == {"ok": True}
    assert completed["output_events"] == [{"event_type": "N", "fields": {"k": 7, "n": 1000}}]
    assert completed_too["output_events"] == [{"event_type": "N", "fields": {"k": 8, "n": 1000}}]
    assert missing["code"] == "not_found"


async def test_counts_are_those_of_the_copy_whatever_a_checkpoint_brings_along(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    async with (
        running(nats_server, tmp_path, carrier=carrier) as worker,
        commanding(nats_server, worker) as client,
    ):
        first = (await deploy(client, "first", PASS))["id"]
        for _ in range(5):
            await inject(client, first, "In", n=1)
        checkpoint = await command(client, "checkpoint", {"pipeline_id": first})
        second = (await deploy(client, "second", PASS))["id"]
        await inject(client, second, "In", n=1)
        restored = await command(client, "restore", {"pipeline_id": second, "checkpoint": checkpoint})
        await inject(client, second, "In", n=1)
        copy = worker.host.get(second)
        assert restored == {"ok": True}
        assert (copy.engine.counters["events_in"], copy.events_in, copy.events_out) == (6, 2, 2)
        assert worker.host.events_in == 7


async def test_foreign_bytes_on_the_command_subject_are_answered_and_hurt_nobody(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        for data in (b"", b"\xff", b"[]", b"{" * 10_000, b'{"name":1}', b"null"):
            for name in ("deploy", "inject", "inject_batch", "restore", "a.b", "\u00e4"):
                answer = await command(client, name, data)
                assert answer["code"] in ("bad_request", "unknown_command")
        await client.publish(
            "varpulis.cluster.cmd.worker-0.drain", b"{}"
        )  # an answer of somebody to somebody
        assert (await deploy(client))["status"] == "running"


async def test_a_seed_coordinator_drives_a_pipeline_with_name_and_source_alone(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    source = (
        f'connector Bus = nats(servers: "{nats_server.url}")\n'
        'stream Held = Door.from(Bus, topic: "hq.>").where(held_ms > 30000)'
        '.emit(held_ms: held_ms).to(Bus, topic: "alerts")'
    )
    async with running(nats_server, tmp_path), bare_client(nats_server) as client:
        alerts = await collect(client, "alerts")
        deployed = await deploy(client, source=source)
        assert set(deployed) == {"id", "name", "status"}
        await client.publish("hq.Door", b'{"held_ms": 36893488147419103233}')
        await client.publish("hq.x", b'{"event_type":"Door","data":{"held_ms":5}}')
        await until(lambda: alerts.messages, what="the alert")
        injected = await inject(client, deployed["id"], held_ms=40000)
        assert injected["output_events"] == [{"event_type": "Held", "fields": {"held_ms": 40000}}]
        await until(lambda: len(alerts.messages) == 2, what="the alert of the injected event")
        assert alerts.fields == [{"held_ms": 36893488147419103233}, {"held_ms": 40000}]
        assert await command(client, "undeploy", {"pipeline_id": deployed["id"]}) == {"ok": True}
        await client.publish("hq.Door", b'{"held_ms": 99999}')
        assert (await deploy(client, "next"))["status"] == "running"
    assert len(alerts.messages) == 2
