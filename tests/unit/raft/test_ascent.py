"""What a node counts of its own rise: how long a failover's phases, commits and round trips take."""

from pathlib import Path

import pytest

from raft.ascent import Ascent
from raft.codec import Append, AppendReply, PreVoteReply, TimeoutNow, VoteReply, decode_request, encode
from raft.core import RaftCore
from raft.counters import FAILOVER_PHASES, Counters
from raft.outbox import Outgoing
from raft.outcomes import Committed, Outcome
from tests.unit.raft.peer import Clock, Open, Peer, commands, lead, member


def phases(counters: Counters) -> dict[str, tuple[int, float]]:
    """How often each phase was counted, and how long all of it took."""
    return {phase: (seen.count, round(seen.total, 6)) for phase, seen in counters.failover_seconds.items()}


def step(core: RaftCore) -> list[Outgoing]:
    core.tick()
    return [*core.early(), *core.flush()]


def asked(frames: list[Outgoing], peer: str, rpc: str) -> list[Outgoing]:
    return [frame for frame in frames if frame.subject.endswith(f"{peer}.{rpc}")]


def agree(core: RaftCore, peer: Peer, frames: list[Outgoing]) -> None:
    """The peer takes all it is sent."""
    for frame in asked(frames, peer.name, "append"):
        append = decode_request(frame.data)
        if frame.token and isinstance(append, Append):
            peer.answer(frame, AppendReply, core.term, True, append.prev_index + len(append.entries) + 1)


def test_detection_election_and_first_commit_are_counted_apart(
    tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 3, 1, 0, 1, commands(2, term=3))
    clock.now += 0.5
    prevotes = asked(step(core), "n2", "prevote")
    clock.now += 0.4
    prevotes = asked(step(core), "n2", "prevote") or prevotes
    peer.answer(prevotes[-1], PreVoteReply, core.term, True)
    (vote,) = asked(step(core), "n2", "vote")
    clock.now += 0.03
    peer.answer(vote, VoteReply, core.term, True)
    frames = step(core)
    assert core.is_leader
    assert phases(core.counters)["first_commit"] == (0, 0.0)
    clock.now += 0.07
    agree(core, peer, frames)
    step(core)
    step(core)
    assert core.leads_applied
    assert phases(core.counters) == {"detection": (1, 0.5), "election": (1, 0.43), "first_commit": (1, 0.07)}


def test_a_node_that_lets_another_lead_counts_nothing(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    leader = Peer(core)
    leader.ask(Append, 3, 1, 0, 1, commands(2, term=3))
    clock.now += 0.5
    assert asked(step(core), "n3", "prevote")
    leader.ask(Append, 3, 2, 3, 1, [])
    clock.now += 0.2
    Peer(core, "n3").ask(Append, 4, 2, 3, 1, [])
    assert phases(core.counters) == dict.fromkeys(FAILOVER_PHASES, (0, 0.0))


def test_after_a_hand_over_there_was_nothing_to_detect(tmp_path: Path, open_core: Open, clock: Clock) -> None:
    core = open_core(member(tmp_path))
    peer = Peer(core)
    peer.ask(Append, 3, 1, 0, 1, commands(2, term=3))
    core.receive(encode(TimeoutNow("cluster", 1, "n2", 7, 3, 9)), "")
    (vote,) = asked(step(core), "n2", "vote")
    clock.now += 0.01
    Peer(core).answer(vote, VoteReply, core.term, True)
    step(core)
    assert core.is_leader
    seen = phases(core.counters)
    assert seen["detection"] == (0, 0.0) and seen["election"] == (1, 0.01)


def test_leadership_lost_before_the_first_commit_is_not_counted_as_one() -> None:
    counters = Counters()
    ascent = Ascent(counters)
    ascent.suspects(1.0, 2.0)
    ascent.elected(3.0)
    unserved = [ascent.unserved]
    ascent.deposed()
    assert [*unserved, ascent.unserved] == [True, False]
    assert phases(counters)["first_commit"] == (0, 0.0)


@pytest.mark.parametrize("seconds", [0.002, 0.03])
def test_a_leader_counts_commits_and_round_trips_by_peer(
    seconds: float, tmp_path: Path, open_core: Open, clock: Clock
) -> None:
    core = open_core(member(tmp_path))
    peer = lead(core, clock)
    while not core.leads_applied:
        agree(core, peer, step(core))
    outcomes: list[Outcome] = []
    before, trips = core.counters.commit_seconds.total, core.counters.round_trip_seconds["n2"]
    trips_before = trips.count, trips.total
    core.propose(b"own", outcomes.append)
    frames = step(core)
    clock.now += seconds
    agree(core, peer, frames)
    step(core)
    assert isinstance(outcomes[0], Committed)
    assert core.counters.commit_seconds.total - before == pytest.approx(seconds)
    assert trips.count == trips_before[0] + 1
    assert trips.total - trips_before[1] == pytest.approx(seconds)
    assert "n3" not in core.counters.round_trip_seconds
