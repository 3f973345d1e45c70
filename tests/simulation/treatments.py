"""The treatments, each taken away in one function: what the product would do without it.

A function here patches the product for one run. Each stands for a row of `tests.simulation.mutations`, where
somebody has to find the fault. They reach into private names on purpose: when the product changes under one,
it fails loudly instead of taking away nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pysyncobj
import pytest

import raft.engine
import raft.follower
import raft.journal
import raft.replay
import raft.replication
import raft.succession
from raft.codec import AnyReply, AppendReply, Frame, Reply, SnapshotChunk, Vote
from raft.compaction import Compaction, Progress
from raft.core import RaftCore
from raft.correspondence import Asked, Correspondence
from raft.engine import Engine
from raft.entries import EngineEntry
from raft.follower import Follower
from raft.journal import Journal
from raft.leader import Leader
from raft.outbox import Outgoing, Request
from raft.outcomes import Done
from raft.prevote import PreVote
from raft.proposals import Proposals
from raft.reads import Reads
from raft.reconcile import AppendView, LogView, Reconciled, reconcile
from raft.replay import Replayed
from raft.replication import Progress as PeerProgress
from raft.replication import Replication
from raft.segment import Header, VoteState, segment_path
from raft.snapshot import SnapshotFile, SnapshotStore, SnapshotWriter
from raft.transfer import IncomingSnapshot, OutgoingSnapshot

Patch = pytest.MonkeyPatch
Treatment = Callable[[Patch], None]
CRC_BYTES = 4


# -- 1, 2: what a follower may pass on --------------------------


def reconciling(patch: Patch) -> None:
    """Appends reach the engine as they come."""
    patch.setattr(raft.follower, "reconcile", lambda append, log: Reconciled(append, None, None))


def acknowledgement_cap(patch: Patch) -> None:
    """A heartbeat behind the end acknowledges the whole log."""

    def uncapped(append: AppendView, log: LogView) -> Reconciled:
        return reconcile(append, log)._replace(ack_cap=None)

    patch.setattr(raft.follower, "reconcile", uncapped)


def commit_cap(patch: Patch) -> None:
    """The leader's commit index counts for what it did not verify."""

    def uncapped(append: AppendView, log: LogView) -> Reconciled:
        result = reconcile(append, log)
        return result._replace(append=result.append._replace(commit_index=append.commit_index))

    patch.setattr(raft.follower, "reconcile", uncapped)


def chunks_commit_nothing(patch: Patch) -> None:
    """A snapshot chunk tells the engine a commit index."""
    hand_over = Follower._hand_over

    def with_commit(self: Follower, frame: SnapshotChunk, serialized: Any) -> None:
        deliver = self._transport.deliver

        def telling(peer: str, message: dict[str, Any]) -> Any:
            return deliver(peer, {**message, "commit_index": frame.last_index})

        self._transport.deliver = telling  # type: ignore[method-assign]
        try:
            hand_over(self, frame, serialized)
        finally:
            del self._transport.deliver

    patch.setattr(Follower, "_hand_over", with_commit)


def refusals_match_nothing(patch: Patch) -> None:
    """The index that a follower suggests counts as what it holds."""
    reply = Leader.reply

    def believe(self: Leader, asked: Asked, frame: AnyReply, now: float) -> None:
        if isinstance(frame, AppendReply):
            frame = msgspec.structs.replace(frame, success=True)
        reply(self, asked, frame, now)

    patch.setattr(Leader, "reply", believe)


def matches_never_go_back(patch: Patch) -> None:
    """The last answer to arrive tells where the follower is."""

    def believe(self: Replication, peer: str, next_index: int) -> None:
        progress = self.progress[peer]
        progress.absent = progress.probing = False
        progress.match_index, progress.next_index = next_index - 1, next_index
        progress.in_flight = {}

    patch.setattr(Replication, "agreed", believe)


def older_terms_wait(patch: Patch) -> None:
    """An entry of an older term is committed by counting."""
    get = Journal.__getitem__

    def of_this_term(self: Journal, item: int | slice) -> Any:
        found = get(self, item)
        if isinstance(item, slice) and item.start is not None and item.stop == item.start + 1:
            return [(command, index, self.getCurrentTerm()) for command, index, _ in found]  # type: ignore
        return found

    patch.setattr(Journal, "__getitem__", of_this_term)


def log_comparison(patch: Patch) -> None:
    """A vote is granted whatever the candidate's log holds."""
    vote = Follower.vote

    def willing(self: Follower, frame: Vote) -> bool:
        return vote(self, msgspec.structs.replace(frame, last_term=2**60))

    patch.setattr(Follower, "vote", willing)
    patch.setattr(Follower, "would_vote", lambda self, frame: True)


# -- 3: who may say what ----------------------------------------


class _AnyTerm(int):
    """Equal to each term."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def reply_terms(patch: Patch) -> None:
    """An answer counts in whatever term it arrives."""
    match = Correspondence.match_reply

    def of_any_term(self: Correspondence, frame: Reply) -> Asked | None:
        asked = match(self, frame)
        return None if asked is None else asked._replace(term=_AnyTerm(asked.term))

    patch.setattr(Correspondence, "match_reply", of_any_term)


def replies_once(patch: Patch) -> None:
    """An answer counts each time it arrives."""
    match = Correspondence.match_reply

    def again(self: Correspondence, frame: Reply) -> Asked | None:
        asked = match(self, frame)
        if asked is not None:
            self._asked[frame.answers_seq] = asked
        return asked

    patch.setattr(Correspondence, "match_reply", again)


def members_only(patch: Patch) -> None:
    """Anybody may speak: his vote is a vote."""
    patch.setattr(Correspondence, "_belongs", lambda self, frame: True)
    patch.setattr(Correspondence, "_by_learner", lambda self, frame, asked: True)
    match = Correspondence.match_reply

    def from_anybody(self: Correspondence, frame: Reply) -> Asked | None:
        asked = self._asked.get(frame.answers_seq)
        if asked is not None:
            self._asked[frame.answers_seq] = asked._replace(peer=frame.sender)
        return match(self, frame)

    patch.setattr(Correspondence, "match_reply", from_anybody)


def order(patch: Patch) -> None:
    """Requests count each time they arrive, and after newer ones."""

    def admit(self: Correspondence, frame: Frame) -> bool:
        self._lives[frame.sender] = frame.incarnation
        return bool(self._belongs(frame))

    patch.setattr(Correspondence, "admits_request", admit)


# -- 4: snapshots on their way ----------------------------------


def _take_unchecked(self: IncomingSnapshot, chunk: SnapshotChunk) -> bool:
    if chunk.number != self.wanted:
        return False
    self.file.append(chunk.data)
    self.wanted += 1
    return self.wanted == chunk.count


def _adopt_unchecked(self: SnapshotStore, received: SnapshotWriter, last_index: int, last_term: int) -> None:
    received.finish()
    self._received = None
    self._take_name(received, last_index)


def snapshot_checksum(patch: Patch) -> None:
    """What was received is installed as it is, and an install that fails is acknowledged."""
    load = Engine._load_snapshot

    def machine_unchecked(self: SnapshotFile) -> bytes:
        return self.read(self.machine_at, self.size - CRC_BYTES - self.machine_at)

    def load_and_forget(self: Engine, token: str) -> tuple[EngineEntry, EngineEntry, tuple[()]]:
        try:
            return load(self, token)
        finally:
            self.failure = None

    patch.setattr(IncomingSnapshot, "take", _take_unchecked)
    patch.setattr(SnapshotStore, "adopt", _adopt_unchecked)
    patch.setattr(SnapshotFile, "machine", machine_unchecked)
    patch.setattr(Engine, "_load_snapshot", load_and_forget)


def chunk_numbers(patch: Patch) -> None:
    """Chunks are put together as they arrive, and nothing is checked."""
    snapshot_checksum(patch)

    def take(self: IncomingSnapshot, chunk: SnapshotChunk) -> bool:
        self.file.append(chunk.data)
        self.wanted = chunk.number + 1
        return self.wanted == chunk.count

    patch.setattr(IncomingSnapshot, "take", take)


def install_cap(patch: Patch) -> None:
    """An installed snapshot acknowledges the leader's whole log."""
    answered = Replication.chunk_answered

    def uncapped(
        self: Replication, peer: str, transfer: OutgoingSnapshot, expected: int, *, installed: bool
    ) -> int | None:
        match = answered(self, peer, transfer, expected, installed=installed)
        return None if match is None else self._journal.last_index

    patch.setattr(Replication, "chunk_answered", uncapped)


# -- 5: what is on disk, and when -------------------------------


def sync_before_send(patch: Patch) -> None:
    """Frames leave while what they promise is written and not synced."""

    def write_only(self: Journal) -> None:
        data = b"".join(self._queue)
        self._queue.clear()
        self._disk.write(self._descriptor, data)
        self._synced_index = self._end
        self._size += len(data)

    patch.setattr(Journal, "_write_queue", write_only)


def late_acknowledgements(patch: Patch) -> None:
    """A follower's answers leave before it has synced what they promise."""

    def unsynced(self: RaftCore) -> list[Outgoing]:
        return self._outbox.take_answers()

    patch.setattr(RaftCore, "acknowledge", unsynced)


def own_sync_first(patch: Patch) -> None:
    """A leader counts its own copy when its append has left: its disk is a step behind."""
    flush = RaftCore.flush
    behind: set[RaftCore] = set()

    def put_off(self: RaftCore, **how: Any) -> list[Outgoing]:
        if self in behind or not (self.is_leader and self.config.peers):
            behind.discard(self)
            return flush(self, **how)
        behind.add(self)
        self.journal.sync = lambda: None  # type: ignore[method-assign]
        try:
            return flush(self, **how)
        finally:
            del self.journal.sync

    patch.setattr(RaftCore, "flush", put_off)


def durable_vote(patch: Patch) -> None:
    """A restart forgets term and vote."""

    def remember_only(self: Journal, term: int, voted_for: str | None) -> None:
        self._vote = VoteState(term, voted_for, self._vote.incarnation)

    patch.setattr(Journal, "setCurrentTerm", remember_only)


def kept_suffix(patch: Patch) -> None:
    """A snapshot replaces the whole journal, acknowledged entries after it included."""
    finish = Journal._finish_install

    def forget(self: Journal, old: list[EngineEntry]) -> None:
        finish(self, [])

    patch.setattr(Journal, "_finish_install", forget)


def durable_snapshot_first(patch: Patch) -> None:
    """The journal is cut when a snapshot is begun, not when it is durable."""

    def hasty(self: Compaction) -> Progress:
        job, self._job = self._job, None
        return Progress.IDLE if job is None else Progress.WRITTEN

    patch.setattr(Compaction, "poll", hasty)


def torn_tail(patch: Patch) -> None:
    """What a power cut left of the last write stays in the file."""
    read = raft.replay.replay

    def uncut(directory: Path, admit: Callable[[Path, Header], None]) -> Replayed | None:
        found = read(directory, admit)
        if found is not None:
            found.newest = segment_path(directory, found.header.number).read_bytes()
        return found

    patch.setattr(raft.journal, "replay", uncut)


def synced_start(patch: Patch) -> None:
    """A start takes what it reads for durable; a killed process leaves what only the system holds."""
    go_on = Journal._go_on

    def trust(self: Journal, found: Replayed) -> None:
        disk = self._disk
        patch_free = disk.__class__.replace

        def append_only(path: Path, data: bytes) -> None:
            descriptor = disk.open_append(path)
            disk.write(descriptor, data[path.stat().st_size :])
            disk.close(descriptor)

        disk.replace = append_only  # type: ignore[method-assign]
        try:
            go_on(self, found)
        finally:
            del disk.replace
        assert disk.replace.__func__ is patch_free  # type: ignore[attr-defined]

    patch.setattr(Journal, "_go_on", trust)


# -- 6, 7, 8, 9, 10, 11, 13 -------------------------------------


def typed_entries(patch: Patch) -> None:
    """The engine gets an entry's bytes as they came, and reads them as it does: with pickle."""
    patch.setattr(
        raft.follower, "to_engine", lambda entry: (b"\x00" + entry.payload, entry.index, entry.term)
    )


def apply_that_raises(patch: Patch) -> None:
    """What the state machine raises reaches the engine."""

    def raise_again(cause: str) -> Exception:
        raise RuntimeError(cause)

    patch.setattr(raft.engine, "ApplyFailed", raise_again)


def ended_proposals(patch: Patch) -> None:
    """Calls of a deposed leader are left to the engine, which forgets them."""
    patch.setattr(Proposals, "fail_all", lambda self, error: None)


def leader_fallback(patch: Patch) -> None:
    """A leader that is cut off stays one for 30 s, as PySyncObj has it."""
    conf = pysyncobj.SyncObjConf
    patch.setattr(
        raft.engine, "SyncObjConf", lambda **knobs: conf(**{**knobs, "leaderFallbackTimeout": 30.0})
    )


def prevote(patch: Patch) -> None:
    """Each election timeout without a leader is followed by a campaign."""
    patch.setattr(PreVote, "may_campaign", lambda self, now: self._bus_up_at is not None)


def one_in_flight(patch: Patch) -> None:
    """To a peer that is behind, all of its backlog is sent at once, and all again after each refusal."""
    sent, appends = Replication.sent, Leader.appends

    def go_on(self: Replication, peer: str, seq: int, plan: Any, now: float) -> None:
        sent(self, peer, seq, plan, now)
        progress = self.progress[peer]
        if seq in progress.in_flight:
            progress.next_index = progress.in_flight[seq].last_index + 1

    def all_at_once(self: Leader, now: float) -> Iterator[Request]:
        while requests := list(appends(self, now)):
            yield from requests

    patch.setattr(Replication, "sent", go_on)
    patch.setattr(Leader, "appends", all_at_once)
    patch.setattr(PeerProgress, "full", False)


def bounded_in_flight(patch: Patch) -> None:
    """A peer that streams gets whatever there is, however much of it is not acknowledged."""
    patch.setattr(raft.replication, "MAX_IN_FLIGHT", 2**40)
    patch.setattr(raft.replication, "MAX_BYTES_IN_FLIGHT", 2**60)


def read_round(patch: Patch) -> None:
    """A leader answers reads from its own state without asking whether it still leads."""

    def at_once(self: Reads) -> tuple[int, list[Done]] | None:
        if self._round is None:
            return None
        confirmed, self._round = self._round, None
        return confirmed.index, confirmed.readers

    patch.setattr(Reads, "take_confirmed", at_once)


def fresh_answers(patch: Patch) -> None:
    """Answers to frames that were sent before the reader came confirm its round."""

    def any_answer(self: Reads, peer: str, seq: int) -> None:
        if self._round is not None:
            self._confirmed.add(peer)

    patch.setattr(Reads, "answered", any_answer)


def own_term_first(patch: Patch) -> None:
    """A new leader serves reads before it knows what was committed."""
    patch.setattr(RaftCore, "leads_applied", RaftCore.is_leader)


def news_is_told(patch: Patch) -> None:
    """A follower that is sent nothing else hears of a commit with the next heartbeat."""
    patch.setattr(RaftCore, "news", lambda self: [])
