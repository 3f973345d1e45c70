"""Damage to the files of a node: each is found at the start with a typed error, or changes nothing.

One kind cannot be found from the files: the end of the newest segment gone, or zero, exactly from where a
record begins, looks like a write that never reached the disk. So does a directory whose newest files are
missing: it is an older copy of itself.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raft.errors import FormatTooNew, JournalCorrupt, RaftError, SnapshotCorrupt, WrongCluster
from raft.journal import Identity, Journal
from raft.segment import SegmentReader
from raft.snapshot import Snapshot, SnapshotStore
from tests.unit.raft.crash import Files, QuietDisk, lay_out
from tests.unit.raft.story import IDENTITY, SEGMENT_BYTES, Marked, State, Story, Telling, opened, read_back

NEWEST = "journal-0000000003.log"


@dataclass(frozen=True)
class Loaded:
    """What a start would go on with."""

    state: State
    snapshot: Snapshot | None


def load(directory: Path) -> Loaded:
    """Start on this directory as the core does."""
    journal = opened(directory, QuietDisk())
    try:
        store = SnapshotStore(directory, IDENTITY.cluster, IDENTITY.generation, QuietDisk())
        store.check_beside(journal.first_index if len(journal) else None)
        return Loaded(read_back(journal), store.load() if store.exists else None)
    finally:
        journal.close()


def files_of(directory: Path) -> Files:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def healthy(tmp_path: Path) -> Files:
    """Three segments and a snapshot, as a node leaves them."""
    story = Story(lay_out(tmp_path / "healthy", {}), QuietDisk())
    story.start()
    story.vote(2, "n2")
    story.add(1, 2, 3, 4)
    story.sync()
    story.compact(3)
    story.vote(3, "n1")
    story.cut_from(4)
    story.add(4, 5, 6, 7)
    story.sync()
    story.vote(4, "n3")
    story.add(8)
    story.sync()
    story.close()
    files = files_of(tmp_path / "healthy")
    assert sorted(files) == [*(f"journal-{number:010d}.log" for number in (1, 2, 3)), "snapshot"]
    return files


class Damaged:
    """Loads damaged copies of a healthy directory."""

    def __init__(self, directory: Path, healthy: Files) -> None:
        self._directory, self._healthy = directory / "damaged", healthy
        self.expected = load(lay_out(self._directory, healthy))
        self.refused = 0
        self._mend()

    def _mend(self) -> None:
        lay_out(self._directory, self._healthy)

    def must_be_found_or_harmless(self, change: Files) -> None:
        for name, data in change.items():
            (self._directory / name).write_bytes(data)
        try:
            found = load(self._directory)
        except RaftError:
            self.refused += 1
            if "snapshot" not in change:  # a damaged segment is refused before anything is written
                for name in change:
                    (self._directory / name).write_bytes(self._healthy[name])
                return
        else:
            assert found == self.expected
        self._mend()

    def must_be_refused(self, files: Files, error: type[RaftError], match: str) -> None:
        with pytest.raises(error, match=match):
            load(lay_out(self._directory, files))


def test_every_flipped_bit_of_a_segment_is_found(tmp_path: Path, healthy: Files) -> None:
    directory = lay_out(tmp_path / "flipped", healthy)
    for name in sorted(set(healthy) - {"snapshot"}):
        descriptor = os.open(directory / name, os.O_RDWR)
        for at, byte in enumerate(healthy[name]):
            for bit in range(8):
                os.pwrite(descriptor, bytes([byte ^ 1 << bit]), at)
                with pytest.raises((JournalCorrupt, FormatTooNew), match="replace the node under a new id"):
                    load(directory)
            os.pwrite(descriptor, bytes([byte]), at)
        os.close(descriptor)
    assert files_of(directory) == healthy, "a refused start changes nothing"
    load(directory)


def test_every_flipped_bit_of_the_snapshot_is_found(tmp_path: Path, healthy: Files) -> None:
    store = SnapshotStore(lay_out(tmp_path / "flipped", healthy), IDENTITY.cluster, 1, QuietDisk())
    data = healthy["snapshot"]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped" / "snapshot").write_bytes(flipped)
        with pytest.raises((SnapshotCorrupt, FormatTooNew), match="replace the node under a new id"):
            store.check_beside(1)


def lost_its_end(name: str, healthy: bytes, damaged: bytes) -> bool:
    """Whether this is the newest segment, whole up to where a record begins, with nothing behind it but the
    beginning of a record, or zeros.
    """
    if name != NEWEST:
        return False
    reader = SegmentReader(Path(name), damaged, is_last=True)
    try:
        list(reader)
    except JournalCorrupt:
        return False
    return reader.at < len(healthy) and healthy[: reader.at] == damaged[: reader.at]


def test_a_stretch_of_zeros_is_found(tmp_path: Path, healthy: Files) -> None:
    """A page that was never written, or a hole in the file."""
    damaged, excepted = Damaged(tmp_path, healthy), 0
    for name, data in healthy.items():
        for start, length in itertools.product(range(0, len(data), 4), (1, 16, 64, len(data))):
            zeros = bytes(min(length, len(data) - start))
            zeroed = data[:start] + zeros + data[start + length :]
            if lost_its_end(name, data, zeroed):
                excepted += 1
            else:
                damaged.must_be_found_or_harmless({name: zeroed})
    assert damaged.refused > 500 and excepted < 10


def test_bytes_lost_from_the_middle_are_found(tmp_path: Path, healthy: Files) -> None:
    damaged, excepted = Damaged(tmp_path, healthy), 0
    for name, data in healthy.items():
        for start, length in itertools.product(range(0, len(data), 4), (1, 12, 64)):
            cut = data[:start] + data[start + length :]
            if lost_its_end(name, data, cut):
                excepted += 1
            else:
                damaged.must_be_found_or_harmless({name: cut})
    assert damaged.refused > 300 and excepted < 50


def test_a_tail_that_is_there_twice_is_found_or_cut(tmp_path: Path, healthy: Files) -> None:
    damaged = Damaged(tmp_path, healthy)
    for name, data in healthy.items():
        for length in range(1, len(data) + 1):
            damaged.must_be_found_or_harmless({name: data + data[-length:]})
    assert damaged.refused > 500


def test_swapped_files_are_found(tmp_path: Path, healthy: Files) -> None:
    damaged = Damaged(tmp_path, healthy)
    swaps = list(itertools.combinations(healthy, 2))
    for one, other in swaps:
        damaged.must_be_found_or_harmless({one: healthy[other], other: healthy[one]})
    assert damaged.refused == len(swaps)


def test_a_segment_under_the_name_of_another_is_found(tmp_path: Path, healthy: Files) -> None:
    """Also one that stands alone, and would replace all before it."""
    damaged = Damaged(tmp_path, healthy)
    names = [name for name in healthy if name != "snapshot"]
    for name, copied in itertools.permutations([*names, "journal-0000000004.log"], 2):
        if copied in healthy:
            damaged.must_be_refused(
                healthy | {name: healthy[copied]}, JournalCorrupt, "under the name of segment"
            )


@pytest.mark.parametrize(
    ("number", "error", "match"),
    [
        (1, SnapshotCorrupt, "begins at entry 4, but the snapshot ends at 0"),
        (2, JournalCorrupt, "segment 2 is missing"),
    ],
)
def test_a_missing_segment_is_found(
    tmp_path: Path, healthy: Files, number: int, error: type[RaftError], match: str
) -> None:
    """A snapshot that holds what is missing would make it harmless."""
    missing = {f"journal-{number:010d}.log", "snapshot"}
    files = {name: data for name, data in healthy.items() if name not in missing}
    Damaged(tmp_path, healthy).must_be_refused(files, error, match)


def test_a_sealed_segment_that_lost_its_end_is_found(tmp_path: Path, healthy: Files) -> None:
    """Also where a record begins, and before a segment that has no entries."""
    damaged = Damaged(tmp_path, healthy)
    sealed = [name for name in healthy if name not in (NEWEST, "snapshot")]
    cuts = [(name, size) for name in sealed for size in range(len(healthy[name]))]
    for name, size in cuts:
        damaged.must_be_found_or_harmless({name: healthy[name][:size]})
    assert damaged.refused == len(cuts)


def test_the_segments_before_an_empty_one_must_be_there(tmp_path: Path) -> None:
    """Or a directory that lost its log would pass for a new one."""
    story = Story(lay_out(tmp_path / "log", {}), QuietDisk())
    story.start()
    story.add(1, 2, 3, 4, 5)
    story.sync()
    story.close()
    (tmp_path / "log" / "journal-0000000001.log").unlink()
    with pytest.raises(JournalCorrupt, match="no entry is left"):
        load(tmp_path / "log")


@pytest.mark.parametrize("name", ["journal-0000000001.log", "journal-0000000003.log", "snapshot"])
def test_an_empty_file_is_found(tmp_path: Path, healthy: Files, name: str) -> None:
    Damaged(tmp_path, healthy).must_be_refused(healthy | {name: b""}, RaftError, "begins with b''")


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Identity("other", "n1", 1, IDENTITY.members), "cluster"),
        (Identity("cluster", "n2", 1, IDENTITY.members), "node"),
        (Identity("cluster", "n1", 2, IDENTITY.members), "generation"),
    ],
)
def test_a_segment_of_somebody_else_is_found(
    tmp_path: Path, healthy: Files, other: Identity, what: str
) -> None:
    theirs = lay_out(tmp_path / "theirs", {})
    Journal(theirs, other, disk=QuietDisk(), segment_bytes=SEGMENT_BYTES).close()
    (data,) = files_of(theirs).values()
    damaged = Damaged(tmp_path, healthy)
    for number in (1, 2, 3, 4):
        files = healthy | {f"journal-{number:010d}.log": data}
        damaged.must_be_refused(files, WrongCluster, f"by {what} ")


def copies_taken_in_between(directory: Path) -> Iterator[tuple[Files, Marked]]:
    """Some files as they were at one step of the life, the others as they were at a later one."""
    telling = Telling(directory)
    steps: list[tuple[Files, Marked]] = []
    for marked in telling.tell().moments:
        if not steps or marked.moment.left_by_kill() != steps[-1][0]:
            steps.append((marked.moment.left_by_kill(), marked))
    for (early, _), (late, marked) in itertools.combinations(steps[::5], 2):
        names = sorted(early)
        for number in range(1, len(names) + 1):
            copied = {name: early[name] for name in names[:number]}
            yield copied | {name: late[name] for name in late if name > names[number - 1]}, marked


def test_a_copy_of_a_running_directory_is_refused_or_is_a_log_that_was(tmp_path: Path) -> None:
    """Two nodes with one identity are then found on the bus; here only that no log is made up."""
    refused = taken = 0
    for files, marked in copies_taken_in_between(tmp_path / "life"):
        everything = Marked(marked.moment, marked.states, 0, marked.issued, 0)
        try:
            found = load(lay_out(tmp_path / "copy", files))
        except RaftError:
            refused += 1
        else:
            taken += 1
            assert everything.explains(found.state)
    assert refused > 20 and taken > 20
