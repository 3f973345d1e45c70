"""`POST /rebalance`, from any node."""

from functools import partial
from pathlib import Path

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import group, three
from tests.unit.worker.support import config
from worker.app import Worker


async def test_a_dry_run_says_what_would_move_and_moves_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path, rebalance=False) as stage,
        FakeWorker("w1", nats_server.url),
    ):
        assert (
            await stage.ask("POST", "/pipeline-groups", group("g", "a", "b", "c", "d"))
        ).status_code == 201
        even = await stage.ask("POST", "/rebalance", node=stage.follower)
        assert (even.status_code, even.json()["moves"]) == (200, []), even.text
        async with FakeWorker("w2", nats_server.url):
            before = await stage.placements()
            answer = await stage.ask("POST", "/rebalance", node=stage.follower, params={"dry_run": "true"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["migrations_started"] == 0
            moves = answer.json()["moves"]
            assert len(moves) == 2
            assert {(move["from_worker"], move["to_worker"]) for move in moves} == {("w1", "w2")}
            assert await stage.placements() == before
        answer = await stage.ask("POST", "/rebalance", params={"dry_run": "perhaps"})
        assert answer.status_code == 400 and "dry_run" in answer.json()["error"]


async def test_what_a_rebalance_starts_is_moved_and_the_same_request_again_starts_nothing(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path, rebalance=False) as stage:
        # Both are this process and tell its load, whatever makes it; of so many processors it is none.
        first, second = (
            Worker(config(nats_server, tmp_path, name, cpu_cores=10_000)) for name in ("w1", "w2")
        )

        async def known(workers: int) -> bool:
            return len((await stage.ask("GET", "/workers")).json()["workers"]) == workers

        await first.start()
        try:
            await until(partial(known, 1), what="the first worker registered")
            names = ("a", "b", "c", "d")
            assert (await stage.ask("POST", "/pipeline-groups", group("g", *names))).status_code == 201
            await second.start()
            await until(partial(known, 2), what="both workers registered")
            headers = {"idempotency-key": "k"}
            answers = [
                await stage.ask("POST", "/rebalance", node=node, headers=dict(headers))
                for node in stage.nodes.values()
            ]
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            told = answers[0].json()
            assert told["migrations_started"] == 2 and told["reason"] is None
            assert [answer.json() for answer in answers] == [told] * 3

            async def moved() -> bool:
                placements = await stage.placements()
                return sorted(each["worker_id"] or "" for each in placements) == ["w1", "w1", "w2", "w2"]

            await until(moved, timeout=20, what="two on each")
            moves = (await stage.ask("GET", "/migrations")).json()["migrations"]
            assert {(move["cause"], move["status"]) for move in moves} == {("rebalance", "done")}
            assert {move["id"] for move in moves} == set(told["migration_ids"])
            assert (await stage.ask("POST", "/rebalance")).json()["moves"] == [], "nothing is left to do"
        finally:
            await second.stop()
            await first.stop()


async def test_the_cluster_s_strategy_is_that_of_the_configuration(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        three(nats_server.url, tmp_path, placement="binpack") as stage,
        FakeWorker("w1", nats_server.url),
        FakeWorker("w2", nats_server.url),
    ):
        for body in (group("packed", "a", "b", "c", "d"), group("apart", "a", "b", strategy="spread")):
            assert (await stage.ask("POST", "/pipeline-groups", body)).status_code == 201
        packed = (await stage.ask("GET", "/pipeline-groups/packed")).json()["placements"]
        apart = (await stage.ask("GET", "/pipeline-groups/apart")).json()["placements"]
        assert {each["worker_id"] for each in packed} == {"w1"}
        assert {each["worker_id"] for each in apart} == {"w1", "w2"}


async def test_a_constraint_that_nobody_fits_is_told_with_its_numbers(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with three(nats_server.url, tmp_path) as stage, FakeWorker("w1", nats_server.url):
        body = group()
        body["pipelines"][0]["constraints"] = [{"label": "zone", "op": "=", "value": "eu"}]
        answer = await stage.ask("POST", "/pipeline-groups", body)
        assert answer.status_code == 503
        assert "1 worker: 1 lack zone=eu" in answer.json()["error"]
        body["pipelines"].append({"name": "anywhere", "source": body["pipelines"][0]["source"]})
        answer = await stage.ask("POST", "/pipeline-groups", body, params={"wait": 1})
        reasons = {each["pipeline_name"]: each["reason"] for each in answer.json()["placements"]}
        assert "1 lack zone=eu" in reasons["p"] and reasons["anywhere"] is None
