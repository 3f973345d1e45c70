"""A snapshot on its way to a follower: numbered chunks, one in flight, repeated until answered, a checksum
over all.

The receiver says which chunk it wants next, so a lost chunk, a lost answer, a duplicate and a receiver that
started anew are all the same to the sender: send what is wanted. Neither side holds the whole in memory: the
sender reads the file chunk by chunk, and checks it the first time through; the receiver collects in a
temporary file, which becomes the snapshot only when its checksum holds. Otherwise it starts again from chunk
0 and counts.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import google_crc32c

from raft.codec import CHUNK_BYTES, SnapshotChunk
from raft.errors import SnapshotCorrupt
from raft.snapshot import SnapshotFile, SnapshotWriter


@dataclass(slots=True)
class OutgoingSnapshot:
    """The sender's half. Times in seconds; a chunk is repeated after `patience`, doubled up to
    `max_patience`.
    """

    file: SnapshotFile
    patience: float
    max_patience: float
    count: int = field(init=False)
    _number: int = 0
    _repeat_at: float = 0.0
    _waited: int = 0
    _checked: int = 0
    _crc: int = 0

    def __post_init__(self) -> None:
        self.count = -(-self.file.size // CHUNK_BYTES)

    @property
    def last_index(self) -> int:
        """Index of the last entry the snapshot holds."""
        return self.file.header.last.index

    @property
    def last_term(self) -> int:
        """Term of that entry."""
        return self.file.header.last.term

    def due(self, now: float) -> int | None:
        """The chunk to send now, or None while one is in flight."""
        return self._number if now >= self._repeat_at else None

    def chunk(self, number: int) -> bytes:
        """The bytes of a chunk. Raises `SnapshotCorrupt` when the file was damaged since it was written."""
        data = self.file.read(number * CHUNK_BYTES, CHUNK_BYTES)
        if number == self._checked:
            self._checked, self._crc = number + 1, google_crc32c.extend(self._crc, data)
            if self._checked == self.count and self._crc != self.file.crc:
                raise SnapshotCorrupt(self.file.path, "its checksum does not match")
        return data

    def sent(self, now: float) -> None:
        """The chunk that was due has left."""
        self._repeat_at = now + min(self.patience * 2**self._waited, self.max_patience)
        self._waited = min(self._waited + 1, 16)

    def answered(self, expected: int) -> None:
        """The receiver wants chunk `expected`; the one that is in flight is left to its repetition."""
        if expected == self._number:
            return
        self._number = min(expected, self.count - 1)
        self._repeat_at, self._waited = 0.0, 0


Key = tuple[str, int, int, int, int, int]


class IncomingSnapshot:
    """The receiver's half: one snapshot of one sender in one term, in the file that `begin` makes."""

    def __init__(self, chunk: SnapshotChunk, begin: Callable[[], SnapshotWriter]) -> None:
        self.key = self.key_of(chunk)
        self.wanted = 0
        self.file = begin()

    @staticmethod
    def key_of(chunk: SnapshotChunk) -> Key:
        """What tells one transfer from another."""
        return (chunk.sender, chunk.incarnation, chunk.term, chunk.last_index, chunk.size, chunk.crc)

    def take(self, chunk: SnapshotChunk) -> bool:
        """Add a chunk if it is the one wanted. Whether the file is complete; raises ValueError when it then
        does not hold its checksum, and OSError.
        """
        if chunk.number != self.wanted:
            return False
        self.file.append(chunk.data)
        self.wanted += 1
        if self.wanted < chunk.count:
            return False
        if self.file.size != chunk.size or self.file.crc != chunk.crc:
            raise ValueError("the checksum of the received snapshot does not match")
        return True
