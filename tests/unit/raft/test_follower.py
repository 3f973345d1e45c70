"""What a follower takes from a leader, what it keeps, and what stops it at start."""

from pathlib import Path

import pytest

from raft import codec
from raft.codec import Append, AppendReply, SnapshotChunk, Vote, VoteReply
from raft.disk import Disk
from raft.entries import to_engine
from raft.errors import (
    JournalCorrupt,
    SnapshotCorrupt,
)
from raft.journal import Identity, Journal
from tests.unit.raft.peer import (
    Open,
    Peer,
    commands,
    member,
    snapshot_chunk,
)


def test_an_append_that_contradicts_what_is_committed_is_dropped(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 3, commands(2, 3))
    assert core.applied_index == 3
    assert peer.ask(Append, 2, 1, 0, 3, commands(2, 3, term=2)) is None
    assert core.journal.term_at(2) == 1
    assert core.counters.frames_dropped == {"contradicts_committed": 1}


def test_a_heartbeat_behind_our_end_keeps_our_entries_and_verifies_none_of_them(
    tmp_path: Path, open_core: Open
) -> None:
    """PySyncObj alone would delete entries 3 to 5, which are acknowledged."""
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, commands(2, 3, 4, 5))
    reply = peer.ask(Append, 1, 2, 1, 5, [])
    assert isinstance(reply, AppendReply) and (reply.success, reply.next_index) == (True, 3)
    assert (core.journal.last_index, core.commit_index) == (5, 2)


def test_a_conflict_is_answered_with_the_start_of_the_term_that_differs(
    tmp_path: Path, open_core: Open
) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, commands(2, 3, 4, 5))
    reply = peer.ask(Append, 3, 5, 2, 1, commands(6, term=3))
    assert isinstance(reply, AppendReply) and (reply.success, reply.next_index) == (False, 2)


def test_term_and_vote_survive_a_restart(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    reply = Peer(core).ask(Vote, 4, 9, 3)
    assert isinstance(reply, VoteReply) and reply.granted
    core.close()
    core = open_core(member(tmp_path))
    assert core.term == 4 and core.journal.getVotedForNodeId() == "n2"
    core.close()


def test_a_snapshot_ahead_is_installed_durably_before_it_is_acknowledged(
    tmp_path: Path, open_core: Open
) -> None:
    core = open_core(member(tmp_path / "n1"))
    reply = Peer(core).ask(SnapshotChunk, 1, *snapshot_chunk(tmp_path / "other", 50))
    assert isinstance(reply, codec.SnapshotReply) and reply.installed
    assert core.applied_index == 50
    core.close()
    core = open_core(member(tmp_path / "n1"))
    assert core.applied_index == 50 and core.journal.last_index == 50
    core.close()


def test_a_snapshot_inside_our_log_loses_no_entries(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1"))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, commands(2, 3, 4, 5, 6))
    reply = peer.ask(SnapshotChunk, 1, *snapshot_chunk(tmp_path / "other", 4))
    assert isinstance(reply, codec.SnapshotReply) and reply.installed
    assert (core.applied_index, core.journal.last_index) == (4, 6)


def test_a_snapshot_of_what_is_applied_is_agreed_without_going_back(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1"))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 5, commands(2, 3, 4, 5))
    reply = peer.ask(SnapshotChunk, 1, *snapshot_chunk(tmp_path / "other", 3))
    assert isinstance(reply, codec.SnapshotReply) and reply.installed
    assert core.applied_index == 5 and core.counters.snapshots_installed == 0


def test_a_snapshot_that_fails_its_checksum_is_refused_and_counted(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1"))
    fields = list(snapshot_chunk(tmp_path / "other", 50))
    fields[5] = 1
    reply = Peer(core).ask(SnapshotChunk, 1, *fields)
    assert isinstance(reply, codec.SnapshotReply) and not reply.installed
    assert core.counters.snapshots_refused == 1 and core.applied_index == 1


def test_a_snapshot_of_too_many_bytes_is_declined_with_the_limit(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1", max_snapshot_bytes=1_024))
    reply = Peer(core).ask(SnapshotChunk, 1, 50, 1, 0, 1, 5_000, 1, b"x")
    assert isinstance(reply, codec.SnapshotReply)
    assert (reply.expected, reply.installed, reply.limit) == (0, False, 1_024)
    assert not [*(tmp_path / "n1").glob("snapshot*")], "nothing of it is kept"


def test_a_chunk_whose_count_does_not_fit_its_size_is_dropped(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1"))
    reply = Peer(core).ask(SnapshotChunk, 1, 50, 1, 0, 5_000, 2**20, 1, b"x")
    assert reply is None and core.counters.frames_dropped == {"malformed": 1}


def test_a_journal_that_begins_behind_the_snapshot_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    journal = Journal(tmp_path, Identity("cluster", "n1", 1, ("n1", "n2", "n3")), disk=Disk())
    journal.clear()
    for entry in commands(8, 9):
        journal.add(*to_engine(entry))
    journal.close()
    with pytest.raises(SnapshotCorrupt, match="begins at entry 8, but the snapshot ends at 0"):
        open_core(member(tmp_path))


def test_a_snapshot_without_its_journal_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    """Without the journal the node could vote a second time in a term."""
    snapshot_chunk(tmp_path / "n1", 50)
    with pytest.raises(SnapshotCorrupt, match="vote"):
        open_core(member(tmp_path / "n1"))


def test_a_damaged_snapshot_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    open_core(member(tmp_path)).close()
    snapshot_chunk(tmp_path / "leader", 50)
    whole = (tmp_path / "leader" / "snapshot").read_bytes()
    for damaged, cause in (
        (b"RAFTSNP1 and then noise", "header"),
        (whole[:-9] + b"\0" + whole[-8:], "checksum"),
    ):
        (tmp_path / "snapshot").write_bytes(damaged)
        with pytest.raises(SnapshotCorrupt, match=cause):
            open_core(member(tmp_path))


def test_a_damaged_journal_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    Peer(core).ask(Append, 1, 1, 0, 1, commands(2, 3))
    core.close()
    (segment,) = tmp_path.glob("journal-*.log")
    data = bytearray(segment.read_bytes())
    data[-1] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalCorrupt):
        open_core(member(tmp_path))
