"""A snapshot on its way to a follower: numbered chunks, one in flight, repeated until answered, a checksum
over all.

The receiver says which chunk it wants next, so a lost chunk, a lost answer, a duplicate and a receiver that
started anew are all the same to the sender: send what is wanted. The receiver assembles in memory, within a
bound, and hands over the whole only when its checksum holds; otherwise it starts again from chunk 0 and
counts.
"""

from dataclasses import dataclass, field

import google_crc32c

from raft.codec import CHUNK_BYTES, SnapshotChunk


@dataclass(slots=True)
class OutgoingSnapshot:
    """The sender's half. Times in seconds; a chunk is repeated after `patience`, doubled up to
    `max_patience`.
    """

    data: bytes
    last_index: int
    last_term: int
    patience: float
    max_patience: float
    crc: int = field(init=False)
    count: int = field(init=False)
    _number: int = 0
    _repeat_at: float = 0.0
    _waited: int = 0

    def __post_init__(self) -> None:
        self.crc = google_crc32c.value(self.data)
        self.count = -(-len(self.data) // CHUNK_BYTES)

    def due(self, now: float) -> int | None:
        """The chunk to send now, or None while one is in flight."""
        return self._number if now >= self._repeat_at else None

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


@dataclass(slots=True)
class IncomingSnapshot:
    """The receiver's half: one snapshot of one sender in one term."""

    key: tuple[str, int, int, int, int, int]
    chunks: list[bytes] = field(default_factory=list)

    @staticmethod
    def key_of(chunk: SnapshotChunk) -> tuple[str, int, int, int, int, int]:
        """What tells one transfer from another."""
        return (chunk.sender, chunk.incarnation, chunk.term, chunk.last_index, chunk.size, chunk.crc)

    def take(self, chunk: SnapshotChunk) -> bytes | None:
        """Add a chunk if it is the one wanted; returns the whole once it is complete and its checksum holds.

        A whole that does not hold raises ValueError and is forgotten.
        """
        if chunk.number != len(self.chunks):
            return None
        self.chunks.append(chunk.data)
        if len(self.chunks) < chunk.count:
            return None
        whole = b"".join(self.chunks)
        if len(whole) != chunk.size or google_crc32c.value(whole) != chunk.crc:
            self.chunks.clear()
            raise ValueError("the checksum of the assembled snapshot does not match")
        return whole
