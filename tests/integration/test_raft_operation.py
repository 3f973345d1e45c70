"""What an operator does to real coordinators while a client writes: nothing acknowledged is lost."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.coordinators import Coordinators, Writer, alive
from tests.support.nats_server import NatsServer
from tests.support.poll import until

pytestmark = pytest.mark.processes


@pytest.fixture
async def group(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Coordinators]:
    async with Coordinators(nats_server.url, tmp_path) as group:
        await group.start("c1", "c2", "c3")
        yield group


async def test_leadership_moves_under_load_and_no_call_of_a_client_fails(group: Coordinators) -> None:
    first, second = Writer(group), Writer(group)
    async with first.writing(), second.writing():
        for _ in range(3):
            before = await group.leader()
            moved = await group.varpulis("raft", "transfer")
            assert moved["leader_id"] != before
            await first.goes_on()
        target = next(name for name in group.processes if name != moved["leader_id"])
        assert await group.varpulis("raft", "transfer", target) == {"leader_id": target}
        assert await group.varpulis("raft", "transfer", target) == {"leader_id": target}, "it leads already"
        await second.goes_on()
    assert first.failed + second.failed == []
    refused = await group.varpulis("raft", "transfer", "c9", exit_code=1)
    assert refused["code"] == "conflict" and "c9" in refused["error"]
    for name in group.processes:
        assert first.acknowledged.items() | second.acknowledged.items() <= (await group.workers(name)).items()


async def test_members_come_and_go_under_load_and_nothing_acknowledged_is_lost(group: Coordinators) -> None:
    writer = Writer(group)
    async with writer.writing():
        await group.launch("c4", "c1,c2,c3", "--join")
        await waits_to_be_added(group, "c4")
        added = await group.varpulis("raft", "add", "c4")
        assert added == {"number": 2, "members": ["c1", "c2", "c3", "c4"], "retired": []}
        assert await group.varpulis("raft", "add", "c4") == added, "it is there already"
        await group.ready("c4")
        assert len(writer.failed) <= 1, writer.failed

        writer.through = ["c2", "c3", "c4"]
        await group.kill("c1")
        await group.leader()
        await writer.goes_on()
        writer.failed.clear()
        await group.launch("c5", "c2,c3,c4", "--join")
        await waits_to_be_added(group, "c5")
        replaced = await group.varpulis("raft", "add", "c5", "--replaces", "c1")
        assert replaced == {"number": 3, "members": ["c2", "c3", "c4", "c5"], "retired": ["c1"]}
        await group.ready("c5")
        assert len(writer.failed) <= 1, writer.failed

        leader = await group.leader()
        writer.through = [name for name in ("c2", "c3", "c4", "c5") if name != leader]
        writer.failed.clear()
        removed = await group.varpulis("raft", "remove", leader, "--yes")
        assert removed["members"] == writer.through and removed["retired"] == sorted(["c1", leader])
        assert await group.varpulis("raft", "remove", leader, "--yes") == removed, "it is gone already"
        assert len(writer.failed) <= 1, writer.failed
        await is_out(group, leader)
        refused = await group.varpulis("raft", "add", leader, exit_code=1)
        assert refused["code"] == "conflict" and leader in refused["error"]

        restarted = writer.through[-1]
        writer.through = writer.through[:-1]
        await group.kill(restarted, number=signal.SIGTERM)
        await group.launch(restarted, "c1,c2,c3", "--join")
        await group.ready(restarted)
    await group.kill(leader, number=signal.SIGTERM)
    for name in group.processes:
        view = await group.raft(name)
        assert (view["generation"], [node["id"] for node in view["nodes"]]) == (4, removed["members"])
        assert writer.acknowledged.items() <= (await group.workers(name)).items()


async def test_a_copy_is_restored_into_a_new_group_and_one_survivor_into_a_group_of_its_own(
    group: Coordinators, nats_server: NatsServer
) -> None:
    writer = Writer(group)
    async with writer.writing():
        pass
    before = dict(writer.acknowledged)
    copy = str(group.directory / "the.backup")
    saved = await group.varpulis("raft", "snapshot", "save", copy)
    assert saved["ok"] and saved["cluster"] == "op" and saved["members"] == ["c1", "c2", "c3"]
    assert await group.varpulis("raft", "snapshot", "inspect", copy) == saved
    async with writer.writing():
        live = await group.varpulis("raft", "verify", str(group.data_dir("c1")))
        assert live["ok"] is True
    after = dict(writer.acknowledged)

    async def has_all() -> bool:  # what no commit waits for comes a little later
        return after.items() <= (await group.workers("c2")).items()

    await until(has_all, what="the survivor has what was acknowledged")
    await group.kill("c1", "c2", "c3")

    members = ("d1", "d2", "d3")
    for name in members:
        where = ("--id", name, "--members", ",".join(members), "--data-dir", str(group.data_dir(name)))
        restore = ("raft", "snapshot", "restore", copy, "--cluster-id", "op", *where)
        restored = await group.varpulis(*restore, "--yes")
        assert restored["members"] == list(members) and restored["number"] == 2
    refused = await group.varpulis(*restore, "--yes", exit_code=1)
    assert "holds something already" in refused["error"]
    await group.start(*members)
    for name in members:
        found = await group.workers(name)
        assert before.items() <= found.items(), group.log(name)
        assert not (after.keys() - before.keys()) & found.keys(), "the copy has nothing of what came after it"
    await group.kill(*members)

    where = ("--id", "c2", "--members", "c2", "--data-dir", str(group.data_dir("c2")))
    recovered = await group.varpulis("raft", "recover", *where, "--i-accept-lost-writes")
    assert recovered["members"] == ["c2"] and recovered["number"] == 2
    await group.start("c2")
    assert after.items() <= (await group.workers("c2")).items()
    again = Writer(group)
    async with again.writing():
        pass
    await group.launch("c6", "c2", "--join")
    await waits_to_be_added(group, "c6")
    grown = await group.varpulis("raft", "add", "c6")
    assert grown["members"] == ["c2", "c6"]
    await group.ready("c6")
    assert after.items() | again.acknowledged.items() <= (await group.workers("c6")).items()


async def waits_to_be_added(group: Coordinators, name: str) -> None:
    """The process is up, alive, and says what it waits for."""
    async with asyncio.timeout(60):
        while (await group.probe(name, "/livez"))[0] != 200:
            assert alive(group.processes[name]), group.log(name)
            await asyncio.sleep(0.05)
        while f"varpulis raft add {name}" not in (await group.probe(name, "/readyz"))[1]:
            await asyncio.sleep(0.05)
    assert (await group.probe(name, "/readyz"))[0] == 503


async def is_out(group: Coordinators, name: str) -> None:
    """A removed process stays alive, and says to everybody that it is out."""
    async with asyncio.timeout(20):
        while "removed" not in (await group.probe(name, "/readyz"))[1]:
            await asyncio.sleep(0.05)
    assert (await group.probe(name, "/livez"))[0] == 200
    for path in ("/workers", "/workers?consistency=stale"):
        status, text = await group.probe(name, API_BASE + path)
        assert status == 503 and "removed" in text
    assert alive(group.processes[name])
