"""A copy of the state: whole or refused, byte by byte."""

from pathlib import Path

import pytest

from raft.backup import BackupInfo, inspect, load, pack
from raft.config import RaftConfig
from raft.errors import RecoveryRefused
from raft.generation import Generation
from raft.memory_bus import MemoryBus
from raft.node import RaftNode
from tests.unit.raft.machine import Recorder
from tests.unit.raft.test_node import SECONDS, until


def a_copy() -> bytes:
    generation = Generation(3, ("n1", "n2"), ("n0",))
    return pack(generation, [b"some ", b"state"], cluster="c", last_index=17, last_term=4, taken_at_ms=99)


def test_a_copy_says_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(a_copy())
    expected = BackupInfo(1, "c", 3, ("n1", "n2"), ("n0",), 17, 4, 10, 99, True, None)
    assert inspect(path) == expected
    assert load(path) == (expected, b"some state")


def test_every_flipped_bit_of_a_copy_is_found(tmp_path: Path) -> None:
    path, whole = tmp_path / "copy", a_copy()
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        info = inspect(path)
        assert not info.ok and info.problem, bit


def test_a_copy_cut_anywhere_or_with_more_behind_it_is_found(tmp_path: Path) -> None:
    path, whole = tmp_path / "copy", a_copy()
    for data in (*(whole[:size] for size in range(len(whole))), whole + b"x"):
        path.write_bytes(data)
        assert not inspect(path).ok
        with pytest.raises(RecoveryRefused, match="cannot be restored"):
            load(path)


async def test_a_copy_of_a_node_holds_what_was_committed_before_the_call(tmp_path: Path) -> None:
    machine = Recorder()
    config = RaftConfig("n1", ("n1",), "cluster", tmp_path / "n1")
    node = RaftNode(config, MemoryBus().connect("n1"), machine)
    await node.start()
    await until(lambda: node.is_leader)
    committed = await node.propose(b"a command", timeout=SECONDS)
    path = tmp_path / "copy"
    path.write_bytes(await node.backup(timeout=SECONDS))
    info, state = load(path)
    assert (info.cluster, info.generation, info.members) == ("cluster", 1, ("n1",))
    assert info.last_index >= committed.index and info.last_term == node.term
    copy = Recorder()
    copy.restore(state)
    assert copy.commands == [b"a command"]
    await node.stop()
