"""The journal after power cuts, damage, foreign directories and snapshots."""

from pathlib import Path

import pytest

from raft.disk import Disk
from raft.entries import COMMAND, EngineEntry, Entry, to_engine
from raft.errors import JournalCorrupt, WrongCluster
from raft.journal import Identity, Journal
from raft.segment import segment_numbers

IDENTITY = Identity("cluster", "n1", 1, ("n1", "n2", "n3"))


def opened(directory: Path, *, segment_bytes: int = 8 * 1024 * 1024, retained: int = 0) -> Journal:
    return Journal(directory, IDENTITY, disk=Disk(), segment_bytes=segment_bytes, retained=retained)


def entry(index: int, term: int = 1) -> EngineEntry:
    return to_engine(Entry(COMMAND, index, term, b"command %d of %d" % (index, term)))


def add(journal: Journal, *indexes: int, term: int = 1) -> None:
    for index in indexes:
        journal.add(*entry(index, term))


def spans(journal: Journal) -> list[tuple[int, int]]:
    entries = journal.typed(journal.first_index, len(journal), 10**9) if len(journal) else []
    return [(entry.index, entry.term) for entry in entries]


def the_segment(directory: Path) -> Path:
    (path,) = directory.glob("journal-*.log")
    return path


def written(directory: Path) -> list[tuple[int, list[tuple[int, int]], tuple[int, str | None]]]:
    """Write a small log, one sync per change; returns (file size, entries, vote) after each."""
    journal = opened(directory)
    states = []

    def sync() -> None:
        journal.sync()
        vote = (journal.getCurrentTerm(), journal.getVotedForNodeId())
        states.append((the_segment(directory).stat().st_size, spans(journal), vote))

    sync()
    add(journal, 1)
    sync()
    journal.setCurrentTerm(1, "n2")
    sync()
    add(journal, 2, 3, 4)
    sync()
    journal.deleteEntriesFrom(2)
    sync()
    add(journal, 3, term=2)
    sync()
    journal.close()
    return states


def test_a_log_cut_at_any_byte_replays_what_was_synced_and_at_most_a_prefix_of_the_rest(
    tmp_path: Path,
) -> None:
    original = tmp_path / "original"
    original.mkdir()
    states = written(original)
    data = the_segment(original).read_bytes()
    for size in range(states[0][0], len(data) + 1):
        torn = tmp_path / f"torn-{size}"
        torn.mkdir()
        (torn / the_segment(original).name).write_bytes(data[:size])
        journal = opened(torn)
        floor = max(at for at, (synced, _, _) in enumerate(states) if synced <= size)
        vote = (journal.getCurrentTerm(), journal.getVotedForNodeId())
        found = spans(journal)
        journal.close()
        if floor + 1 < len(states) and size > states[floor][0]:
            before, after = states[floor][1], states[floor + 1][1]
            assert (
                found[: min(len(before), len(after))]
                == (before if len(before) < len(after) else after)[: len(found)]
            )
            assert vote in (states[floor][2], states[floor + 1][2])
        else:
            assert (found, vote) == (states[floor][1], states[floor][2])


def test_a_torn_tail_is_cut_at_start_and_the_log_goes_on(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    add(journal, 1, 2)
    journal.sync()
    journal.close()
    with the_segment(tmp_path).open("ab") as file:
        file.write(b"\x20\x00\x00")
    journal = opened(tmp_path)
    add(journal, 3)
    journal.sync()
    journal.close()
    assert spans(opened(tmp_path)) == [(1, 1), (2, 1), (3, 1)]


def test_zeros_behind_the_last_record_are_a_torn_tail(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    add(journal, 1, 2)
    journal.sync()
    journal.close()
    with the_segment(tmp_path).open("ab") as file:
        file.write(bytes(512))
    assert spans(opened(tmp_path)) == [(1, 1), (2, 1)]


def test_a_torn_record_in_an_older_segment_is_corruption(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=200)
    for index in range(1, 20):
        add(journal, index)
        journal.sync()
    journal.close()
    oldest = min(tmp_path.glob("journal-*.log"))
    oldest.write_bytes(oldest.read_bytes()[:-1])
    with pytest.raises(JournalCorrupt, match="older segment"):
        opened(tmp_path)


def test_a_missing_segment_is_corruption(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=200)
    for index in range(1, 20):
        add(journal, index)
        journal.sync()
    journal.close()
    sorted(tmp_path.glob("journal-*.log"))[1].unlink()
    with pytest.raises(JournalCorrupt, match="segment 2 is missing"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Identity("other", "n1", 1, ("n1",)), "cluster"),
        (Identity("cluster", "n2", 1, ("n2",)), "node"),
        (Identity("cluster", "n1", 2, ("n1",)), "generation"),
    ],
)
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, other: Identity, what: str) -> None:
    opened(tmp_path).close()
    with pytest.raises(WrongCluster, match=f"{what}.*data_dir"):
        Journal(tmp_path, other, disk=Disk())


def test_the_vote_outlives_the_segments_that_held_it(tmp_path: Path) -> None:
    journal = opened(tmp_path, segment_bytes=300)
    journal.setCurrentTerm(7, "n3")
    for index in range(1, 30):
        add(journal, index)
        journal.sync()
    journal.deleteEntriesTo(27)
    for index in range(30, 60):
        add(journal, index)
        journal.sync()
    journal.deleteEntriesTo(57 - 28)
    journal.close()
    assert segment_numbers(tmp_path)[0] > 3
    journal = opened(tmp_path)
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (7, "n3")
    assert journal.last_index == 59 and journal.first_index <= 58


def test_segments_behind_a_snapshot_go_one_with_each_new_one(tmp_path: Path) -> None:
    """Two removals without a sync of the directory between could leave a gap behind."""
    journal = opened(tmp_path, segment_bytes=200)
    for index in range(1, 40):
        add(journal, index)
        journal.sync()
    first, *_, last = segment_numbers(tmp_path)
    journal.deleteEntriesTo(38)
    assert segment_numbers(tmp_path) == list(range(first + 1, last + 1))
    index = 39
    while segment_numbers(tmp_path)[-1] == last:
        index += 1
        add(journal, index)
        journal.sync()
    assert segment_numbers(tmp_path) == list(range(first + 2, last + 2))
    journal.close()
    journal = opened(tmp_path)
    assert (journal.first_index < 38, journal.last_index) == (True, index)


def test_a_void_entry_of_a_dropped_segment_costs_no_other_segment(tmp_path: Path) -> None:
    """A truncation of entries that only a dropped segment held says nothing about the segment it is in."""
    journal = opened(tmp_path, segment_bytes=200)
    add(journal, *range(1, 8))
    journal.sync()
    journal.deleteEntriesFrom(5)
    add(journal, *range(6, 9), term=2)
    journal.sync()
    journal.deleteEntriesTo(7)
    journal.close()
    assert segment_numbers(tmp_path)[0] == 2
    journal = opened(tmp_path)
    add(journal, 9, 10, term=2)
    journal.sync()
    journal.deleteEntriesTo(len(journal) - 1)
    journal.close()
    assert spans(opened(tmp_path))[-1] == (10, 2)


def test_retained_entries_stay_behind_a_snapshot(tmp_path: Path) -> None:
    journal = opened(tmp_path, retained=3)
    add(journal, *range(1, 11))
    journal.deleteEntriesTo(7)
    assert journal.first_index == 5


@pytest.mark.parametrize(("room", "first"), [(0, 8), (99, 7), (100, 6), (10_000, 3)])
def test_retained_entries_are_bounded_by_bytes_too(tmp_path: Path, room: int, first: int) -> None:
    journal = Journal(tmp_path, IDENTITY, disk=Disk(), retained=5, retained_bytes=room)
    for index in range(1, 11):
        journal.add(*to_engine(Entry(COMMAND, index, 1, bytes(37))))
        assert journal.bytes_held == 50 * index
    journal.deleteEntriesTo(7)
    assert journal.first_index == first


def test_the_bytes_held_are_those_of_the_entries_held(tmp_path: Path) -> None:
    journal = opened(tmp_path, retained=1)

    def held() -> int:
        return sum(len(journal[at][0]) for at in range(len(journal)))

    add(journal, *range(1, 11))
    assert journal.bytes_held == held() > 0
    journal.deleteEntriesFrom(8)
    assert journal.bytes_held == held()
    journal.deleteEntriesTo(4)
    assert journal.bytes_held == held()
    journal.sync()
    journal.close()
    journal = opened(tmp_path)
    assert journal.bytes_held == held() > 0
    journal.clear()
    add(journal, 4, 5)
    assert journal.bytes_held == held()
    journal.clear()
    add(journal, 20, 21)
    assert journal.bytes_held == held()


def test_an_entry_is_synced_when_its_sync_is_done_and_a_new_one_in_its_place_is_not(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    assert journal.synced_index == 0
    add(journal, 1, 2, 3)
    assert journal.synced_index == 0
    journal.sync()
    add(journal, 4)
    assert journal.synced_index == 3
    journal.deleteEntriesFrom(1)
    add(journal, 2, 3, 4, term=2)
    assert journal.synced_index == 1, "the platter holds others under 2 and 3"
    journal.sync()
    assert journal.synced_index == 4
    add(journal, 5, term=2)
    journal.clear()
    add(journal, 2, term=2)
    add(journal, 3, term=2)
    assert (journal.last_index, journal.synced_index) == (5, 4)
    journal.clear()
    add(journal, 20, 21, term=3)
    assert journal.synced_index == 21
    journal.close()
    assert opened(tmp_path).synced_index == 21


def test_a_snapshot_inside_the_log_keeps_what_follows_it(tmp_path: Path) -> None:
    """Raft 7: the entries after the snapshot may have been acknowledged."""
    journal = opened(tmp_path)
    add(journal, 1, 2, 3, 4, 5)
    journal.sync()
    journal.clear()
    add(journal, 2, 3)
    assert spans(journal) == [(2, 1), (3, 1), (4, 1), (5, 1)]
    journal.sync()
    journal.close()
    assert opened(tmp_path).last_index == 5


@pytest.mark.parametrize(("indexes", "term"), [((2, 3), 2), ((8, 9), 1)], ids=["other term", "ahead"])
def test_a_snapshot_that_is_not_in_the_log_replaces_it(
    tmp_path: Path, indexes: tuple[int, int], term: int
) -> None:
    journal = opened(tmp_path, segment_bytes=200)
    journal.setCurrentTerm(4, "n2")
    for index in range(1, 6):
        add(journal, index)
        journal.sync()
    journal.clear()
    add(journal, *indexes, term=term)
    assert spans(journal) == [(index, term) for index in indexes]
    journal.close()
    assert len(list(tmp_path.glob("journal-*.log"))) == 1
    again = opened(tmp_path)
    assert spans(again) == [(index, term) for index in indexes]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (4, "n2")


def test_the_incarnation_grows_with_each_start_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    seen = []
    for clock in (5_000, 4_000, 3_000):
        journal = Journal(tmp_path, IDENTITY, disk=Disk(), wall_ns=lambda clock=clock: clock)  # type: ignore[misc]
        seen.append(journal.incarnation)
        journal.close()
    assert seen == [5_000, 5_001, 5_002]


class FullDisk(Disk):
    """A disk without room from some moment on."""

    full = False

    def write(self, descriptor: int, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(descriptor, data)


def test_after_a_failed_write_every_sync_fails(tmp_path: Path) -> None:
    """A second fsync after a failed one may claim success for data that is gone."""
    disk = FullDisk()
    journal = Journal(tmp_path, IDENTITY, disk=disk)
    add(journal, 1)
    disk.full = True
    with pytest.raises(OSError, match="No space left"):
        journal.sync()
    disk.full = False
    with pytest.raises(OSError, match="No space left"):
        journal.sync()


def test_a_disk_failure_the_engine_swallows_comes_up_at_the_next_sync(tmp_path: Path) -> None:
    disk = FullDisk()
    journal = Journal(tmp_path, IDENTITY, disk=disk)
    add(journal, 1)
    journal.sync()
    disk.full = True
    journal.clear()
    with pytest.raises(OSError, match="No space left"):
        add(journal, 8, 9)
    with pytest.raises(OSError, match="No space left"):
        journal.sync()
