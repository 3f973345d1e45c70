"""Directories that other releases wrote: what older ones left is read, what a later one left is refused.

`data/journal-1` and `data/journal-1-without-members` were written by the releases whose format they show,
and are never written again. Both hold the same log: terms 1, 2 and 4, a truncation, a roll of segments, a
snapshot after entry 7, and a vote of term 5.
"""

from pathlib import Path
from shutil import copytree

import google_crc32c
import pytest

from raft.codec import SnapshotChunk, SnapshotReply
from raft.config import RaftConfig
from raft.core import RaftCore
from raft.disk import Disk
from raft.entries import COMMAND, NOOP, Entry
from raft.errors import FormatTooNew, MembersChanged
from raft.generation import Generation, Shelf
from raft.journal import Identity, Journal
from raft.segment import FORMAT
from raft.snapshot import Snapshot, SnapshotStore
from raft.succession import Succession
from tests.unit.raft.crash import CrashDisk, Moment, QuietDisk, lay_out
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock, Peer, snapshot_chunk

DATA = Path(__file__).parent / "data"
MEMBERS = ("c1", "c2", "c3")
TERMS = [1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 4, 4, 4]


def of(index: int) -> Entry:
    term = TERMS[index - 1]
    if index == 1:
        return Entry(NOOP, 1, 1, b"")
    return Entry(COMMAND, index, term, b"command %d of %d" % (index, term))


def opened(directory: Path, members: tuple[str, ...] = MEMBERS) -> Journal:
    return Journal(directory, Identity("varpulis", "c1", 1, members), disk=Disk())


@pytest.fixture(params=["journal-1", "journal-1-without-members"])
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return copytree(DATA / request.param, tmp_path / "data")


def test_the_log_of_an_older_release_is_read_whole(older: Path) -> None:
    journal = opened(older)
    assert journal.typed(1, 100, 10**9) == [of(index) for index in range(1, 14)]
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (5, "c3")
    assert journal.incarnation == 1_700_000_000_001
    store = SnapshotStore(older, "varpulis", 1, Disk())
    assert store.load() == Snapshot(of(7), of(6), b"the state after entry 7")
    store.check_beside(journal.first_index)
    journal.close()


def test_a_log_of_an_older_release_goes_on(older: Path) -> None:
    journal = opened(older)
    journal.setCurrentTerm(6, None)
    journal.add(b"\x01", 14, 6)
    journal.sync()
    journal.close()
    again = opened(older)
    assert (again.last_index, again.term_at(14), again.getCurrentTerm()) == (14, 6, 6)
    again.close()


def test_the_first_start_on_an_older_log_may_lose_power_anywhere(older: Path, tmp_path: Path) -> None:
    """It writes the newest segment anew, and may begin another one, to record what older ones did not."""
    moments: list[Moment] = []
    files = {path.name: path.read_bytes() for path in older.iterdir()}
    identity = Identity("varpulis", "c1", 1, MEMBERS)
    Journal(older, identity, disk=CrashDisk.holding(files, moments.append)).close()
    left = [files for moment in moments for files in moment.left_by_power_cut(every_cut=True)]
    assert len(left) >= 15
    for files in left:
        journal = Journal(lay_out(tmp_path / "left", files), identity, disk=QuietDisk())
        assert journal.typed(1, 100, 10**9) == [of(index) for index in range(1, 14)]
        assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (5, "c3")
        journal.close()


def test_members_that_an_older_release_recorded_still_count(tmp_path: Path) -> None:
    copytree(DATA / "journal-1", tmp_path / "data")
    with pytest.raises(MembersChanged):
        opened(tmp_path / "data", ("c1",))


def test_a_log_of_a_later_release_is_refused_and_left_as_it_is(older: Path) -> None:
    newest = max(older.glob("journal-*.log"))
    newest.write_bytes(b"RAFTLOG2" + newest.read_bytes()[8:])
    before = {path.name: path.read_bytes() for path in older.iterdir()}
    with pytest.raises(FormatTooNew) as refused:
        opened(older)
    assert (refused.value.found, refused.value.known) == (2, FORMAT)
    assert f"{newest} was written in format 2 by a later release" in str(refused.value)
    assert "reads format 1. Start this node with the release that wrote it" in str(refused.value)
    assert {path.name: path.read_bytes() for path in older.iterdir()} == before


def test_a_snapshot_of_a_later_release_is_refused_at_start_and_left_as_it_is(
    older: Path, clock: Clock
) -> None:
    snapshot = older / "snapshot"
    snapshot.write_bytes(b"RAFTSNP2" + snapshot.read_bytes()[8:])
    before = snapshot.read_bytes()
    with pytest.raises(FormatTooNew) as refused:
        Succession(RaftConfig("c1", MEMBERS, "varpulis", older), Recorder(), clock=clock)
    assert (refused.value.file, refused.value.found, refused.value.known) == (str(snapshot), 2, FORMAT)
    assert snapshot.read_bytes() == before


def test_a_snapshot_of_a_later_release_that_a_leader_sends_is_refused_and_the_follower_goes_on(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "n1").mkdir()
    config = RaftConfig("n1", ("n1", "n2", "n3"), "cluster", tmp_path / "n1")
    core = RaftCore(config, Recorder(), clock=clock)
    *head, _, _, data = snapshot_chunk(tmp_path / "leader", 50)
    assert isinstance(data, bytes)
    later = b"RAFTSNP2" + data[8:]
    peer = Peer(core)
    reply = peer.ask(SnapshotChunk, 1, *head, len(later), google_crc32c.value(later), later)
    assert isinstance(reply, SnapshotReply) and not reply.installed
    assert core.counters.snapshots_refused == 1 and core.failure is None
    core.close()


def test_members_that_no_release_recorded_are_the_configured_ones(tmp_path: Path, clock: Clock) -> None:
    directory = copytree(DATA / "journal-1-without-members", tmp_path / "data")
    (directory / "snapshot").unlink()  # its state is no machine's; the log is whole
    told = Shelf(directory, "varpulis", "c1", Disk(), members=("c3", "c1", "c2")).newest()
    assert told is not None and told.generation == Generation(1, MEMBERS)
    node = Succession(RaftConfig("c1", MEMBERS, "varpulis", directory), Recorder(), clock=clock)
    assert node.generation == Generation(1, MEMBERS)
    node.close()
