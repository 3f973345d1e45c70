"""Directed scenarios: what callers are told. Each fails with its treatment taken away."""

from pathlib import Path

from raft.errors import ApplyFailed, OutcomeUnknown
from raft.outcomes import Committed
from tests.simulation.kit import Kit


def test_calls_of_a_deposed_leader_end(disks: Path) -> None:
    """PySyncObj forgets them: the callbacks of a deposed leader never fire."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        kit.cut("n1")
        calls = kit.writes("n1", 3)
        kit.run(kit.weather.leader_fallback + 0.2)
        assert not leader.is_leader
        assert [type(call.outcome) for call in calls] == [OutcomeUnknown] * 3


def test_a_command_that_breaks_the_machine_is_answered_and_not_tried_again(disks: Path) -> None:
    """PySyncObj tries it for ever, on every node."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        broken, next_one = kit.write("n1", kind="defect"), kit.write("n1")
        kit.run(0.2)
        assert isinstance(broken.outcome, ApplyFailed) and next_one.committed
        assert [kit.core(name).counters.apply_failures for name in kit.names] == [1, 1, 1]
        assert leader.is_leader


def test_a_leader_that_was_replaced_answers_no_read(disks: Path) -> None:
    """Its state is behind, and it does not know yet."""
    kit = Kit(disks, leader_fallback=3.0)
    with kit.running():
        former = kit.lead("n1")
        kit.run(0.2)
        kit.cut("n1")
        kit.lead("n2")
        assert kit_writes_one(kit, "n2")
        assert former.is_leader, "it has not noticed"
        read = kit.read("n1")
        kit.run(0.01)
        assert not isinstance(read.outcome, Committed)


def test_answers_from_before_the_reader_came_confirm_nothing(disks: Path) -> None:
    """They tell that this node led then (Raft thesis 6.4)."""
    kit = Kit(disks, leader_fallback=3.0)
    with kit.running():
        former = kit.lead("n1")
        kit.run(0.2)
        kit.write("n1")
        kit.hold("n2", "n1")
        kit.run(0.03)
        kit.cut("n1")
        kit.lead("n2")
        assert kit_writes_one(kit, "n2")
        assert former.is_leader, "it has not noticed"
        read = kit.read("n1")
        kit.run(0.001)
        assert kit.release("n2", "n1") > 0
        kit.run(0.01)
        assert not isinstance(read.outcome, Committed)


def test_a_new_leader_knows_what_was_committed_before_it_serves_a_read(disks: Path) -> None:
    """Its commit index may be behind until an entry of its own term is committed (Raft thesis 6.4)."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.run(0.2)
        kit.cut_link("n1", "n3")
        calls = kit.writes("n1", 5)
        while not all(call.committed for call in calls):
            kit.run(0.0005)
        committed = kit.core("n1").commit_index
        kit.crash("n1")
        kit.hold("n2", "n3")
        kit.hold("n3", "n2")
        while not kit.core("n2").is_leader:
            kit.machines["n2"].clock.jump(6.0)
            kit.run(0.01)
            for link in (("n2", "n3"), ("n3", "n2")):
                kit.release(*link)
                kit.run(0.0)
                kit.hold(*link)
        assert kit.core("n2").commit_index < committed, kit.report("it knows already")
        read = kit.read("n2")
        kit.run(0.01)
        kit.release("n2", "n3")
        kit.release("n3", "n2")
        kit.run(0.3)
        assert isinstance(read.outcome, Committed) and read.outcome.index >= committed


def kit_writes_one(kit: Kit, name: str) -> bool:
    """A write at that machine is committed within 50 ms."""
    call = kit.write(name)
    kit.run(0.05)
    return call.committed
