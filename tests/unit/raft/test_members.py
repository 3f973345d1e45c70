"""A directory remembers its members: a typo in the list must not make a second cluster of one node."""

import struct
from dataclasses import replace
from pathlib import Path

import google_crc32c
import msgspec
import pytest

from raft.config import RaftConfig
from raft.disk import Disk
from raft.entries import COMMAND, Entry, to_engine
from raft.errors import MembersChanged
from raft.journal import Identity, Journal
from raft.memory_bus import MemoryBus
from raft.node import RaftNode
from raft.segment import MAGIC, SegmentReader, encode_vote
from tests.unit.raft.machine import Recorder

THREE = ("n1", "n2", "n3")


def opened(directory: Path, members: tuple[str, ...] = THREE) -> Journal:
    return Journal(directory, Identity("c", "n1", 1, members), disk=Disk())


def used(directory: Path) -> None:
    """Two acknowledged entries, a vote, members n1 to n3."""
    journal = opened(directory)
    journal.setCurrentTerm(4, "n2")
    journal.add(*to_engine(Entry(COMMAND, 1, 4, b"one")))
    journal.add(*to_engine(Entry(COMMAND, 2, 4, b"two")))
    journal.sync()
    journal.close()


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "lock"}


async def test_a_member_of_three_does_not_start_alone_and_says_what_to_do(tmp_path: Path) -> None:
    three = RaftConfig("n1", THREE, "cluster", tmp_path)
    node = RaftNode(three, MemoryBus().connect("n1"), Recorder())
    await node.start()
    await node.stop()
    before = files(tmp_path)
    alone = RaftNode(replace(three, members=("n1",)), MemoryBus().connect("n1"), Recorder())
    with pytest.raises(MembersChanged) as refused:
        await alone.start()
    for word in ("n1, n2, n3", "configured with n1.", "--members", "varpulis raft add", "docs/members.md"):
        assert word in str(refused.value)
    assert files(tmp_path) == before, "a refused start changes nothing"
    again = RaftNode(three, MemoryBus().connect("n1"), Recorder())
    await again.start()
    await again.stop()


async def test_the_order_of_the_list_does_not_matter(tmp_path: Path) -> None:
    for members in (THREE, THREE[::-1]):
        config = RaftConfig("n1", members, "cluster", tmp_path)
        node = RaftNode(config, MemoryBus().connect("n1"), Recorder())
        await node.start()
        await node.stop()


@pytest.mark.parametrize("others", [("n1",), ("n1", "n2"), ("n1", "n2", "n4"), (*THREE, "n4")])
def test_fewer_others_and_more_members_are_refused(tmp_path: Path, others: tuple[str, ...]) -> None:
    used(tmp_path)
    with pytest.raises(MembersChanged) as refused:
        opened(tmp_path, others)
    assert (refused.value.found, refused.value.expected) == (THREE, others)


def test_a_journal_from_before_members_were_recorded_takes_the_first_list_it_meets(tmp_path: Path) -> None:
    used(tmp_path)
    (path,) = tmp_path.glob("journal-*.log")
    reader = SegmentReader(path, path.read_bytes(), is_last=True)
    header, vote = reader.header(), next(iter(reader))
    body = b"\x01" + msgspec.msgpack.encode(list(msgspec.structs.astuple(header))[:-1])
    frame = struct.pack("<III", len(body), len(body) ^ 0xFFFFFFFF, google_crc32c.value(body))
    path.write_bytes(MAGIC + frame + body + encode_vote(vote))  # type: ignore[arg-type]
    opened(tmp_path).close()
    with pytest.raises(MembersChanged):
        opened(tmp_path, ("n1",))


def test_members_outlive_the_segments_that_held_them(tmp_path: Path) -> None:
    identity = Identity("c", "n1", 1, THREE)
    journal = Journal(tmp_path, identity, disk=Disk(), segment_bytes=200)
    for index in range(1, 30):
        journal.add(*to_engine(Entry(COMMAND, index, 1, b"x")))
        journal.sync()
    journal.deleteEntriesTo(27)
    journal.close()
    with pytest.raises(MembersChanged):
        opened(tmp_path, ("n1",))
