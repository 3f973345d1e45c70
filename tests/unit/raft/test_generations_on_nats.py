"""Changes of members with real nodes over a real nats-server."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from raft.config import RaftConfig
from raft.errors import ChangeRefused, NotLeader, OutcomeUnknown, Unavailable
from raft.generation import Generation
from raft.node import RaftNode
from tests.support.nats_server import NatsServer
from tests.unit.raft.machine import Recorder
from tests.unit.raft.test_node import SECONDS, until
from transport.config import NatsConfig
from transport.nats import NatsTransport

THREE = ("n1", "n2", "n3")


class Group:
    """Nodes by name, each with a connection of its own."""

    def __init__(self, url: str, directory: Path) -> None:
        self._url, self._directory = url, directory
        self.nodes: dict[str, RaftNode] = {}
        self.machines: dict[str, Recorder] = {}
        self._buses: dict[str, NatsTransport] = {}

    async def start(self, name: str, members: tuple[str, ...] = THREE, *, join: bool = False) -> None:
        bus = self._buses[name] = await NatsTransport.connect(NatsConfig(servers=(self._url,)), wait=SECONDS)
        self.machines[name] = Recorder()
        config = RaftConfig(name, members, "cluster", self._directory / name, join=join)
        self.nodes[name] = RaftNode(config, bus, self.machines[name])
        await self.nodes[name].start()

    async def stop(self, *names: str) -> None:
        for name in names:
            await self.nodes.pop(name).stop()
            await self._buses.pop(name).close()

    async def change(self, *, add: str | None = None, remove: str | None = None) -> Generation:
        """Ask whoever leads until it is done, as the REST layer does."""
        async with asyncio.timeout(SECONDS):
            while True:
                leader = next((node for node in self.nodes.values() if node.is_leader), None)
                with suppress(NotLeader, Unavailable, OutcomeUnknown):
                    if leader is not None:
                        return await leader.change_members(add=add, remove=remove, timeout=SECONDS)
                await asyncio.sleep(0.01)


async def test_members_are_added_replaced_and_removed_under_load(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    group = Group(nats_server.url, tmp_path)
    await asyncio.gather(*(group.start(name) for name in THREE))
    await until(lambda: all(node.leader_id for node in group.nodes.values()))
    acknowledged: list[bytes] = []
    stopping = asyncio.Event()

    async def write() -> None:
        number = 0
        while not stopping.is_set():
            number += 1
            through = next(iter(group.nodes.values()))
            with suppress(NotLeader, Unavailable, OutcomeUnknown):
                await through.propose(b"%d" % number, timeout=SECONDS)
                acknowledged.append(b"%d" % number)
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    await group.start("n4", join=True)
    assert await group.change(add="n4") == Generation(2, (*THREE, "n4"), ())
    await group.start("n5", (*THREE, "n4"), join=True)  # any of them may lead by then
    replaced = await group.change(add="n5", remove="n2")
    assert replaced == Generation(3, ("n1", "n3", "n4", "n5"), ("n2",))
    leader = next(name for name, node in group.nodes.items() if node.is_leader)
    removed = await group.change(remove=leader)
    assert leader in removed.retired and removed.number == 4
    out = {"n2", leader}
    await until(lambda: all("removed" in (group.nodes[name].status().failure or "") for name in out))
    stopping.set()
    await writing
    if leader == "n1":
        await group.stop("n1")
    rest = [name for name in removed.members if name in group.nodes]
    for name in rest:
        await group.nodes[name].barrier(timeout=SECONDS)
        applied = group.machines[name].commands
        assert [command for command in applied if command in set(acknowledged)] == acknowledged
        status = group.nodes[name].status()
        assert (status.generation, [peer.id for peer in status.nodes]) == (4, list(removed.members))
    with pytest.raises((ChangeRefused, NotLeader)):
        await group.nodes[rest[0]].change_members(add="n2", timeout=SECONDS)
    await group.stop(*list(group.nodes))


async def test_a_follower_says_who_leads_and_a_waiting_newcomer_that_it_waits(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    group = Group(nats_server.url, tmp_path)
    await group.start("n1", ("n1",))
    await until(lambda: group.nodes["n1"].is_leader)
    await group.start("n2", ("n1",), join=True)
    status = group.nodes["n2"].status()
    assert (status.generation, [peer.id for peer in status.nodes], status.ready) == (0, ["n1"], False)
    assert (await group.change(add="n2")).members == ("n1", "n2")
    await until(lambda: group.nodes["n2"].generation.number == 2 and bool(group.nodes["n2"].leader_id))
    follower = next(node for node in group.nodes.values() if not node.is_leader)
    with pytest.raises(NotLeader):
        await follower.change_members(add="n3", timeout=SECONDS)
    await group.stop("n1", "n2")
