"""Who may say what, and what counts as an answer.

Requests: of this cluster and generation, from another member, and newer than the last of that kind from that
sender, by (incarnation, sequence number). The engine's replies carry no term and it counts votes from anyone,
so a reply counts once, for a request that was asked, from the peer that was asked, in the incarnation and the
term that asked.

Whatever is refused is counted by reason and logged at each power of two, so that a flood stays readable.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from raft.codec import AppendReply, Frame, PreVote, Reply, SnapshotReply, TimeoutNow, Vote
from raft.config import RaftConfig
from raft.counters import Counters

MOST_UNANSWERED = 4_096
Stamp = tuple[str, int, str, int, int, int]

log = logging.getLogger("raft")


class Asked(NamedTuple):
    """A request that waits for its reply: to whom, in which term, what was asked, and when, in seconds."""

    peer: str
    term: int
    about: Any
    at: float = 0.0


class Correspondence:
    """Frames of one node in one incarnation."""

    def __init__(self, config: RaftConfig, incarnation: int, counters: Counters) -> None:
        self._config, self._counters = config, counters
        self._peers = frozenset(config.peers)
        self.incarnation = incarnation
        self._last_seq = 0
        self._seen: dict[tuple[str, type], tuple[int, int]] = {}
        self._lives: dict[str, int] = {}
        self._asked: dict[int, Asked] = {}
        self.learners: frozenset[str] = frozenset()
        """Who follows without being a member: its answers count for what it was sent, nothing else."""
        self.foreign: Callable[[Frame], None] = _nobody
        """Hears of frames of this cluster and of another generation."""

    @property
    def last_seq(self) -> int:
        """The number of the last frame that was stamped."""
        return self._last_seq

    def continue_from(self, seq: int) -> None:
        """Frames of this incarnation were numbered up to `seq` by a former generation."""
        self._last_seq = seq

    def next_seq(self) -> int:
        """A sequence number for a frame that `stamp_with` stamps later."""
        self._last_seq += 1
        return self._last_seq

    def stamp(self, term: int) -> Stamp:
        """The common fields of a new frame; the last one is its sequence number."""
        return self.stamp_with(self.next_seq(), term)

    def stamp_with(self, seq: int, term: int) -> Stamp:
        """The same with a number from `next_seq`."""
        config = self._config
        return (
            config.cluster_id,
            config.generation,
            config.node_id,
            self.incarnation,
            term,
            seq,
        )

    def expect_reply(self, seq: int, asked: Asked) -> None:
        """Remember a request; the oldest is forgotten beyond `MOST_UNANSWERED`."""
        self._asked[seq] = asked
        if len(self._asked) > MOST_UNANSWERED:
            del self._asked[next(iter(self._asked))]

    def admits_request(self, frame: Frame) -> bool:
        """Whether a request may be handled; remembers that it was."""
        if not self._belongs(frame):
            return False
        if self._config.join and isinstance(frame, PreVote | TimeoutNow | Vote):
            return self.drop("asked_a_learner", frame.sender)
        key, position = (frame.sender, type(frame)), (frame.incarnation, frame.seq)
        if position <= self._seen.get(key, (-1, -1)):
            return self.drop("not_newer", frame.sender)
        self._seen[key] = position
        self._lives[frame.sender] = max(frame.incarnation, self._lives.get(frame.sender, 0))
        return True

    def incarnation_of(self, peer: str) -> int:
        """The newest incarnation of `peer` that asked us something; 0 before the first."""
        return self._lives.get(peer, 0)

    def match_reply(self, frame: Reply) -> Asked | None:
        """The request that `frame` answers, which is thereby answered; None when the reply must not count."""
        if not self._belongs(frame):
            return None
        asked = self._asked.get(frame.answers_seq)
        if frame.answers_incarnation != self.incarnation or asked is None or asked.peer != frame.sender:
            self.drop("unasked", frame.sender)
            return None
        del self._asked[frame.answers_seq]
        if frame.sender not in self._peers and not self._by_learner(frame, asked):
            self.drop("not_a_member", frame.sender)
            return None
        return asked

    def forget(self, seq: int) -> Asked | None:
        """The request with this number will not be answered: nobody heard it."""
        return self._asked.pop(seq, None)

    def drop(self, reason: str, sender: str) -> bool:
        """Count a refused frame; always False."""
        self._counters.frames_dropped[reason] += 1
        count = self._counters.frames_dropped[reason]
        if count & (count - 1) == 0:
            log.warning("frame from %r dropped: %s (%d so far)", sender, reason, count)
        return False

    def _belongs(self, frame: Frame) -> bool:
        if frame.cluster != self._config.cluster_id:
            return self.drop("other_cluster", frame.sender)
        if frame.generation != self._config.generation:
            self.foreign(frame)
            return self.drop("other_generation", frame.sender)
        if frame.sender in self._peers or (isinstance(frame, Reply) and frame.sender in self.learners):
            return True
        return self.drop("not_a_member", frame.sender)

    def _by_learner(self, frame: Reply, asked: Asked) -> bool:
        """Whether a learner's answer may count; a term that it knows is no reason to step down."""
        return isinstance(frame, AppendReply | SnapshotReply) and frame.term <= asked.term


def _nobody(frame: Frame) -> None:
    """Frames of another generation are dropped."""
