"""A copy is restored into a cluster that runs: real processes, events that flow, a leader that dies."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClusterClient
from coordinator.state.records import Event
from coordinator.state.snapshot import frames, read
from raft.backup import load, pack
from raft.generation import Generation
from tests.support.cluster import Cluster
from tests.support.pipelines import Probe, echo_group
from tests.support.poll import until

pytestmark = pytest.mark.processes

WEIGHT = 24
"""Megabytes of a large copy: parts enough to be in their midst."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, env={"VARPULIS_COORDINATOR_HEARTBEAT_INTERVAL": "0.25"}) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    with cluster.client() as rest:
        yield rest


def deploy(cluster: Cluster, client: ClusterClient, name: str) -> None:
    made = client.post("/pipeline-groups", echo_group(cluster.nats_url, name), wait=20)
    assert made["status"] == "running", made


def groups(client: ClusterClient) -> dict[str, tuple[str, int]]:
    """Status and epoch of each group of one pipeline."""
    found = client.get("/pipeline-groups")["pipeline_groups"]
    return {group["name"]: (group["status"], group["placements"][0]["epoch"]) for group in found}


def snapshot(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    urls = [part for url in cluster.urls for part in ("--url", url)]
    done = cluster.run("raft", "snapshot", *arguments, *urls, "-o", "json")
    assert done.returncode == 0, done.stderr + cluster.logs()
    document: dict[str, Any] = json.loads(done.stdout)
    return document


async def flows(probe: Probe, cluster: Cluster) -> None:
    try:
        await until(probe.answers, timeout=30, what="events flow")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{cluster.logs()}") from None


async def test_the_state_goes_back_to_the_copy_and_the_workers_follow(
    cluster: Cluster, client: ClusterClient
) -> None:
    deploy(cluster, client, "a")
    deploy(cluster, client, "b")
    saved = snapshot(cluster, "save", "the.backup")
    client.delete("/pipeline-groups/a", wait=20)
    deploy(cluster, client, "c")
    before = groups(client)
    async with (
        Probe(cluster.nats_url, "a") as a,
        Probe(cluster.nats_url, "b") as b,
        Probe(cluster.nats_url, "c") as c,
    ):
        for probe in (b, c):
            await flows(probe, cluster)
        assert not await a.answers()
        restored = snapshot(cluster, "restore", "the.backup", "--into", saved["cluster"], "--yes")
        assert (restored["groups"], restored["kept"]) == (2, 1)
        for probe in (a, b):
            await flows(probe, cluster)

        async def c_is_silent() -> bool:
            return not await c.answers()

        await until(c_is_silent, what="c has ended")
        after = groups(client)
        assert after["b"] == before["b"], "what runs as the copy wants it is left alone"
        assert after.keys() == {"a", "b"} and after["a"][0] == "running"
        assert after["a"][1] > max(epoch for _, epoch in before.values())

        deploy(cluster, client, "d")
        await heartbeats(cluster, client, 3)
        assert {name: one for name, one in groups(client).items() if name != "d"} == after, "it came to rest"
        assert "stale_epoch" not in cluster.logs()
        for probe in (a, b):
            await flows(probe, cluster)
        assert not await c.answers()
    snapshot(cluster, "save", "after.backup")
    trail = read(load(cluster.cwd / "after.backup").machine).audit
    assert [event.what for event in trail].count("state_restored") == 1
    assert {"group_deleting", "group_created"} <= {event.what for event in trail}, "with what came before it"
    # All of it is on the disks: a cluster that starts again has the restored state.
    cluster.down()
    cluster.up()
    assert groups(client).keys() == {"a", "b", "d"}


async def heartbeats(cluster: Cluster, client: ClusterClient, count: int) -> None:
    """So many of each worker, as their ages tell, which begin anew with each."""

    async def heard_of(worker: str) -> None:
        last = 0

        def anew() -> bool:
            nonlocal last
            before, last = last, client.get(f"/workers/{worker}")["last_heartbeat_age_ms"]
            return bool(last < before)

        for _ in range(count):
            await until(anew, what=f"a heartbeat of {worker}")

    await asyncio.gather(*map(heard_of, cluster.workers))


@pytest.mark.parametrize("asked", ["leader", "follower"])
async def test_a_leader_that_dies_in_the_middle_of_a_restore_costs_nothing(
    cluster: Cluster, client: ClusterClient, asked: str
) -> None:
    """Through the follower the upload goes on by itself; through the leader the client asks another node with
    the same `Idempotency-Key`. At no time is there anything but the old state or the new one, whole.
    """
    deploy(cluster, client, "a")
    deploy(cluster, client, "b")
    copy, cluster_id = large_copy(cluster)
    for name in ("a", "b"):
        client.delete(f"/pipeline-groups/{name}", wait=20)
    deploy(cluster, client, "c")
    leader = cluster.leader()
    others = [name for name in cluster.coordinators if name != leader]
    first = [leader, *others] if asked == "leader" else [*others, leader]
    with ClusterClient([cluster.url(name) for name in first], timeout=60) as uploader:
        upload = asyncio.create_task(
            asyncio.to_thread(uploader.upload, "/snapshot", copy, confirm=cluster_id, wait=30)
        )
        log = cluster.data_dir / "logs" / f"{leader}.log"
        await until(lambda: "restore_began" in log.read_text(errors="replace"), what="the upload began")
        cluster.kill(leader)
        assert "state_restored" not in log.read_text(errors="replace"), "it died in the middle"
        seen: set[frozenset[str]] = set()
        with ClusterClient([cluster.url(name) for name in others]) as watcher:
            while not upload.done():
                found = await asyncio.to_thread(watcher.get, "/pipeline-groups", consistency="stale")
                seen.add(frozenset(group["name"] for group in found["pipeline_groups"]))
                await asyncio.sleep(0.02)
            assert (await upload)["groups"] == 2
            assert seen <= {frozenset("c"), frozenset("ab")}
            await until(lambda: {one[0] for one in groups(watcher).values()} == {"running"}, what="both run")
            assert groups(watcher).keys() == {"a", "b"}
    async with Probe(cluster.nats_url, "a") as a:
        await flows(a, cluster)
    cluster.up()
    assert groups(client).keys() == {"a", "b"}


def large_copy(cluster: Cluster) -> tuple[bytes, str]:
    """A copy of the cluster as it is, with a trail that weighs; and the cluster's id."""
    snapshot(cluster, "save", "small.backup")
    info, machine = load(cluster.cwd / "small.backup")
    state = read(machine)
    state.audit += [Event(at=1, by="t", what="w", about="a", why="x" * 100_000) for _ in range(WEIGHT * 10)]
    copy = pack(
        Generation(info.generation, info.members, info.retired),
        frames(state),
        cluster=info.cluster,
        last_index=info.last_index,
        last_term=info.last_term,
        taken_at_ms=info.taken_at_ms,
    )
    return copy, info.cluster
