"""A cluster made anew: from a copy, and from one survivor."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.backup import pack
from raft.errors import DirectoryInUse, RecoveryRefused
from raft.generation import Generation
from raft.hold import DirectoryHold
from raft.recovery import recover, restore
from tests.unit.raft.peer import Clock
from tests.unit.raft.town import Town

THREE = ("n1", "n2", "n3")
NEW = ("m1", "m2", "m3")
STATE = [(2, "one"), (3, "two")]


@pytest.fixture
def town(tmp_path: Path, clock: Clock) -> Iterator[Town]:
    town = Town(tmp_path, clock)
    yield town
    town.close()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "copy"
    state = [json.dumps(STATE).encode()]
    generation = Generation(4, THREE, ("n0",))
    path.write_bytes(pack(generation, state, cluster="cluster", last_index=3, last_term=7, taken_at_ms=1))
    return path


def test_a_copy_becomes_a_cluster_of_new_members(town: Town, copy: Path, tmp_path: Path) -> None:
    for name in NEW:
        made = restore(copy, tmp_path / name, cluster_id="cluster", node_id=name, members=NEW)
        assert made == Generation(5, NEW, ("n0", *THREE))
    town.start(*NEW)
    town.acknowledged = [b"one", b"two"]
    assert town.lead().term > 7
    town.together(*NEW)
    assert town.lead().generation == Generation(5, NEW, ("n0", *THREE))


def test_the_same_copy_gives_the_same_base_on_each_node(copy: Path, tmp_path: Path) -> None:
    for name in NEW:
        restore(copy, tmp_path / name, cluster_id="cluster", node_id=name, members=NEW)
    bases = {(tmp_path / name / "generation-0000000005" / "snapshot").read_bytes() for name in NEW}
    assert len(bases) == 1


def test_a_restored_cluster_takes_newcomers(town: Town, copy: Path, tmp_path: Path) -> None:
    restore(copy, tmp_path / "m1", cluster_id="cluster", node_id="m1", members=("m1",))
    town.start("m1")
    town.acknowledged = [b"one", b"two"]
    town.start("m2", members=("m1",), join=True)
    town.changed(add="m2")
    town.together("m1", "m2")


@pytest.mark.parametrize(
    ("node", "members", "why"),
    [
        ("m1", ("m2",), "not among"),
        ("n0", ("n0",), "never used again"),
        ("m1", ("m1", "n0"), "n0"),
        ("m1", ("m1", "m1"), "1 to 9 different ids"),
        ("m1", tuple(f"m{number}" for number in range(10)), "1 to 9 different ids"),
    ],
)
def test_a_wrong_list_of_members_is_refused(
    copy: Path, tmp_path: Path, node: str, members: tuple[str, ...], why: str
) -> None:
    with pytest.raises(RecoveryRefused, match=why):
        restore(copy, tmp_path / "new", cluster_id="cluster", node_id=node, members=members)
    assert not (tmp_path / "new").exists()


def test_a_directory_that_holds_anything_is_refused(copy: Path, tmp_path: Path) -> None:
    restore(copy, tmp_path / "m1", cluster_id="cluster", node_id="m1", members=("m1",))
    with pytest.raises(RecoveryRefused, match="holds something"):
        restore(copy, tmp_path / "m1", cluster_id="cluster", node_id="m1", members=("m1",))
    with pytest.raises(RecoveryRefused, match="is no directory"):
        restore(copy, copy, cluster_id="cluster", node_id="m1", members=("m1",))


def test_one_survivor_goes_on_alone_with_all_it_holds_and_then_grows(town: Town, tmp_path: Path) -> None:
    town.start(*THREE)
    for number in range(5):
        town.write(b"%d" % number)
    town.run(0.5)
    town.stop(*THREE)
    assert recover(tmp_path / "n2", node_id="n2", members=("n2",)) == Generation(2, ("n2",), ("n1", "n3"))
    town.start("n2", members=("n2",))
    town.together("n2")
    town.start("n4", members=("n2",), join=True)
    town.changed(add="n4")
    town.together("n2", "n4")
    assert town.nodes["n4"].generation == Generation(3, ("n2", "n4"), ("n1", "n3"))


def test_a_former_member_that_was_not_named_learns_that_it_is_out(town: Town, tmp_path: Path) -> None:
    town.start(*THREE)
    town.write(b"before")
    town.stop(*THREE)
    recover(tmp_path / "n2", node_id="n2", members=("n2",))
    town.start("n2", members=("n2",))
    town.together("n2")
    town.start("n1", members=THREE)
    town.until(lambda: town.nodes["n1"].failure)
    assert "removed from the cluster in generation 2" in str(town.nodes["n1"].failure)


def test_recovery_can_be_done_again(town: Town, tmp_path: Path) -> None:
    town.start(*THREE)
    for number in range(5):
        town.write(b"%d" % number)
    town.run(0.5)
    town.stop(*THREE)
    for expected in (2, 3):
        assert recover(tmp_path / "n2", node_id="n2", members=("n2",)).number == expected
        town.start("n2", members=("n2",))
        town.together("n2")
        town.stop("n2")


def test_a_survivor_with_a_snapshot_and_changes_behind_it_keeps_everything(
    tmp_path: Path, clock: Clock
) -> None:
    town = Town(tmp_path, clock, snapshot_every_entries=10, retained_entries=2)
    town.start(*THREE)
    for number in range(25):
        town.write(b"%d" % number)
    town.start("n4", members=THREE, join=True)
    town.changed(add="n4")
    for number in range(25, 50):
        town.write(b"%d" % number)
    town.run(0.5)
    town.stop(*THREE, "n4")
    assert recover(tmp_path / "n4", node_id="n4", members=("n4",)) == Generation(3, ("n4",), THREE)
    town.start("n4", members=("n4",), join=True)
    town.together("n4")
    town.close()


def test_recovery_refuses_what_is_no_members_directory(town: Town, tmp_path: Path) -> None:
    town.start(*THREE)
    town.write(b"before")
    town.start("n4", members=THREE, join=True)
    town.run(0.1)
    town.stop(*THREE, "n4")
    for directory, node, members, why in (
        ("n9", "n9", ("n9",), "no directory"),
        ("n4", "n4", ("n4",), "files of a member"),
        ("n1", "n1", ("n2",), "not among"),
        ("n1", "n2", ("n2",), "belongs to 'n1'"),
        ("n1", "n1", ("n1", "n2"), "only one survivor"),
    ):
        before = sorted(tmp_path.rglob("generation*"))
        with pytest.raises(RecoveryRefused, match=why):
            recover(tmp_path / directory, node_id=node, members=members)
        assert sorted(tmp_path.rglob("generation*")) == before


def test_a_directory_in_use_is_not_recovered(town: Town, tmp_path: Path) -> None:
    town.start("n1")
    town.write(b"before")
    hold = DirectoryHold(tmp_path / "n1")
    with pytest.raises(DirectoryInUse):
        recover(tmp_path / "n1", node_id="n1", members=("n1",))
    hold.release()
