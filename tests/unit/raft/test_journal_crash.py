"""Power lost at every byte of every write of a small log, and between any two changes of names.

The model of what may be left is in `crash`, the log and what it must hold in `story`. Each directory that a
power cut could leave is laid out and opened: it opens without error, what was acknowledged is there, nothing
is there that was never written, and neither term, vote nor incarnation went back.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from raft.disk import Disk
from raft.errors import RaftError
from raft.journal import Journal
from tests.unit.raft.story import Examination, Telling, append_at_start


def test_power_lost_at_any_byte_loses_nothing_acknowledged_and_invents_nothing(tmp_path: Path) -> None:
    examination = Examination(tmp_path)
    for marked in Telling(tmp_path / "life").tell().moments:
        examination.power_cut(marked, every_cut=True)
    assert examination.count > 2000


def killed_anywhere_then_power_lost(directory: Path) -> int:
    """A process is killed at any moment of its life, the next one acknowledges more, then the power goes."""
    examination = Examination(directory)
    for number, killed in enumerate(Telling(directory / "life").tell().moments):
        if not killed.moment.settled:
            after = Telling(directory / f"next-{number}", killed).go_on().moments
            for marked in after:
                if marked.acknowledged > killed.issued:
                    examination.power_cut(marked, every_cut=False)
    return examination.count


def test_what_a_killed_process_left_undurable_costs_the_next_one_nothing(tmp_path: Path) -> None:
    """A name that only the system's memory holds, or bytes that do, look durable to the next process."""
    assert killed_anywhere_then_power_lost(tmp_path) > 1000


def unsynced_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Disk, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        descriptor = self.create(temporary)
        self.write(descriptor, data)
        self.close(descriptor)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    monkeypatch.setattr(Disk, "replace", replace)


def unsynced_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: Disk, path: Path, data: bytes) -> None:
        temporary = path.with_name(path.name + ".tmp")
        descriptor = self.create(temporary)
        self.write(descriptor, data)
        self.sync(descriptor)
        self.close(descriptor)
        self.rename(temporary, path)

    monkeypatch.setattr(Disk, "replace", replace)


def unsynced_records(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_queue(self: Journal) -> None:
        data = b"".join(self._queue)
        self._queue.clear()
        self._disk.write(self._descriptor, data)

    monkeypatch.setattr(Journal, "_write_queue", write_queue)


def removals_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_segments(self: Journal) -> None:
        while self._sealed and self._entries and self._sealed[0][1] < self.first_index:
            self._disk.remove(self._path(self._sealed.pop(0)[0]))

    monkeypatch.setattr(Journal, "_drop_segments", drop_segments)


def removal_before_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Journal._finish_install

    def finish_install(self: Journal, old: list[object]) -> None:
        for number, _ in [*self._sealed, (self._number, 0)]:
            self._disk.remove(self._path(number))
        finish(self, old)  # type: ignore[arg-type]

    monkeypatch.setattr(Journal, "_finish_install", finish_install)


@pytest.mark.parametrize(
    "take_away",
    [unsynced_files, unsynced_names, unsynced_records, removals_in_any_order, removal_before_the_snapshot],
)
def test_each_rule_of_durability_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, take_away: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """With one rule taken away, some power cut breaks the log: so the tests above would notice."""
    take_away(monkeypatch)
    examination = Examination(tmp_path)
    with pytest.raises((AssertionError, RaftError)):
        for marked in Telling(tmp_path / "life").tell().moments:
            examination.power_cut(marked, every_cut=False)


def test_the_newest_segment_must_be_written_anew_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_at_start(monkeypatch)
    with pytest.raises((AssertionError, RaftError)):
        killed_anywhere_then_power_lost(tmp_path)
