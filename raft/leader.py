"""The asking side: what a candidate and a leader send, and what the answers mean.

`frames` turns the notes of a step into frames, after the sync: votes, and per peer what `raft.replication`
plans. The answers were matched to their requests already (`raft.correspondence`); here they reach the engine,
which counts votes and matches, and the peer's progress.

The engine must never think that a peer needs its dump file: it would open it, read it and leave it open. So
whenever its idea of a peer's next entry falls out of the journal, it is told that the peer is at the end.
"""

import logging
from collections.abc import Iterator

from raft.codec import (
    AnyReply,
    AnyRequest,
    Append,
    AppendReply,
    SnapshotChunk,
    SnapshotReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from raft.config import RaftConfig
from raft.correspondence import Asked, Correspondence
from raft.counters import Counters
from raft.engine import Engine
from raft.outbox import Request
from raft.replication import AppendPlan, ChunkPlan, Replication
from raft.snapshot import SnapshotStore
from raft.transfer import OutgoingSnapshot
from raft.transport import EngineTransport

log = logging.getLogger("raft")


class Leader:
    """Asks for votes, replicates, and reads the answers."""

    def __init__(
        self,
        config: RaftConfig,
        engine: Engine,
        transport: EngineTransport,
        letters: Correspondence,
        store: SnapshotStore,
        counters: Counters,
    ) -> None:
        self._config, self._engine, self._transport = config, engine, transport
        self._letters, self._store, self._counters = letters, store, counters
        self._first_index = engine.journal.first_index
        self._commit_told = 0
        self.due_at = float("-inf")
        """When the engine last wanted the peers to hear from us: a heartbeat."""
        self.replication = Replication(
            config.peers,
            engine.journal,
            self._open_snapshot,
            heartbeat_interval=config.heartbeat_interval,
            ask_interval=config.leader_fallback / 4,
        )
        engine.sends_snapshot = lambda: bool(engine._isLeader()) and self.replication.sends_snapshot

    @property
    def holds_elections(self) -> bool:
        """Whether `elections` has anything to say."""
        return bool(self._transport.votes or self._transport.handovers)

    def elections(self) -> Iterator[Request]:
        """The votes to ask for, and who is to campaign; not before the sync."""
        term = self._engine.raftCurrentTerm
        for peer, message in self._transport.take_votes():
            if message["term"] == term:
                vote = Vote(*self._letters.stamp(term), message["last_log_index"], message["last_log_term"])
                yield self._ask(peer, "vote", vote, None)
        for peer, message in self._transport.take_handovers():
            if message["term"] == term:
                yield Request(peer, "timeout_now", TimeoutNow(*self._letters.stamp(term)), wants_reply=False)

    def appends(self, now: float) -> Iterator[Request]:
        """What each peer is to be sent now: entries, a heartbeat, a chunk of a snapshot."""
        engine = self._engine
        due = bool(self._transport.due)
        if due:
            self._transport.take_due()
            self.due_at = now
        if self._first_index != engine.journal.first_index:
            self._first_index = engine.journal.first_index
            for peer in self._config.peers:
                self._tell_at_end(peer)
        if not engine._isLeader():
            return
        term, commit = engine.raftCurrentTerm, engine.raftCommitIndex
        news, self._commit_told = commit != self._commit_told, commit
        spares = self.replication.spares(self._config.peers, now)
        for peer in self._config.peers:
            plan = self.replication.plan(peer, now, due=due, news=news, spare=peer in spares)
            if plan is not None:
                yield self._planned(peer, plan, term, now)
        for learner in self.replication.learners:
            due_now = due or self.replication.learner_due(learner, now)
            plan = self.replication.plan(learner, now, due=due_now, news=news)
            if plan is not None:
                yield self._planned(learner, plan, term, now)

    def news(self, now: float) -> Iterator[Request]:
        """The commit index, for the peers that no append has told it."""
        if self._engine._isLeader():
            for peer in (*self._config.peers, *self.replication.learners):
                plan = self.replication.news(peer)
                if plan is not None:
                    yield self._planned(peer, plan, self._engine.raftCurrentTerm, now)

    def _planned(self, peer: str, plan: AppendPlan | ChunkPlan, term: int, now: float) -> Request:
        stamp = self._letters.stamp(term)
        self.replication.sent(peer, stamp[-1], plan, now)
        if isinstance(plan, AppendPlan):
            commit = self._engine.raftCommitIndex
            append = Append(*stamp, plan.prev_index, plan.prev_term, commit, plan.entries)
            if not plan.wants_reply:
                return Request(peer, "append", append, wants_reply=False)
            return self._ask(peer, "append", append, plan, now)
        whole = plan.transfer
        self._counters.snapshots_sent += plan.number == 0
        return self._ask(
            peer,
            "snapshot",
            SnapshotChunk(
                *stamp,
                whole.last_index,
                whole.last_term,
                plan.number,
                whole.count,
                whole.file.size,
                whole.file.crc,
                plan.data,
            ),
            plan,
        )

    def _ask(
        self, peer: str, rpc: str, frame: AnyRequest, about: AppendPlan | ChunkPlan | None, at: float = 0.0
    ) -> Request:
        self._letters.expect_reply(frame.seq, Asked(peer, frame.term, about, at))
        return Request(peer, rpc, frame)

    def reply(self, asked: Asked, frame: AnyReply, now: float) -> None:
        """An answer of the current term, to a request this incarnation asked."""
        match frame, asked.about:
            case AppendReply(), AppendPlan(prev_index=prev_index) if self._engine._isLeader():
                self._counters.round_trip(frame.sender, now - asked.at)
                if frame.success:
                    self.replication.agreed(frame.sender, frame.next_index)
                else:
                    self.replication.refused(frame.sender, prev_index, frame.next_index)
                self._tell_engine(frame.sender, frame.next_index if frame.success else None)
            case VoteReply(granted=True), None:
                self._transport.deliver(frame.sender, {"type": "response_vote", "term": asked.term})
            case SnapshotReply(), ChunkPlan(transfer) if frame.limit and self._engine._isLeader():
                self._counters.snapshots_too_large += 1
                log.error(
                    "%r takes no snapshot of more than %d bytes, and ours has %d: it cannot catch up. Raise "
                    "its max_snapshot_bytes",
                    frame.sender,
                    frame.limit,
                    transfer.file.size,
                )
                self.replication.chunk_declined(frame.sender, transfer)
                self._tell_engine(frame.sender, None)
            case SnapshotReply(), ChunkPlan(transfer) if self._engine._isLeader():
                match_index = self.replication.chunk_answered(
                    frame.sender, transfer, frame.expected, installed=frame.installed
                )
                self._tell_engine(frame.sender, None if match_index is None else match_index + 1)

    def _tell_engine(self, peer: str, next_index: int | None) -> None:
        """The peer is alive, and its log agrees below `next_index` (None: nothing new about its log)."""
        if peer in self.replication.learners:
            return
        message = {
            "type": "next_node_idx",
            "next_node_idx": next_index or 0,
            "reset": False,
            "success": next_index is not None,
        }
        self._transport.deliver(peer, message)
        if next_index is not None and next_index <= self._engine.journal.first_index:
            self._tell_at_end(peer)

    def _tell_at_end(self, peer: str) -> None:
        end = self._engine.journal.last_index + 1
        message = {"type": "next_node_idx", "next_node_idx": end, "reset": True, "success": False}
        self._transport.deliver(peer, message)

    def _open_snapshot(self) -> OutgoingSnapshot:
        patience, most = 2 * self._config.heartbeat_interval, self._config.election_timeout_min / 2
        return OutgoingSnapshot(self._store.open(), min(patience, most), most)
