"""A cluster made anew with all processes stopped: from a copy, or from one survivor.

**`restore`** makes the directory of one member of a new cluster out of a copy. The same copy and the same
members give the same base on each new node, so they begin as if they had applied it together. What came after
the copy is not in it.

**`recover`** makes a new generation out of what one survivor holds, after a majority was lost for good. The
state machine is not at hand here, so nothing is applied: the new generation begins with the survivor's
snapshot and its whole log, which the survivor commits when it leads. So entries at its end that never had a
majority become committed, and what the lost majority acknowledged without this survivor is gone; nothing
tells which. It goes on alone, and takes new members like any cluster: another survivor could not vote without
a base, and there is none before the first one has led. The number of the new generation is above that of
every seal in the log, so a seal there has no effect any more.

In both, whoever was a member and is not named is retired: the former cluster, should some of it come back, is
refused as of an older generation.
"""

from collections.abc import Sequence
from pathlib import Path

from raft.backup import load
from raft.base import Base
from raft.config import MOST_MEMBERS
from raft.disk import Disk
from raft.entries import NOOP, SEAL, Entry, from_engine
from raft.errors import RecoveryRefused
from raft.generation import Files, Generation, Shelf, decode_seal
from raft.hold import DirectoryHold
from raft.replay import Replayed, replay
from raft.segment import VoteState, read_header, segment_numbers, segment_path
from raft.snapshot import SnapshotStore

_HELD = {"lock"}


def restore(
    backup: Path, directory: Path, *, cluster_id: str, node_id: str, members: Sequence[str]
) -> Generation:
    """Make `directory` the one of `node_id` in a new cluster of `members`, with the state of `backup`.

    Raises `RecoveryRefused`, `DirectoryInUse`, OSError.
    """
    info, machine = load(backup)
    if directory.exists() and not directory.is_dir():
        raise RecoveryRefused(f"{directory} is no directory", "Name a directory that is empty or new")
    if directory.exists() and {path.name for path in directory.iterdir()} - _HELD:
        raise RecoveryRefused(f"{directory} holds something already", "Name a directory that is empty or new")
    former = Generation(info.generation, info.members, info.retired)
    generation = _after(former, info.generation, node_id, members)
    hold = DirectoryHold(directory)
    try:
        disk = Disk()
        last = Entry(NOOP, max(info.last_index, 2), info.last_term, b"")
        previous = Entry(NOOP, last.index - 1, info.last_term, b"")
        base = _base(disk, cluster_id, node_id, generation)
        Shelf(directory, cluster_id, node_id, disk).create(
            generation,
            learner=False,
            fill=lambda path: base.write(path, previous, last, [machine], incarnation=0),
        )
    finally:
        hold.release()
    return generation


def recover(directory: Path, *, node_id: str, members: Sequence[str]) -> Generation:
    """Make a new generation of `members` from what `directory`, the one of `node_id`, holds.

    Raises `RecoveryRefused`, `JournalCorrupt`, `SnapshotCorrupt`, `WrongCluster`, `DirectoryInUse`, OSError.
    """
    if not directory.is_dir():
        raise RecoveryRefused(f"there is no directory {directory}", "Name the directory of a survivor")
    hold = DirectoryHold(directory)
    try:
        return _recover(directory, node_id, members)
    finally:
        hold.release()


def _recover(directory: Path, node_id: str, members: Sequence[str]) -> Generation:
    disk = Disk()
    shelf = Shelf(directory, _cluster_of(directory), node_id, disk)
    files = shelf.newest()
    if files is None or files.learner or node_id not in files.generation.members:
        raise RecoveryRefused(
            f"{directory} does not hold the files of a member",
            "Name the directory of a member of the last generation",
        )
    found = replay(files.directory, lambda path, header: None)
    if found is None:
        raise RecoveryRefused(f"{files.directory} has no journal", "Name the directory of another survivor")
    if found.header.node != node_id:
        raise RecoveryRefused(f"{directory} belongs to {found.header.node!r}", "Correct the id")
    entries = [from_engine(entry) for entry in found.entries]
    generation = _after(files.generation, _newest_seal(files, entries), node_id, members)
    if set(members) - {node_id}:
        raise RecoveryRefused(
            "only one survivor goes on, for what another one holds may contradict it",
            f"Name {node_id} alone, and add the others under new ids with `varpulis raft add`",
        )
    base = _base(disk, found.header.cluster, node_id, generation)
    shelf.create(
        generation,
        learner=False,
        fill=lambda path: _fill(path, files, found, entries, base, generation, disk),
    )
    return generation


def _fill(
    directory: Path,
    files: Files,
    found: Replayed,
    entries: list[Entry],
    base: Base,
    generation: Generation,
    disk: Disk,
) -> None:
    cluster = found.header.cluster
    old = SnapshotStore(files.directory, cluster, files.generation.number, disk)
    old.check_beside(entries[0].index if entries else None)
    if old.exists:
        snapshot = old.load()
        new = SnapshotStore(directory, cluster, generation.number, disk)
        new.write(snapshot.last, snapshot.previous, [snapshot.machine])
    term = max([found.vote.term, *(entry.term for entry in entries[-1:])])
    base.write_journal(directory, VoteState(term, None, found.vote.incarnation), entries)


def _newest_seal(files: Files, entries: list[Entry]) -> int:
    """The highest generation that the log knows of."""
    seals = [decode_seal(entry.payload) for entry in entries if entry.kind == SEAL]
    return max([files.generation.number, *(seal.number for seal in seals if seal is not None)])


def _after(former: Generation, number: int, node_id: str, members: Sequence[str]) -> Generation:
    """The generation after `number`, of these members."""
    wanted = tuple(sorted(set(members)))
    if len(wanted) != len(members) or len(wanted) > MOST_MEMBERS:
        raise RecoveryRefused(
            f"{', '.join(members)} are not 1 to {MOST_MEMBERS} different ids", "Remove the surplus"
        )
    if node_id not in wanted:
        raise RecoveryRefused(f"{node_id!r} is not among the members {', '.join(wanted)}", "Add it")
    if gone := sorted(set(wanted) & set(former.retired)):
        raise RecoveryRefused(
            f"{', '.join(gone)} left the cluster before, and ids are never used again", "Choose new ids"
        )
    retired = {*former.retired, *former.members} - {*wanted}
    return Generation(number + 1, wanted, tuple(sorted(retired)))


def _base(disk: Disk, cluster: str, node: str, generation: Generation) -> Base:
    return Base(disk, cluster=cluster, node=node, generation=generation.number, members=generation.members)


def _cluster_of(directory: Path) -> str:
    """The cluster that any journal in here was written by; Shelf checks that all are of one."""
    for place in (directory, *sorted(directory.glob("generation-*"), reverse=True)):
        numbers = segment_numbers(place) if place.is_dir() else []
        if numbers:
            return read_header(segment_path(place, numbers[-1])).cluster
    raise RecoveryRefused(f"{directory} has no journal", "Name the directory of a survivor")
