"""Nodes over a real nats-server."""

import asyncio
from pathlib import Path

import pytest

from raft.bus import Bus
from raft.config import RaftConfig
from raft.errors import NodeIdInUse, RaftError
from raft.node import RaftNode
from tests.support.nats_server import NatsServer
from tests.unit.raft.machine import Recorder
from tests.unit.raft.test_node import SECONDS, until
from transport.config import NatsConfig
from transport.nats import NatsTransport

MEMBERS = ("n1", "n2", "n3")


async def connected(server: NatsServer) -> NatsTransport:
    return await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=SECONDS)


async def test_a_cluster_commits_and_survives_its_leaders_connection(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    buses = {name: await connected(nats_server) for name in MEMBERS}
    machines = {name: Recorder() for name in MEMBERS}
    nodes = {
        name: RaftNode(RaftConfig(name, MEMBERS, "cluster", tmp_path / name), buses[name], machines[name])
        for name in MEMBERS
    }
    await asyncio.gather(*(node.start() for node in nodes.values()))
    await until(lambda: all(node.leader_id for node in nodes.values()))
    first = next(name for name in MEMBERS if nodes[name].is_leader)
    for number in range(20):
        await nodes[MEMBERS[number % 3]].propose(b"%d" % number, timeout=SECONDS)
    await buses[first].close()
    rest = [name for name in MEMBERS if name != first]
    await until(lambda: any(nodes[name].is_leader for name in rest))
    async with asyncio.timeout(SECONDS):
        while b"after" not in machines[rest[0]].commands:
            try:
                await nodes[rest[0]].propose(b"after", timeout=SECONDS)
            except RaftError:
                await asyncio.sleep(0.02)
    await nodes[rest[1]].barrier(timeout=SECONDS)
    for name in rest:
        assert machines[name].commands == [b"%d" % number for number in range(20)] + [b"after"]
    for name in MEMBERS:
        await nodes[name].stop()
        await buses[name].close()


async def test_a_restarted_server_costs_no_acknowledged_command(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    bus = await connected(nats_server)
    machine = Recorder()
    node = RaftNode(RaftConfig("n1", ("n1",), "cluster", tmp_path), bus, machine)
    await node.start()
    await until(lambda: node.is_leader)
    await node.propose(b"before", timeout=SECONDS)
    nats_server.stop()
    await until(lambda: not bus.connected)
    nats_server.start()
    await until(lambda: bus.connected)
    await node.propose(b"after", timeout=SECONDS)
    assert machine.commands == [b"before", b"after"]
    await node.stop()
    await bus.close()


async def test_a_second_node_under_one_id_is_refused(nats_server: NatsServer, tmp_path: Path) -> None:
    one, two = await connected(nats_server), await connected(nats_server)
    node = RaftNode(RaftConfig("n1", ("n1",), "cluster", tmp_path / "one"), one, Recorder())
    await node.start()
    twin = RaftNode(RaftConfig("n1", ("n1",), "cluster", tmp_path / "two"), two, Recorder())
    with pytest.raises(NodeIdInUse, match="running node answers"):
        await twin.start()
    await node.stop()
    await one.close()
    await two.close()


async def test_the_nats_transport_is_a_bus(nats_server: NatsServer) -> None:
    transport = await connected(nats_server)
    bus: Bus = transport
    assert bus.connected
    await transport.close()
