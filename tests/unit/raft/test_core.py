"""The synchronous core: the order of effects, withdrawal, terms, and what a start refuses."""

from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest

from raft import codec
from raft.codec import Append, AppendReply, SnapshotChunk, Vote, VoteReply
from raft.config import RaftConfig
from raft.core import Outgoing, RaftCore
from raft.disk import Disk
from raft.entries import COMMAND, Entry, to_engine
from raft.errors import (
    ApplyFailed,
    CommandTooLarge,
    JournalCorrupt,
    NotLeader,
    OutcomeUnknown,
    SnapshotCorrupt,
    Unavailable,
)
from raft.journal import Identity, Journal
from raft.outcomes import Committed, Outcome
from raft.snapshot import Snapshot, SnapshotStore
from tests.unit.raft.machine import Recorder
from tests.unit.raft.test_engine_seams import Clock, elected, single


class WatchedDisk(Disk):
    """Counts syncs and fails on demand."""

    def __init__(self) -> None:
        self.syncs = 0
        self.broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")
        self.syncs += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def disk() -> WatchedDisk:
    return WatchedDisk()


def member(directory: Path, **settings: int) -> RaftConfig:
    return RaftConfig("n1", ("n1", "n2", "n3"), "cluster", directory, **settings)  # type: ignore[arg-type]


Open = Callable[[RaftConfig], RaftCore]


@pytest.fixture
def open_core(clock: Clock, disk: WatchedDisk) -> Open:
    def opened(config: RaftConfig) -> RaftCore:
        config.data_dir.mkdir(exist_ok=True)
        core = RaftCore(config, Recorder(), clock=clock, disk=disk)
        core.connection_changed(True, patient=False)
        return core

    return opened


class Peer:
    """n2, played by the test."""

    def __init__(self, core: RaftCore) -> None:
        self._core, self._seq = core, 0

    def _stamp(self, term: int) -> tuple[str, int, str, int, int, int]:
        self._seq += 1
        return ("cluster", 1, "n2", 7, term, self._seq)

    def ask(self, kind: type, term: int, *fields: object) -> codec.AnyReply | None:
        """Send a request and read the answer of the step."""
        self._core.receive(codec.encode(kind(*self._stamp(term), *fields)), "inbox")
        self._core.tick()
        answers = [frame for frame in self._core.flush() if frame.subject == "inbox"]
        return codec.decode_reply(answers[-1].data) if answers else None

    def answer(self, frame: Outgoing, kind: type, term: int, *fields: object) -> None:
        """Answer a request of the core."""
        asked = codec.decode_request(frame.data)
        reply = kind(*self._stamp(term), asked.incarnation, asked.seq, *fields)
        self._core.receive_reply(codec.encode(reply))


def lead(core: RaftCore, clock: Clock) -> Peer:
    """Let n1 win an election by the vote of n2."""
    clock.now += 1.0
    core.tick()
    peer = Peer(core)
    for frame in core.flush():
        if frame.subject.endswith("n2.vote"):
            peer.answer(frame, VoteReply, core.term, True)
    assert core.is_leader
    return peer


def commands(*indexes: int, term: int = 1) -> list[Entry]:
    return [Entry(COMMAND, index, term, b"%d" % index) for index in indexes]


def test_the_journal_is_synced_before_anything_leaves(
    tmp_path: Path, open_core: Open, disk: WatchedDisk
) -> None:
    core = open_core(member(tmp_path))
    core.flush()
    before = disk.syncs
    core.receive(codec.encode(Append("cluster", 1, "n2", 7, 1, 1, 1, 0, 1, commands(2, 3))), "inbox")
    core.tick()
    assert disk.syncs == before, "nothing is promised yet"
    assert [frame.subject for frame in core.flush()] == ["inbox"]
    assert disk.syncs == before + 1
    assert not core.journal.dirty


def test_appends_of_one_step_share_one_sync(tmp_path: Path, open_core: Open, disk: WatchedDisk) -> None:
    core = open_core(member(tmp_path))
    core.flush()
    before = disk.syncs
    for seq, index in enumerate(range(2, 12)):
        append = Append("cluster", 1, "n2", 7, 1, seq, index - 1, min(index - 2, 1), 1, commands(index))
        core.receive(codec.encode(append), "inbox")
    core.tick()
    assert len(core.flush()) == 10
    assert disk.syncs == before + 1


def test_a_disk_that_fails_makes_the_node_withdraw_and_promise_nothing(
    tmp_path: Path, open_core: Open, disk: WatchedDisk
) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    disk.broken = True
    assert peer.ask(Append, 1, 1, 0, 1, commands(2)) is None
    assert core.failure is not None and "Input/output error" in core.failure and "Mend" in core.failure
    disk.broken = False
    assert peer.ask(Append, 1, 1, 0, 1, commands(2)) is None, "withdrawn is withdrawn"
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.flush()
    assert isinstance(heard[0], Unavailable)


def test_proposals_in_flight_end_unknown_when_the_disk_fails(
    tmp_path: Path, open_core: Open, clock: Clock, disk: WatchedDisk
) -> None:
    core = open_core(member(tmp_path))
    lead(core, clock)
    core.tick()
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.tick()
    disk.broken = True
    assert core.flush() == []
    assert isinstance(heard[0], OutcomeUnknown) and not core.is_leader


def test_a_deposed_leader_fails_what_is_in_flight_at_once(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = lead(core, clock)
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.read(heard.append)
    core.tick()
    core.flush()
    assert heard == []
    peer.ask(Vote, core.term + 1, 99, core.term)
    assert [type(outcome) for outcome in heard] == [OutcomeUnknown, OutcomeUnknown]


def test_a_leader_cut_off_steps_down_in_bounded_time(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    lead(core, clock)
    clock.now += core.config.leader_fallback + 0.01
    core.tick()
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.flush()
    assert not core.is_leader and isinstance(heard[0], Unavailable)


def test_a_higher_term_in_a_reply_deposes(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    """Raft 5.1; PySyncObj's replies carry no term."""
    core = open_core(member(tmp_path))
    peer = lead(core, clock)
    core.tick()
    (append,) = [frame for frame in core.flush() if frame.subject.endswith("n2.append")]
    peer.answer(append, AppendReply, core.term + 4, False, 0)
    assert not core.is_leader and core.term == 5


def test_a_vote_is_counted_once_and_not_for_a_former_term(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    config = RaftConfig("n1", ("n1", "n2", "n3", "n4", "n5"), "cluster", tmp_path)
    core = open_core(config)
    clock.now += 1.0
    core.tick()
    old = [frame for frame in core.flush() if frame.subject.endswith("n2.vote")]
    clock.now += 1.0
    core.tick()
    (new,) = [frame for frame in core.flush() if frame.subject.endswith("n2.vote")]
    peer = Peer(core)
    peer.answer(old[0], VoteReply, core.term, True)
    peer.answer(new, VoteReply, core.term, True)
    peer.answer(new, VoteReply, core.term, True)
    assert not core.is_leader
    assert core.counters.frames_dropped == {"stale_term": 1, "unasked": 1}


def test_a_vote_refused_is_answered_with_the_term(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 3, 1, 0, 1, commands(2, term=3))
    reply = peer.ask(Vote, 2, 99, 2)
    assert isinstance(reply, VoteReply) and not reply.granted and reply.term == 3


def test_term_and_vote_survive_a_restart(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    reply = Peer(core).ask(Vote, 4, 9, 3)
    assert isinstance(reply, VoteReply) and reply.granted
    core.close()
    core = open_core(member(tmp_path))
    assert core.term == 4 and core.journal.getVotedForNodeId() == "n2"
    core.close()


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


def snapshot_chunk(directory: Path, last: int, term: int = 1) -> tuple[object, ...]:
    """The fields of a one-chunk snapshot that ends at `last`."""
    directory.mkdir()
    store = SnapshotStore(directory, "cluster", 1, Disk())
    machine = Recorder()
    machine.applied = [(last, b"%d" % last)]
    (end,), (before,) = commands(last, term=term), commands(last - 1, term=term)
    store.save(Snapshot(end, before, machine.snapshot()))
    data = store.read_bytes()
    return (last, term, 0, 1, len(data), google_crc32c.value(data), data)


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


def test_an_unbounded_snapshot_is_dropped(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path / "n1", max_snapshot_bytes=1_024))
    reply = Peer(core).ask(SnapshotChunk, 1, 50, 1, 0, 5_000, 2**40, 1, b"x")
    assert reply is None and core.counters.frames_dropped == {"oversized": 1}


def test_a_command_that_breaks_the_machine_is_a_typed_result_and_is_not_retried(
    tmp_path: Path, clock: Clock
) -> None:
    core = RaftCore(single(tmp_path), Recorder(), clock=clock)
    elected(core, clock)
    heard: list[Outcome] = []
    for command in (b"raise", b"fine"):
        core.propose(command, heard.append)
    for _ in range(3):
        core.tick()
        core.flush()
    assert isinstance(heard[0], ApplyFailed) and "a defect" in str(heard[0])
    assert isinstance(heard[1], Committed) and heard[1].result == b"result of fine"
    assert core.counters.apply_failures == 1
    core.close()


def test_a_single_node_syncs_before_it_applies(tmp_path: Path, clock: Clock, disk: WatchedDisk) -> None:
    machine = Recorder()
    core = RaftCore(single(tmp_path), machine, clock=clock, disk=disk)
    elected(core, clock)
    before = disk.syncs
    core.propose(b"x", lambda outcome: None)
    core.tick()
    assert machine.commands == []
    core.flush()
    assert disk.syncs == before + 1 and core.wants_tick
    core.tick()
    assert machine.commands == [b"x"]
    core.close()


def test_readers_that_wait_together_share_one_barrier(tmp_path: Path, clock: Clock) -> None:
    core = RaftCore(single(tmp_path), Recorder(), clock=clock)
    elected(core, clock)
    heard: list[Outcome] = []
    for _ in range(10):
        core.read(heard.append)
    for _ in range(3):
        core.tick()
        core.flush()
    assert len({outcome.index for outcome in heard if isinstance(outcome, Committed)}) == 1
    assert len(heard) == 10 and core.counters.barriers == 1
    core.close()


def test_a_reader_that_comes_later_waits_for_a_barrier_of_its_own(tmp_path: Path, clock: Clock) -> None:
    core = RaftCore(single(tmp_path), Recorder(), clock=clock)
    elected(core, clock)
    heard: list[Outcome] = []
    core.read(heard.append)
    core.tick()
    core.read(heard.append)
    for _ in range(4):
        core.tick()
        core.flush()
    first, second = (outcome.index for outcome in heard if isinstance(outcome, Committed))
    assert second > first
    core.close()


def test_a_follower_refuses_what_it_cannot_hand_over(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path, max_command_bytes=10))
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.propose(bytes(11), heard.append)
    core.flush()
    assert [type(outcome) for outcome in heard] == [Unavailable, CommandTooLarge]
    reply = Peer(core).ask(codec.Propose, 1, b"y")
    assert isinstance(reply, codec.CallReply) and reply.outcome == "unavailable"


def test_a_journal_that_begins_behind_the_snapshot_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    journal = Journal(tmp_path, Identity("cluster", "n1", 1), disk=Disk())
    journal.clear()
    for entry in commands(8, 9):
        journal.add(*to_engine(entry))
    journal.close()
    with pytest.raises(SnapshotCorrupt, match="begins at entry 8, but the snapshot ends at 0"):
        open_core(member(tmp_path))


def test_a_damaged_snapshot_stops_the_start(tmp_path: Path, open_core: Open) -> None:
    open_core(member(tmp_path)).close()
    (tmp_path / "snapshot").write_bytes(b"RAFTSNP1 and then noise")
    with pytest.raises(SnapshotCorrupt, match="checksum"):
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


def test_after_a_lost_connection_the_leader_is_heard_before_a_campaign(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, [])
    core.connection_changed(False)
    clock.now += 10.0
    core.tick()
    core.connection_changed(True)
    core.tick()
    assert core.counters.elections == 0, "silence while our own connection was down is our fault"
    peer.ask(Append, 1, 1, 0, 1, [])
    assert core.leader_id == "n2"
    clock.now += 10.0
    core.tick()
    assert core.counters.elections == 1


def test_an_answer_from_another_leader_is_an_error_with_a_hint(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, [])
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    (handed,) = [frame for frame in core.flush() if frame.subject.endswith("n2.propose")]
    peer.answer(handed, codec.CallReply, 1, "not_leader", 0, 0, b"", "n3")
    core.flush()
    assert isinstance(heard[0], NotLeader) and heard[0].leader == "n3"


def test_a_call_to_a_leader_that_changes_ends_unknown(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, [])
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.flush()
    peer.ask(Vote, 2, 99, 1)
    assert isinstance(heard[0], OutcomeUnknown)
