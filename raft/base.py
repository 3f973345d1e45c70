"""How the files of a generation begin: a snapshot, and a journal that ends where the snapshot ends.

The base of generation g+1 is the state at the seal of g, under the seal's index and term. Indexes go on after
it, and so do terms: the vote state says the seal's term t, and no vote.

**Terms grow across generations** (a leader's term fences what it does outside): a leader of g serves only
when it has applied all that was committed before it. One with a term above t has the seal in its log before
its own first entry, so it has applied the seal before it serves, and then this generation is over. So who
served in g had a term of at most t, and who leads in g+1 has at least t+1.

**Only who has a base votes or campaigns in g+1**, and each base holds the seal's state or a later committed
one of g+1. So a majority of g+1 that votes has everything that was committed before.
"""

from collections.abc import Iterable
from pathlib import Path

from raft.disk import Disk
from raft.entries import Entry
from raft.segment import Header, VoteState, encode_entry, encode_header, encode_vote, segment_path
from raft.snapshot import SnapshotStore, SnapshotWriter


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
        self._store(directory).write(last, previous, parts)
        self.write_journal(directory, VoteState(last.term, None, incarnation), [previous, last])

    def adopt(self, directory: Path, received: SnapshotWriter, *, incarnation: int) -> None:
        """The state in a finished file of another member of the generation."""
        self._disk.rename(received.path, directory / "snapshot")
        snapshot = self._store(directory).load()
        vote = VoteState(snapshot.last.term, None, incarnation)
        self.write_journal(directory, vote, [snapshot.previous, snapshot.last])

    def write_journal(self, directory: Path, vote: VoteState, entries: Iterable[Entry]) -> None:
        """A journal of one segment."""
        header = Header(self._cluster, self._node, self._generation, 1, True, self._members)
        records = b"".join(map(encode_entry, entries))
        data = encode_header(header) + encode_vote(vote) + records
        self._disk.replace(segment_path(directory, 1), data)

    def _store(self, directory: Path) -> SnapshotStore:
        return SnapshotStore(directory, self._cluster, self._generation, self._disk)
