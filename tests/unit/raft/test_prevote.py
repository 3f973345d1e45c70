"""When a node may campaign (Raft thesis 9.6), and when it need not wait."""

from pathlib import Path

import pytest

from raft.calls import MOMENT
from raft.codec import Append, PreVote, PreVoteReply, TimeoutNow, Vote, VoteReply
from raft.core import RaftCore
from raft.errors import Unavailable
from raft.outcomes import Outcome
from tests.unit.raft.peer import Clock, Open, Peer, campaign, commands, lead, member


def followed(core: RaftCore) -> Peer:
    """n2 leads in term 3 and was heard just now."""
    leader = Peer(core)
    leader.ask(Append, 3, 1, 0, 1, commands(2, term=3))
    return leader


def test_a_node_that_nobody_answers_raises_no_term(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    for _ in range(100):
        assert not campaign(core, clock)
    assert core.term == 0 and core.counters.elections == 0


def test_a_majority_of_prevotes_lets_it_campaign(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    votes = campaign(core, clock, Peer(core))
    assert [frame.subject.split(".")[-2] for frame in votes] == ["n2", "n3"] and core.term == 1


def test_old_grants_do_not_count(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    clock.now += 0.1
    core.tick()
    (asked,) = [frame for frame in core.flush() if frame.subject.endswith("n3.prevote")]
    peer = Peer(core, "n3")
    peer.answer(asked, PreVoteReply, core.term, True)
    clock.now += 1.0
    core.tick()
    assert core.counters.elections == 0


@pytest.mark.parametrize(
    ("silence", "last_index", "last_term", "granted"),
    [(0.0, 9, 3, False), (1.0, 9, 3, True), (1.0, 2, 3, True), (1.0, 1, 3, False), (1.0, 9, 2, False)],
    ids=["leader heard", "longer log", "same log", "shorter log", "older term in the log"],
)
def test_a_prevote_is_granted_by_who_hears_no_leader_and_has_no_newer_log(
    silence: float,
    last_index: int,
    last_term: int,
    granted: bool,
    tmp_path: Path,
    open_core: Open,
    clock: Clock,
) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    clock.now += silence
    reply = Peer(core, "n3").ask(PreVote, 3, last_index, last_term)
    assert isinstance(reply, PreVoteReply) and reply.granted is granted
    assert core.term == 3, "it changes nothing"


def test_a_prevote_of_a_higher_term_changes_nothing(tmp_path: Path, open_core: Open) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    reply = Peer(core, "n3").ask(PreVote, 9, 99, 8)
    assert isinstance(reply, PreVoteReply) and not reply.granted
    assert core.term == 3 and core.leader_id == "n2"


def test_a_leader_grants_none(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    lead(core, clock)
    reply = Peer(core, "n3").ask(PreVote, core.term, 99, 99)
    assert isinstance(reply, PreVoteReply) and not reply.granted and core.is_leader


def test_when_the_bus_says_that_the_leader_is_gone_the_first_by_id_does_not_wait(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    clock.now += 0.09
    core.tick()
    asked = {frame.subject.split(".")[-2]: frame for frame in core.flush()}
    core.nobody_there(int(asked["n2"].token.rpartition(".")[2]))
    Peer(core, "n3").answer(asked["n3"], PreVoteReply, core.term, True)
    core.tick()
    assert core.counters.elections == 1, "n1 is first by id"
    assert any(frame.subject.endswith("n3.vote") for frame in core.flush())


def test_a_peer_that_did_not_know_yet_is_asked_again_at_once_and_then_each_heartbeat(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    clock.now += 0.09
    core.tick()
    asked = {frame.subject.split(".")[-2]: frame for frame in core.flush()}
    core.nobody_there(int(asked["n2"].token.rpartition(".")[2]))
    Peer(core, "n3").answer(asked["n3"], PreVoteReply, core.term, False)
    rounds = []
    for _ in range(30):
        clock.now += 0.01
        core.tick()
        rounds.append(any(frame.subject.endswith("n3.prevote") for frame in core.flush()))
    assert sum(rounds[:4]) >= 3
    assert 4 <= sum(rounds[5:]) <= 6


def test_a_bus_that_has_just_come_back_is_not_believed(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    followed(core)
    core.connection_changed(False)
    core.connection_changed(True)
    clock.now += 0.09
    core.tick()
    asked = {frame.subject.split(".")[-2]: frame for frame in core.flush()}
    core.nobody_there(int(asked["n2"].token.rpartition(".")[2]))
    Peer(core, "n3").answer(asked["n3"], PreVoteReply, core.term, True)
    core.tick()
    assert core.counters.elections == 0


def test_a_node_told_to_campaign_asks_for_no_prevotes(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    leader = followed(core)
    leader.ask(TimeoutNow, 3)
    assert core.counters.elections == 1 and core.term == 4


def test_a_refusal_with_a_higher_term_is_learned(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    """Else a node whose term is behind would be refused for ever."""
    core = open_core(member(tmp_path))
    clock.now += 1.0
    core.tick()
    (asked,) = [frame for frame in core.flush() if frame.subject.endswith("n2.prevote")]
    Peer(core).answer(asked, PreVoteReply, 7, False)
    assert core.term == 7


def test_a_vote_is_granted_whatever_was_answered_before(tmp_path: Path, open_core: Open) -> None:
    """Pre-votes bear on who asks, never on safety."""
    core = open_core(member(tmp_path))
    followed(core)
    reply = Peer(core, "n3").ask(Vote, 4, 99, 3)
    assert isinstance(reply, VoteReply) and reply.granted


def test_a_leader_not_heard_for_the_longest_timeout_is_forgotten_and_calls_are_refused(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    """Else callers would wait for one that cannot be reached until their deadlines."""
    core = open_core(member(tmp_path))
    leader = followed(core)
    clock.now += core.config.election_timeout_max + 0.001
    assert core.leader_id is None
    core.tick()
    core.flush()
    clock.now += MOMENT * core.config.heartbeat_interval + 0.001
    heard: list[Outcome] = []
    core.propose(b"x", heard.append)
    core.tick()
    core.flush()
    assert isinstance(heard[0], Unavailable)
    leader.ask(Append, 3, 2, 3, 1, [])
    assert core.leader_id == "n2"
