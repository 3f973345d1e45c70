"""Groups that get another version while events come, on real processes: no event lost, none doubled."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClusterClient, Refused
from proto_schemas.codec import decode_fields, encode_fields
from tests.integration.test_moves import Load, get, program
from tests.support.cluster import Cluster, varpulis
from tests.support.poll import until
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport

pytestmark = pytest.mark.processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """One that moves nothing by itself: where pipelines stand at first depends on how busy workers are."""
    with Cluster(tmp_path, env={"VARPULIS_COORDINATOR_REBALANCE": "false"}) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    with cluster.client() as rest:
        yield rest


def pipeline(cluster: Cluster, name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "source": program(cluster.nats_url, f"g-{name}"), **fields}


def each_only(nats_url: str, name: str) -> str:
    """Another program that puts each event out as `program` does, and no sums."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
stream Ins = Tick.from(Bus, topic: "test.{name}.in.>")
stream Each = Ins.emit(n: n, by: by, run: run).to(Bus, topic: "test.{name}.each")
"""


def bad_at_deploy(nats_url: str, name: str) -> str:
    """Right by the language; no worker gets its connector to open."""
    return f"""
connector Bus = nats(servers: "{nats_url}")
connector Away = nats(servers: "nats://127.0.0.1:1")
stream Ins = Tick.from(Bus, topic: "test.{name}.in.>")
stream Each = Ins.emit(n: n, by: by, run: run).to(Away, topic: "test.{name}.each")
"""


async def post(client: ClusterClient, *pipelines: dict[str, Any]) -> dict[str, Any]:
    body = {"name": "g", "pipelines": list(pipelines)}
    made = await asyncio.to_thread(client.post, "/pipeline-groups", body, wait=20)
    assert made["status"] == "running", made
    return dict(made)


async def put(client: ClusterClient, *pipelines: dict[str, Any], wait: float = 20) -> dict[str, Any]:
    body = {"name": "g", "pipelines": list(pipelines)}
    return dict(await asyncio.to_thread(client.put, "/pipeline-groups/g", body, wait=wait))


async def updated(client: ClusterClient, timeout: float = 30) -> dict[str, Any]:
    """The update once it has ended."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        found.update((await get(client, "/pipeline-groups/g"))["update"])
        return found["ended_at"] is not None

    await until(over, timeout=timeout, what=f"it ends: {found}")
    return found


def ids(view: dict[str, Any]) -> dict[str, str]:
    return {one["pipeline_name"]: one["pipeline_id"] for one in view["placements"]}


async def test_an_update_under_load_touches_only_what_changed_and_loses_nothing(
    cluster: Cluster, client: ClusterClient
) -> None:
    """`same` goes on, `state` moves with its windows, `other` gets another program, `new` comes, `old`
    goes."""
    first = [pipeline(cluster, name) for name in ("same", "state", "other", "old")]
    before = await post(client, *first)
    here = {one["pipeline_name"]: one["worker_id"] for one in before["placements"]}
    there = {"worker-0": "worker-1", "worker-1": "worker-0"}[here["state"]]
    other = {**pipeline(cluster, "other"), "source": each_only(cluster.nats_url, "g-other")}
    wanted = [
        pipeline(cluster, "same"),
        pipeline(cluster, "state", worker_affinity=there),
        other,
        pipeline(cluster, "new"),
    ]
    loads = {name: Load(cluster.nats_url, f"g-{name}", rate=1_000) for name in ("same", "state", "other")}
    loads["other"].check_sums = False
    async with (
        loads["same"].running(),
        loads["state"].running(),
        loads["other"].running() as sending,
    ):
        await loads["other"].until_sent(1_000)
        after = await put(client, *wanted)
        assert after["update"]["status"] == "done" and after["version"] == 2, after
        assert ids(after)["same"] == ids(before)["same"]
        assert ids(after)["state"] != ids(before)["state"] and ids(after)["other"] != ids(before)["other"]
        workers = {one["pipeline_name"]: one["worker_id"] for one in after["placements"]}
        assert workers["state"] == there and workers["other"] == here["other"]
        await loads["other"].until_sent(loads["other"].sent + 1_000)
        assert not sending.done(), "all of it happened under load"

    async def gone() -> bool:
        return set(ids(await get(client, "/pipeline-groups/g"))) == {"same", "state", "other", "new"}

    await until(gone, what="the old one is gone")


async def test_a_version_that_no_worker_can_start_is_rolled_back_and_the_old_one_never_stops(
    cluster: Cluster, client: ClusterClient
) -> None:
    before = await post(client, pipeline(cluster, "a"), pipeline(cluster, "b"))
    bad = {"name": "b", "source": bad_at_deploy(cluster.nats_url, "g-b")}
    again = {**pipeline(cluster, "a"), "source": pipeline(cluster, "a")["source"] + "\n"}
    load_a, load_b = (Load(cluster.nats_url, f"g-{name}", rate=1_000) for name in "ab")
    load_a.check_sums = False
    async with load_a.running(), load_b.running():
        await load_b.until_sent(500)
        leader = await asyncio.to_thread(cluster.leader)
        await put(client, again, bad, wait=0)
        await asyncio.to_thread(cluster.kill, leader)
        update = await updated(client)
        assert update["status"] == "rolled_back" and "b: " in update["reason"], update
        await load_b.until_sent(load_b.sent + 1_000)
    after = await get(client, "/pipeline-groups/g")
    assert after["version"] == 1 and after["status"] == "running"
    assert ids(after)["b"] == ids(before)["b"], "its old copy went on"
    assert after["sources"]["a"] == pipeline(cluster, "a")["source"]


async def test_one_becomes_three_and_one_again_under_load(cluster: Cluster, client: ClusterClient) -> None:
    """Each event is handled once, by one of them."""
    source = each_only(cluster.nats_url, "g-p")
    await post(client, {"name": "p", "source": source})
    config = NatsConfig(servers=(cluster.nats_url,))
    ears, mouth = (
        await NatsTransport.connect(config, wait=5),
        await NatsTransport.connect(config, wait=5),
    )
    came: Counter[int] = Counter()
    sent, go_on = 0, True

    async def hear(message: Message) -> None:
        came[decode_fields(message.data)["fields"]["n"]] += 1

    async def speak() -> None:
        nonlocal sent
        while go_on:
            for _ in range(5):
                event = {"event_type": "Tick", "fields": {"n": sent, "by": 0}}
                await mouth.publish("test.g-p.in.0", encode_fields(event))
                sent += 1
            await asyncio.sleep(0.005)
        await mouth.flush()

    try:
        await ears.subscribe("test.g-p.each", hear)
        await ears.flush()
        speaking = asyncio.create_task(speak())
        for replicas in (3, 2, 1, 2):
            answer = await put(client, {"name": "p", "source": source, "replicas": replicas})
            assert answer["update"]["status"] == "done", answer

            async def settled(count: int = replicas) -> bool:
                view = await get(client, "/pipeline-groups/g")
                return len(view["placements"]) == count and view["status"] == "running"

            await until(settled, what=f"{replicas} run, and no others")
        go_on = False
        await speaking
        await until(lambda: len(came) >= sent, what="all came")
        assert sorted(came) == list(range(sent)) and set(came.values()) == {1}
    finally:
        go_on = False
        await ears.close()
        await mouth.close()


async def test_a_dry_run_a_version_that_was_not_looked_at_and_bad_programs_change_nothing(
    cluster: Cluster, client: ClusterClient, tmp_path: Path
) -> None:
    before = await post(client, pipeline(cluster, "a"))
    path = tmp_path / "p.vpl"
    path.write_text(each_only(cluster.nats_url, "g-p"))
    flags = ("--url", cluster.urls[0])
    plan = await asyncio.to_thread(varpulis, "update", "g", str(path), "--dry-run", *flags, cwd=tmp_path)
    assert plan.returncode == 0 and "added" in plan.stdout and "removed" in plan.stdout, plan.stderr
    late = await asyncio.to_thread(
        varpulis, "update", "g", str(path), "--if-version", "7", *flags, cwd=tmp_path
    )
    assert late.returncode == 1 and "has version 1, not 7" in late.stderr
    with pytest.raises(Refused) as refused:
        await put(client, {"name": "a", "source": "stream Out = In.wher(x)"})
    assert refused.value.status == 422 and refused.value.diagnostics
    after = await get(client, "/pipeline-groups/g")
    measured: dict[str, Any] = {"loss_windows": {}, "traffic": {}}
    assert after | measured == before | measured, "but for what workers measure"
    again = await asyncio.to_thread(varpulis, "deploy", str(path), "--name", "g", *flags, cwd=tmp_path)
    assert again.returncode == 1 and "update it" in again.stderr
