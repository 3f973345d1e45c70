"""`POST /rebalance`, from any node."""

from pathlib import Path

from tests.support.nats_server import NatsServer
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.three import group, three


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
