"""The receiver's side: appends, requests for votes and snapshot chunks, as the engine may see them.

Each method takes an admitted frame, lets the engine work, and returns what the answer holds (None: no
answer). Appends are rewritten first (`raft.reconcile`), and their acknowledgement is capped at what was
verified. An append that would delete committed entries cannot come from this cluster in its right mind (a
wiped disk, a copied id): it is dropped.

A snapshot is installed only when it is ahead of what is applied here; else the part it covers is already
agreed. It is durable before the engine, and so the journal, hears of it, and the acknowledgement never
exceeds its last index.
"""

import logging

from raft.codec import CHUNK_BYTES, Append, PreVote, SnapshotChunk, Vote
from raft.config import RaftConfig
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.engine import Engine
from raft.entries import to_engine
from raft.errors import FormatTooNew, SnapshotCorrupt, WrongCluster
from raft.reconcile import AppendView, reconcile
from raft.snapshot import SnapshotStore, SnapshotWriter
from raft.transfer import IncomingSnapshot
from raft.transport import EngineTransport

log = logging.getLogger("raft")


class Follower:
    """Answers what a leader or a candidate asks."""

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
        self._incoming: IncomingSnapshot | None = None

    def would_vote(self, frame: PreVote) -> bool:
        """Whether a vote asked for with this log could be granted; changes nothing."""
        journal = self._engine.journal
        own = journal.term_at(journal.last_index), journal.last_index
        return frame.term >= self._engine.raftCurrentTerm and (frame.last_term, frame.last_index) >= own

    def vote(self, frame: Vote) -> bool:
        """Whether the vote is granted."""
        request = {
            "type": "request_vote",
            "term": frame.term,
            "last_log_index": frame.last_index,
            "last_log_term": frame.last_term,
        }
        return self._transport.deliver(frame.sender, request) is not None

    def append(self, frame: Append) -> tuple[bool, int] | None:
        """(the logs agree, next index); (False, 0) for a leader of an older term."""
        engine, journal = self._engine, self._engine.journal
        if frame.term < engine.raftCurrentTerm:
            return False, 0
        asked = AppendView(frame.prev_index, frame.prev_term, frame.commit_index, frame.entries)
        append, ack_cap, conflict = reconcile(asked, journal)
        if conflict is not None and conflict <= engine.raftCommitIndex:
            log.critical(
                "append of term %d from %r contradicts committed entry %d; it is dropped. Check that no "
                "two clusters share the id %r and that no member lost its data directory",
                frame.term,
                frame.sender,
                conflict,
                frame.cluster,
            )
            self._letters.drop("contradicts_committed", frame.sender)
            return None
        answer = self._transport.deliver(
            frame.sender,
            {
                "type": "append_entries",
                "term": frame.term,
                "commit_index": append.commit_index,
                "prevLogIdx": append.prev_index,
                "prevLogTerm": append.prev_term,
                "entries": [to_engine(entry) for entry in append.entries],
            },
        )
        if answer is None:
            return None
        next_index = int(answer["next_node_idx"])
        if answer["success"]:
            return True, next_index if ack_cap is None else min(next_index, ack_cap)
        if journal.first_index < frame.prev_index <= journal.last_index:
            return False, journal.first_of_term(frame.prev_index)  # skip the whole term that differs
        return False, next_index

    def chunk(self, frame: SnapshotChunk) -> tuple[int, bool, int] | None:
        """(chunk wanted next, the snapshot is installed, 0 or the most bytes that one may have here)."""
        if frame.term < self._engine.raftCurrentTerm:
            return 0, False, 0
        if frame.count != -(-frame.size // CHUNK_BYTES):
            self._letters.drop("malformed", frame.sender)
            return None
        self._hand_over(frame, None)  # a chunk is a heartbeat
        if frame.last_index <= self._engine.raftLastApplied:
            return frame.count, True, 0
        if frame.size > self._config.max_snapshot_bytes:
            return 0, False, self._config.max_snapshot_bytes
        if self._incoming is None or self._incoming.key != IncomingSnapshot.key_of(frame):
            self._incoming = IncomingSnapshot(frame, self._store.receive)
        incoming = self._incoming
        try:
            if not incoming.take(frame):
                return incoming.wanted, False, 0
            self._incoming = None
            self._install(frame, incoming.file)
        except (ValueError, SnapshotCorrupt, FormatTooNew, WrongCluster) as error:
            self._incoming = None
            incoming.file.discard()
            self._counters.snapshots_refused += 1
            log.error("snapshot from %r refused: %s", frame.sender, error)
            return 0, False, 0
        return frame.count, True, 0

    def _install(self, frame: SnapshotChunk, received: SnapshotWriter) -> None:
        self._store.adopt(received, frame.last_index, frame.last_term)
        self._hand_over(frame, (b"", True, True))
        self._counters.snapshots_installed += 1

    def _hand_over(self, frame: SnapshotChunk, serialized: tuple[bytes, bool, bool] | None) -> None:
        message = {
            "type": "append_entries",
            "term": frame.term,
            "commit_index": 0,
            "serialized": serialized,
        }
        self._transport.deliver(frame.sender, message)
