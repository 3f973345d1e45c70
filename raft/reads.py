"""Linearizable reads without a write: the read index (Raft thesis 6.4).

A reader may see the state at the leader's commit index of the moment it asked, once it is sure that this node
still led then. It is sure when a majority has answered a request that was *sent after* the reader asked, in
this term. Readers that wait together share one round; who comes later waits for the next one. Two conditions
make the commit index trustworthy: an entry of the leader's own term is committed (6.4, step 1), and the
answers are of the present term (`raft.core` lets no others through).

Sequence numbers grow with each frame sent, so "sent after" is "has a higher number than the last frame when
the round began".
"""

from dataclasses import dataclass

from raft.counters import Counters
from raft.errors import Unavailable
from raft.outcomes import Done

MOST_READERS = 4_096


@dataclass(slots=True)
class _Round:
    """Readers of `index`, confirmed by answers to frames after number `seq`."""

    readers: list[Done]
    index: int
    seq: int


class Reads:
    """The readers of one leader; at most `MOST_READERS` wait."""

    def __init__(self, peers: tuple[str, ...], counters: Counters) -> None:
        self._counters = counters
        self._peers = frozenset(peers)
        self._majority = (len(peers) + 1) // 2 + 1
        self._waiting: list[Done] = []
        self._round: _Round | None = None
        self._confirmed: set[str] = set()

    @property
    def asking(self) -> bool:
        """Whether a round waits for answers."""
        return self._round is not None

    @property
    def waiting(self) -> bool:
        """Whether there are readers."""
        return self._round is not None or bool(self._waiting)

    def refusal(self) -> Unavailable | None:
        """Why no reader can be taken now."""
        waiting = len(self._waiting)
        return Unavailable(f"{waiting} reads wait, which is the limit") if waiting >= MOST_READERS else None

    def add(self, done: Done) -> None:
        """A reader waits for the next round."""
        self._waiting.append(done)

    def begin(self, commit_index: int, seq: int) -> bool:
        """Begin a round for all who wait, unless one is going on; `seq` numbers the last frame sent. Returns
        whether it began, and the peers are to be asked.
        """
        if not self._waiting or self._round is not None:
            return False
        self._round, self._waiting = _Round(self._waiting, commit_index, seq), []
        self._confirmed.clear()
        self._counters.barriers += 1
        return True

    def answered(self, peer: str, seq: int) -> None:
        """`peer` answered frame `seq` in this term."""
        if self._round is not None and seq > self._round.seq and peer in self._peers:
            self._confirmed.add(peer)

    def take_confirmed(self) -> tuple[int, list[Done]] | None:
        """(read index, its readers), once a majority, this node included, has confirmed the round."""
        if self._round is None or 1 + len(self._confirmed) < self._majority:
            return None
        confirmed, self._round = self._round, None
        return confirmed.index, confirmed.readers

    def take_all(self) -> list[Done]:
        """Everybody who waits: leadership is lost."""
        readers = self._waiting + (self._round.readers if self._round is not None else [])
        self._waiting, self._round = [], None
        return readers
