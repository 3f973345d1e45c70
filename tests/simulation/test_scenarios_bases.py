"""Directed scenarios: the time in which the base of a generation is written. Each fails with its treatment
taken away.
"""

from collections.abc import Iterable
from pathlib import Path

from raft.errors import OutcomeUnknown
from raft.generation import Generation
from tests.simulation.kit import Kit

AFTER = Generation(2, ("n1", "n2"), ("n3",))


def test_the_base_of_a_generation_holds_the_state_at_the_seal(disks: Path) -> None:
    """Who starts again has nothing else: with an older state it would lack what was committed."""
    kit = Kit(disks, snapshot_every=12, retained=5)
    with kit.running():
        kit.lead("n1")
        kit.writes("n1", 30)
        kit.run(0.5)
        assert all(kit.core(name).core.store.exists for name in ("n1", "n2"))
        kit.writes("n1", 3)
        kit.run(0.1)
        kit.seal("n1", remove="n3")
        _run_until_generation(kit, 2, ("n1", "n2"))
        kit.crash("n1", "n2")
        kit.restart("n1", "n2")
        kit.lead("n1")
        kit.run(0.2)
        assert kit.applied("n1") == kit.applied("n2") == list(range(1, 34))


def test_terms_go_on_in_the_next_generation(disks: Path) -> None:
    """A term fences what its leader does outside, in whatever generation."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.cut("n1")
        kit.lead("n2")
        kit.heal()
        kit.run(0.2)
        before = kit.core("n2").term
        kit.seal("n2", remove="n3")
        _run_until_generation(kit, 2, ("n1", "n2"))
        kit.run(0.5)
        assert kit.core("n2").leads_applied and kit.core("n2").term > before > 1


def test_who_is_removed_votes_until_somebody_has_a_base(disks: Path) -> None:
    """The leader dies before anybody has one: the seal is found again with the vote of who is removed."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.crash("n3")
        _held(kit, "n1", remove="n2", sealed=("n1", "n2"))
        kit.crash("n1")
        kit.run(0.5)
        kit.restart("n1")
        kit.run(2.0)
        assert kit.core("n1").generation == Generation(2, ("n1", "n3"), ("n2",))
        assert "was removed" in str(kit.core("n2").failure)
        kit.restart("n3")
        kit.run(1.0)
        assert any(kit.core(name).leads_applied for name in ("n1", "n3")), "either may win"
        call = kit.write("n3")
        kit.run(0.2)
        assert call.committed


def test_a_call_that_comes_while_a_base_is_written_is_made_once_after_it(disks: Path) -> None:
    """It comes behind the seal, where it has no effect."""
    for name in ("n1", "n2"):
        (disks / name).mkdir()
        kit = Kit(disks / name)
        with kit.running():
            kit.lead("n1")
            _held(kit, "n1", "n2")
            write, read = kit.write(name), kit.read(name)
            kit.run(0.2)
            assert write.outcome is None and read.outcome is None
            _write_bases(kit, "n1", "n2")
            kit.run(1.0)
            assert kit.core("n1").generation == AFTER
            assert write.committed and read.committed
            assert kit.applied("n1") == kit.applied("n2") == [1]


def test_a_call_whose_answer_was_lost_is_not_made_again_in_the_next_generation(disks: Path) -> None:
    """It was committed before the seal, and counts once."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.run(0.1)
        kit.cut_link("n1", "n2")
        call = kit.write("n2")
        kit.run(0.03)
        assert (kit.applied("n1"), call.committed) == ([1], False)
        kit.heal()
        _held(kit, "n1", "n2")
        _write_bases(kit, "n1", "n2")
        kit.run(1.0)
        assert kit.core("n2").generation == AFTER
        assert isinstance(call.outcome, OutcomeUnknown)
        assert kit.applied("n1") == kit.applied("n2") == [1]


def test_what_is_committed_while_a_base_is_written_has_no_effect(disks: Path) -> None:
    """The machine goes on as it is, and the base is the state at the seal: they must be one."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.run(0.1)
        kit.hold_snapshots(kit.machines["n1"])
        kit.seal("n1", remove="n3")
        kit.run(0.0005)
        calls = [kit.write("n1") for _ in range(3)]
        assert kit.core("n1").engine.sealed is None, "they are in the log, and their calls not kept"
        kit.run(0.05)
        sealed = kit.core("n1").engine.sealed
        assert sealed is not None and kit.core("n1").engine.raftLastApplied >= sealed.index + 3
        assert kit.applied("n1") == []
        _write_bases(kit, "n1")
        kit.run(1.0)
        assert all(call.committed for call in calls)
        assert kit.applied("n1") == kit.applied("n2") == [1, 2, 3]


def test_who_comes_into_a_generation_that_has_ended_already_counts_nothing_behind_its_seal(
    disks: Path,
) -> None:
    """Its commit index would go back when it applies the seal. The whole log waits for it when it comes."""
    kit = Kit(disks, nodes=4)
    with kit.running():
        kit.lead("n1")
        kit.cut("n4")
        kit.seal("n1", remove="n3")
        _run_until_generation(kit, 2, ("n1", "n2"))
        kit.lead("n1")
        kit.run(0.2)
        for name in ("n1", "n2"):
            kit.hold_snapshots(kit.machines[name])
        with kit.one_step("n1"):
            kit.seal("n1", remove="n2")
            for _ in range(3):
                kit.write("n1")
        kit.run(0.1)
        seal = kit.core("n1").commit_index
        assert kit.core("n1").engine.raftCommitIndex == seal + 3
        kit.hold_snapshots(kit.machines["n4"])
        kit.heal()
        kit.run(0.5)  # the rules compare
        assert kit.core("n4").generation.number == 2
        assert kit.core("n4").commit_index == seal


def test_power_lost_before_the_base_is_durable_leaves_the_old_generation(disks: Path) -> None:
    """A directory under the name of the next one, without its state, would be the end of the node."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        kit.write("n1")
        kit.run(0.1)
        _held(kit, "n1", "n2")
        kit.run(0.2)
        kit.crash("n1", "n2", "n3")
        kit.restart("n1", "n2", "n3")
        assert [kit.core(name).generation.number for name in ("n1", "n2")] == [1, 1]
        kit.lead("n1")
        kit.run(0.5)
        assert kit.core("n1").generation == kit.core("n2").generation == AFTER
        assert kit.applied("n1") == kit.applied("n2") == [1]


def _held(kit: Kit, *names: str, remove: str = "n3", sealed: Iterable[str] = ()) -> None:
    """End the generation; these machines' bases are not written until told."""
    for name in names:
        kit.hold_snapshots(kit.machines[name])
    kit.seal("n1", remove=remove)
    while any(kit.core(name).engine.sealed is None for name in sealed or names):
        kit.run(0.001)
    assert all(kit.core(name).generation.number == 1 for name in names)


def _write_bases(kit: Kit, *names: str) -> None:
    for name in names:
        kit.write_held_snapshots(kit.machines[name])


def _run_until_generation(kit: Kit, number: int, names: Iterable[str]) -> None:
    end = kit.now + 3.0
    while any(kit.core(name).generation.number < number for name in names):
        assert kit.now < end, kit.report(f"not all are in generation {number}")
        kit.run(0.01)
