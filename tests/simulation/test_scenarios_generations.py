"""Directed scenarios: changes of members. Each fails with its treatment taken away."""

from contextlib import suppress
from pathlib import Path

from raft.codec import Append
from raft.errors import ChangeRefused, OutcomeUnknown, Unavailable
from raft.generation import Generation
from tests.simulation.kit import Call, Kit

VERBS = 22
"""Of the disk, from the seal's sync to the first ones in the next generation."""


def test_what_follows_a_seal_counts_in_the_next_generation_only(disks: Path) -> None:
    """Two members could disagree about the state that the next generation begins with."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.write("n1")
        with kit.one_step("n1"):
            kit.seal("n1", remove="n3")
            calls = [kit.write("n1") for _ in range(3)]
        kit.run(1.0)
        assert all(call.committed for call in calls)
        assert kit.applied("n1") == kit.applied("n2") == [1, 2, 3, 4]


def test_the_first_of_two_seals_counts(disks: Path) -> None:
    """A change that is repeated because its outcome is not known: one successor, not two."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        with kit.one_step("n1"):
            kit.seal("n1", remove="n3")
            kit.seal("n1", remove="n2")
        kit.run(1.0)
        assert kit.core("n1").generation == kit.core("n2").generation == Generation(2, ("n1", "n2"), ("n3",))


def test_power_lost_at_any_verb_with_a_snapshot_due_at_the_seal(disks: Path) -> None:
    """A snapshot behind the seal would hide it: after a restart the generation would never end here."""
    for verb in range(1, VERBS):
        (disks / str(verb)).mkdir()
        kit = Kit(disks / str(verb), snapshot_every=10, retained=0)
        kit.snapshots_at_once = True
        with kit.running():
            kit.lead("n1")
            kit.run(0.1)
            with kit.one_step("n1"):
                calls = [kit.write("n1") for _ in range(20)]
                kit.seal("n1", remove="n3")
                calls += [kit.write("n1") for _ in range(5)]
            kit.machines["n2"].disk.fuse = verb
            kit.run(0.3)
            kit.crash("n2")
            kit.restart("n2")
            kit.run(0.5)
            assert [kit.core(name).generation.number for name in ("n1", "n2")] == [2, 2]
            kit.lead("n1")
            kit.run(0.2)
            assert kit.applied("n1") == kit.applied("n2")
            assert all(call.outcome is not None for call in calls)


def test_a_member_that_lost_its_disk_elects_nobody(disks: Path) -> None:
    """It has forgotten what it acknowledged: with its vote a node leads that lacks a committed entry."""
    kit = Kit(disks, nodes=4)
    with kit.running():
        kit.lead("n1")
        kit.seal("n1", remove="n4")
        kit.run(0.5)
        kit.lead("n1")
        kit.cut("n3")
        call = kit.write("n1")
        kit.run(0.1)
        assert call.committed
        kit.crash("n1")
        kit.lose_disk("n2")
        kit.heal()
        kit.restart("n2")
        kit.machines["n3"].clock.jump(6.0)
        kit.run(2.0)
        assert "its directory was empty" in str(kit.core("n2").failure)
        assert not kit.core("n3").is_leader


def test_a_removed_member_stays_away_for_good(disks: Path) -> None:
    """In its old generation it would take calls, and campaign for ever."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        assert _changed(kit, "n1", remove="n3").members == ("n1", "n2")
        for _ in range(2):
            assert kit.core("n3").failure == "this node was removed from the cluster in generation 2"
            call = kit.write("n3")
            kit.run(0.5)
            assert isinstance(call.outcome, Unavailable)
            kit.kill(kit.machines["n3"])
            kit.restart("n3")


def test_an_id_that_was_removed_never_comes_back(disks: Path) -> None:
    """The machine that had it may come back too, and two would vote under one id."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        _changed(kit, "n1", remove="n3")
        kit.newcomer(("n1", "n2"), "n3")
        kit.run(0.1)
        with suppress(ChangeRefused):
            kit.change("n1", add="n3")
        kit.run(1.0)
        assert kit.core("n3").generation.number == 0


def test_a_generation_that_could_not_elect_a_leader_is_not_begun(disks: Path) -> None:
    """A seal cannot be taken back."""
    kit = Kit(disks)
    with kit.running():
        leader = kit.lead("n1")
        kit.crash("n3")
        kit.run(6.0)
        ended = kit.change("n1", remove="n2")
        kit.run(12.0)
        assert isinstance(ended[0], ChangeRefused)
        call = kit.write("n1")
        kit.run(0.1)
        assert call.committed and leader.generation.number == 1


def test_a_learner_takes_no_part_in_elections(disks: Path) -> None:
    """It is no member: a majority with it is none. Here the members hear the learner, and not each other."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        newcomer = kit.newcomer(("n1", "n2", "n3"))
        kit.change("n1", add=newcomer)
        while kit.core(newcomer).journal.last_index < kit.core("n2").journal.last_index:
            kit.run(0.0005)
        assert kit.core(newcomer).is_learner, "it could win, and was not added yet"
        kit.cut_link("n2", "n3")
        kit.cut_link("n3", "n2")
        kit.crash("n1")
        kit.run(0.1)
        term = kit.core(newcomer).term
        for _ in range(10):
            for name in ("n2", "n3", newcomer):
                kit.machines[name].clock.jump(6.0)
            kit.run(0.2)
        assert not kit.core(newcomer).is_leader and kit.core(newcomer).term == term


def test_an_append_of_a_former_generation_is_void(disks: Path) -> None:
    """What came behind the seal would stand where the next generation has other entries."""
    kit = Kit(disks, down=("n4",), nodes=4)
    with kit.running():
        kit.lead("n1")
        kit.seal("n1", remove="n3")
        kit.run(0.5)
        core = kit.lead("n1")
        kit.run(0.1)
        before, log = core.term, kit.log("n1")
        last, last_term = log[-1]
        kit.played["n4"].ask("n1", Append, before + 1, last, last_term, last, [])
        assert (core.term, kit.log("n1")) == (before, log)


def test_no_frame_has_a_number_twice(disks: Path) -> None:
    """A late "nobody is there" for a frame of the former generation would end a call of this one."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.writes("n1", 5)
        kit.run(0.2)
        kit.seal("n1", remove="n3")
        kit.run(0.5)
        kit.lead("n1")
        kit.write("n2")
        kit.run(0.3)
        for name in ("n1", "n2"):
            numbers = [(frame.incarnation, frame.seq) for sender, _, frame in kit.sent if sender == name]
            assert len(numbers) == len(set(numbers)) > 20


def test_a_leader_that_missed_the_end_knows_nothing_of_its_calls(disks: Path) -> None:
    """Another leader may have committed them before the seal: they are neither refused nor made again."""
    for add, remove in ((None, "n1"), (None, "n4")):
        (disks / str(remove)).mkdir()
        kit = Kit(disks / str(remove), nodes=4, leader_fallback=8.0)
        with kit.running():
            kit.lead("n1")
            kit.run(0.1)
            for other in ("n2", "n3", "n4"):
                kit.cut_link(other, "n1")
            calls: list[Call] = [kit.write("n1")]
            kit.run(0.02)
            kit.cut("n1")
            kit.lead("n2")
            kit.run(0.1)
            assert kit.applied("n2") == [1]
            kit.seal("n2", add=add, remove=remove)
            kit.run(0.5)
            assert kit.core("n1").is_leader, "it has not noticed"
            kit.heal()
            kit.run(2.0)
            assert [type(call.outcome) for call in calls] == [OutcomeUnknown]
            assert kit.applied("n2") == [1]


def _changed(kit: Kit, name: str, *, add: str | None = None, remove: str | None = None) -> Generation:
    """A change that must succeed."""
    ended = kit.change(name, add=add, remove=remove)
    kit.run(3.0)
    assert ended and isinstance(ended[0], Generation), kit.report(f"the change ended with {ended}")
    return ended[0]


def test_a_process_that_comes_after_a_crash_in_a_switch_is_told_from_the_former(disks: Path) -> None:
    """With the same incarnation, and numbers from one on, its frames could be taken for the former one's."""
    for verb in range(1, VERBS):
        (disks / str(verb)).mkdir()
        kit = Kit(disks / str(verb))
        with kit.running():
            kit.lead("n1")
            kit.run(0.1)
            kit.seal("n1", remove="n3")
            machine = kit.machines["n2"]
            machine.disk.fuse = verb
            kit.run(0.3)
            kit.crash("n2")
            machine.wall_ns = 0  # its clock was set back
            kit.restart("n2")  # the rules compare
            kit.run(0.5)
            assert kit.core("n2").generation.number == 2


def test_who_slept_while_all_it_knew_were_replaced_comes_after(disks: Path) -> None:
    """A member for good, and nobody would ever tell it where the others are."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.crash("n3")
        for _ in range(2):
            newcomer = kit.newcomer(kit.core("n1").generation.members)
            _changed(kit, "n1", add=newcomer)
        kit.take(kit.machines["n1"], lambda core: core.transfer("n4"))
        kit.run(0.5)
        for former in ("n1", "n2"):
            _changed(kit, "n4", remove=former)
            kit.kill(kit.machines[former])
        kit.restart("n3")
        kit.run(3.0)
        assert kit.core("n3").generation == Generation(5, ("n3", "n4", "n5"), ("n1", "n2"))
        call = kit.write("n3")
        kit.run(0.3)
        assert call.committed
