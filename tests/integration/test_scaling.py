"""Scaling advice of three coordinators: one of them tells, and the next one goes on when it is gone."""

from pathlib import Path

from coordinator.state.scaling import Thresholds
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.fake_worker import FakeWorker
from tests.unit.coordinator.test_scaling import receiver
from tests.unit.coordinator.three import group, three

QUICK = Thresholds(up_after=0, down_after=0)


async def test_the_leader_alone_tells_of_changes_and_the_next_leader_goes_on(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    async with (
        receiver(200) as (url, got),
        three(nats_server.url, tmp_path, scaling=QUICK, scaling_webhook=url) as stage,
    ):
        await until(lambda: got, what="more workers are wanted, for there is none")
        assert got[0][1]["advice"] == "scale_up" and got[0][1]["workers_wanted"] == 1
        async with FakeWorker("w1", nats_server.url, max_pipelines=2):
            await until(lambda: got[-1][1]["advice"] == "hold", what="one is enough")
            await stage.ask("POST", "/pipeline-groups", group("g", "a", "b", "c"), params={"wait": 0})
            await until(lambda: got[-1][1]["workers_wanted"] == 2, what="a second is wanted")
            view = (await stage.ask("GET", "/scaling", node=stage.follower)).json()
            assert view["advice"] == "scale_up" and view["workers_wanted"] == 2 and view["pending"] == 1
            assert "1 pipelines wait, 2 of 2 slots are taken: g/c: no worker can take it" in view["reason"]
            metrics = (await stage.ask("GET", "//metrics")).text
            assert 'scaling_advice{advice="scale_up"} 1.0' in metrics
            assert "varpulis_cluster_scaling_workers_wanted 2.0" in metrics
            assert 'webhook_posts_total{result="taken"}' in metrics
            stale = await stage.ask("GET", "/scaling", node=stage.follower, params={"consistency": "stale"})
            assert stale.json()["advice"] == "hold" and "does not lead" in stale.json()["reason"]
            assert len(got) == len({key for key, _ in got}) == 3, "once each, by one of three"
            await stage.stop(stage.leader.config.node_id)
            await stage.has_leader()
            await until(lambda: len(got) == 4, timeout=20, what="the new leader tells")
            assert got[-1][1]["workers_wanted"] == 2 and got[-1][0] not in [key for key, _ in got[:-1]]
