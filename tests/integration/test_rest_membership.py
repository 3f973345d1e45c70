"""Three coordinators and workers that speak REST: who hears them, what they are told, and where their key
goes.
"""

import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.app import Coordinator
from coordinator.heartbeats import HeartbeatTable
from coordinator.security import keys
from proto_schemas.errors import WireError
from proto_schemas.messages.membership import Capacity, Register, Registered
from proto_schemas.subjects import Subjects
from tests.support.certificates import Authority
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import NODES, Three, group, three
from tests.unit.worker.support import KEY, bare_client, config, over_rest
from transport.config import NatsConfig
from transport.keyring import new_key
from transport.nats import NatsTransport
from worker.app import Worker

ADDRESS = "http://127.0.0.1:7001"


def registration(incarnation: str, **changes: Any) -> dict[str, Any]:
    return {
        "worker_id": "r",
        "address": ADDRESS,
        "api_key": "",
        "capacity": {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 3},
        "incarnation": incarnation,
        "carrier": "rest",
        **changes,
    }


def beat(incarnation: str, seq: int, *pipelines: dict[str, Any]) -> dict[str, Any]:
    return {
        "events_processed": 0,
        "pipelines_running": len(pipelines),
        "incarnation": incarnation,
        "seq": seq,
        "pipelines": list(pipelines),
    }


def table_of(node: Coordinator) -> HeartbeatTable:
    assert node._listener is not None
    return node._listener._table


def shown(key: str | None) -> dict[str, str]:
    return {} if key is None else {"x-worker-key": key}


@contextlib.asynccontextmanager
async def working(
    stage: Three, server: NatsServer, tmp_path: Path, *, carrier: str = "rest", **given: Any
) -> AsyncIterator[Worker]:
    """A real worker; one that speaks REST knows all coordinators, the followers first."""
    nodes = sorted(stage.nodes.values(), key=lambda node: node.is_leader)
    if carrier == "rest":
        given = over_rest(tmp_path, *(node.url for node in nodes)) | given
    worker = Worker(config(server, tmp_path, **given))
    await worker.start()
    try:
        await until(lambda: worker.health()["ready"], what="the registration")
        yield worker
    finally:
        await worker.stop()


async def test_heartbeats_to_a_follower_count_at_the_leader_and_bring_its_word(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        follower = stage.follower
        joined = await stage.ask(
            "POST", "/workers/register", registration("a"), node=follower, headers=shown(KEY)
        )
        assert joined.status_code == 201, joined.text
        stale = {"pipeline_id": "old-1", "group": "gone", "name": "p", "epoch": 7}
        told = await stage.ask(
            "POST", "/workers/r/heartbeat", beat("a", 1, stale), node=follower, headers=shown(KEY)
        )
        word = told.json()
        assert word["acknowledged"] and word["term"] >= 1 and 0 < word["lease_secs"] < 1.5
        (directive,) = word["directives"]
        assert (directive["do"], directive["pipeline_id"]) == ("undeploy", "old-1")
        view = (await stage.ask("GET", "/workers/r")).json()
        assert (view["carrier"], view["pipelines_running"]) == ("rest", 1)
        assert view["status"] in {"ready", "suspect"}, "late, on a busy machine"

        async def unhealthy() -> bool:
            return bool((await stage.ask("GET", "/workers/r")).json()["status"] == "unhealthy")

        await until(unhealthy, what="silence counts")
        told = await stage.ask("POST", "/workers/r/heartbeat", beat("a", 2), node=follower)
        assert told.json()["lease_secs"] is None, "its pipelines may be on their way to others"


@pytest.mark.parametrize("carrier", ["nats", "rest"])
async def test_every_coordinator_shows_what_a_worker_says_also_when_another_one_leads(
    nats_server: NatsServer, tmp_path: Path, carrier: str
) -> None:
    """Read from each alone, as it is there."""

    async def seen(node: Coordinator) -> Any:
        paths = ("/workers/worker-0", "/workers", "/summary", "/pipeline-groups/g")
        answers = [await stage.ask("GET", f"{path}?consistency=stale", node=node) for path in paths]
        if any(answer.status_code != 200 for answer in answers):
            return None
        worker, workers, summary, told = (answer.json() for answer in answers)
        for each in (worker, *workers["workers"]):
            each["last_heartbeat_age_ms"] = each["last_heartbeat_age_ms"] is not None
        return [worker, workers, summary, told, "worker-0" in table_of(node).loads()]

    async def same() -> bool:
        views = [await seen(node) for node in stage.nodes.values()]
        if None in views or any(view != views[0] for view in views):
            return False
        worker, _, _, told, has_load = views[0]
        assert told["loss_windows"].keys() <= {"p"}
        shown = (worker["status"], worker["pipelines_running"], worker["last_heartbeat_age_ms"], has_load)
        return shown == ("ready", 1, True, True) and told["loss_windows"] == {"p": 0}

    async with (
        three(nats_server.url, tmp_path) as stage,
        working(stage, nats_server, tmp_path, carrier=carrier),
    ):
        await stage.ask("POST", "/pipeline-groups?wait=10", group())
        await until(same, what="all three show the same")
        assert all(table_of(node).out_of_order == 0 for node in stage.nodes.values()), "nobody hears himself"
        before = stage.leader
        moved = await stage.ask("POST", "/raft/transfer", {})
        assert moved.status_code == 200, moved.text
        await until(lambda: stage.leader is not before and stage.leader.is_leader, what="another one leads")
        await until(same, what="all three show the same after it")


async def test_a_relay_of_a_stranger_or_of_a_worker_that_nats_reaches_is_not_noted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, bare_client(nats_server) as client:
        body = {**registration("n1", worker_id="n", carrier="nats")}
        await stage.ask("POST", "/workers/register", body)
        follower = stage.follower
        listener = follower._listener
        assert listener is not None
        for name, data in (("nobody", b"{}"), ("n", b"not json"), ("n.x", b"{}"), ("n", b"")):
            await client.publish(f"varpulis.cluster.relay.{name}", data)
        good = json.dumps({**beat("n1", 5), "events_processed": 9}).encode()
        await client.publish("varpulis.cluster.relay.n", good)
        bad = listener.bad_messages
        await until(lambda: bad["relay", "unknown_worker"] >= 1, what="it came")
        heard = table_of(follower).get("n")
        assert heard is None or heard.events_processed == 0
        assert bad["relay", "bad_subject"] == 1 and bad["relay", "bad_request"] >= 2


async def test_an_older_process_is_told_so_as_long_as_the_newer_one_lives(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:

        async def register(incarnation: str) -> int:
            body = registration(incarnation)
            return (await stage.ask("POST", "/workers/register", body, headers=shown(KEY))).status_code

        assert (await register("a"), await register("b"), await register("a")) == (201, 201, 409)
        older = await stage.ask("POST", "/workers/r/heartbeat", beat("a", 9))
        assert (older.status_code, older.json()["code"]) == (409, "conflict") and "newer" in older.text
        newer = await stage.ask("POST", "/workers/r/heartbeat", beat("b", 1))
        assert newer.status_code == 200

        async def comes_back() -> bool:
            return await register("a") == 201

        await until(comes_back, what="an older clock is no obstacle once the newer process is dead")


UNSAFE: list[tuple[dict[str, Any], str | None, str]] = [
    ({}, None, "x-worker-key"),
    ({}, "short", "x-worker-key"),
    ({"address": "http://me:hunter2@127.0.0.1:1"}, KEY, "credentials"),
    ({"address": "http://10.0.0.7:1"}, KEY, "https"),
    ({"address": "worker-9"}, KEY, "address"),
    ({"carrier": "pigeon"}, KEY, "pigeon"),
]


async def test_a_registration_that_cannot_be_answered_safely_is_refused(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage:
        for changes, key, text in UNSAFE:
            body = registration("a", **changes)
            answer = await stage.ask("POST", "/workers/register", body, headers=shown(key))
            assert answer.status_code == 400 and text in answer.json()["error"], answer.text
            assert "hunter2" not in answer.text
        assert (await stage.ask("GET", "/workers")).json()["total"] == 0


async def test_over_nats_nobody_registers_for_rest(nats_server: NatsServer, tmp_path: Path) -> None:
    capacity = Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=1)
    message = Register(worker_id="r", address=ADDRESS, api_key="", capacity=capacity, carrier="rest")
    async with three(nats_server.url, tmp_path):
        bus = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,)), wait=5.0)
        try:
            with pytest.raises(WireError, match="over REST"):
                await bus.request_message(Subjects().register, message, Registered, timeout=5.0)
        finally:
            await bus.close()


async def test_the_key_of_a_worker_lies_in_no_log_copy_or_view(
    nats_server: NatsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    directory = tmp_path / "coordinators"
    async with three(nats_server.url, directory) as stage, working(stage, nats_server, tmp_path):
        assert (await stage.ask("POST", "/pipeline-groups", group())).json()["status"] == "running"
        views = [await stage.ask("GET", path) for path in ("/workers", "/workers/worker-0", "/topology")]
        copy = (await stage.ask("GET", "/snapshot")).content
        assert all(KEY not in view.text for view in views)
        assert b"worker-0" in copy and KEY.encode() not in copy
    assert KEY not in caplog.text
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files and all(KEY.encode() not in path.read_bytes() for path in files)


async def test_a_new_leader_commands_the_worker_with_the_key_that_its_heartbeat_brings(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path / "c") as stage,
        working(stage, nats_server, tmp_path) as worker,
    ):
        made = await stage.ask("POST", "/pipeline-groups", group())
        assert made.json()["status"] == "running", made.text
        (before,) = await stage.placements()
        await stage.stop(stage.leader.config.node_id)
        await stage.has_leader()
        event = {"event_type": "In", "fields": {"x": 2}}

        async def injected() -> bool:
            answer = await stage.ask("POST", "/pipeline-groups/g/inject", event)
            return answer.status_code == 200

        await until(injected, what="the new leader reaches it")
        assert await stage.placements() == [before], "nothing was moved"
        assert (await stage.ask("DELETE", "/pipeline-groups/g")).json()["torn_down"] is True
        assert not worker.host.pipelines


async def test_pipelines_run_on_without_a_majority(nats_server: NatsServer, tmp_path: Path) -> None:
    async with (
        three(nats_server.url, tmp_path / "c") as stage,
        working(stage, nats_server, tmp_path) as worker,
    ):
        follower = stage.follower.config.node_id
        for node_id in [node_id for node_id in stage.nodes if node_id != follower]:
            await stage.stop(node_id)
        lost = time.monotonic()
        lease = worker._lease.secs
        before = worker._membership.acknowledged

        async def leases_went_by() -> bool:
            assert worker.health()["lease_open"]
            return time.monotonic() > lost + 3 * lease

        await until(leases_went_by, what="several leases without a leader")
        assert worker._membership.acknowledged - before < 10, "nobody grants anything"
        await stage.start(next(node for node in NODES if node not in stage.nodes))
        await stage.has_leader()
        again = worker._membership.acknowledged
        await until(lambda: worker._membership.acknowledged > again, what="a new leader's word")
        assert worker.health()["lease_open"] and worker.health()["ready"]


async def test_over_tls_from_end_to_end(nats_server: NatsServer, tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path), Authority(tmp_path, "stranger")
    mine, foreign = authority.issue("mine"), stranger.issue("foreign")
    changes = {"worker_ca": str(authority.cert)}
    async with three(nats_server.url, tmp_path / "c", **changes) as stage:
        good = {"tls_cert": str(mine.cert), "tls_key": str(mine.key)}
        bad = {"tls_cert": str(foreign.cert), "tls_key": str(foreign.key)}
        async with working(stage, nats_server, tmp_path, worker_id="bad", **bad):
            made = await stage.ask("POST", "/pipeline-groups?wait=1", group())
            (placement,) = await stage.placements()
            assert made.json()["status"] == "deploying" and "TLS" in placement["reason"], placement
            async with working(stage, nats_server, tmp_path, worker_id="good", **good) as worker:
                assert worker.url.startswith("https://")
                wanted = group("h", "q")
                wanted["pipelines"][0]["worker_affinity"] = "good"
                made = await stage.ask("POST", "/pipeline-groups", wanted)
                placed = {each["worker_id"] for each in await stage.placements("h")}
                assert made.json()["status"] == "running" and placed == {"good"}, made.text


async def test_where_keys_are_asked_for_a_worker_key_is_enough_and_beside_signatures_none_is_needed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """With a cluster key that signs: commands over HTTP go under the worker's key instead."""
    admin, its_own, cluster = keys.new_key(), keys.new_key(), new_key("k1")
    for name, text in (("admin", admin.text), ("its-own", its_own.text), ("cluster.key", cluster)):
        (tmp_path / name).write_text(text + "\n")
        (tmp_path / name).chmod(0o600)
    files: dict[str, Any] = {
        "admin_key_file": tmp_path / "admin",
        "worker_key_file": tmp_path / "its-own",
        "cluster_key_file": tmp_path / "cluster.key",
    }
    async with (
        three(nats_server.url, tmp_path, key=admin.text, **files) as stage,
        working(stage, nats_server, tmp_path, api_key=its_own.text) as worker,
    ):
        secret = {"name": "Bus", "connector_type": "nats", "params": {"token": "hunter2-hunter2"}}
        assert (await stage.ask("POST", "/connectors", secret)).status_code == 201
        answer = await stage.ask("POST", "/pipeline-groups", group())
        assert answer.status_code == 201, answer.text
        assert [each.name for each in worker.host.running()] == ["p"]
        viewer = await stage.ask("GET", "/workers", headers={"x-api-key": its_own.text})
        assert viewer.status_code == 403, "and for nothing else"
        unknown = {**stage.http.headers, "x-api-key": "", "x-worker-key": KEY}
        refused = await stage.ask("POST", "/workers/register", registration("1-a"), headers=unknown)
        assert refused.status_code == 401
