"""Directed scenarios: what a log may hold, acknowledge, commit. Each fails with its treatment taken away."""

import pickle
from pathlib import Path

from raft.codec import Append, AppendReply
from raft.entries import COMMAND, NOOP, Entry
from raft.replication import MAX_BYTES_IN_FLIGHT
from raft.succession import Succession
from tests.simulation.awkward import append_from
from tests.simulation.kit import Kit

EXPLODED: list[str] = []


class _Bomb:
    """What pickle would run when it reads this."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return EXPLODED.append, ("boom",)


def test_a_refused_probe_is_no_match(disks: Path) -> None:
    """The index that a follower suggests is where to look next, not what it holds (Raft 5.3)."""
    kit = Kit(disks, nodes=5, down=("n2", "n3", "n4", "n5"))
    with kit.running():
        leader = kit.win("n1", ("n2", "n3"))
        kit.writes("n1", 3)
        for name in ("n2", "n3"):
            kit.played[name].answer("n1", AppendReply, False, leader.journal.last_index + 1)
        kit.run(0.05)
        assert leader.commit_index == 1, "nobody has said that he holds anything"


def test_an_entry_of_an_older_term_is_not_committed_by_counting(disks: Path) -> None:
    """Raft 5.4.2, figure 8: it may lie on a majority, and be overwritten all the same."""
    kit = Kit(disks, nodes=5, down=("n2", "n3", "n4", "n5"))
    with kit.running():
        kit.win("n1", ("n2", "n3"))
        kit.writes("n1", 3)
        older = kit.core("n1").journal.last_index
        kit.crash("n1")
        kit.restart("n1")
        leader = kit.win("n1", ("n2", "n3"))
        for name in ("n2", "n3"):
            kit.played[name].answer("n1", AppendReply, True, older + 1)
        kit.run(0.05)
        assert leader.commit_index == 1, f"entries up to {older} are of an older term"
        kit.run(0.2)
        for name in ("n2", "n3"):
            newest = kit.played[name].last("n1", Append)
            kit.played[name].answer("n1", AppendReply, True, leader.journal.last_index + 1, request=newest)
        kit.run(0.05)
        assert leader.commit_index == leader.journal.last_index, "with an entry of its own they are"


def test_an_answer_of_a_former_term_does_not_count(disks: Path) -> None:
    """It speaks of a log that has been overwritten since."""
    kit = Kit(disks, down=("n2", "n3"))
    with kit.running():
        leader = kit.win("n1", ("n2",))
        kit.writes("n1", 20)
        kit.run(0.01)
        asked = kit.played["n2"].last("n1", Append)
        entries = [Entry(NOOP, 2, leader.term + 1, b"")]
        kit.played["n3"].ask("n1", Append, leader.term + 1, 1, 0, 1, entries)
        assert kit.core("n1").journal.last_index == 2
        leader = kit.win("n1", ("n2",))
        kit.writes("n1", 3)
        kit.run(0.01)
        kit.played["n2"].answer("n1", AppendReply, True, 21, request=asked)
        kit.run(0.05)
        assert leader.commit_index == 1


def test_an_acknowledged_entry_survives_an_obsolete_append(disks: Path) -> None:
    """12 commands of 20 KB, one slow follower, the leader's machine lost: PySyncObj deletes what follows each
    append's end, and 7 of 12 acknowledged commands are gone.
    """
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        kit.run(0.1)
        base = leader.journal.last_index
        kit.hold("n1", "n3")
        calls = kit.writes("n1", 12, size=20_000)
        kit.run(0.06)
        assert all(call.committed for call in calls)
        late = append_from(leader, "n2", base + 1, 2)
        kit.take(kit.machines["n2"], lambda core: core.receive(late.data, ""))
        kit.crash("n1", "n2")
        kit.restart("n2")
        kit.lead("n2")
        kit.run(0.3)
        assert kit.core("n3").commit_index >= base + 12


def test_a_heartbeat_behind_the_end_acknowledges_only_what_it_compared(disks: Path) -> None:
    """A follower with a stale tail must not acknowledge the tail."""
    kit = Kit(disks, nodes=5)
    with kit.running():
        leader = _stale_entries_on_n5(kit)
        kit.cut("n1", "n5")
        kit.writes("n1", 4)
        kit.run(0.002)
        frame = append_from(leader, "n5", 2, 0)
        kit.take(kit.machines["n5"], lambda core: core.receive(frame.data, _inbox(kit, "n1")))
        kit.run(0.004)
        acks = [frame for source, _, frame in kit.sent if source == "n5" and isinstance(frame, AppendReply)]
        assert acks[-1].success and acks[-1].next_index == 3


def test_a_heartbeat_behind_the_end_commits_only_what_it_compared(disks: Path) -> None:
    """The leader's commit index says nothing about entries that it has not seen here."""
    kit = Kit(disks, nodes=5)
    with kit.running():
        leader = _stale_entries_on_n5(kit)
        kit.writes("n1", 10)
        kit.run(0.05)
        assert leader.commit_index > 5
        frame = append_from(leader, "n5", 2, 0)
        kit.take(kit.machines["n5"], lambda core: core.receive(frame.data, ""))
        assert kit.core("n5").commit_index == 2


def test_a_late_answer_does_not_take_the_leader_back(disks: Path) -> None:
    """Match index going back: each entry would be sent again, and under load nothing else."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        kit.run(0.1)
        kit.hold("n2", "n1")
        for _ in range(6):
            kit.write("n1")
            kit.run(0.004)
        kit.release("n2", "n1", backwards=True)
        kit.run(0.03)
        frames = [f for _, target, f in kit.sent if target == "n2" and isinstance(f, Append)]
        sent = [entry.index for frame in frames for entry in frame.entries]
        assert len(sent) >= 6 and sent == sorted(set(sent)), "each once"
        assert leader.commit_index == leader.journal.last_index


def test_a_backlog_is_caught_up_though_batches_overtake_each_other(disks: Path) -> None:
    """Progress: many batches at once, each refused because an earlier one has not arrived, livelock."""
    kit = Kit(disks, miniature=True)
    with kit.running():
        leader = kit.lead("n1")
        kit.crash("n3")
        for _ in range(20):
            kit.writes("n1", 5, size=400)
            kit.run(0.01)
        kit.jitter["n1", "n3"] = 0.06
        kit.restart("n3")
        kit.sent.clear()
        deadline = kit.now + 10.0
        while kit.core("n3").applied_index < leader.applied_index:
            kit.run(0.02)
            assert kit.now < deadline, "no progress"
            entries = sum(len(f.entries) for _, to, f in kit.sent if to == "n3" and isinstance(f, Append))
            assert entries < 5 * 100, "the backlog is sent over and over"


def test_what_is_not_acknowledged_is_bounded_by_bytes(disks: Path) -> None:
    """A follower that answers slowly must not be buried, nor the bus."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.run(0.2)
        kit.hold("n3", "n1")
        kit.sent.clear()
        for _ in range(14):
            kit.write("n1", size=300_000)
            kit.run(0.002)
        sent = sum(
            sum(len(entry.payload) for entry in frame.entries)
            for _, target, frame in kit.sent
            if target == "n3" and isinstance(frame, Append)
        )
        assert 1_000_000 < sent <= MAX_BYTES_IN_FLIGHT + 300_100


def test_no_byte_from_the_bus_is_read_as_pickle(disks: Path) -> None:
    """An open bus turns pickle into a remote shell."""
    kit = Kit(disks, down=("n1", "n2"))
    EXPLODED.clear()
    with kit.running():
        kit.run(0.01)
        entries = [Entry(COMMAND, 2, 3, pickle.dumps(_Bomb()))]
        kit.played["n1"].ask("n3", Append, 3, 1, 0, 2, entries)
        kit.run(0.05)
        assert kit.core("n3").applied_index == 2 and EXPLODED == []


def _stale_entries_on_n5(kit: Kit) -> Succession:
    """n5 holds ten entries of a term that nobody else has seen; n1 leads a newer one."""
    kit.lead("n5")
    kit.run(0.1)
    kit.cut("n5")
    kit.writes("n5", 10)
    kit.run(0.01)
    kit.crash("n5")
    leader = kit.lead("n1")
    kit.restart("n5")
    return leader


def _inbox(kit: Kit, name: str) -> str:
    return f"{name} {kit.core(name).letters.incarnation}"


def test_a_follower_that_is_sent_nothing_else_hears_of_a_commit_before_the_next_heartbeat(
    disks: Path,
) -> None:
    """Who reads at it would wait so long."""
    kit = Kit(disks, heartbeat=0.15, election_min=0.6, leader_fallback=1.2)
    with kit.running():
        kit.lead("n1")
        for number in range(1, 4):  # a heartbeat may come in time, once
            kit.run(0.16)
            kit.write("n1")
            kit.run(0.03)
            assert kit.applied("n2") == kit.applied("n3") == list(range(1, number + 1))
