"""The leader's side of replication: what to send to each peer, and how much of it may be in flight.

The engine says when a peer is due for a heartbeat; what is new, and what a frame holds, is seen here, in the
journal, so that a thousand commands of one step are one frame, and nothing is sent twice
under plain load. Per peer, after etcd's `Progress`:

- **probing** (a new term, a refusal, a loss): one append in flight at a time. Batches cannot overtake each
  other, so each round trip makes progress, however lossy the bus.
- **streaming** (after a success): frames follow each other without waiting, up to `MAX_IN_FLIGHT` frames and
  `MAX_BYTES_IN_FLIGHT`.
- **snapshot** (the next entry is no longer in the journal): chunks, one in flight, and no appends meanwhile.
- **spare** (a majority streams without it, and answers within `PROMPT_SECONDS`): a few new entries wait for
  its next frame, for as long as news of a commit does. So the work of those whose answer no commit waits for
  is shared by several commits, and takes no processor and no disk from the others meanwhile. Whoever falls
  silent is not waited for: the next step sends to those that answer, or to all.
- **absent** (the bus says that nobody listens): empty probes at the end of the log, until one is answered.
  Likewise for a while after the peer declined a snapshot for its size.

News of a commit alone, and a heartbeat, ask for no answer, unless `ask_interval` has passed since the last
question: a leader needs several in the time after which it would step down. Such news waits for a moment
(`raft.driver`): the next command may come, whose append says it too. An append not answered
within `resend_after` counts as lost: back to probing behind the last match. A late success is still true and
still counts; a late refusal of something older than the last match is ignored.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from raft.codec import MAX_ENTRIES
from raft.entries import Entry
from raft.journal import Journal
from raft.transfer import OutgoingSnapshot

MAX_IN_FLIGHT = 64
MAX_BYTES_IN_FLIGHT = 2 * 1024 * 1024
APPEND_BYTES = 256 * 1024
"""A frame's entries stay below this, unless a single command is larger."""
MAX_WAITING = 64
MAX_WAITING_BYTES = 64 * 1024
"""What may wait for a spare peer's next frame."""
PROMPT_SECONDS = 0.01
"""A peer that has not answered for this long is not waited for alone any more."""
DECLINED_SECONDS = 10.0
"""A peer that finds the snapshot too large is not offered one again for this long; it gets heartbeats."""


@dataclass(slots=True)
class Sent:
    """An append in flight."""

    last_index: int
    size: int
    at: float


@dataclass(slots=True)
class Progress:
    """What the leader knows about one peer."""

    next_index: int = 1
    match_index: int = 0
    probing: bool = True
    asked_at: float = float("-inf")
    in_flight: dict[int, Sent] = field(default_factory=dict)
    transfer: OutgoingSnapshot | None = None
    absent: bool = False
    must_ask: bool = False
    has_news: bool = False
    declined: bool = False
    no_snapshot_before: float = float("-inf")

    @property
    def settled(self) -> bool:
        """Whether the peer has answered all it was sent, and nobody waits for another answer."""
        waits = self.probing or self.in_flight or self.absent or self.declined or self.must_ask
        return not waits and self.transfer is None

    def answers(self, now: float) -> bool:
        """Whether it follows at once: it has answered what was sent to it a while ago."""
        if self.probing or self.absent or self.declined or self.transfer is not None:
            return False
        oldest = next(iter(self.in_flight.values()), None)
        return oldest is None or now - oldest.at < PROMPT_SECONDS

    @property
    def follows(self) -> bool:
        """Whether its log goes on where the last frame ended, and nobody waits for its answer."""
        waits = self.probing or self.absent or self.declined or self.must_ask
        return not waits and self.transfer is None

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent before something is answered."""
        if not self.in_flight:
            return False
        if self.probing or len(self.in_flight) >= MAX_IN_FLIGHT:
            return True
        return sum(sent.size for sent in self.in_flight.values()) >= MAX_BYTES_IN_FLIGHT


class AppendPlan(NamedTuple):
    """An append to be sent."""

    prev_index: int
    prev_term: int
    entries: list[Entry]
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """A snapshot chunk to be sent."""

    transfer: OutgoingSnapshot
    number: int
    data: bytes


class Replication:
    """All peers' progress during one term of leadership."""

    def __init__(
        self,
        peers: tuple[str, ...],
        journal: Journal,
        open_snapshot: Callable[[], OutgoingSnapshot],
        *,
        heartbeat_interval: float,
        ask_interval: float,
    ) -> None:
        self._journal, self._open_snapshot = journal, open_snapshot
        self._ask_interval = ask_interval
        self._resend_after = 2 * heartbeat_interval
        self._read: tuple[int, int, list[Entry]] = (0, 0, [])
        self.progress = {peer: Progress() for peer in peers}
        self._prompt: list[str] = []
        self.learners: tuple[str, ...] = ()
        """Who follows without being counted; the engine does not know of them."""

    def begin_term(self) -> None:
        """Forget all that was known: this node was elected, and its journal ends where the new term
        begins.
        """
        self._read = (0, 0, [])
        self._prompt = []
        for peer in self.progress:
            self.progress[peer] = Progress(next_index=self._journal.last_index + 1)

    def follow(self, learners: tuple[str, ...]) -> None:
        """From now on these follow; what is known of a former one stays, for its answers may be on the
        way.
        """
        self.learners = learners
        for learner in learners:
            self.progress[learner] = Progress(next_index=self._journal.last_index + 1)

    def learner_due(self, learner: str, now: float) -> bool:
        """Whether a learner is to hear from this node, which the engine does not tell."""
        return now >= self.progress[learner].asked_at + self._ask_interval

    def match_index(self, peer: str) -> int:
        """Up to where the peer's log is known to agree; 0 before it is known."""
        return self.progress[peer].match_index

    def reaches(self, peer: str) -> bool:
        """Whether the peer has answered in this term, and somebody listens under its id."""
        progress = self.progress[peer]
        return progress.match_index > 0 and not progress.absent

    def ask_all(self) -> None:
        """The next append to each peer asks for an answer, and leaves now: a reader waits for it."""
        for progress in self.progress.values():
            progress.must_ask = True

    def plan(
        self, peer: str, now: float, *, due: bool, news: bool = False, spare: bool = False
    ) -> AppendPlan | ChunkPlan | None:
        """What to send to `peer` now, if anything; `due`: it is to hear from us; `news`: the commit index is
        another one, which it may hear later; `spare`: so may it what is new in the journal.
        """
        progress = self.progress[peer]
        has_all = progress.next_index > self._journal.last_index and progress.settled
        if has_all and not due and now < progress.asked_at + self._ask_interval:
            progress.has_news = progress.has_news or news
            return None
        if spare and not due and progress.follows and self._may_wait(progress.next_index):
            progress.has_news = True
            return None
        if progress.declined:
            progress.declined, progress.no_snapshot_before = False, now + DECLINED_SECONDS
        if progress.absent or now < progress.no_snapshot_before:
            progress.next_index = self._journal.last_index + 1
        if progress.transfer is not None:
            return self._next_chunk(progress.transfer, now)
        self._expire(progress, now)
        if progress.next_index <= self._journal.first_index:
            progress.transfer = self._open_snapshot()
            return self._next_chunk(progress.transfer, now)
        behind = not progress.absent and progress.next_index <= self._journal.last_index
        if progress.full:
            return None
        if not (behind or due or news or progress.must_ask):
            return None
        entries = self._entries_from(progress.next_index) if behind else []
        prev_index = progress.next_index - 1
        long_unasked = now >= progress.asked_at + self._ask_interval
        wants_reply = bool(entries) or progress.probing or progress.must_ask or long_unasked
        if not (wants_reply or due):
            progress.has_news = True
            return None
        return AppendPlan(prev_index, self._journal.term_at(prev_index), entries, wants_reply)

    def news(self, peer: str) -> AppendPlan | None:
        """An empty append that only tells the commit index, if the peer has not heard it by another one. None
        either when what comes before the peer's next entry is no longer in the journal: since the step it may
        have refused an append.
        """
        progress = self.progress[peer]
        if not progress.has_news or progress.transfer is not None or progress.full:
            return None
        if progress.next_index <= self._journal.first_index:
            return None
        prev_index = progress.next_index - 1
        behind = not progress.absent and progress.next_index <= self._journal.last_index
        entries = self._entries_from(progress.next_index) if behind else []
        return AppendPlan(prev_index, self._journal.term_at(prev_index), entries, wants_reply=bool(entries))

    def spares(self, peers: tuple[str, ...], now: float) -> Set[str]:
        """The peers that no commit waits for now: those beyond a majority, which is the rest as long as it
        answers."""
        if len(peers) < 2:
            return frozenset()
        needed = (len(peers) + 1) // 2
        prompt = [peer for peer in self._prompt if self.progress[peer].answers(now)]
        if len(prompt) < needed:
            others = sorted(
                (peer for peer in peers if peer not in prompt and self.progress[peer].answers(now)),
                key=lambda peer: -self.progress[peer].match_index,
            )
            prompt += others[: needed - len(prompt)]
            self._prompt = prompt
            if len(prompt) < needed:
                return frozenset()
        return frozenset(peers).difference(prompt)

    @property
    def keeps_news(self) -> bool:
        """Whether a peer has not heard the commit index."""
        return any(progress.has_news for progress in self.progress.values())

    def sent(self, peer: str, seq: int, plan: AppendPlan | ChunkPlan, now: float) -> None:
        """The plan left the node as frame `seq`."""
        progress = self.progress[peer]
        if isinstance(plan, ChunkPlan):
            plan.transfer.sent(now)
            return
        progress.has_news = False
        if plan.wants_reply:
            progress.asked_at, progress.must_ask = now, False
        if plan.entries or progress.probing:
            last_index = plan.prev_index + len(plan.entries)
            size = sum([len(entry.payload) for entry in plan.entries])
            progress.in_flight[seq] = Sent(last_index, size, now)
            if not progress.probing:
                progress.next_index = last_index + 1

    def agreed(self, peer: str, next_index: int) -> None:
        """The peer's log agrees with ours below `next_index`."""
        progress = self.progress[peer]
        progress.absent = False
        progress.match_index = max(progress.match_index, next_index - 1)
        progress.next_index = max(progress.next_index, progress.match_index + 1)
        progress.probing = False
        if progress.in_flight:
            match = progress.match_index
            progress.in_flight = {
                seq: sent for seq, sent in progress.in_flight.items() if sent.last_index > match
            }

    def refused(self, peer: str, prev_index: int, hint: int) -> None:
        """The peer's log did not hold our `prev_index`; it suggests to go on from `hint`."""
        progress = self.progress[peer]
        progress.absent = False
        if prev_index < progress.match_index:
            return
        self._probe(progress, min(hint, self._journal.last_index + 1))

    def unheard(self, peer: str) -> None:
        """Nobody listens under the peer's id."""
        progress = self.progress[peer]
        progress.absent, progress.transfer = True, None
        self._probe(progress, self._journal.last_index + 1)

    def chunk_answered(
        self, peer: str, transfer: OutgoingSnapshot, expected: int, *, installed: bool
    ) -> int | None:
        """The peer answered a chunk of `transfer`, which may be a former one. Returns the match index when
        that snapshot is installed.
        """
        progress = self.progress[peer]
        if installed:
            if progress.transfer is transfer:
                progress.transfer = None
            self.agreed(peer, transfer.last_index + 1)
            return transfer.last_index
        if progress.transfer is transfer:
            transfer.answered(expected)
        return None

    @property
    def sends_snapshot(self) -> bool:
        """Whether some peer is being sent a snapshot."""
        return any(progress.transfer is not None for progress in self.progress.values())

    def chunk_declined(self, peer: str, transfer: OutgoingSnapshot) -> None:
        """The peer does not take a snapshot of this size; it is offered again after `DECLINED_SECONDS`."""
        progress = self.progress[peer]
        if progress.transfer is transfer:
            progress.transfer, progress.declined = None, True

    def _may_wait(self, index: int) -> bool:
        """Whether something begins there, and little."""
        first, last = self._journal.first_index, self._journal.last_index
        some = first < index <= last < index + MAX_WAITING
        return some and self._journal.bytes_from(index) < MAX_WAITING_BYTES

    def _next_chunk(self, transfer: OutgoingSnapshot, now: float) -> ChunkPlan | None:
        number = transfer.due(now)
        if number is None:
            return None
        return ChunkPlan(transfer, number, transfer.chunk(number))

    def _entries_from(self, index: int) -> list[Entry]:
        """What is read for one peer is mostly what the next one lacks: a leader's log only grows."""
        begin, end, entries = self._read
        if (begin, end) != (index, self._journal.last_index):
            entries = self._journal.typed(index, MAX_ENTRIES, APPEND_BYTES)
            self._read = index, self._journal.last_index, entries
        return entries

    def _expire(self, progress: Progress, now: float) -> None:
        if not progress.in_flight:
            return
        if any(sent.at + self._resend_after <= now for sent in progress.in_flight.values()):
            self._probe(progress, progress.match_index + 1 if progress.match_index else progress.next_index)

    def _probe(self, progress: Progress, next_index: int) -> None:
        progress.next_index = max(next_index, progress.match_index + 1, 2)
        progress.probing = True
        progress.in_flight.clear()
