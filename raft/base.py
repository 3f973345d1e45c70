"""How the files of a generation begin: a snapshot, and a journal that ends where the snapshot ends.

The base of generation g+1 is the state at the seal of g, under the seal's index and term. Indexes go on after
it, and so do terms: the vote state says the seal's term t, and no vote.

**Terms grow across generations** (a leader's term fences what it does outside): a leader of g serves only
when it has applied all that was committed before it. One with a term above t has the seal in its log before
its own first entry, so it has applied the seal before it serves, and then this generation is over. So who
served in g had a term of at most t, and who leads in g+1 has at least t+1.

**Only who has a base votes or campaigns in g+1**, and each base holds the seal's state or a later committed
one of g+1. So a majority of g+1 that votes has everything that was committed before.

The snapshot may be large, so a `Writing` leaves it to the background; what is small comes after it, in the
event loop. Until then, and when it is given up, there is a directory that counts for nothing
(`raft.generation`).
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from raft.compaction import Background
from raft.disk import Disk
from raft.entries import Entry
from raft.errors import SnapshotCorrupt
from raft.segment import Header, VoteState, encode_entry, encode_header, encode_vote, segment_path
from raft.snapshot import SnapshotStore, SnapshotWriter

SYNC_BYTES = 4 * 1024 * 1024
"""More than for a snapshot: no commit waits for this disk, and all wait for the base."""


class Base:
    """Writes the first files of one generation of one node. Raises OSError, `SnapshotCorrupt`,
    `WrongCluster`.
    """

    def __init__(
        self, disk: Disk, *, cluster: str, node: str, generation: int, members: tuple[str, ...]
    ) -> None:
        self._disk, self._cluster, self._node = disk, cluster, node
        self._generation, self._members = generation, members

    def write(
        self, directory: Path, previous: Entry, last: Entry, parts: Iterable[bytes], *, incarnation: int
    ) -> None:
        """The state as of `last`."""
        self.store(directory).write(last, previous, parts)
        self.write_journal(directory, VoteState(last.term, None, incarnation), [previous, last])

    def adopt(self, directory: Path, received: SnapshotWriter, *, incarnation: int) -> None:
        """The state in a finished file of another member of the generation."""
        self._disk.rename(received.path, directory / "snapshot")
        file = self.store(directory).open()
        if file.crc != received.crc:
            raise SnapshotCorrupt(file.path, "its checksum does not match")
        header = file.header
        vote = VoteState(header.last.term, None, incarnation)
        self.write_journal(directory, vote, [header.previous, header.last])

    def write_journal(self, directory: Path, vote: VoteState, entries: Iterable[Entry]) -> None:
        """A journal of one segment."""
        header = Header(self._cluster, self._node, self._generation, 1, True, self._members)
        records = b"".join(map(encode_entry, entries))
        data = encode_header(header) + encode_vote(vote) + records
        self._disk.replace(segment_path(directory, 1), data)

    def store(self, directory: Path) -> SnapshotStore:
        """Where the state is."""
        return SnapshotStore(directory, self._cluster, self._generation, self._disk, sync_bytes=SYNC_BYTES)


class Writing:
    """A base that is being written into `directory`. Raises what starting the work does."""

    def __init__(
        self,
        base: Base,
        directory: Path,
        background: Background,
        previous: Entry,
        last: Entry,
        parts: Iterable[bytes],
    ) -> None:
        self.previous, self.last = previous, last
        self._base, self._directory, self._store = base, directory, base.store(directory)
        self._job = background.start(partial(self._store.write, last, previous, parts))

    @property
    def done(self) -> bool:
        """Whether the state is durable, or could not be written."""
        return self._job.done

    def finish(self, *, incarnation: int) -> None:
        """Write what else there is. Raises OSError, and what the work has raised."""
        if self._job.error is not None:
            raise self._job.error
        vote = VoteState(self.last.term, None, incarnation)
        self._base.write_journal(self._directory, vote, [self.previous, self.last])

    def give_up(self) -> None:
        """From now on nothing takes a name; what is being written ends by itself."""
        self._store.close()
