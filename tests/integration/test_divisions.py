"""Instances that share by key become more and fewer while events come, on real processes: no event lost, none
doubled, those of each key in their order, and open windows go along with their keys."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClusterClient, Refused
from tests.integration.test_moves import KEYS, Load, get, migrate, program
from tests.support.cluster import Cluster
from tests.support.poll import until

pytestmark = pytest.mark.processes


class KeyedLoad(Load):
    """As `Load`; but only the events of one key keep their order, since others may handle the other keys."""

    async def all_came_out(self) -> None:
        want = {by: list(range(count)) for by, count in self._sent.items()}
        sums = sorted(self._expected()) if self.check_sums else []
        with contextlib.suppress(AssertionError):
            await until(lambda: all(len(self.each[by]) >= len(want[by]) for by in want), timeout=5)
            await until(lambda: len(self.sums) >= len(sums), timeout=5)
        for by, numbers in want.items():
            got = self.each[by]
            missing, doubled = sorted(set(numbers) - set(got)), len(got) - len(set(got))
            assert not missing and not doubled, f"publisher {by}: {missing[:5]} missing, {doubled} doubled"
            for key in range(KEYS):
                of_key = [n for n in got if n % KEYS == key]
                assert of_key == numbers[key::KEYS], f"publisher {by}, key {key}: out of order"
        assert sorted(self.sums) == sums or not self.check_sums


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    with cluster.client() as rest:
        yield rest


def routed(nats_url: str) -> list[str]:
    """`front` hears the load and sends it on; `keyed` hears nothing but what is sent to it."""
    front = f"""
connector Bus = nats(servers: "{nats_url}")
stream Tack = Tick.from(Bus, topic: "test.q.in.>").emit(n: n, by: by, k: k, run: run)
"""
    source = program(nats_url, "q").replace('Tick.from(Bus, topic: "test.q.in.>")', "Tack")
    return [front, source]


def spec(nats_url: str, connected: int, routes: int) -> dict[str, Any]:
    """`p` is fed by a connector, `q` by a route."""
    front, keyed = routed(nats_url)
    return {
        "name": "g",
        "pipelines": [
            {"name": "p", "source": program(nats_url, "p"), "replicas": connected, "partition_key": "k"},
            {"name": "front", "source": front},
            {"name": "q", "source": keyed, "replicas": routes, "partition_key": "k"},
        ],
        "routes": [{"from_pipeline": "front", "to_pipeline": "q", "event_types": ["Tack"]}],
    }


async def put(client: ClusterClient, body: dict[str, Any], wait: float = 20) -> dict[str, Any]:
    return dict(await asyncio.to_thread(client.put, "/pipeline-groups/g", body, wait=wait))


async def settled(client: ClusterClient, count: int, *, without: str = "") -> None:
    """`without`: on no such worker, whose death may not be known yet."""

    async def so() -> bool:
        view = await get(client, "/pipeline-groups/g")
        on = [each["worker_id"] for each in view["placements"]]
        return len(on) == count and without not in on and view["status"] == "running"

    await until(so, what=f"{count} run, and no others")


async def deployed(client: ClusterClient, cluster: Cluster, replicas: int = 2) -> None:
    body = spec(cluster.nats_url, replicas, replicas)
    made = await asyncio.to_thread(client.post, "/pipeline-groups", body, wait=20)
    assert made["status"] == "running", made


async def test_two_become_three_and_two_again_and_four_under_load(
    cluster: Cluster, client: ClusterClient
) -> None:
    await deployed(client, cluster)
    through_connector, by_route = (KeyedLoad(cluster.nats_url, name, rate=600) for name in "pq")
    async with through_connector.running(), by_route.running() as sending:
        for connected, routes in ((3, 2), (3, 3), (2, 3), (2, 4), (4, 4), (3, 4), (3, 2)):
            await by_route.until_sent(by_route.sent + 200)
            answer = await put(client, spec(cluster.nats_url, connected, routes))
            assert answer["update"]["status"] == "done", answer["update"]
            await settled(client, connected + routes + 1)
        await by_route.until_sent(by_route.sent + 500)
        assert not sending.done(), "all of it happened under load"


async def test_one_becomes_several_and_one_again_under_load(cluster: Cluster, client: ClusterClient) -> None:
    await deployed(client, cluster, 1)
    through_connector, by_route = (KeyedLoad(cluster.nats_url, name, rate=600) for name in "pq")
    async with through_connector.running(), by_route.running() as sending:
        for connected, routes in ((3, 1), (3, 2), (1, 2), (1, 1), (2, 1), (2, 3)):
            await by_route.until_sent(by_route.sent + 200)
            answer = await put(client, spec(cluster.nats_url, connected, routes))
            assert answer["update"]["status"] == "done", answer["update"]
            await settled(client, connected + routes + 1)
        await by_route.until_sent(by_route.sent + 500)
        assert not sending.done(), "all of it happened under load"


async def test_several_that_became_one_move_and_become_several_of_another_number(
    cluster: Cluster, client: ClusterClient
) -> None:
    """One that took the shares of several is moved with all its lines, and is no less divided afterwards."""
    await deployed(client, cluster, 3)
    through_connector, by_route = (KeyedLoad(cluster.nats_url, name, rate=600) for name in "pq")
    async with through_connector.running(), by_route.running():
        for connected, routes in ((1, 3), (1, 1), (2, 1), (2, 2)):
            await by_route.until_sent(by_route.sent + 200)
            answer = await put(client, spec(cluster.nats_url, connected, routes))
            assert answer["update"]["status"] == "done", answer["update"]
            await settled(client, connected + routes + 1)
            view = await get(client, "/pipeline-groups/g")
            for each in view["placements"]:
                if each["pipeline_name"] in ("p", "q", "p-0", "q-0"):
                    moved = await migrate(client, "g", each["pipeline_name"])
                    assert moved["status"] == "done", moved
        await by_route.until_sent(by_route.sent + 500)


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_leader_that_dies_in_the_middle_costs_nothing(
    cluster: Cluster, client: ClusterClient, replicas: int
) -> None:
    await deployed(client, cluster, replicas)
    load = KeyedLoad(cluster.nats_url, "p", rate=600)
    async with load.running():
        await load.until_sent(300)
        leader = await asyncio.to_thread(cluster.leader)
        await put(client, spec(cluster.nats_url, 3, replicas), wait=0)
        await asyncio.to_thread(cluster.kill, leader)
        found: dict[str, Any] = {}

        async def over() -> bool:
            found.update((await get(client, "/pipeline-groups/g"))["update"])
            return found["ended_at"] is not None

        await until(over, timeout=30, what="it ends")
        assert found["status"] == "done", found
        await settled(client, 4 + replicas)
        await load.until_sent(load.sent + 500)


async def test_a_worker_that_is_killed_in_the_middle_leaves_a_group_that_runs_whole(
    cluster: Cluster, client: ClusterClient
) -> None:
    """What it held is lost, as with any death; who takes what afterwards is not."""
    await deployed(client, cluster)
    load = KeyedLoad(cluster.nats_url, "p", rate=600)
    load.complete = False
    async with load.running():
        await load.until_sent(300)
        await put(client, spec(cluster.nats_url, 3, 2), wait=0)
        await asyncio.to_thread(cluster.kill, "worker-1")
        found: dict[str, Any] = {}

        async def over() -> bool:
            found.update((await get(client, "/pipeline-groups/g"))["update"])
            return found["ended_at"] is not None

        await until(over, timeout=30, what="it ends")
        await settled(client, 6 if found["status"] == "done" else 5, without="worker-1")
    afterwards = KeyedLoad(cluster.nats_url, "p", rate=600)
    afterwards.check_sums = False
    async with afterwards.running():
        await afterwards.until_sent(600)


async def test_windows_that_belong_to_nobody_are_refused_before_anything_changes(
    cluster: Cluster, client: ClusterClient
) -> None:
    def body(count: int) -> dict[str, Any]:
        source = "stream Sum = In.window(3).aggregate(total: sum(n)).emit(total: total)"
        keyed = {"name": "p", "source": source, "replicas": count, "partition_key": "k"}
        return {"name": "g", "pipelines": [keyed]}

    before = await asyncio.to_thread(client.post, "/pipeline-groups", body(2), wait=20)
    with pytest.raises(Refused) as refused:
        await put(client, body(3))
    assert refused.value.status == 409 and "stream Sum has a window over all events" in str(refused.value)
    after = await get(client, "/pipeline-groups/g")
    measured: dict[str, Any] = {"loss_windows": {}, "traffic": {}}
    assert after | measured == before | measured, "but for what workers measure"
