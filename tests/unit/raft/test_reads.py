"""Linearizable reads by read index (Raft thesis 6.4)."""

from pathlib import Path

from raft.codec import Append, AppendReply, CallReply, Read
from raft.core import RaftCore
from raft.errors import OutcomeUnknown
from raft.outbox import Outgoing
from raft.outcomes import Committed, Outcome
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock, Open, Peer, elected, lead, member, single


def appends(core: RaftCore, peer: str = "n2") -> list[Outgoing]:
    core.tick()
    return [frame for frame in core.flush() if frame.subject.endswith(f"{peer}.append")]


def leading(core: RaftCore, clock: Clock) -> Peer:
    """n1 leads, and the first entry of its term is committed."""
    peer = lead(core, clock)
    for frame in appends(core):
        peer.answer(frame, AppendReply, core.term, True, core.journal.last_index + 1)
    core.tick()
    core.flush()
    assert core.leads_applied
    return peer


def test_a_read_is_answered_only_after_a_majority_answered_what_was_sent_after_it_came(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = leading(core, clock)
    clock.now += 0.06
    (before,) = appends(core)
    heard: list[Outcome] = []
    core.read(heard.append)
    (after,) = appends(core)
    peer.answer(before, AppendReply, core.term, True, core.journal.last_index + 1)
    assert not appends(core) and not heard, "an answer to an older frame proves nothing"
    peer.answer(after, AppendReply, core.term, True, core.journal.last_index + 1)
    appends(core)
    assert isinstance(heard[0], Committed) and heard[0].index == core.commit_index


def test_a_refusal_of_this_term_confirms_a_read_too(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    """The log may differ; that the peer still follows this term is what counts."""
    core = open_core(member(tmp_path))
    peer = leading(core, clock)
    heard: list[Outcome] = []
    core.read(heard.append)
    (asked,) = appends(core)
    peer.answer(asked, AppendReply, core.term, False, 2)
    appends(core)
    assert isinstance(heard[0], Committed)


def test_a_leader_whose_term_has_committed_nothing_yet_lets_readers_wait(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    """Thesis 6.4, step 1: until then its commit index may be behind what was acknowledged."""
    core = open_core(member(tmp_path))
    peer = lead(core, clock)
    heard: list[Outcome] = []
    core.read(heard.append)
    (noop,) = appends(core)
    assert core.counters.barriers == 0
    peer.answer(noop, AppendReply, core.term, True, core.journal.last_index + 1)
    (asked,) = appends(core)
    assert not heard
    peer.answer(asked, AppendReply, core.term, True, core.journal.last_index + 1)
    appends(core)
    assert isinstance(heard[0], Committed) and heard[0].index == core.journal.last_index


def test_a_deposed_leader_answers_no_read(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    peer = leading(core, clock)
    heard: list[Outcome] = []
    core.read(heard.append)
    (asked,) = appends(core)
    peer.answer(asked, AppendReply, core.term + 1, False, 0)
    core.tick()
    core.flush()
    assert isinstance(heard[0], OutcomeUnknown)


def test_readers_that_wait_together_share_one_round_and_later_ones_wait_for_the_next(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = leading(core, clock)
    heard: list[Outcome] = []
    for _ in range(10):
        core.read(heard.append)
    (first,) = appends(core)
    core.read(heard.append)
    peer.answer(first, AppendReply, core.term, True, core.journal.last_index + 1)
    (second,) = appends(core)
    assert len(heard) == 10 and core.counters.barriers == 2
    peer.answer(second, AppendReply, core.term, True, core.journal.last_index + 1)
    appends(core)
    assert len(heard) == 11


def test_a_read_writes_nothing(tmp_path: Path, clock: Clock) -> None:
    core = RaftCore(single(tmp_path), Recorder(), clock=clock)
    elected(core, clock)
    last = core.journal.last_index
    heard: list[Outcome] = []
    core.read(heard.append)
    core.tick()
    core.flush()
    assert isinstance(heard[0], Committed) and core.journal.last_index == last
    core.close()


def test_a_follower_asks_the_leader_for_the_index(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 1, [])
    core.read(lambda outcome: None)
    assert [frame.subject.rpartition(".")[2] for frame in core.flush()] == ["read"]
    reply = peer.ask(Read, 1)
    assert isinstance(reply, CallReply) and reply.outcome == "not_leader", "it is not handed on"
