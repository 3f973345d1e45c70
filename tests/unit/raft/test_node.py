"""Nodes on the memory bus: elect, commit, die, come back."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from raft.bus import Bus, Message
from raft.codec import HelloReply, encode
from raft.config import RaftConfig
from raft.errors import (
    CommandTooLarge,
    DirectoryInUse,
    NodeIdInUse,
    OutcomeUnknown,
    RaftError,
    TransferRefused,
    Unavailable,
)
from raft.memory_bus import MemoryBus, MemoryConnection
from raft.node import RaftNode
from raft.outcomes import Committed
from raft.succession import Succession
from tests.unit.raft.machine import Recorder

SECONDS = 10.0


async def until(condition: Callable[[], bool]) -> None:
    """Poll `condition` until it holds, at most `SECONDS`."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


class Cluster:
    """Nodes that can be killed and started again; each start has a new machine and the old directory."""

    def __init__(self, directory: Path, size: int, **settings: int) -> None:
        self.bus = MemoryBus()
        self.ids = tuple(f"n{number}" for number in range(1, size + 1))
        self._directory, self._settings = directory, settings
        self.nodes: dict[str, RaftNode] = {}
        self.machines: dict[str, Recorder] = {}
        self.connections: dict[str, MemoryConnection] = {}

    def config(self, name: str) -> RaftConfig:
        return RaftConfig(name, self.ids, "cluster", self._directory / name, **self._settings)  # type: ignore[arg-type]

    async def start(self, name: str) -> RaftNode:
        self.machines[name] = Recorder()
        self.connections[name] = self.bus.connect(name)
        node = RaftNode(self.config(name), self.connections[name], self.machines[name])
        await node.start()
        self.nodes[name] = node
        return node

    async def stop(self, name: str) -> None:
        await self.nodes.pop(name).stop()

    async def close(self) -> None:
        """All at once; nobody is left to hand over to."""
        await asyncio.gather(*(node.stop(hand_over=False) for node in self.nodes.values()))

    async def kill(self, name: str) -> None:
        """Off the bus at once, without a word; then the process ends."""
        for subscription in list(self.bus.subscriptions):
            if subscription.owner is self.connections[name]:
                await subscription.unsubscribe()
        self.connections[name].set_connected(False)
        await self.nodes.pop(name).stop(hand_over=False)

    async def leader(self) -> RaftNode:
        """The leader, once it holds what was committed before and everybody knows it."""
        found: list[RaftNode] = []

        def agreed() -> bool:
            known = {node.leader_id for node in self.nodes.values()}
            found[:] = [node for name, node in self.nodes.items() if known == {name} and node.ready]
            return bool(found)

        await until(agreed)
        return found[0]

    def followers(self) -> list[RaftNode]:
        return [node for node in self.nodes.values() if not node.is_leader]

    def name_of(self, node: RaftNode) -> str:
        return node.status().this_node_id


async def insist(cluster: Cluster, command: bytes) -> Committed:
    """Propose through whoever answers, until it is committed."""
    async with asyncio.timeout(SECONDS):
        while True:
            for node in list(cluster.nodes.values()):
                try:
                    return await node.propose(command, timeout=1.0)
                except RaftError:
                    await asyncio.sleep(0.02)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(tmp_path, 3, snapshot_every_entries=60, retained_entries=5)
    for name in cluster.ids:
        await cluster.start(name)
    yield cluster
    await cluster.close()


async def test_what_is_proposed_anywhere_is_applied_everywhere_in_one_order(cluster: Cluster) -> None:
    await cluster.leader()
    for number in range(30):
        name = cluster.ids[number % 3]
        committed = await cluster.nodes[name].propose(b"%d" % number, timeout=SECONDS)
        assert committed.result == b"result of %d" % number
        assert cluster.machines[name].applied[-1] == (committed.index, b"%d" % number)
    for node in cluster.nodes.values():
        await node.barrier(timeout=SECONDS)
    histories = [machine.applied for machine in cluster.machines.values()]
    assert histories[0] == histories[1] == histories[2]
    assert len(histories[0]) == 30


async def test_a_barrier_on_a_follower_sees_what_was_acknowledged_before(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for number in range(10):
        committed = await leader.propose(b"%d" % number, timeout=SECONDS)
        for follower in cluster.followers():
            assert await follower.barrier(timeout=SECONDS) >= committed.index
            assert cluster.machines[cluster.name_of(follower)].commands[-1] == b"%d" % number


async def test_a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for number in range(20):
        await leader.propose(b"%d" % number, timeout=SECONDS)
    old_term, old_name = leader.term, cluster.name_of(leader)
    await cluster.kill(old_name)
    successor = await cluster.leader()
    assert successor.term > old_term
    await insist(cluster, b"after")
    for name in cluster.nodes:
        await cluster.nodes[name].barrier(timeout=SECONDS)
        assert cluster.machines[name].commands == [b"%d" % number for number in range(20)] + [b"after"]
    await cluster.start(old_name)
    await until(lambda: cluster.machines[old_name].commands[-1:] == [b"after"])


async def test_a_follower_slightly_behind_catches_up_from_the_log(cluster: Cluster) -> None:
    await cluster.leader()
    away = cluster.name_of(cluster.followers()[0])
    await cluster.kill(away)
    for number in range(4):  # fewer than the first member whose turn it is needs for a snapshot
        await insist(cluster, b"%d" % number)
    node = await cluster.start(away)
    await until(lambda: len(cluster.machines[away].commands) == 4)
    assert node.counters.snapshots_installed == 0


async def test_a_follower_far_behind_catches_up_by_a_snapshot(cluster: Cluster) -> None:
    leader = await cluster.leader()
    away = cluster.name_of(cluster.followers()[0])
    await cluster.kill(away)
    for number in range(150):
        await leader.propose(b"%d" % number, timeout=SECONDS)
    node = await cluster.start(away)
    await until(lambda: len(cluster.machines[away].commands) == 150)
    assert node.counters.snapshots_installed >= 1
    assert cluster.machines[away].applied == cluster.machines[cluster.name_of(leader)].applied


async def test_all_nodes_stopped_and_started_again_hold_what_was_acknowledged(cluster: Cluster) -> None:
    leader = await cluster.leader()
    for number in range(100):
        await leader.propose(b"%d" % number, timeout=SECONDS)
    for name in cluster.ids:
        await cluster.stop(name)
    for name in cluster.ids:
        await cluster.start(name)
    await insist(cluster, b"after")
    for name in cluster.ids:
        await cluster.nodes[name].barrier(timeout=SECONDS)
        assert cluster.machines[name].commands == [b"%d" % number for number in range(100)] + [b"after"]


async def test_a_leader_cut_off_answers_in_bounded_time_and_its_commands_are_not_applied(
    cluster: Cluster,
) -> None:
    leader = await cluster.leader()
    name = cluster.name_of(leader)
    for other in cluster.ids:
        if other != name:
            cluster.bus.cut(name, other)
    with pytest.raises(OutcomeUnknown, match="lost leadership"):
        await leader.propose(b"alone", timeout=SECONDS)
    with pytest.raises(Unavailable):
        await leader.barrier(timeout=SECONDS)
    await until(lambda: any(node.is_leader for node in cluster.nodes.values() if node is not leader))
    cluster.bus.heal()
    await insist(cluster, b"together")
    await until(lambda: cluster.machines[name].commands == [b"together"])


async def test_a_lost_connection_does_not_depose_the_leader_when_it_comes_back(cluster: Cluster) -> None:
    leader = await cluster.leader()
    term = leader.term
    away = cluster.name_of(cluster.followers()[0])
    cluster.connections[away].set_connected(False)
    await leader.propose(b"one", timeout=SECONDS)
    elections = cluster.nodes[away].counters.elections
    with pytest.raises(OutcomeUnknown):
        await cluster.nodes[away].propose(b"two", timeout=2 * cluster.config(away).election_timeout_max)
    cluster.connections[away].set_connected(True)
    await until(lambda: cluster.machines[away].commands == [b"one"])
    assert (leader.is_leader, leader.term) == (True, term)
    assert cluster.nodes[away].counters.elections == elections


async def test_leadership_and_progress_are_told(cluster: Cluster) -> None:
    leader = await cluster.leader()
    told: list[bool] = []
    applied: list[int] = []
    leader.on_leadership(told.append)
    leader.on_applied(applied.append)
    committed = await leader.propose(b"x", timeout=SECONDS)
    assert applied[-1] == committed.index
    await cluster.stop(cluster.name_of(leader))
    assert told == [False]
    successor = await cluster.leader()
    assert successor is not leader


async def test_a_leader_that_stops_hands_over_without_waiting_for_an_election_timeout(
    cluster: Cluster,
) -> None:
    leader = await cluster.leader()
    term, name = leader.term, cluster.name_of(leader)
    await cluster.stop(name)
    await cluster.leader()
    assert sum(node.counters.elections for node in cluster.nodes.values()) >= 1
    assert all(node.term == term + 1 for node in cluster.nodes.values())


async def test_a_transfer_tells_a_target_again_that_did_not_make_it_in_time(cluster: Cluster) -> None:
    leader = await cluster.leader()
    name, target = cluster.name_of(leader), cluster.name_of(cluster.followers()[0])
    cluster.bus.cut(name, target)
    giving = asyncio.create_task(leader.transfer(target, timeout=SECONDS))
    core = leader._core
    assert core is not None
    await until(lambda: core.hands_over)
    await until(lambda: not core.hands_over)
    assert await insist(cluster, b"meanwhile") and not giving.done()
    cluster.bus.heal()
    assert await giving == target
    assert (await cluster.leader()).status().this_node_id == target


async def test_a_transfer_to_who_never_answers_ends_with_its_time(cluster: Cluster) -> None:
    leader = await cluster.leader()
    target = cluster.name_of(cluster.followers()[0])
    cluster.bus.cut(cluster.name_of(leader), target)
    with pytest.raises(TransferRefused, match=f"{target}.* within 1 s"):
        await leader.transfer(target, timeout=1.0)
    assert leader.is_leader


async def test_a_leader_whose_whole_group_stops_asks_nobody_to_campaign(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader, asked = await cluster.leader(), list[Succession]()
    monkeypatch.setattr(Succession, "transfer", asked.append)
    await cluster.nodes.pop(cluster.name_of(leader)).stop(hand_over=False)
    assert not asked


async def test_status_tells_roles_and_lag(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await leader.propose(b"x", timeout=SECONDS)
    await until(lambda: all(peer.lag == 0 for peer in leader.status().nodes))
    status = leader.status()
    assert status.enabled and status.failure is None and status.leader_id == status.this_node_id
    assert sorted(peer.role for peer in status.nodes) == ["follower", "follower", "leader"]
    assert {peer.match_index for peer in status.nodes} == {status.last_index}


async def test_a_command_too_large_is_refused_before_it_is_sent(cluster: Cluster) -> None:
    leader = await cluster.leader()
    with pytest.raises(CommandTooLarge, match="max_command_bytes"):
        await leader.propose(bytes(leader.status().term + 512 * 1024), timeout=1.0)


async def test_largest_commands_travel(cluster: Cluster) -> None:
    await cluster.leader()
    follower = cluster.followers()[0]
    command = bytes(512 * 1024).replace(b"\0", b"x")
    assert (await follower.propose(command, timeout=SECONDS)).result == b"result of " + command


async def test_noise_on_the_subjects_is_counted_and_disturbs_nobody(cluster: Cluster) -> None:
    leader = await cluster.leader()
    stranger = cluster.bus.connect("stranger")
    name = cluster.name_of(leader)
    for rpc in ("append", "vote", "snapshot", "propose", "nonsense"):
        await stranger.publish(f"varpulis.cluster.raft.{name}.{rpc}", b"\x01noise", reply="nowhere")
    await leader.propose(b"x", timeout=SECONDS)
    assert leader.counters.frames_dropped["malformed"] == 5


async def test_a_directory_in_use_is_refused(cluster: Cluster) -> None:
    other = RaftNode(cluster.config("n1"), cluster.bus.connect("other"), Recorder())
    with pytest.raises(DirectoryInUse, match=r"in use by process \d+"):
        await other.start()


async def test_a_node_id_that_answers_already_is_refused_and_its_directory_given_back(
    tmp_path: Path,
) -> None:
    bus = MemoryBus()
    impostor = bus.connect("impostor")

    async def greet(message: Message) -> None:
        await impostor.publish(message.reply, encode(HelloReply("cluster", 1, "n1", 1, 0, 1, 1, 1)))

    subscription = await impostor.subscribe("varpulis.cluster.raft.n1.hello", greet)
    config = RaftConfig("n1", ("n1",), "cluster", tmp_path)
    with pytest.raises(NodeIdInUse, match="running node answers"):
        await RaftNode(config, bus.connect("n1"), Recorder()).start()
    await subscription.unsubscribe()
    node = RaftNode(config, bus.connect("n1"), Recorder())
    await node.start()
    await until(lambda: node.is_leader)
    await node.stop()


async def test_twins_started_at_the_same_moment_do_not_both_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same millisecond, and with long intervals, which leave each time to hear of the other however
    busy this machine is."""
    monkeypatch.setattr(
        "raft.core.time.time_ns", partial(next, itertools.count(time.time_ns() // 10**6 * 10**6))
    )
    bus = MemoryBus()
    directories = [tmp_path / name for name in ("one", "two")]
    configs = [
        RaftConfig(
            *("n1", ("n1",), "cluster", directory),
            heartbeat_interval=1.0,
            election_timeout_min=4.0,
            election_timeout_max=8.0,
            leader_fallback=4.0,
        )
        for directory in directories
    ]
    twins = [RaftNode(config, bus.connect(config.data_dir.name), Recorder()) for config in configs]
    outcomes = await asyncio.gather(*(twin.start() for twin in twins), return_exceptions=True)
    refused = any(isinstance(outcome, NodeIdInUse) for outcome in outcomes)
    await until(lambda: refused or any(twin.status().failure is not None for twin in twins))
    for twin in twins:
        await twin.stop()


async def test_a_twin_that_answers_late_is_heard_all_the_same(tmp_path: Path) -> None:
    bus = MemoryBus()
    node = RaftNode(RaftConfig("n1", ("n1",), "cluster", tmp_path), bus.connect("n1"), Recorder())
    await node.start()
    await until(lambda: node.is_leader)
    inbox = node._inbox
    await bus.connect("late").publish(f"{inbox}.hello", b"whatever it says")
    await until(lambda: node.status().failure is not None)
    assert "another node was started as n1" in str(node.status().failure) and not node.is_leader
    await node.stop()


async def test_a_single_node_commits_alone_and_remembers(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 1)
    node = await cluster.start("n1")
    await cluster.leader()
    for number in range(5):
        await node.propose(b"%d" % number, timeout=SECONDS)
    await cluster.stop("n1")
    await cluster.start("n1")
    await cluster.leader()
    assert cluster.machines["n1"].commands == [b"%d" % number for number in range(5)]
    await cluster.stop("n1")


async def test_a_node_does_not_start_without_its_bus(tmp_path: Path) -> None:
    connection = MemoryBus().connect("n1")
    connection.set_connected(False)
    with pytest.raises(Unavailable, match="not connected"):
        await RaftNode(RaftConfig("n1", ("n1",), "cluster", tmp_path), connection, Recorder()).start()


def test_the_memory_connection_is_a_bus() -> None:
    bus: Bus = MemoryBus().connect("n1")
    assert bus.connected
