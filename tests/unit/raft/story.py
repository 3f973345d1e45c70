"""The life of a small log, told to a journal verb by verb, with what each moment must leave behind.

`Story` keeps the states the log went through. At any moment those from the last acknowledged one to the last
issued one are what a restart may find: nothing synced is lost, nothing is invented, nothing goes back. A
`Telling` has a `CrashDisk` under it and notes all that at each moment of the disk; `Examination` opens what a
moment may have left, and compares.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from raft.disk import Disk
from raft.entries import COMMAND, Entry, to_engine
from raft.journal import Identity, Journal
from raft.snapshot import Snapshot, SnapshotStore
from tests.unit.raft.crash import CrashDisk, Moment, QuietDisk, lay_out

IDENTITY = Identity("cluster", "n1", 1, ("n1", "n2", "n3"))
SEGMENT_BYTES = 260

Entries = tuple[tuple[int, int], ...]
"""(index, term) of each; the payload follows from them."""


@dataclass(frozen=True)
class State:
    """What a restart must find: at least the entries named here, and of older ones what there was."""

    entries: Entries = ()
    term: int = 0
    voted_for: str | None = None

    @property
    def first_index(self) -> int:
        return self.entries[0][0] if self.entries else 0


def command(index: int, term: int) -> Entry:
    return Entry(COMMAND, index, term, b"entry %d of term %d" % (index, term))


def opened(directory: Path, disk: Disk) -> Journal:
    return Journal(directory, IDENTITY, disk=disk, segment_bytes=SEGMENT_BYTES)


def read_back(journal: Journal) -> State:
    """The journal's state; fails if an entry's payload is not its own."""
    entries = journal.typed(journal.first_index, len(journal), 10**9) if len(journal) else []
    for entry in entries:
        assert entry == command(entry.index, entry.term)
    spans = tuple((entry.index, entry.term) for entry in entries)
    return State(spans, journal.getCurrentTerm(), journal.getVotedForNodeId())


@dataclass
class Story:
    """Tells the log to `journal`; call `start` first, and again after each end of the process."""

    directory: Path
    disk: Disk
    states: list[State] = field(default_factory=lambda: [State()])
    acknowledged: int = 0
    incarnation: int = 0
    journal: Journal = field(init=False)

    def start(self) -> None:
        self.journal = opened(self.directory, self.disk)
        self.incarnation = self.journal.incarnation

    def close(self) -> None:
        self.journal.close()

    def _issue(self, state: State) -> None:
        self.states.append(state)

    def sync(self) -> None:
        self.journal.sync()
        self.acknowledged = len(self.states) - 1

    def vote(self, term: int, voted_for: str | None) -> None:
        self._issue(replace(self.states[-1], term=term, voted_for=voted_for))
        self.journal.setCurrentTerm(term, voted_for)

    def add(self, *indexes: int) -> None:
        for index in indexes:
            last = self.states[-1]
            self._issue(replace(last, entries=(*last.entries, (index, last.term))))
            self.journal.add(*to_engine(command(index, last.term)))

    def cut_from(self, index: int) -> None:
        last = self.states[-1]
        self._issue(replace(last, entries=tuple(at for at in last.entries if at[0] < index)))
        self.journal.deleteEntriesFrom(index - self.journal.first_index)

    def snapshot(self, index: int, term: int) -> None:
        """Save a snapshot that ends at `index`; before an install or a compaction."""
        store = SnapshotStore(self.directory, IDENTITY.cluster, IDENTITY.generation, self.disk)
        store.save(Snapshot(command(index, term), command(index - 1, term), b"state at %d" % index))

    def compact(self, index: int) -> None:
        """Drop the entries before the one that stands before `index`, as the engine does."""
        last = self.states[-1]
        self.snapshot(index, dict(last.entries)[index])
        self._issue(replace(last, entries=tuple(at for at in last.entries if at[0] >= index - 1)))
        self.journal.deleteEntriesTo(index - 1 - self.journal.first_index)

    def install(self, index: int, term: int) -> None:
        """Install a snapshot of the leader, whose last two entries have `term`."""
        self.snapshot(index, term)
        last = self.states[-1]
        follows = tuple(at for at in last.entries if at[0] > index) if (index, term) in last.entries else ()
        self._issue(replace(last, entries=((index - 1, term), (index, term), *follows)))
        self.journal.clear()
        self.journal.add(*to_engine(command(index - 1, term)))
        self.journal.add(*to_engine(command(index, term)))


def tell(story: Story) -> Iterator[None]:
    """The life of the log; each step ends where a caller may rely on it."""
    story.start()
    yield
    story.vote(1, "n2")
    story.add(1, 2, 3)
    story.sync()
    yield
    story.vote(2, "n1")
    story.add(4, 5)
    story.sync()
    yield
    story.vote(3, None)
    story.cut_from(4)
    story.add(4, 5)
    story.sync()
    yield
    story.add(6, 7, 8, 9)
    story.sync()
    yield
    story.add(10)
    story.cut_from(9)
    story.add(9)
    story.sync()
    yield
    story.compact(7)
    yield
    story.add(10, 11)
    story.sync()
    yield
    story.install(9, 3)  # stands in the log: what follows is kept
    story.add(12)
    story.sync()
    yield
    story.close()
    story.start()
    yield
    story.vote(4, "n3")  # not synced when the snapshot replaces the log, and written with it
    story.install(21, 4)
    story.sync()
    yield
    story.add(22, 23, 24, 25)
    story.sync()
    yield
    story.add(26, 27, 28, 29, 30, 31)
    story.sync()
    yield
    story.add(32)
    story.sync()
    yield
    story.add(33, 34, 35, 36, 37, 38)
    story.sync()
    yield
    story.compact(38)  # several segments are void at once
    story.cut_from(38)
    story.add(38)
    story.sync()
    yield
    story.vote(6, "n2")
    story.add(39, 40, 41, 42, 43)
    story.sync()
    yield
    story.compact(42)
    yield
    story.close()
    story.start()
    story.add(44)
    story.sync()
    yield


@dataclass(frozen=True)
class Marked:
    """A moment of the disk, and what the log then was."""

    moment: Moment
    states: list[State]
    acknowledged: int
    issued: int
    incarnation: int

    def explains(self, found: State) -> bool:
        """Whether the log found is one that a restart may find. Entries behind a snapshot may still be there,
        if they ever were.
        """
        ever = {entry for state in self.states[: self.issued + 1] for entry in state.entries}
        return any(
            (found.term, found.voted_for) == (state.term, state.voted_for)
            and found.entries[len(found.entries) - len(state.entries) :] == state.entries
            and ever.issuperset(found.entries)
            for state in self.states[self.acknowledged : self.issued + 1]
        )


class Telling:
    """A story on a `CrashDisk`, with all moments of the disk."""

    def __init__(self, directory: Path, before: Marked | None = None) -> None:
        """Begins on an empty disk, or on what a process killed at `before` has left."""
        self.moments: list[Marked] = []
        if before is None:
            self.disk = CrashDisk(self._watch)
            self.story = Story(lay_out(directory, {}), self.disk)
            return
        self.disk = CrashDisk.after_kill(before.moment, self._watch)
        lay_out(directory, before.moment.left_by_kill())
        self.story = Story(directory, self.disk, before.states[: before.issued + 1])
        self.story.acknowledged, self.story.incarnation = before.acknowledged, before.incarnation

    def _watch(self, moment: Moment) -> None:
        story = self.story
        issued = len(story.states) - 1
        self.moments.append(Marked(moment, story.states, story.acknowledged, issued, story.incarnation))

    def mark(self) -> None:
        """What was reached is noted, though the disk has nothing to do."""
        self._watch(self.moments[-1].moment)

    def tell(self) -> "Telling":
        """The whole life."""
        for _ in tell(self.story):
            self.mark()
        self.story.close()
        return self

    def go_on(self) -> "Telling":
        """A next process: it starts, and acknowledges a little more."""
        story = self.story
        story.start()
        found = read_back(story.journal)
        assert self.moments[0].explains(found)
        story.states.append(found)
        story.acknowledged = len(story.states) - 1
        self.mark()
        story.vote(found.term + 1, "n3")
        story.add(found.entries[-1][0] + 1 if found.entries else 1)
        story.sync()
        self.mark()
        story.close()
        assert read_back(opened(story.directory, QuietDisk())) == story.states[-1]
        return self


class Examination:
    """Opens what may be left, each directory once; fails if it is not what it must be."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: set[object] = set()

    @property
    def count(self) -> int:
        return len(self._seen)

    def power_cut(self, marked: Marked, *, every_cut: bool) -> None:
        """All that a loss of power at this moment may leave."""
        for files in marked.moment.left_by_power_cut(every_cut=every_cut):
            key = (id(marked.states), marked.acknowledged, marked.issued, *sorted(files.items()))
            if key not in self._seen:
                self._seen.add(key)
                self._open(marked, lay_out(self._directory / "left", files))

    def _open(self, marked: Marked, directory: Path) -> None:
        journal = opened(directory, QuietDisk())
        found = read_back(journal)
        assert marked.explains(found), (
            f"after {marked.moment.verb}: found {found}, may be any of "
            f"{marked.states[marked.acknowledged : marked.issued + 1]}"
        )
        store = SnapshotStore(directory, IDENTITY.cluster, IDENTITY.generation, QuietDisk())
        store.check_beside(journal.first_index if len(journal) else None)
        assert journal.incarnation > marked.incarnation
        assert journal.synced_index == (journal.last_index if len(journal) else 0)
        journal.close()


def append_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation: a start goes on in the newest segment as it is, and does not write it anew."""

    def write_segment(self: Journal, data: bytes) -> None:
        path = self._path(self._number)
        if not path.exists():
            whole(self, data)
            return
        self._descriptor = self._disk.open_append(path)
        self._disk.write(self._descriptor, data[path.stat().st_size :])
        self._disk.sync(self._descriptor)

    whole = Journal._write_segment
    monkeypatch.setattr(Journal, "_write_segment", write_segment)
