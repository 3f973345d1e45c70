"""The synchronous core: the order of effects, withdrawal, terms, and what a start refuses."""

from pathlib import Path

from raft import codec
from raft.codec import Append, AppendReply, Vote, VoteReply
from raft.config import RaftConfig
from raft.core import RaftCore
from raft.entries import SEAL, Entry
from raft.errors import (
    ApplyFailed,
    CommandTooLarge,
    EntryTooNew,
    NotLeader,
    OutcomeUnknown,
    Unavailable,
)
from raft.generation import Generation, encode_seal
from raft.outbox import Outgoing
from raft.outcomes import Committed, Outcome
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import (
    Clock,
    Open,
    Peer,
    WatchedDisk,
    campaign,
    commands,
    elected,
    lead,
    member,
    single,
)


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


def test_a_followers_answer_is_synced_and_leaves_before_it_applies(
    tmp_path: Path, clock: Clock, disk: WatchedDisk
) -> None:
    machine = Recorder()
    core = RaftCore(member(tmp_path), machine, clock=clock, disk=disk)
    core.flush()
    before = disk.syncs
    core.receive(codec.encode(Append("cluster", 1, "n2", 7, 1, 1, 1, 0, 2, commands(2))), "inbox")
    assert [frame.subject for frame in core.acknowledge()] == ["inbox"]
    assert disk.syncs == before + 1 and not core.journal.dirty and machine.commands == []
    core.tick()
    assert len(machine.commands) == 1
    assert core.flush() == [], "nothing is said twice"
    core.close()


def test_a_disk_that_fails_under_an_answer_lets_nothing_leave(
    tmp_path: Path, open_core: Open, disk: WatchedDisk
) -> None:
    core = open_core(member(tmp_path))
    core.receive(codec.encode(Append("cluster", 1, "n2", 7, 1, 1, 1, 0, 1, commands(2))), "inbox")
    disk.broken = True
    assert core.acknowledge() == []
    core.tick()
    assert core.flush() == [] and core.failure is not None


def test_a_leader_acknowledges_nothing_before_its_flush(
    tmp_path: Path, open_core: Open, clock: Clock, disk: WatchedDisk
) -> None:
    core = open_core(member(tmp_path))
    lead(core, clock)
    core.flush()
    core.propose(b"x", lambda outcome: None)
    core.tick()
    before = disk.syncs
    assert core.acknowledge() == [] and disk.syncs == before and core.journal.dirty


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
    peer, other = Peer(core), Peer(core, "n3")
    old, new = (
        next(frame for frame in campaign(core, clock, peer, other) if frame.subject.endswith("n2.vote"))
        for _ in range(2)
    )
    peer.answer(old, VoteReply, core.term, True)
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


def test_a_node_stops_before_an_entry_that_only_a_later_release_knows(tmp_path: Path, clock: Clock) -> None:
    class Older(Recorder):
        def apply(self, index: int, command: bytes) -> bytes:
            if command == b"new":
                raise EntryTooNew(index, 2, 1)
            return super().apply(index, command)

    machine = Older()
    core = RaftCore(single(tmp_path), machine, clock=clock)
    elected(core, clock)
    heard: list[Outcome] = []
    for command in (b"old", b"new", b"after"):
        core.propose(command, heard.append)
    for _ in range(3):
        core.tick()
        core.flush()
    assert machine.commands == [b"old"], "nothing after it either"
    assert core.failure is not None and "format 2" in core.failure
    assert isinstance(heard[0], Committed)
    assert [type(outcome) for outcome in heard[1:]] == [OutcomeUnknown, OutcomeUnknown]
    core.close()
    later = Recorder()
    core = RaftCore(single(tmp_path), later, clock=clock)
    elected(core, clock)
    for _ in range(3):
        core.tick()
        core.flush()
    assert later.commands == [b"old", b"new", b"after"], "the later release finds all of it"
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


def test_a_follower_refuses_what_it_cannot_hand_over(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path, max_command_bytes=10))
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.propose(bytes(11), heard.append)
    core.flush()
    assert [type(outcome) for outcome in heard] == [Unavailable, CommandTooLarge]
    reply = Peer(core).ask(codec.Propose, 1, core.letters.incarnation, b"y")
    assert isinstance(reply, codec.CallReply) and reply.outcome == "unavailable"


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
    campaign(core, clock, peer)
    assert core.counters.elections == 1


def test_a_copy_of_a_command_from_before_a_restart_is_not_handled_again(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    """The guard against copies is gone after a restart, and the first one may be committed."""
    core = open_core(member(tmp_path))
    peer = lead(core, clock)
    assert peer.ask(codec.Propose, core.term, core.letters.incarnation - 1, b"x") is None
    assert core.counters.frames_dropped == {"former_incarnation": 1}
    assert core.counters.proposals == 0


def test_a_copy_of_a_command_from_before_a_restart_is_not_refused_for_good_where_another_leads(
    tmp_path: Path, open_core: Open
) -> None:
    """This node may have led and handled the first one; now another leads, and may commit it."""
    core = open_core(member(tmp_path))
    leader, asker = Peer(core), Peer(core, "n3")
    leader.ask(Append, 1, 1, 0, 1, [])
    assert core.leader_id == "n2"
    assert asker.ask(codec.Propose, 1, core.letters.incarnation - 1, b"x") is None
    reply = asker.ask(codec.Propose, 1, core.letters.incarnation, b"x")
    assert isinstance(reply, codec.CallReply) and reply.outcome == "not_leader"


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


def test_a_call_to_a_leader_that_changes_ends_unknown(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, [])
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.flush()
    peer.ask(Vote, 2, 99, 1)
    assert not heard, "the former leader may still tell"
    clock.now += 2 * core.config.heartbeat_interval
    core.tick()
    core.flush()
    assert isinstance(heard[0], OutcomeUnknown)


def test_the_commit_index_never_goes_beyond_a_seal(tmp_path: Path, open_core: Open) -> None:
    """Entries behind it may come in the same append, and are no part of this generation."""
    core = open_core(member(tmp_path))
    core.flush()
    for index, term, number, end in ((3, 0, 7, 4), (6, 1, 2, 6)):  # the first: of another generation
        seal = Entry(SEAL, index, 1, encode_seal(Generation(number, ("n1", "n2"), ("n3",))))
        log = [*commands(index - 1), seal, *commands(index + 1)]
        append = Append("cluster", 1, "n2", 7, 1, index, index - 2, term, index + 1, log)
        core.receive(codec.encode(append), "inbox")
        assert core.commit_index == end, "before the tick that applies it"
        core.tick()
        core.flush()
        assert core.commit_index == core.applied_index == end


def test_news_of_a_commit_waits_for_the_next_append_unless_another_nodes_caller_waits_for_it(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peers = {"n2": lead(core, clock), "n3": Peer(core, "n3")}

    def committed() -> list[Outgoing]:
        """Have the others agree to all; the frames of the step that commits it."""
        core.tick()
        for frame in [*core.early(), *core.flush(keep_news=True)]:
            if frame.subject.endswith(".append") and frame.token:
                append = codec.decode_request(frame.data)
                assert isinstance(append, codec.Append)
                next_index = append.prev_index + len(append.entries) + 1
                name = frame.token.partition(".")[0]
                peers[name].answer(frame, AppendReply, core.term, True, next_index)
        core.tick()
        return core.flush(keep_news=True)

    def told(frames: list[Outgoing]) -> list[int]:
        appends = [codec.decode_request(frame.data) for frame in frames if frame.subject.endswith(".append")]
        return [append.commit_index for append in appends if isinstance(append, codec.Append)]

    while core.commit_index < core.journal.last_index:
        committed()
    core.news()

    core.propose(b"own", lambda outcome: None)
    assert told(committed()) == []
    assert core.keeps_news
    assert told(core.news()) == [core.commit_index] * 2

    call = codec.Propose("cluster", 1, "n2", 7, core.term, 1000, core.letters.incarnation, b"n2's")
    core.receive(codec.encode(call), "inbox")
    frames = committed()
    assert [frame.subject for frame in frames].count("inbox") == 1
    assert told(frames) == [core.commit_index] * 2
    assert not core.keeps_news
