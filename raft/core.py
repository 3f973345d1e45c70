"""One Raft node without a network: frames and calls in, frames and outcomes out, nothing awaited.

A step is: any number of inputs (`receive`, `receive_reply`, `propose`, `read`, `connection_changed`), one
`tick`, then `early` and `flush`. **The order of effects is the contract:**

1. `early`: a leader's appends may leave before its own journal is synced, so that its disk and its followers'
   work at the same time (thesis 10.2.1). Safe, because an append promises nothing of this node's disk but its
   term, which was synced before anybody voted for it; and because the leader counts its own copy only in
   `tick`, that is, after the `flush` that synced it: answers that come sooner wait until then.
2. `flush`: **the journal is synced first; only then do votes, acknowledgements and outcomes leave.** So
   nothing the node says promises more than its disk holds, and all appends of a step share a sync.

A disk that fails, a snapshot that cannot be restored, an engine that raises: the node withdraws. It says why
(`failure`), answers nobody, leads nothing, and stays alive; what it never synced it never promised.

`raft.campaign` says when the engine may campaign, `raft.calls` where commands and reads go.
"""

import logging
import time
from collections.abc import Callable

from raft import codec
from raft.calls import Calls
from raft.campaign import Campaign
from raft.codec import AnyReply, AnyRequest, CallReply
from raft.compaction import Background
from raft.config import RaftConfig
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.disk import Disk
from raft.engine import CANDIDATE_STATE, LEADER_STATE, Engine, StateMachine
from raft.errors import (
    FrameError,
    RaftError,
    SnapshotCorrupt,
    Unavailable,
)
from raft.follower import Follower
from raft.generation import Generation, encode_seal
from raft.guard import Guard
from raft.journal import Identity, Journal
from raft.leader import Leader
from raft.outbox import Outbox, Outgoing
from raft.outcomes import Committed, Done, outcome_from
from raft.proposals import Proposals
from raft.reads import Reads
from raft.snapshot import SnapshotStore
from raft.transport import EngineTransport

log = logging.getLogger("raft")


def wall_clock_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class RaftCore:
    """Opens the node's files and engine. Raises `JournalCorrupt`, `SnapshotCorrupt`, `WrongCluster`,
    `MembersChanged`, OSError.
    """

    def __init__(
        self,
        config: RaftConfig,
        machine: StateMachine,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int] = wall_clock_ms,
        disk: Disk | None = None,
        counters: Counters | None = None,
        background: Background | None = None,
        campaign_at_once: bool = False,
        incarnation: int | None = None,
    ) -> None:
        self.config, self._clock = config, clock
        self.counters = counters or Counters()
        self.failure: str | None = None
        disk = disk or Disk()
        members = tuple(sorted(config.members))
        identity = Identity(config.cluster_id, config.node_id, config.generation, members)
        store = self.store = SnapshotStore(config.data_dir, identity.cluster, identity.generation, disk)
        self.journal = Journal(
            config.data_dir,
            identity,
            disk=disk,
            retained=config.retained_entries,
            retained_bytes=config.retained_bytes,
            wall_ms=wall_ms,
            incarnation=incarnation,
            fsync_seconds=self.counters.fsync_seconds,
        )
        try:
            store.check_beside(self.journal.first_index if len(self.journal) else None)
        except (RaftError, OSError):
            self.journal.close()
            raise
        self._transport = EngineTransport(config.peers)
        self.engine = Engine(
            config,
            self.journal,
            store,
            machine,
            self._transport,
            self.counters,
            self._on_state,
            clock,
            background,
            campaign_at_once=campaign_at_once,
        )
        self.letters = Correspondence(config, self.journal.incarnation, self.counters)
        self._proposals = Proposals(
            self.engine, self.counters, config.max_command_bytes, lambda: self.leader_id
        )
        parts = (config, self.engine, self._transport, self.letters, store, self.counters)
        self.leader, self._follower = Leader(*parts), Follower(*parts)
        self._guarded = Guard(self)
        self._outbox = Outbox(config, self.letters)
        self._campaign = Campaign(config, self.engine, self._transport, self.letters, self._outbox, clock)
        self._reads = Reads(config.peers, self.counters)
        self._calls = Calls(
            config,
            self,
            self._proposals,
            self._reads,
            self.leader.replication,
            self.letters,
            self._outbox,
            clock,
        )
        self.heard_own_hello = False
        self._last_contact: dict[str, float] = {}
        self._leading_from: int | None = None
        self._known_leader: str | None = None
        self._ready_at: int | None = None
        self._load_state(store)

    def _load_state(self, store: SnapshotStore) -> None:
        with self._guarded:
            self.engine.doTick(0.0)
            self.journal.sync()
        if self.failure is not None:
            self.close()
            raise self.journal.failure or SnapshotCorrupt(store.path, self.failure)

    # -- state -------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether the engine leads, as far as it knows."""
        return self.failure is None and bool(self.engine._isLeader())

    @property
    def leads_applied(self) -> bool:
        """Whether this node leads, and its state holds everything committed before it did."""
        return self.is_leader and self._leading_from is not None and self.applied_index >= self._leading_from

    @property
    def ready(self) -> bool:
        """Whether what was committed when a leader was first heard is applied."""
        return self._ready_at is not None and self.applied_index >= self._ready_at

    @property
    def leader_id(self) -> str | None:
        """Who leads; None when that is not known, or was not heard of for the longest election timeout."""
        return self._campaign.leader if self.failure is None else None

    @property
    def state(self) -> int:
        """PySyncObj's state: 0 follower, 1 candidate, 2 leader."""
        return int(self.engine.getStatus()["state"])

    def ms_since_contact(self, peer: str) -> int | None:
        """Milliseconds since a frame of `peer` counted; None if none ever did."""
        at = self._last_contact.get(peer)
        return None if at is None else int((self._clock() - at) * 1000)

    @property
    def term(self) -> int:
        return int(self.engine.raftCurrentTerm)

    @property
    def applied_index(self) -> int:
        return self._until_seal(int(self.engine.raftLastApplied))

    @property
    def commit_index(self) -> int:
        return self._until_seal(max(int(self.engine.raftCommitIndex), int(self.engine.raftLastApplied)))

    def _until_seal(self, index: int) -> int:
        """What comes after the seal has no effect; the next generation has other entries there."""
        sealed = self.engine.sealed
        return index if sealed is None else min(index, sealed.index)

    @property
    def wants_tick(self) -> bool:
        """Whether a tick would go on at once: a single node commits its own entries in the tick after the
        sync.
        """
        return not self.config.peers and self.is_leader and self.applied_index < self.journal.last_index

    def rest(self) -> float:
        """Seconds until a tick is due though nothing comes in."""
        now, interval = self._clock(), self.config.heartbeat_interval
        if self._calls.busy:
            return interval / 2
        if self.is_leader and not self.config.peers:
            return interval
        if self.is_leader:
            return max(self.leader.due_at + interval - now, 0.0) + 0.001
        return max(self._campaign.prevote.next_look(now) - now, 0.001)

    # -- inputs ------------------------------------------------

    def receive(self, data: bytes, reply_to: str) -> bool:
        """A request frame from the bus; its answer, if any, goes to the subject `reply_to`. Returns whether
        it calls for a step now.
        """
        if self.failure is not None:
            return False
        self.counters.frames_received += 1
        try:
            frame = codec.decode_request(data)
        except FrameError as error:
            return self.letters.drop(error.reason, "unknown")
        if isinstance(frame, codec.Hello):
            if frame.incarnation == self.letters.incarnation:
                self.heard_own_hello = True
            else:
                stamp = self._outbox.stamp(frame, self.term)
                self._outbox.answer(reply_to, codec.HelloReply(*stamp))
            return True
        if not self.letters.admits_request(frame):
            return False
        self._last_contact[frame.sender] = self._clock()
        with self._guarded:
            self._handle(frame, reply_to)
        mere_heartbeat = isinstance(frame, codec.Append) and not frame.entries and not reply_to
        return not (mere_heartbeat and self._at_rest)

    @property
    def _at_rest(self) -> bool:
        """Whether nothing is to be synced, applied or told."""
        told = self.leader_id == self._known_leader
        return told and not self.journal.dirty and self.commit_index == self.applied_index

    def _handle(self, frame: AnyRequest, reply_to: str) -> None:
        answer: AnyReply | None = None
        match frame:
            case codec.Append():
                agreed = self._follower.append(frame)
                if agreed is not None:
                    self._campaign.heard_leader(frame.term)
                    if self._ready_at is None and frame.term == self.term:
                        self._ready_at = frame.commit_index
                    answer = codec.AppendReply(*self._outbox.stamp(frame, self.term), *agreed)
            case codec.SnapshotChunk():
                progress = self._follower.chunk(frame)
                if progress is not None:
                    self._campaign.heard_leader(frame.term)
                    answer = codec.SnapshotReply(*self._outbox.stamp(frame, self.term), *progress)
            case codec.PreVote():
                granted = self._campaign.hears_none() and self._follower.would_vote(frame)
                answer = codec.PreVoteReply(*self._outbox.stamp(frame, self.term), granted)
            case codec.Vote():
                granted = self._follower.vote(frame)
                answer = codec.VoteReply(*self._outbox.stamp(frame, self.term), granted)
            case codec.TimeoutNow():
                self._campaign.told(frame)
            case codec.Propose() | codec.Read():
                self._calls.handed_over(frame, reply_to)
        if answer is not None:
            self._outbox.answer(reply_to, answer)

    def receive_reply(self, data: bytes) -> bool:
        """A reply frame from the bus. Returns whether it calls for a step now."""
        if self.failure is not None:
            return False
        self.counters.frames_received += 1
        try:
            frame = codec.decode_reply(data)
        except FrameError as error:
            return self.letters.drop(error.reason, "unknown")
        asked = self.letters.match_reply(frame)
        if asked is None:
            return False
        self._last_contact[frame.sender] = self._clock()
        with self._guarded:
            if isinstance(frame, CallReply):
                outcome = outcome_from(
                    frame.outcome, frame.detail, frame.index, frame.entry_term, frame.result
                )
                self._proposals.answered(frame.answers_seq, outcome)
            elif frame.term > self.term:
                self._transport.observe_term(frame.sender, frame.term)
            elif isinstance(frame, codec.PreVoteReply):
                if frame.granted and asked.term == self.term:
                    self._campaign.prevote.granted(frame.sender, self._clock())
            elif asked.term != self.term:
                return self.letters.drop("stale_term", frame.sender)
            else:
                self._reads.answered(frame.sender, frame.answers_seq)
                self.leader.reply(asked, frame)
                return not self.is_leader or self._calls.busy or self._makes_progress(frame.sender)
        return True

    def _makes_progress(self, peer: str) -> bool:
        """Whether there is more to commit or to send now that `peer` has answered."""
        progress = self.leader.replication.progress[peer]
        behind = progress.next_index <= self.journal.last_index or progress.transfer is not None
        return behind or progress.match_index > self.commit_index

    def nobody_there(self, seq: int) -> None:
        """The bus says that nobody heard the request with this sequence number."""
        self.counters.no_responders += 1
        asked = self.letters.forget(seq)
        if asked is not None and asked.about is not None:
            self.leader.replication.unheard(asked.peer)
        if asked is not None and asked.peer == self.leader_id:
            self._campaign.prevote.leader_gone(self._clock())
        self._proposals.answered(seq, Unavailable("the leader has left the bus"))

    def propose(self, command: bytes, done: Done) -> None:
        """Submit a command, here or at the leader; `done` hears the outcome from within a `flush`."""
        self._calls.propose(command, done)

    def read(self, done: Done) -> None:
        """A linearizable read: `done` hears `Committed` from within a `flush`, and may read once its index is
        applied here.
        """
        self._calls.read(done)

    def transfer(self, to: str | None = None) -> str:
        """Begin to give leadership to `to`, or to the follower that is furthest; the id of whom it goes to.

        Raises `NotLeader` and `TransferRefused`.
        """
        return self._calls.transfer(to)

    def connection_changed(self, connected: bool, *, patient: bool = True) -> None:
        """The bus came or went. While it is away no peer is reachable, and the engine does not campaign.

        `patient`: the bus has just come back, so that nobody listens there yet proves nothing.
        """
        self._campaign.connection_changed(connected, patient=patient)

    # -- the step ----------------------------------------------

    def tick(self) -> None:
        """Let the engine work. Call after inputs, and at least every half heartbeat."""
        if self.failure is not None:
            return
        now = self._clock()
        with self._guarded:
            self._calls.tick(now)
            self._campaign.tick(now)
            self.engine.doTick(0.0)
            if self.is_leader:
                self._calls.lead(self.journal.last_index, now, self.engine.transferLeadership)

    def early(self) -> list[Outgoing]:
        """The appends that need not wait for the sync, see the module; the others leave with `flush`."""
        if self.failure is not None or not self.config.peers or not self.journal.dirty or not self.is_leader:
            return []
        frames: list[Outgoing] = []
        with self._guarded:
            frames = [self._outbox.frame(request) for request in self.leader.appends(self._clock())]
            self.counters.frames_sent += len(frames)
        return frames if self.failure is None else []

    def flush(self, *, keep_news: bool = False) -> list[Outgoing]:
        """Sync, then tell outcomes and return the frames to publish.

        `keep_news`: `news` is asked later for those that only tell the commit index.
        """
        frames: list[Outgoing] = []
        with self._guarded:
            if self.failure is None:
                self.journal.sync()
                asked = (*self.leader.elections(), *self.leader.appends(self._clock()))
                frames = [self._outbox.frame(request) for request in asked]
                if not keep_news:
                    frames += self.news()
        if self.failure is not None:
            self._outbox.clear()
        elif self.leader_id != self._known_leader:
            self._known_leader = self.leader_id
            self.counters.leader_changes += self.leader_id is not None
            self._calls.leader_changed(self.leader_id, self._clock())
        for done, outcome in self._proposals.take_finished():
            self.counters.commits += isinstance(outcome, Committed)
            done(outcome)
        frames = [*self._outbox.take(), *frames]
        self.counters.frames_sent += len(frames)
        return frames

    def news(self) -> list[Outgoing]:
        """The frames that only tell the commit index, to peers that have not heard it by another one."""
        if self.failure is not None:
            return []
        return [self._outbox.frame(request) for request in self.leader.news(self._clock())]

    def propose_seal(self, successor: Generation, done: Done) -> None:
        """End this generation; `done` hears it from within a `flush`. For `raft.succession`."""
        self._proposals.propose_seal(encode_seal(successor), done)

    def await_leader(self) -> None:
        """A leader is on its way: calls wait for it as long as an election may take."""
        self._calls.await_leader(self._clock() + self.config.election_timeout_max)

    def end(self, cause: str) -> list[Outgoing]:
        """This generation has ended. For `raft.succession`, after a `flush`; gives the answers to other
        nodes' calls.
        """
        self._calls.end(cause, seal_applied=self.engine.sealed is not None)
        self.failure = cause
        return self.flush()

    def withdraw(self, cause: str) -> None:
        """Take no part any more; what is in flight ends with `OutcomeUnknown` in the next `flush`."""
        self.failure = self.failure or cause
        self._calls.withdraw(cause)

    def engine_failure(self) -> Exception | None:
        """What the engine swallowed."""
        return self.engine.failure

    def close(self) -> None:
        """Give the files back."""
        self.engine.destroy()

    # -- inside ------------------------------------------------

    def _on_state(self, old: int, new: int) -> None:
        if new == CANDIDATE_STATE:
            self.counters.elections += 1
        if LEADER_STATE in (old, new):
            self._campaign.leads(new == LEADER_STATE)
        if new == LEADER_STATE:
            self._leading_from = self.journal.last_index + 1  # the no-op that the engine adds next
            self._ready_at = self._ready_at or self._leading_from
            self.leader.replication.begin_term()
        if old == LEADER_STATE:
            self._leading_from = None
            self._calls.lost_leadership()
