"""A base that is pulled from another node: how a member that missed a change of members comes after it.

The node asks for a snapshot of the newer generation piece by piece; the one it asks says in each answer which
file it reads from (generation, size, checksum), and begins anew when that file was replaced. Any snapshot of
that generation will do, for each holds a state that is committed. One piece is in flight; it is asked for
again with growing patience, after some tries at the next node in turn. The whole counts only when its
checksum holds.
"""

from collections.abc import Callable

from raft.between import Fetch, FetchReply
from raft.codec import CHUNK_BYTES
from raft.core import RaftCore
from raft.correspondence import Stamp
from raft.generation import Generation
from raft.outbox import ReplyStamp
from raft.snapshot import SnapshotWriter

TRIES = 3
"""Questions that a node may leave unanswered before the next one is asked."""


class Fetching:
    """One base on its way here. Times in seconds."""

    def __init__(
        self,
        sources: tuple[str, ...],
        begin: Callable[[], SnapshotWriter],
        *,
        patience: float,
        longest: float,
        most_bytes: int,
    ) -> None:
        self._sources, self._begin = sources, begin
        self._patience, self._longest, self._most_bytes = patience, longest, most_bytes
        self._tries = 0
        self._repeat_at = float("-inf")
        self._key: tuple[int, int, int] | None = None
        self._file: SnapshotWriter | None = None

    def turn_to(self, sources: tuple[str, ...]) -> None:
        """Others are known to have it: ask them from now on, in this order."""
        self._sources, self._tries, self._repeat_at = sources, 0, float("-inf")

    def due(self, now: float) -> str | None:
        """Whom to ask now; a call that says so counts as asked."""
        if now < self._repeat_at:
            return None
        source = self._sources[self._tries // TRIES % len(self._sources)]
        self._repeat_at = now + min(self._patience * 2 ** min(self._tries, 16), self._longest)
        self._tries += 1
        return source

    def question(self, stamp: Stamp) -> Fetch:
        """What to ask."""
        return Fetch(*stamp, self._key[2] if self._key else 0, self._file.size if self._file else 0)

    def take(self, reply: FetchReply) -> SnapshotWriter | None:
        """An answer; the finished file once it is complete. Raises OSError."""
        key = (reply.generation_now.number, reply.size, reply.crc)
        if reply.size > self._most_bytes:
            self._tries = (self._tries // TRIES + 1) * TRIES
            return None
        if key != self._key or self._file is None:
            self.discard()
            self._key, self._file = key, self._begin()
        file = self._file
        if reply.offset != file.size or not reply.data:
            return None
        file.append(reply.data)
        self._tries -= self._tries % TRIES
        self._repeat_at = float("-inf")
        if file.size < reply.size:
            return None
        if (file.size, file.crc) != (reply.size, reply.crc):
            self.discard()
            return None
        file.finish()
        self._file = None
        return file

    def discard(self) -> None:
        """Give back what has come so far."""
        file, self._file, self._key = self._file, None, None
        if file is not None:
            file.discard()


def serve(core: RaftCore, generation: Generation, asked: Fetch, stamp: ReplyStamp) -> FetchReply | None:
    """The answer to `asked`, from this node's snapshot; without one, one is begun. Raises what
    `SnapshotStore.open` does.
    """
    if not core.store.exists:
        core.engine.forceLogCompaction()
        return None
    file = core.store.open()
    offset = asked.offset if asked.crc == file.crc and asked.offset < file.size else 0
    return FetchReply(*stamp, generation, file.size, file.crc, offset, file.read(offset, CHUNK_BYTES))
