"""The journal: log entries, term and vote on disk, under the engine's Journal interface.

Order of effects is the contract. `add`, `setCurrentTerm` and `deleteEntriesFrom` change memory and queue
records; `sync` writes the queue in one go and returns once it is durable; the caller syncs before anything
leaves the node. What was queued and not synced was promised to nobody and may vanish with the process.

Segments (`raft.segment`) are written in order of their numbers and read back by `raft.replay`:

- A segment that has grown beyond `segment_bytes` is synced, and a new one begun, which repeats the vote, so
  that older segments can be dropped as a whole: only once the snapshot that replaces them is durable, oldest
  first. A removed name may come back after a power cut until the directory is synced, each for itself, and a
  gap between segments is corruption; so the next one goes only when the directory was synced after the last,
  which each new segment does.
- The engine installs a snapshot by `clear()` and adding two entries: the snapshot's last and the one before.
  When the second stands in the old log with the same term, the entries after it are kept (Raft 7), for they
  may have been acknowledged. Otherwise the two become a segment that stands alone: it replaces all before it
  by one rename.
- The newest header says with which members the directory was last used. Others are refused, for a node that
  counts its majority among them could commit alone. A directory from before members were recorded takes the
  first list it meets, which a new segment records.
- At start the incarnation is raised and the newest segment written anew, as far as it checks out, under its
  own name. For what a killed process left may be held by the system and not by the platter, the file's bytes
  as well as its name; and after a sync that failed the system takes such bytes for written, so that another
  sync of the same file would change nothing. After an error of the disk nothing more is written.
"""

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from pysyncobj.journal import Journal as EngineJournal

from raft.disk import Disk
from raft.entries import EngineEntry, Entry, from_engine
from raft.errors import MembersChanged, WrongCluster
from raft.replay import Replayed, replay
from raft.segment import (
    Header,
    VoteState,
    encode_entry,
    encode_header,
    encode_truncate,
    encode_vote,
    segment_path,
)
from transport.durations import Durations

SEGMENT_BYTES = 8 * 1024 * 1024


class Identity(msgspec.Struct, frozen=True):
    """Whose journal this is; `members` are sorted."""

    cluster: str
    node: str
    generation: int
    members: tuple[str, ...]


class Journal(EngineJournal):  # type: ignore[misc]
    """Opens (or begins) the journal in `directory`; raises `JournalCorrupt`, `FormatTooNew`, `WrongCluster`,
    `MembersChanged`, OSError.

    `retained` entries are kept behind each snapshot, for followers slightly behind, as far as their commands
    have no more than `retained_bytes` in all. `wall_ns` feeds the incarnation, unless `incarnation` says
    that a process goes on here as the one it is.
    """

    def __init__(
        self,
        directory: Path,
        identity: Identity,
        *,
        disk: Disk,
        retained: int = 0,
        retained_bytes: int | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        wall_ns: Callable[[], int] = lambda: 0,
        incarnation: int | None = None,
        fsync_seconds: Durations | None = None,
    ) -> None:
        self._directory, self._identity, self._disk = directory, identity, disk
        self._retained, self._retained_bytes = retained, retained_bytes
        self._segment_bytes = segment_bytes
        self._entries: list[EngineEntry] = []
        self._bytes_held = 0
        self._synced_index = 0
        self._cleared: list[EngineEntry] | None = None
        self._vote = VoteState()
        self._queue: list[bytes] = []
        self._sealed: list[tuple[int, int]] = []  # (number, last index) of each older segment
        self._removal_pending = False
        self._number = 0
        self._descriptor = -1
        self._size = 0
        self._failure: OSError | None = None
        self._fsync_seconds = fsync_seconds or Durations()
        found = replay(directory, self._admit)
        if found is None:
            self._vote = VoteState(0, None, incarnation or max(1, wall_ns()))
            self._begin_segment(b"", stands_alone=True)
            return
        if found.header.members not in ((), identity.members):
            raise MembersChanged(str(directory), found.header.members, identity.members)
        incarnation = incarnation or max(found.vote.incarnation + 1, wall_ns())
        self._vote = VoteState(found.vote.term, found.vote.voted_for, incarnation)
        self._go_on(found)
        if found.header.members != identity.members:
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
    def synced_index(self) -> int:
        """The entries held, up to this index, are durable as they are; 0 if none is."""
        return self._synced_index

    @property
    def bytes_held(self) -> int:
        """Bytes of all commands held in memory, those kept behind a snapshot included."""
        return self._bytes_held

    @property
    def failure(self) -> OSError | None:
        """The disk's error after which nothing more is written."""
        return self._failure

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

    def bytes_from(self, start: int) -> int:
        """Bytes of the commands from index `start` to the end."""
        return _size(self._entries[start - self._entries[0][1] :])

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
        self._synced_index = self._end
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
        self._bytes_held += len(command)
        if self._cleared is None:
            self._queue.append(encode_entry(from_engine((command, idx, term))))
        elif len(self._entries) == 2:
            try:
                self._finish_install(self._cleared)
            except OSError as error:  # the engine swallows it: `sync` must raise it again
                self._failure = error
                raise

    def clear(self) -> None:
        self._cleared, self._entries, self._bytes_held = self._entries, [], 0

    def deleteEntriesFrom(self, entryFrom: int) -> None:
        index = self._entries[entryFrom][1]
        self._queue.append(encode_truncate(index))
        self._bytes_held -= _size(self._entries[entryFrom:])
        self._synced_index = min(self._synced_index, index - 1)
        del self._entries[entryFrom:]

    def deleteEntriesTo(self, entryTo: int) -> None:
        first = self._first_retained(entryTo)
        self._bytes_held -= _size(self._entries[:first])
        del self._entries[:first]
        self._drop_segments()

    def _first_retained(self, position: int) -> int:
        """Position of the first entry to keep, when those from `position` on must be."""
        first, room = position, self._retained_bytes
        while first > 0 and position - first < self._retained:
            if room is not None:
                room -= len(self._entries[first - 1][0])
                if room < 0:
                    break
            first -= 1
        return first

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
        return segment_path(self._directory, number)

    def _admit(self, path: Path, header: Header) -> None:
        for what, found, expected in (
            ("cluster", header.cluster, self._identity.cluster),
            ("node", header.node, self._identity.node),
            ("generation", str(header.generation), str(self._identity.generation)),
        ):
            if found != expected:
                raise WrongCluster(str(path), what, found, expected)

    def _go_on(self, found: Replayed) -> None:
        """Take over what was read, and make it durable."""
        self._entries, self._sealed, self._number = found.entries, found.sealed, found.header.number
        self._bytes_held = _size(self._entries)
        self._write_segment(found.newest + encode_vote(self._vote))
        self._remove(found.superseded)

    @property
    def _end(self) -> int:
        return self._entries[-1][1] if self._entries else 0

    def _seal_segment(self) -> None:
        self._sealed.append((self._number, self._end))
        self._begin_segment(b"", stands_alone=False)
        self._drop_segments()

    def _begin_segment(self, records: bytes, *, stands_alone: bool) -> None:
        self._number += 1
        who = self._identity
        previous_bytes = None if stands_alone else self._size
        header = Header(
            who.cluster, who.node, who.generation, self._number, stands_alone, who.members, previous_bytes
        )
        self._write_segment(encode_header(header) + encode_vote(self._vote) + records)

    def _write_segment(self, data: bytes) -> None:
        """Make `data` the newest segment, and all that is held durable."""
        self._disk.replace(self._path(self._number), data)
        self._removal_pending = False
        self.close()
        self._descriptor = self._disk.open_append(self._path(self._number))
        self._size, self._synced_index = len(data), self._end

    def _finish_install(self, old: list[EngineEntry]) -> None:
        """The second entry after `clear` is here: keep what follows it in the old log, or begin anew."""
        self._cleared = None
        _, index, term = self._entries[1]
        at = index - old[0][1] if old else -1
        if 0 < at < len(old) and old[at][2] == term and old[at - 1][2] == self._entries[0][2]:
            self._entries = old[at - 1 :]
            self._bytes_held = _size(self._entries)
            self._drop_segments()
            return
        if 0 <= at < len(old) and old[at][2] == term:
            self._entries += old[at + 1 :]
            self._bytes_held = _size(self._entries)
        self._queue.clear()
        self._begin_segment(b"".join(encode_entry(from_engine(e)) for e in self._entries), stands_alone=True)
        superseded, self._sealed = self._sealed, []
        self._remove([number for number, _ in superseded] + [self._number - 1])

    def _drop_segments(self) -> None:
        """Remove the oldest segment, if none of its entries is held; the snapshot with them is durable."""
        if self._removal_pending or not self._sealed or not self._entries:
            return
        number, last_index = self._sealed[0]
        if last_index < self.first_index:
            del self._sealed[0]
            self._remove([number])

    def _remove(self, numbers: list[int]) -> None:
        for number in numbers:
            self._removal_pending = True
            self._disk.remove(self._path(number))


def _size(entries: list[EngineEntry]) -> int:
    return sum([len(command) for command, _, _ in entries])
