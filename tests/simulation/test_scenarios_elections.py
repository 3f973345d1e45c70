"""Directed scenarios: who may lead, and for how long. Each fails with its treatment taken away."""

from pathlib import Path

from raft.codec import Vote, VoteReply
from tests.simulation.kit import Kit


def test_a_vote_is_remembered_through_a_power_cut(disks: Path) -> None:
    """Double vote after a restart (Raft 5.2): one voter must not elect two leaders in one term."""
    kit = Kit(disks, down=("n1", "n2"))
    with kit.running():
        kit.run(0.01)
        first = kit.played["n1"].ask("n3", Vote, 5, 1, 0)
        assert isinstance(first, VoteReply) and first.granted
        kit.crash("n3")
        kit.restart("n3")
        second = kit.played["n2"].ask("n3", Vote, 5, 1, 0)
        assert isinstance(second, VoteReply) and not second.granted


def test_a_vote_of_a_stranger_does_not_elect(disks: Path) -> None:
    """A copied id, another cluster, a typo: whoever is no member has no vote."""
    kit = Kit(disks, down=("n2", "n3"))
    with kit.running():
        kit.campaign("n1", ("n2",))
        stranger = kit.played["n2"]
        stranger.name = "x9"
        stranger.answer("n1", VoteReply, True)
        kit.run(0.05)
        assert not kit.core("n1").is_leader


def test_a_vote_counts_once_however_often_it_arrives(disks: Path) -> None:
    """The bus repeats frames: two copies of one vote are no majority of five."""
    kit = Kit(disks, nodes=5, down=("n2", "n3", "n4", "n5"))
    with kit.running():
        kit.campaign("n1", ("n2", "n3"))
        voter = kit.played["n2"]
        voter.answer("n1", VoteReply, True)
        voter.seq -= 1
        voter.answer("n1", VoteReply, True)
        kit.run(0.05)
        assert not kit.core("n1").is_leader


def test_a_longer_log_of_an_older_term_does_not_win(disks: Path) -> None:
    """Raft 5.4.1: a stale leader with many entries of its own lacks what was committed since."""
    kit = Kit(disks)
    with kit.running():
        _stale_leader_with_a_long_log(kit)
        kit.cut("n1")
        kit.heal()
        kit.cut("n1")
        kit.machines["n3"].clock.jump(20.0)
        kit.run(3.0)
        assert kit.core("n2").is_leader, "the shorter log of the newer term wins"


def test_a_node_that_comes_back_does_not_depose_a_healthy_leader(disks: Path) -> None:
    """No pre-vote: a node that hears nobody raises its term for ever, and deposes whom it meets again."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        term = leader.term
        kit.cut("n3")
        for _ in range(10):
            kit.machines["n3"].clock.jump(6.0)
            kit.run(0.1)
        kit.heal()
        kit.run(1.0)
        assert (leader.is_leader, leader.term, kit.core("n3").term) == (True, term, term)


def test_a_leader_that_is_cut_off_steps_down_in_bounded_time(disks: Path) -> None:
    """PySyncObj's leader stays one for 30 s, and its callers wait as long."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        kit.cut("n1")
        kit.run(kit.weather.leader_fallback + 0.1)
        assert not leader.is_leader
        call = kit.write("n1")
        kit.run(0.2)
        assert call.outcome is not None and not call.committed


def _stale_leader_with_a_long_log(kit: Kit) -> None:
    """n3 led a term and has thirty entries nobody else has; n1 leads the next one and has committed two."""
    kit.lead("n3")
    kit.write("n3")
    kit.run()
    kit.cut("n3")
    kit.writes("n3", 30)
    kit.run(0.01)
    kit.lead("n1")
    calls = kit.writes("n1", 2)
    kit.run()
    assert all(call.committed for call in calls)
    assert len(kit.log("n3")) > len(kit.log("n1"))
