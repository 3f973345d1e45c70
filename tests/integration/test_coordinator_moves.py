"""Moves, drains and cordons through REST: three coordinators, and workers of ours in this process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import SeedWorker
from tests.unit.coordinator.three import Three, three
from tests.unit.worker.support import bare_client, command, config
from worker import checkpoints
from worker.app import Worker

SUM = "stream Sum = In.partition_by(k).window(3).aggregate(total: sum(n)).emit(total: total)"


@contextlib.asynccontextmanager
async def cluster(
    server: NatsServer, tmp_path: Path, *names: str, pipelines: tuple[str, ...] = ("p",), **given: Any
) -> AsyncIterator[tuple[Three, dict[str, Worker]]]:
    """Coordinators and workers; group `g` runs on the first one."""
    async with three(server.url, tmp_path) as stage, contextlib.AsyncExitStack() as stack:
        workers = {}
        for name in names:
            workers[name] = Worker(config(server, tmp_path, name, **given))
            await workers[name].start()
            stack.push_async_callback(workers[name].stop)

        async def known() -> bool:
            return len((await stage.ask("GET", "/workers")).json()["workers"]) == len(names)

        await until(known, what="all workers registered")
        specs = [{"name": each, "source": SUM, "worker_affinity": names[0]} for each in pipelines]
        answer = await stage.ask("POST", "/pipeline-groups", {"name": "g", "pipelines": specs})
        assert answer.status_code == 201, answer.text
        yield stage, workers


async def ended(stage: Three, path: str) -> dict[str, Any]:
    """A job once it has ended."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update((await stage.ask("GET", path)).json())
        return found["status"] in ("done", "failed", "cancelled")

    await until(over, what=path)
    return found


async def inject(stage: Three, n: int, k: str = "a") -> list[int]:
    """One event in; the sums that come out."""
    body = {"event_type": "In", "fields": {"n": n, "k": k}}
    answer = await stage.ask("POST", "/pipeline-groups/g/inject", body)
    assert answer.status_code == 200, answer.text
    return [event["fields"]["total"] for event in answer.json()["worker_response"]["output_events"]]


async def test_a_pipeline_moves_with_its_state_and_the_answer_comes_at_once(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2") as (stage, _):
        assert await inject(stage, 1) == await inject(stage, 10) == []
        answer = await stage.ask("POST", "/pipelines/g/p/migrate", node=stage.follower)
        assert answer.status_code == 202, answer.text
        body = answer.json()
        assert body == {
            "migration_id": body["migration_id"],
            "pipeline": "p",
            "group_id": "g",
            "status": "started",
        }
        move = await ended(stage, f"/migrations/{body['migration_id']}")
        assert (move["status"], move["from_worker"], move["to_worker"]) == ("done", "w1", "w2")
        assert move["cause"] == "manual" and move["ended_at"] >= move["started_at"]
        (placement,) = await stage.placements()
        assert placement["worker_id"] == "w2" and placement["epoch"] == move["to_epoch"]
        assert await inject(stage, 100) == [111]
        listed = (await stage.ask("GET", "/migrations")).json()
        assert [each["id"] for each in listed["migrations"]] == [move["id"]] and listed["total"] == 1
        page = (await stage.ask("GET", "//metrics")).text
        assert 'varpulis_cluster_migrations_total{result="done"} 1.0' in page
        assert 'varpulis_cluster_migration_duration_seconds_bucket{le="+Inf"} 1.0' in page


async def test_a_group_is_rolled_back_through_any_node_with_its_history_and_metrics_to_tell(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1") as (stage, _):
        body: dict[str, Any] = {"name": "g", "pipelines": [{"name": "p", "source": SUM.replace("3", "2")}]}
        put = await stage.ask(
            "PUT", "/pipeline-groups/g", body, params={"why": "sooner"}, node=stage.follower
        )
        assert put.status_code == 200 and put.headers["etag"] == '"2"', put.text
        assert await inject(stage, 1) == [] and await inject(stage, 10) == [11]
        path, headers = "/pipeline-groups/g/rollback", {"if-match": '"1"'}
        assert (await stage.ask("POST", path, headers=headers)).status_code == 409, "it is not that one"
        plan = (await stage.ask("POST", path, params={"dry_run": True})).json()
        assert (plan["from_version"], plan["to_version"]) == (2, 3)
        assert [each["change"] for each in plan["changes"]] == ["updated"]
        headers = {"if-match": '"2"'}
        back = await stage.ask("POST", path, {"why": "too soon"}, headers=headers, node=stage.follower)
        assert back.status_code == 200 and back.headers["etag"] == '"3"', back.text
        assert await inject(stage, 1) == await inject(stage, 10) == [], "three make a sum again"
        told = (await stage.ask("GET", "/pipeline-groups/g/history")).json()["versions"]
        assert [(each["version"], each["status"], each["why"]) for each in told] == [
            (3, "present", "as version 1: too soon"),
            (2, "former", "sooner"),
            (1, "former", ""),
        ]
        page = (await stage.ask("GET", "//metrics")).text
        for line in (
            'updates_total{result="started"} 2.0',
            'updates_total{result="done"} 2.0',
            'rollbacks_total{cause="asked"} 1.0',
            'rollbacks_total{cause="failure"} 0.0',
            'update_duration_seconds_bucket{le="+Inf"} 2.0',
            'deploy_duration_seconds_bucket{le="+Inf"} 1.0',
            'deployments_total{result="running"} 1.0',
            "updates_active 0.0",
        ):
            assert f"varpulis_cluster_{line}" in page, line


async def test_a_client_that_injects_all_the_while_sees_a_move_as_latency_at_most(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2") as (stage, _):
        sums: list[int] = []
        going = True

        async def keep_injecting() -> int:
            number = 0
            while going:
                sums.extend(await inject(stage, number))
                number += 1
            return number

        injecting = asyncio.create_task(keep_injecting())
        for _ in range(4):
            answer = (await stage.ask("POST", "/pipelines/g/p/migrate", {})).json()
            assert (await ended(stage, f"/migrations/{answer['migration_id']}"))["status"] == "done"
        going = False
        count = await injecting
        assert sums == [3 * first + 3 for first in range(0, count - count % 3, 3)]


async def test_a_request_that_comes_twice_starts_one_migration(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2") as (stage, _):
        headers = {"idempotency-key": "once"}
        first = await stage.ask("POST", "/pipelines/g/p/migrate", {}, headers=headers)
        await ended(stage, f"/migrations/{first.json()['migration_id']}")
        again = await stage.ask("POST", "/pipelines/g/p/migrate", {}, node=stage.follower, headers=headers)
        assert (again.status_code, again.json()) == (202, first.json())
        assert (await stage.ask("GET", "/migrations")).json()["total"] == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/pipelines/g/nope/migrate", {}, 404, "there is no pipeline g/nope"),
        ("/pipelines/g/p/migrate", {"to": "w9"}, 404, "there is no worker 'w9'"),
        ("/pipelines/g/p/migrate", {"to": "w1"}, 409, "runs on w1 already"),
        ("/pipelines/g/p/migrate", {"to": "a.b"}, 400, "$.to"),
        ("/pipelines/g/p/migrate", {}, 503, "no worker can take it"),
        ("/workers/w9/drain", {}, 404, "there is no worker 'w9'"),
        ("/workers/w1/drain", {"timeout_secs": 0}, 400, "$.timeout_secs"),
        ("/workers/w9/cordon", None, 404, "there is no worker 'w9'"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_its_reason(
    nats_server: NatsServer, tmp_path: Path, path: str, body: Any, status: int, word: str
) -> None:
    async with cluster(nats_server, tmp_path, "w1") as (stage, _):
        answer = await stage.http.post(stage.leader.url + API_BASE + path, json=body)
        assert answer.status_code == status and word in answer.json()["error"], answer.text
        for missing in ("/migrations/m-0", "/workers/w1/drain", "/workers/w9/drain"):
            assert (await stage.ask("GET", missing)).status_code == 404
        assert (await stage.ask("DELETE", "/workers/w1/drain")).status_code == 404


async def test_a_worker_is_drained_and_nothing_is_placed_there_until_it_is_uncordoned(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2", pipelines=("p", "q")) as (stage, _):
        answer = await stage.ask("POST", "/workers/w1/drain")
        assert answer.status_code == 202 and answer.json()["total"] == 2, answer.text
        job = await ended(stage, "/workers/w1/drain")
        assert (job["status"], job["moved"], job["left"], job["failed"]) == ("done", 2, 0, {})
        view = (await stage.ask("GET", "/workers/w1")).json()
        assert view["cordoned"] and view["assigned_pipelines"] == []
        back = await stage.ask("POST", "/pipelines/g/p/migrate", {"to": "w1"})
        assert back.status_code == 409 and "cordoned" in back.json()["error"]
        uncordoned = await stage.ask("POST", "/workers/w1/uncordon")
        assert uncordoned.json() == {"worker_id": "w1", "cordoned": False}
        started = (await stage.ask("POST", "/pipelines/g/p/migrate", {"to": "w1"})).json()
        assert (await ended(stage, f"/migrations/{started['migration_id']}"))["status"] == "done"


async def test_a_drain_that_has_nowhere_to_go_says_so_and_is_cancelled(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1") as (stage, _):
        await stage.ask("POST", "/workers/w1/drain", {"timeout_secs": 60})

        async def says_why() -> bool:
            job = (await stage.ask("GET", "/workers/w1/drain")).json()
            return "g/p: no worker can take it" in (job["reason"] or "")

        await until(says_why)
        cancelled = await stage.ask("DELETE", "/workers/w1/drain")
        assert cancelled.json()["status"] == "cancelled" and cancelled.json()["left"] == 1
        assert (await stage.ask("DELETE", "/workers/w1/drain")).json() == cancelled.json()
        assert not (await stage.ask("GET", "/workers/w1")).json()["cordoned"]


async def test_a_seed_worker_is_drained_by_placing_its_pipelines_elsewhere(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, SeedWorker("seed", nats_server.url) as seed:
        specs = [{"name": "p", "source": SUM}]
        assert (
            await stage.ask("POST", "/pipeline-groups", {"name": "g", "pipelines": specs})
        ).status_code == 201
        worker = Worker(config(nats_server, tmp_path, "ours"))
        await worker.start()
        try:
            await stage.ask("POST", "/workers/seed/drain")
            assert (await ended(stage, "/workers/seed/drain"))["status"] == "done"
            await stage.runs()
            assert (await stage.placements())[0]["worker_id"] == "ours" and seed.copies == {}
        finally:
            await worker.stop()


@pytest.mark.parametrize("shared", [True, False])
async def test_a_state_larger_than_a_message_moves_where_both_workers_share_a_directory(
    nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(checkpoints, "INLINE_LIMIT", 10)
    given: dict[str, Any] = {"checkpoint_store": f"dir:{tmp_path / 'shared'}"} if shared else {}
    async with cluster(nats_server, tmp_path, "w1", "w2", **given) as (stage, _):
        await inject(stage, 1)
        await inject(stage, 10)
        started = (await stage.ask("POST", "/pipelines/g/p/migrate", {})).json()
        move = await ended(stage, f"/migrations/{started['migration_id']}")
        assert move["status"] == ("done" if shared else "failed"), move
        if not shared:
            assert "is not on this worker" in move["reason"]
        assert await inject(stage, 100) == [111], "moved or not, it goes on as it was"
        assert (await stage.placements())[0]["worker_id"] == ("w2" if shared else "w1")


async def test_a_worker_that_leaves_is_emptied_before_it_goes(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2") as (stage, workers):
        await inject(stage, 1)
        await inject(stage, 10)
        await until(lambda: workers["w1"].health()["registered"])
        await workers["w1"].leave(asyncio.Event())
        assert workers["w1"].host.at_work == 0
        assert await inject(stage, 100) == [111]
        (move,) = (await stage.ask("GET", "/migrations")).json()["migrations"]
        assert (move["cause"], move["status"]) == ("leave", "done")


async def test_a_worker_that_leaves_and_is_the_only_one_does_not_wait_in_vain(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Far below its `leave_timeout`, which would make this test time out."""
    async with cluster(nats_server, tmp_path, "w1", leave_timeout=3_000) as (_, workers):
        async with asyncio.timeout(10):
            await workers["w1"].leave(asyncio.Event())
        assert workers["w1"].host.at_work == 1


async def test_a_copy_whose_move_was_given_up_by_a_leader_that_died_is_let_go_on(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The source holds, and no migration is under way: convergence finds it by the heartbeat."""
    async with (
        cluster(nats_server, tmp_path, "w1", "w2") as (stage, workers),
        bare_client(nats_server) as client,
    ):
        (copy,) = workers["w1"].host.pipelines
        await command(client, "hold", {"pipeline_id": copy.id}, "w1")
        given = await command(client, "checkpoint", {"pipeline_id": copy.id, "handover": True}, "w1")
        assert given["v"] == 1 and json.dumps(given)
        await until(lambda: copy.state == "running", what="it goes on")
        assert await inject(stage, 1) == []


async def test_a_worker_that_leaves_when_no_coordinator_is_left_does_not_wait_in_vain(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with cluster(nats_server, tmp_path, "w1", "w2", leave_timeout=3_000) as (stage, workers):
        await until(lambda: workers["w1"].health()["lease_open"] and workers["w1"].health()["term"])
        for node_id in list(stage.nodes):
            await stage.stop(node_id)
        async with asyncio.timeout(10):
            await workers["w1"].leave(asyncio.Event())
        assert workers["w1"].host.at_work == 1
