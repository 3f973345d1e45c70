"""The promises of the cluster, held on real processes: what is killed, and what is still true afterwards."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import ClusterClient
from cli.demo import group as demo
from cli.demo.trades import figures, subject, trade
from proto_schemas.codec import decode_fields, encode_fields
from proto_schemas.errors import WireError
from proto_schemas.messages.membership import Capacity, Register, Registered
from proto_schemas.subjects import Subjects
from tests.support.cluster import Cluster
from tests.support.pipelines import Probe, echo_group
from tests.support.poll import until
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport

pytestmark = pytest.mark.processes

LOG_ENTRIES = 10_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[ClusterClient]:
    with cluster.client() as rest:
        yield rest


def placement(client: ClusterClient, group: str, pipeline: str = "echo") -> dict[str, Any]:
    """Where a pipeline is now."""
    placements = client.get(f"/pipeline-groups/{group}")["placements"]
    found: dict[str, Any] = next(one for one in placements if one["pipeline_name"] == pipeline)
    return found


def deploy(client: ClusterClient, group: dict[str, Any]) -> None:
    """Deploy, and insist that all of it runs."""
    made = client.post("/pipeline-groups", group, wait=20)
    assert made["status"] == "running", made


def picture(client: ClusterClient) -> dict[str, Any]:
    """The groups and where their pipelines run: what a restart must not change."""
    groups = client.get("/pipeline-groups", limit=1000)["pipeline_groups"]
    return {
        group["name"]: {
            one["pipeline_name"]: (one["worker_id"], one["pipeline_id"], one["epoch"], one["status"])
            for one in group["placements"]
        }
        for group in groups
    }


async def test_the_demo_spans_two_workers_and_puts_out_exactly_its_figures(
    cluster: Cluster, client: ClusterClient
) -> None:
    deploy(client, demo.spec(cluster.nats_url))
    assert placement(client, "demo", "filter")["worker_id"] == "worker-0"
    assert placement(client, "demo", "stats")["worker_id"] == "worker-1"
    statistics: list[dict[str, Any]] = []
    blocks: list[dict[str, Any]] = []

    async def on_statistics(message: Message) -> None:
        statistics.append(decode_fields(message.data)["fields"])

    async def on_block(message: Message) -> None:
        blocks.append(decode_fields(message.data)["fields"])

    nats = await NatsTransport.connect(NatsConfig(servers=(cluster.nats_url,)), wait=5.0)
    await nats.subscribe("demo.stats", on_statistics)
    await nats.subscribe("demo.alerts", on_block)
    await nats.flush(5.0)
    for number in range(4_000):
        event = {"event_type": "Trade", "fields": trade(number)}
        await nats.publish(subject(number), encode_fields(event))
    expected = figures(4_000)
    await until(
        lambda: (len(statistics), len(blocks)) >= (expected.statistics, expected.blocks),
        what=f"{expected} came out",
    )
    await nats.close()
    assert (len(statistics), len(blocks)) == (expected.statistics, expected.blocks)
    large = [trade(number) for number in range(4_000) if trade(number)["volume"] >= 100]
    assert sum(one["turnover"] for one in statistics) == sum(one["price"] * one["volume"] for one in large)
    assert all(type(one["turnover"]) is int and one["trades"] == 10 for one in statistics)


async def test_the_pipelines_of_a_killed_worker_run_elsewhere_and_events_flow_again(
    cluster: Cluster, client: ClusterClient
) -> None:
    deploy(client, echo_group(cluster.nats_url, "moved", worker="worker-0"))
    deploy(client, echo_group(cluster.nats_url, "stays", worker="worker-1"))
    before, neighbour = placement(client, "moved"), placement(client, "stays")
    assert (before["worker_id"], neighbour["worker_id"]) == ("worker-0", "worker-1")
    async with Probe(cluster.nats_url, "moved") as moved, Probe(cluster.nats_url, "stays") as stays:
        expected = await moved.send(100)
        await until(lambda: moved.seen == expected, what="every even number, in order")
        cluster.kill("worker-0")
        await until(moved.answers, timeout=15.0, what="events flow through the new copy")
        after = placement(client, "moved")
        assert after["worker_id"] == "worker-1"
        assert after["epoch"] > before["epoch"]
        assert placement(client, "stays") == neighbour
        expected = await stays.send(100)
        await until(lambda: stays.seen == expected, what="the neighbour was not disturbed")
        moved.seen.clear()
        expected = await moved.send(100)
        await until(lambda: moved.seen[-1:] == expected[-1:], what="the last number")
        assert sorted(set(moved.seen) & set(expected)) == expected
        assert len(moved.seen) == len(set(moved.seen)), "two copies run"


async def test_a_killed_leader_is_replaced_and_no_acknowledged_deploy_is_lost(
    cluster: Cluster, client: ClusterClient
) -> None:
    for number in range(5):
        deploy(client, echo_group(cluster.nats_url, f"group-{number}"))
    before = picture(client)
    leader = cluster.leader()
    async with Probe(cluster.nats_url, "group-0") as probe:
        cluster.kill(leader)
        expected = await probe.send(100)
        await until(lambda: probe.seen == expected, what="pipelines run on while nobody leads")
    assert cluster.leader() != leader
    assert picture(client) == before
    deploy(client, echo_group(cluster.nats_url, "after"))
    cluster.up()
    before = picture(client)
    for name in cluster.coordinators:
        with ClusterClient([cluster.url(name)], timeout=10.0) as one:
            await until(lambda one=one: picture(one) == before, what=f"{name} shows the same")


async def test_all_coordinators_killed_at_once_come_back_with_the_same_state_after_a_long_log(
    cluster: Cluster, client: ClusterClient
) -> None:
    for number in range(
        3
    ):  # each where it is for good: on a busy machine rebalancing may move others meanwhile
        deploy(client, echo_group(cluster.nats_url, f"group-{number}", worker=f"worker-{number % 2}"))
    before = picture(client)
    await fill_log(cluster.nats_url, LOG_ENTRIES)
    assert client.get("/raft")["commit_index"] > LOG_ENTRIES
    term = client.get("/raft")["term"]
    for name in cluster.coordinators:
        cluster.kill(name)
    assert not set(map(cluster.pid, cluster.coordinators)) & set(cluster.alive())
    async with Probe(cluster.nats_url, "group-0") as probe:
        expected = await probe.send(100)
        await until(lambda: probe.seen == expected, what="workers run on without any coordinator")
    cluster.up()
    assert picture(client) == before
    assert client.get("/raft")["term"] > term
    assert client.get("/raft")["commit_index"] > LOG_ENTRIES
    deploy(client, echo_group(cluster.nats_url, "after"))


async def fill_log(nats_url: str, entries: int) -> None:
    """Commit `entries` commands: registrations of a few workers that exist on paper only, 64 at a time."""
    nats = await NatsTransport.connect(NatsConfig(servers=(nats_url,)), wait=5.0)
    register = Subjects().register
    remaining = iter(range(entries))

    async def one_by_one(worker_id: str) -> None:
        for _ in remaining:
            message = Register(
                worker_id=worker_id,
                address="",
                api_key="",
                capacity=Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=0),
            )
            while True:
                try:
                    answer = await nats.request_message(register, message, Registered, timeout=10.0)
                    break
                except WireError as error:
                    assert error.retryable, error
            assert answer.status == "registered"

    await asyncio.gather(*(one_by_one(f"paper-{number}") for number in range(64)))
    await nats.close()
