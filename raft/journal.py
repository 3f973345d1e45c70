"""The journal: log entries, term and vote on disk, under the engine's Journal interface.

Order of effects is the contract. `add`, `setCurrentTerm` and `deleteEntriesFrom` change memory and queue
records; `sync` writes the queue in one go and returns once it is durable; the caller syncs before anything
leaves the node. What was queued and not synced was promised to nobody and may vanish with the process.

Segments (`raft.segment`) are written in order of their numbers and read back in that order:

- A segment that has grown beyond `segment_bytes` is synced, and a new one begun, which repeats the vote, so
  that older segments can be dropped as a whole: only once the snapshot that replaces them is durable, newest
  kept.
- The engine installs a snapshot by `clear()` and adding two entries: the snapshot's last and the one before.
  When the second stands in the old log with the same term, the entries after it are kept (Raft 7), for they
  may have been acknowledged. Otherwise the two become a segment that stands alone: it replaces all before it
  by one rename.
- The newest header says with which members the directory was last used. Others are refused, for a node that
  counts its majority among them could commit alone; what was accepted is recorded by a new segment, before
  anything else is done with it.
- At start the vote is read, the incarnation raised, and the tail synced, for a killed process leaves bytes
  that the system holds and the platter does not. After an error of the disk nothing more is written.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from pysyncobj.journal import Journal as EngineJournal

from raft.counters import Histogram
from raft.disk import Disk
from raft.entries import EngineEntry, Entry, from_engine, to_engine
from raft.errors import JournalCorrupt, MembersChanged, WrongCluster
from raft.segment import (
    Header,
    SegmentEnd,
    Truncate,
    VoteState,
    encode_entry,
    encode_header,
    encode_truncate,
    encode_vote,
    read_records,
)

SEGMENT_BYTES = 8 * 1024 * 1024


class Identity(msgspec.Struct, frozen=True):
    """Whose journal this is; `members` are sorted."""

    cluster: str
    node: str
    generation: int
    members: tuple[str, ...]


class Journal(EngineJournal):  # type: ignore[misc]
    """Opens (or begins) the journal in `directory`; raises `JournalCorrupt`, `WrongCluster`,
    `MembersChanged`, OSError.

    `accept_members`: take the members of `identity` though the directory was last used with others.
    `retained` entries are kept behind each snapshot, for followers slightly behind. `wall_ms` feeds the
    incarnation.
    """

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        *,
        disk: Disk,
        accept_members: bool = False,
        retained: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
        wall_ms: Callable[[], int] = lambda: 0,
        fsync_seconds: Histogram | None = None,
    ) -> None:
        self._directory, self._identity, self._disk = directory, identity, disk
        self._retained, self._segment_bytes = retained, segment_bytes
        self._entries: list[EngineEntry] = []
        self._cleared: list[EngineEntry] | None = None
        self._vote = VoteState()
        self._queue: list[bytes] = []
        self._sealed: list[tuple[int, int]] = []  # (number, last index) of each older segment
        self._number = 0
        self._members: tuple[str, ...] = ()
        self._descriptor = -1
        self._size = 0
        self._failure: OSError | None = None
        self._fsync_seconds = fsync_seconds or Histogram()
        self._replay()
        if self._members not in ((), identity.members) and not accept_members:
            raise MembersChanged(str(directory), self._members, identity.members)
        self._vote = VoteState(
            self._vote.term, self._vote.voted_for, max(self._vote.incarnation + 1, wall_ms())
        )
        if self._number == 0:
            self._begin_segment(b"", stands_alone=True)
        else:
            self._open_segment()
            self._queue.append(encode_vote(self._vote))
            self.sync()
            if self._members != identity.members:
                self._seal_segment()

    @property
    def incarnation(self) -> int:
        """Grows with each start of this node."""
        return self._vote.incarnation

    @property
    def first_index(self) -> int:
        return self._entries[0][1]

    @property
    def last_index(self) -> int:
        return self._entries[-1][1]

    @property
    def dirty(self) -> bool:
        """Whether records wait for `sync`."""
        return bool(self._queue)

    def term_at(self, index: int) -> int:
        """Term of the entry at `index`; it must lie between first and last."""
        return self._entries[index - self._entries[0][1]][2]

    def first_of_term(self, index: int) -> int:
        """The first index whose entry, like all up to `index`, has the term of the one at `index`."""
        base, at = self._entries[0][1], index
        while at > base and self._entries[at - 1 - base][2] == self._entries[index - base][2]:
            at -= 1
        return at

    def typed(self, start: int, count: int, max_bytes: int) -> list[Entry]:
        """Entries from index `start`, at most `count`, until `max_bytes` are reached (one at least, if there
        is one).
        """
        found: list[Entry] = []
        base, total = self._entries[0][1], 0
        for raw in self._entries[start - base : start - base + count]:
            total += len(raw[0]) + 32
            if found and total > max_bytes:
                break
            found.append(from_engine(raw))
        return found

    def sync(self) -> None:
        """Make everything queued durable. Once an OSError came up, here or in `add`, it comes up again each
        time.
        """
        if self._failure is not None:
            raise self._failure
        if not self._queue:
            return
        try:
            self._write_queue()
        except OSError as error:
            self._failure = error
            raise

    def _write_queue(self) -> None:
        data = b"".join(self._queue)
        self._queue.clear()
        started = time.perf_counter()
        self._disk.write(self._descriptor, data)
        self._disk.sync(self._descriptor)
        self._fsync_seconds.observe(time.perf_counter() - started)
        self._size += len(data)
        if self._size > self._segment_bytes:
            self._seal_segment()

    def close(self) -> None:
        """Let the file go; what was not synced is gone."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1

    # -- the engine's interface --------------------------------

    def add(self, command: bytes, idx: int, term: int) -> None:
        self._entries.append((command, idx, term))
        if self._cleared is None:
            self._queue.append(encode_entry(from_engine((command, idx, term))))
        elif len(self._entries) == 2:
            try:
                self._finish_install(self._cleared)
            except OSError as error:  # the engine swallows it: `sync` must raise it again
                self._failure = error
                raise

    def clear(self) -> None:
        self._cleared, self._entries = self._entries, []

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        self._queue.append(encode_truncate(self._entries[entryFrom][1]))
        del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:
        del self._entries[: max(0, entryTo - self._retained)]
        self._drop_segments()

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:
        self._vote = VoteState(term, votedForNodeId, self._vote.incarnation)
        self._queue.append(encode_vote(self._vote))

    def getCurrentTerm(self) -> int:
        return self._vote.term

    def getVotedForNodeId(self) -> str | None:
        return self._vote.voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:
        """Not stored: after a restart the leader tells."""

    def getRaftCommitIndex(self) -> int:
        return max(1, self.first_index)

    def __getitem__(self, item: int | slice) -> EngineEntry | list[EngineEntry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def _destroy(self) -> None:
        self.close()

    # -- files -------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._directory / f"journal-{number:010d}.log"

    def _replay(self) -> None:
        paths = sorted(self._directory.glob("journal-*.log"))
        for path in paths:
            self._read_segment(path, is_last=path == paths[-1])

    def _read_segment(self, path: Path, *, is_last: bool) -> None:
        records = read_records(path, is_last=is_last)
        header = next(records)
        if not isinstance(header, Header):
            raise JournalCorrupt(str(path), 0, "it has no header")
        self._check_header(path, header)
        if header.stands_alone:
            self._entries.clear()
            self._sealed.clear()
        elif self._number and header.number != self._number + 1:
            raise JournalCorrupt(str(path), 0, f"segment {self._number + 1} is missing before it")
        self._number, self._members = header.number, header.members
        for record in records:
            match record:
                case VoteState():
                    self._vote = record
                case Entry():
                    self._check_follows(path, record)
                    self._entries.append(to_engine(record))
                case Truncate(index) if self._entries:
                    del self._entries[max(0, index - self._entries[0][1]) :]
                case SegmentEnd(valid, size) if is_last:
                    if valid < size:
                        self._disk.truncate(path, valid)
                    self._size = valid
                case _:
                    self._sealed.append((header.number, self._end))

    def _check_header(self, path: Path, header: Header) -> None:
        for what, found, expected in (
            ("cluster", header.cluster, self._identity.cluster),
            ("node", header.node, self._identity.node),
            ("generation", str(header.generation), str(self._identity.generation)),
        ):
            if found != expected:
                raise WrongCluster(str(path), what, found, expected)

    def _check_follows(self, path: Path, entry: Entry) -> None:
        if self._entries and entry.index != self._entries[-1][1] + 1:
            raise JournalCorrupt(str(path), 0, f"entry {entry.index} follows entry {self._entries[-1][1]}")

    def _open_segment(self) -> None:
        self._descriptor = self._disk.open_append(self._path(self._number))

    @property
    def _end(self) -> int:
        return self._entries[-1][1] if self._entries else 0

    def _seal_segment(self) -> None:
        self._sealed.append((self._number, self._end))
        self._begin_segment(b"", stands_alone=False)

    def _begin_segment(self, records: bytes, *, stands_alone: bool) -> None:
        self._number += 1
        who = self._identity
        header = Header(who.cluster, who.node, who.generation, self._number, stands_alone, who.members)
        data = encode_header(header) + encode_vote(self._vote) + records
        self._disk.replace(self._path(self._number), data)
        self.close()
        self._open_segment()
        self._size, self._members = len(data), who.members

    def _finish_install(self, old: list[EngineEntry]) -> None:
        """The second entry after `clear` is here: keep what follows it in the old log, or begin anew."""
        self._cleared = None
        _, index, term = self._entries[1]
        at = index - old[0][1] if old else -1
        if 0 < at < len(old) and old[at][2] == term and old[at - 1][2] == self._entries[0][2]:
            self._entries = old[at - 1 :]
            self._drop_segments()
            return
        if 0 <= at < len(old) and old[at][2] == term:
            self._entries += old[at + 1 :]
        self._queue.clear()
        self._begin_segment(b"".join(encode_entry(from_engine(e)) for e in self._entries), stands_alone=True)
        superseded, self._sealed = self._sealed, []
        for number, _ in [*superseded, (self._number - 1, 0)]:
            self._disk.remove(self._path(number))

    def _drop_segments(self) -> None:
        """Remove the oldest segments, none of whose entries is left; the snapshot that holds them is
        durable.
        """
        while self._sealed and self._sealed[0][1] < self.first_index:
            self._disk.remove(self._path(self._sealed[0][0]))
            del self._sealed[0]
