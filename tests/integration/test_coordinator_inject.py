"""Events from outside, over REST: where they go, what is counted, what a key and a frozen worker change."""

import json
from pathlib import Path

import httpx
import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import Three, group, three

GROUPS = "/pipeline-groups"


async def test_an_event_goes_where_the_routes_say_and_never_elsewhere(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        routed = group("routed", "a", "b", "c")
        routed["routes"] = [
            {"from_pipeline": "_external", "to_pipeline": "a", "event_types": ["Door*"]},
            {"from_pipeline": "_external", "to_pipeline": "b", "event_types": ["DoorHeld", "In"]},
        ]
        for spec in (routed, group("plain", "a", "b")):
            assert (await stage.ask("POST", GROUPS, spec)).status_code == 201
        assert await takers(stage, "routed", "DoorHeld") == {"a", "b"}
        assert await takers(stage, "routed", "DoorOpen") == {"a"}
        assert await takers(stage, "plain", "In") == {"a", "b"}
        for name, event_type in (("routed", "Window"), ("plain", "Out")):
            answer = await stage.ask("POST", f"{GROUPS}/{name}/inject", {"event_type": event_type})
            assert answer.status_code == 404 and answer.json()["code"] == "no_route"
        assert len({told["request_id"] for told in worker.told("inject")}) == 5
        arrows = (await stage.ask("GET", "/topology")).json()["routes"]
        external = {
            (each["group"], each["to_pipeline"]) for each in arrows if each["from_pipeline"] == "_external"
        }
        assert external == {("routed", "a"), ("routed", "b"), ("plain", "a"), ("plain", "b")}


async def takers(stage: Three, name: str, event_type: str) -> set[str]:
    body = {"event_type": event_type, "fields": {"x": 2**70, "n": None}}
    answer = await stage.ask("POST", f"{GROUPS}/{name}/inject", body)
    assert answer.status_code == 200, answer.text
    for each in answer.json()["results"]:
        assert each["worker_response"]["output_events"][0]["fields"] == body["fields"]
    return {each["pipeline"] for each in answer.json()["results"]}


async def test_a_batch_larger_than_a_message_arrives_whole_and_its_counts_are_true(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        await stage.ask("POST", GROUPS, group())
        good = [
            {"event_type": "In", "fields": {"n": number, "pad": "\u2028" * 500}} for number in range(2_000)
        ]
        bad = ["{broken", json.dumps({"fields": {}}), json.dumps({"event_type": "Nobody"})]
        text = "\n".join([*bad, "", *(json.dumps(event, ensure_ascii=False) for event in good)])
        answer = await stage.ask(
            "POST", f"{GROUPS}/g/inject-batch", {"events_text": text}, node=stage.follower
        )
        counts = answer.json()
        assert (counts["events_sent"], counts["events_failed"]) == (2_000, 3), counts["errors"][:3]
        assert len(counts["errors"]) == 3
        # A worker carries out a command once; where leadership moved meanwhile it was sent again.
        parts = list({told["request_id"]: told for told in worker.told("inject_batch")}.values())
        assert len(parts) > 1
        arrived = [event["fields"]["n"] for part in parts for event in part["events"]]
        assert arrived == list(range(2_000)), "in order"
        neither = await stage.ask("POST", f"{GROUPS}/g/inject-batch", {})
        assert neither.status_code == 400


async def test_a_key_gives_each_share_of_an_inject_the_same_request_id_again(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url) as worker:
        await stage.ask("POST", GROUPS, group("g", "a", "b"))
        events = [{"event_type": "In", "fields": {"n": number, "pad": "x" * 1_000}} for number in range(400)]
        one, many = {"event_type": "In", "fields": {"x": 1}}, {"events": events}
        for command, path, body in (("inject", "inject", one), ("inject_batch", "inject-batch", many)):
            ids: list[list[str]] = []
            for key, node in (("k1", stage.leader), ("k1", stage.follower), ("k2", stage.leader)):
                worker.commands.clear()
                headers = {"idempotency-key": key}
                answer = await stage.ask("POST", f"{GROUPS}/g/{path}", body, node=node, headers=headers)
                assert answer.status_code == 200, answer.text
                ids.append(sorted({told["request_id"] for told in worker.told(command)}))
            assert ids[0] == ids[1] and len(ids[0]) >= 2
            assert not set(ids[0]) & set(ids[2])
            worker.commands.clear()
            for node in (stage.leader, stage.follower):
                await stage.http.post(f"{node.url}{API_BASE}{GROUPS}/g/{path}", json=body)
            assert all("request_id" not in told for told in worker.told(command)), "no key, no id"


async def test_an_inject_that_is_not_answered_is_a_timeout_and_one_that_nobody_hears_is_unavailable(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.worker_commands.INJECT_TIMEOUT", 0.3)
    async with (
        three(nats_server.url, tmp_path, heartbeat_timeout=30.0) as stage,
        FakeWorker("w1", nats_server.url) as worker,
    ):
        await stage.ask("POST", GROUPS, group())
        url = f"{stage.leader.url}{API_BASE}{GROUPS}/g/inject"
        worker.mute.add("inject")
        frozen = await stage.http.post(url, json={"event_type": "In"})
        assert frozen.status_code == 504 and frozen.json()["code"] == "timeout", frozen.text
        await worker.stop()

        async def told_that_nobody_is_there() -> httpx.Response | None:
            answer = await stage.http.post(url, json={"event_type": "In"})
            return answer if answer.status_code == 503 else None

        await until(told_that_nobody_is_there, what="the server knows that the worker is gone")
        gone = await stage.http.post(url, json={"event_type": "In"})
        assert gone.status_code == 503 and gone.json()["code"] == "unavailable", gone.text
        assert "nobody listens" in gone.json()["error"] and gone.headers["retry-after"] == "1"
