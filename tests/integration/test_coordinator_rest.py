"""The REST face of three coordinators: what it refuses and how, who answers, and what events go where."""

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import PASS, group, three

THREE_ERRORS = "stream A = In.where(x > ).emit(x: x)\nstream B = In.wher(x > 1)\nstream C = In.where(nope(x))"


def pipeline(**changes: Any) -> dict[str, Any]:
    return {"name": "p", "source": PASS, **changes}


def route(**changes: Any) -> dict[str, Any]:
    return {"from_pipeline": "p", "to_pipeline": "p", "event_types": ["Out"], **changes}


def with_pipeline(**changes: Any) -> str:
    return json.dumps({"name": "g", "pipelines": [pipeline(**changes)]})


def with_route(**changes: Any) -> str:
    return json.dumps({"name": "g", "pipelines": [pipeline()], "routes": [route(**changes)]})


GROUPS, JSON = "/pipeline-groups", {"content-type": "application/json"}
BAD: list[tuple[str, str, str | bytes, int, str, str]] = [
    ("POST", GROUPS, "{", 400, "bad_request", "not valid JSON"),
    ("POST", GROUPS, "", 400, "bad_request", "empty"),
    ("POST", GROUPS, "[]", 400, "bad_request", "GroupSpec"),
    ("POST", GROUPS, b'{"name":"\xff"}', 400, "bad_request", "JSON"),
    ("POST", GROUPS, "[" * 100_000, 400, "bad_request", "GroupSpec"),
    ("POST", GROUPS, '{"name":"g"}', 400, "bad_request", "pipelines"),
    ("POST", GROUPS, '{"name":"g","pipelines":[]}', 400, "bad_request", "$.pipelines"),
    ("POST", GROUPS, '{"name":"a.b","pipelines":[]}', 400, "bad_request", "$.name"),
    ("POST", GROUPS, '{"name":"a b","pipelines":[]}', 400, "bad_request", "$.name"),
    ("POST", GROUPS, '{"name":7,"pipelines":[]}', 400, "bad_request", "$.name"),
    ("POST", GROUPS, with_pipeline(name="a.b"), 400, "bad_request", "$.pipelines[0].name"),
    ("POST", GROUPS, with_pipeline(name="_external"), 400, "bad_request", "_external"),
    ("POST", GROUPS, with_pipeline(source=1), 400, "bad_request", "$.pipelines[0].source"),
    ("POST", GROUPS, with_pipeline(replicas=0), 400, "bad_request", "$.pipelines[0].replicas"),
    ("POST", GROUPS, with_pipeline(replicas=1001), 400, "bad_request", "$.pipelines[0].replicas"),
    ("POST", GROUPS, with_pipeline(name="x" * 63, replicas=2), 400, "bad_request", "at most 62"),
    ("POST", GROUPS, with_pipeline(partition_key=""), 400, "bad_request", "$.pipelines[0].partition_key"),
    ("POST", GROUPS, with_pipeline(constraints=["zone=a"]), 400, "bad_request", "constraints[0]"),
    (
        "POST",
        GROUPS,
        with_pipeline(constraints=[{"label": "zone", "op": "~", "value": "a"}]),
        400,
        "bad_request",
        "$.pipelines[0].constraints[0].op",
    ),
    (
        "POST",
        GROUPS,
        with_pipeline(constraints=[{"label": "zone", "op": "in", "value": "a"}]),
        400,
        "bad_request",
        "$.pipelines[0].constraints[0].value",
    ),
    ("POST", GROUPS, json.dumps(group(strategy="best")), 400, "bad_request", "$.strategy"),
    ("POST", GROUPS, with_route(), 400, "bad_request", "p -> p"),
    ("POST", GROUPS, with_route(event_types=["a*b"]), 400, "bad_request", "$.routes[0].event_types[0]"),
    ("POST", GROUPS, with_pipeline(worker_affinity="a b"), 400, "bad_request", "worker_affinity"),
    ("POST", GROUPS, json.dumps(group(delivery="exactly_once")), 503, "unavailable", "is JetStream on"),
    (
        "POST",
        GROUPS,
        json.dumps(group(delivery="exactly_once") | {"pipelines": [pipeline(replicas=2)]}),
        400,
        "bad_request",
        "$.pipelines[0].partition_key",
    ),
    ("POST", GROUPS, json.dumps(group("g", "p", "p")), 400, "bad_request", "twice"),
    ("POST", GROUPS, with_route(to_pipeline="q"), 400, "bad_request", "$.routes[0].to_pipeline"),
    ("POST", GROUPS, with_route(from_pipeline="q"), 400, "bad_request", "$.routes[0].from_pipeline"),
    ("POST", GROUPS, with_route(event_types=[]), 400, "bad_request", "$.routes[0].event_types"),
    ("POST", GROUPS, with_route(nats_subject="a.>"), 400, "bad_request", "$.routes[0].nats_subject"),
    (
        "POST",
        GROUPS,
        with_route(nats_subject="varpulis.cluster.cmd.w1.drain"),
        400,
        "bad_request",
        "$.routes[0].nats_subject",
    ),
    ("POST", GROUPS, with_pipeline(source="nonsense"), 422, "parse_error", "line 1"),
    ("POST", GROUPS, json.dumps(group()), 503, "unavailable", "no worker is ready"),
    ("POST", GROUPS, b"x" * 10_000_000, 413, "bad_request", "limit"),
    ("POST", GROUPS, json.dumps(group(pad="x" * 1_100_000)), 413, "bad_request", "larger than"),
    ("POST", GROUPS + "?wait=ever", json.dumps(group()), 400, "bad_request", "wait"),
    ("POST", GROUPS + "?wait=61", json.dumps(group()), 400, "bad_request", "wait"),
    ("GET", GROUPS + "/nope", "", 404, "not_found", "nope"),
    ("DELETE", GROUPS + "/nope", "", 404, "not_found", "nope"),
    ("GET", GROUPS + "?limit=0", "", 400, "bad_request", "limit"),
    ("GET", GROUPS + "?limit=x", "", 400, "bad_request", "limit"),
    ("GET", GROUPS + "?offset=-1", "", 400, "bad_request", "offset"),
    ("GET", GROUPS + "?consistency=maybe", "", 400, "bad_request", "consistency"),
    ("GET", "/events?since=null", "", 400, "bad_request", "since"),
    ("GET", "/events?offset=null", "", 400, "bad_request", "offset"),
    ("PATCH", GROUPS, "", 405, "bad_request", "PATCH"),
    ("POST", GROUPS + "/nope/inject", '{"event_type":"In"}', 404, "not_found", "nope"),
    ("POST", GROUPS + "/nope/inject", '{"event_type":""}', 400, "bad_request", "$.event_type"),
    ("POST", GROUPS + "/nope/inject-batch", "{}", 404, "not_found", "nope"),
    ("GET", "/workers/nope", "", 404, "not_found", "nope"),
    ("DELETE", "/workers/nope", "", 404, "not_found", "nope"),
    ("DELETE", "/workers/nope?force=perhaps", "", 400, "bad_request", "force"),
    ("POST", "/workers/nope/heartbeat", '{"events_processed":1,"pipelines_running":0}', 404, "not_found", ""),
    ("POST", "/workers/nope/heartbeat", '{"events_processed":-1}', 400, "bad_request", "$.events_processed"),
    ("POST", "/workers/register", "{}", 400, "bad_request", "Register"),
    ("POST", "/validate", '{"source":null}', 400, "bad_request", "$.source"),
    ("GET", "/nothing/here", "", 404, "not_found", "openapi"),
    ("GET", "//nothing", "", 404, "not_found", "openapi"),
    ("GET", "//_openapi", "", 404, "not_found", "openapi"),
    ("GET", "//schema/swagger", "", 404, "not_found", "openapi"),
]


async def test_each_bad_request_gets_its_status_and_an_error_that_says_what_is_wrong(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        for method, path, body, status, code, text in BAD:
            answer = await stage.ask(method, path, content=body, headers=dict(JSON))
            row = f"{method} {path} {body[:60]!r}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code == status, row
            reply = answer.json()
            assert reply["code"] == code and text in reply["error"], row
            assert "Traceback" not in answer.text
        assert (await stage.ask("GET", GROUPS)).json()["total"] == 0, "nothing of it was replicated"
        metrics = (await stage.ask("GET", "//metrics")).text
        assert 'http_refused_total{reason="too_large"} 1.0' in metrics
        form = await stage.ask("POST", GROUPS, content="a=b", headers={"content-type": "text/csv"})
        assert form.status_code == 415
        for path, asked in ((GROUPS, group()), ("/rebalance?dry_run=true", None), ("/raft/transfer", {})):
            for key in ("k" * 201, ""):
                refused = await stage.ask("POST", path, asked, headers={"idempotency-key": key})
                assert refused.status_code == 400 and "Idempotency-Key" in refused.json()["error"], path


async def test_a_wait_that_is_no_number_of_seconds_is_refused_by_every_node(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        for node in stage.nodes.values():
            for wait in ("nan", "-nan", "inf", "-inf", "-1", "ever"):
                answer = await stage.ask("POST", GROUPS, group(), node=node, params={"wait": wait})
                assert answer.status_code == 400, f"{wait}: {answer.text}"
                assert answer.json()["code"] == "bad_request" and "wait" in answer.json()["error"]


async def test_every_error_of_every_program_comes_back_with_its_pipeline_and_place(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        spec = {"name": "g", "pipelines": [pipeline(), pipeline(name="q", source=THREE_ERRORS)]}
        answer = await stage.ask("POST", GROUPS, spec)
        assert answer.status_code == 422
        found = answer.json()["diagnostics"]
        assert {each["line"] for each in found} == {1, 2, 3}
        assert all(each["message"].startswith("pipeline q: ") and each["column"] >= 1 for each in found)
        checked = await stage.ask("POST", "/validate", {"source": THREE_ERRORS})
        assert checked.json()["valid"] is False and len(checked.json()["diagnostics"]) >= 3
        assert (await stage.ask("POST", "/validate", {"source": PASS})).json() == {
            "valid": True,
            "diagnostics": [],
        }


async def test_a_follower_answers_as_the_leader_does(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        follower = stage.follower
        headers = {"idempotency-key": "once"}
        created = await stage.ask("POST", GROUPS, group(), node=follower, headers=headers)
        assert created.status_code == 201, created.text
        again = await stage.ask("POST", GROUPS, group(), node=stage.leader, headers=headers)
        assert again.status_code == 201, "the same key through another node gets the first answer again"
        assert (await stage.ask("POST", GROUPS, group(), node=follower)).status_code == 409
        for path in (GROUPS, GROUPS + "/g", "/summary", "/topology", "/workers?limit=1"):
            one, other = [
                (await stage.ask("GET", path, node=each)).json() for each in (follower, stage.leader)
            ]
            assert one.keys() == other.keys(), path
        view = (await stage.ask("GET", GROUPS + "/g", node=follower)).json()
        assert view["status"] == "running" and view["sources"] == {"p": PASS}
        stale = await stage.ask("GET", GROUPS + "/g", node=follower, params={"consistency": "stale"})
        assert stale.json()["id"] == "g" and int(stale.headers["x-varpulis-staleness-ms"]) >= 0
        ready = await stage.ask("GET", "//readyz?leader=true", node=stage.leader)
        assert ready.status_code == 200
        not_it = await stage.http.get(follower.url + "/readyz?leader=true")
        assert not_it.status_code == 503 and not_it.json()["leader"] == stage.leader.config.node_id


async def test_a_create_that_comes_again_when_its_group_is_gone_is_a_conflict_and_creates_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        headers = {"idempotency-key": "once"}
        assert (await stage.ask("POST", GROUPS, group(), headers=headers)).status_code == 201
        assert (await stage.ask("DELETE", GROUPS + "/g")).status_code == 200
        again = await stage.ask("POST", GROUPS, group(), headers=headers)
        assert again.status_code == 409 and again.json()["code"] == "conflict"
        assert "new Idempotency-Key" in again.json()["error"]
        assert (await stage.ask("GET", GROUPS)).json()["total"] == 0


async def test_a_delete_that_comes_again_does_not_tear_down_the_next_group_of_that_name(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        headers = {"idempotency-key": "once"}
        await stage.ask("POST", GROUPS, group())
        assert (await stage.ask("DELETE", GROUPS + "/g", headers=headers)).status_code == 200
        await stage.ask("POST", GROUPS, group())
        again = await stage.ask("DELETE", GROUPS + "/g", headers=headers)
        assert again.status_code == 409 and "use a new key" in again.json()["error"]
        assert (await stage.ask("GET", GROUPS + "/g")).json()["status"] == "running"


async def test_a_client_that_goes_away_in_the_middle_of_its_body_is_no_defect_of_ours(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        head = b"POST /api/v1/cluster/validate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        for node in (stage.leader, stage.follower):
            host, port = node.url.removeprefix("http://").split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(head + b"content-length: 500\r\n\r\n{")
            await writer.drain()
            writer.close()
            await until(lambda node=node: counts_a_bad_validate(node.url), what="it was counted")
    assert "request_failed" not in caplog.text


async def counts_a_bad_validate(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as http:
        return 'route="/api/v1/cluster/validate",status="400"' in (await http.get(url + "/metrics")).text


async def test_a_group_that_no_worker_has_room_for_is_unavailable_and_not_kept(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url, max_pipelines=1):
        assert (await stage.ask("POST", GROUPS, group())).status_code == 201
        answer = await stage.http.post(stage.leader.url + API_BASE + GROUPS, json=group("h"))
        assert answer.status_code == 503 and answer.json()["code"] == "unavailable"
        assert "room" in answer.json()["error"] and answer.headers["retry-after"] == "1"
        assert (await stage.ask("GET", GROUPS)).json()["total"] == 1


async def test_a_node_that_has_withdrawn_says_why_and_leaves_the_work_to_the_others(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        node = stage.follower
        assert (await stage.ask("GET", "/raft", node=node)).json()["failure"] is None
        assert node._raft is not None and node._raft._core is not None
        node._raft._core.withdraw("the disk is full")
        answer = await stage.http.get(node.url + API_BASE + "/raft")
        assert answer.json()["failure"] == "the disk is full"
        requests = [("GET", GROUPS), ("GET", GROUPS + "?consistency=stale"), ("DELETE", GROUPS + "/g")]
        for method, path in [*requests, ("POST", "/raft/transfer"), ("GET", "/snapshot")]:
            answer = await stage.http.request(method, node.url + API_BASE + path)
            assert (answer.status_code, answer.json()["error"]) == (503, "the disk is full"), path
        ready = await stage.http.get(node.url + "/readyz")
        assert ready.status_code == 503 and "the disk is full" in ready.text
        assert (await stage.http.get(node.url + "/livez")).text == "ok"

        listener = node._listener
        assert listener is not None
        await until(lambda: listener._register_queue is None, what="it takes no registrations")
        async with FakeWorker("w1", nats_server.url):
            assert (await stage.ask("GET", "/workers/w1")).status_code == 200


async def test_without_a_majority_every_request_ends_soon_with_unavailable(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        last = stage.leader
        for node_id in [each for each in stage.nodes if each != last.config.node_id]:
            await stage.stop(node_id)

        async def alone() -> bool:
            return (await stage.http.get(last.url + API_BASE + "/raft")).json()["leader_id"] is None

        await until(alone, what="the leader that is left steps down")
        requests = [("GET", GROUPS, None), ("POST", GROUPS, group()), ("DELETE", GROUPS + "/g", None)]
        for method, path, body in requests:
            started = time.monotonic()
            answer = await stage.http.request(method, last.url + API_BASE + path, json=body)
            assert answer.status_code == 503, answer.text
            assert answer.json()["code"] == "unavailable" and answer.json()["retryable"] is True
            assert answer.headers["retry-after"] == "1"
            assert time.monotonic() - started < 10
        stale = await stage.http.get(last.url + API_BASE + GROUPS + "?consistency=stale")
        assert stale.status_code == 200
        assert (await stage.http.get(last.url + "/livez")).text == "ok"


async def test_lists_come_in_parts_and_in_a_stable_order(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        names = ["c", "a", "b"]
        for name in names:
            await stage.ask("POST", GROUPS, group(name))
        page = (await stage.ask("GET", GROUPS + "?limit=2&offset=1")).json()
        assert [each["id"] for each in page["pipeline_groups"]] == ["b", "c"]
        assert page["pagination"] == {"total": 3, "limit": 2, "offset": 1, "has_more": False}
        first = (await stage.ask("GET", GROUPS + "?limit=1")).json()
        assert first["pagination"]["has_more"] is True and first["total"] == 3


async def test_a_worker_without_nats_registers_and_beats_over_rest(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        body = {
            "worker_id": "rest-1",
            "address": "http://x",
            "api_key": "hunter2",
            "capacity": {"cpu_cores": 4, "pipelines_running": 0, "max_pipelines": 3},
        }
        joined = await stage.ask("POST", "/workers/register", body, node=stage.follower)
        assert joined.status_code == 201 and joined.json()["status"] == "registered"
        beat = {"events_processed": 12, "pipelines_running": 1}
        answer = await stage.ask("POST", "/workers/rest-1/heartbeat", beat, node=stage.follower)
        assert answer.json()["acknowledged"] is True
        view = (await stage.ask("GET", "/workers/rest-1")).json()
        assert (view["events_processed"], view["pipelines_running"]) == (12, 1)
        assert view["cpu_cores"] == 4 and "hunter2" not in json.dumps(view)
        assert (await stage.ask("DELETE", "/workers/rest-1")).json() == {"removed": True}


async def test_a_worker_that_holds_pipelines_is_removed_only_by_force(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url),
        FakeWorker("w2", nats_server.url),
    ):
        spec = group()
        spec["pipelines"][0]["worker_affinity"] = "w1"
        await stage.ask("POST", GROUPS, spec)
        assert (await stage.ask("DELETE", "/workers/w1")).status_code == 409
        assert (await stage.ask("DELETE", "/workers/w1?force=true")).status_code == 200

        async def moved() -> bool:
            (placement,) = await stage.placements()
            return bool(placement["status"] == "running" and placement["epoch"] > 1)

        await until(moved, what="placed again")


async def test_machines_that_watch_find_what_they_look_for(nats_server: NatsServer, tmp_path: Path) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        await stage.ask("POST", GROUPS, group())
        expected = {
            'varpulis_cluster_workers_total{status="ready"} 1.0',
            "varpulis_cluster_pipeline_groups_total 1.0",
            'varpulis_cluster_pipelines{phase="running"} 1.0',
            'varpulis_cluster_deployments_total{result="running"} 1.0',
            "varpulis_cluster_raft_role 2.0",
            "varpulis_cluster_raft_generation 1.0",
            "varpulis_cluster_has_leader 1.0",
            'http_requests_total{route="/api/v1/cluster/pipeline-groups",status="201"} 1.0',
        }

        missing: list[str] = []

        async def complete() -> bool:  # it lacks a ready worker while a heartbeat is late
            metrics = (await stage.ask("GET", "//metrics")).text
            missing[:] = [line for line in expected if line not in metrics]
            return not missing

        with contextlib.suppress(AssertionError):
            await until(complete)
        assert missing == []
        health = (await stage.ask("GET", "//health")).json()
        assert health["status"] == "ok" and health["is_leader"] is True
        document = (await stage.ask("GET", "//openapi.json")).json()
        scheme = document["components"]["securitySchemes"]["key"]
        assert (scheme["in"], scheme["name"]) == ("header", "x-api-key")
        create = document["paths"][API_BASE + GROUPS]["post"]
        assert create["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/GroupSpec")
        assert "PipelineSpec" in document["components"]["schemas"]

        async def follows() -> bool:
            raft = (await stage.ask("GET", "/raft", node=stage.follower)).json()
            assert {node["id"] for node in raft["nodes"]} == {"c0", "c1", "c2"}
            return bool(raft["leader_id"] == stage.leader.config.node_id)

        await until(follows, what="a follower names the leader")


async def test_requests_at_once_do_not_disturb_each_other(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        three(nats_server.url, tmp_path) as stage,
        FakeWorker("w1", nats_server.url, max_pipelines=100),
        FakeWorker("w2", nats_server.url, max_pipelines=100),
    ):
        nodes = list(stage.nodes.values())

        async def one(number: int) -> httpx.Response:
            return await stage.ask("POST", GROUPS, group(f"g{number}"), node=nodes[number % 3])

        answers = await asyncio.gather(*(one(number) for number in range(40)))
        assert {answer.status_code for answer in answers} <= {201, 202}
        for number in range(40):
            await stage.runs(f"g{number}")
        epochs = [(await stage.placements(f"g{number}"))[0]["epoch"] for number in range(40)]
        assert len(set(epochs)) == 40
