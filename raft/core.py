"""One Raft node without a network: frames and calls in, frames and outcomes out, nothing awaited.

A step is: any number of inputs (`receive`, `receive_reply`, `propose`, `read`, `connection_changed`), one
`tick`, one `flush`. **The order of effects in `flush` is the contract: the journal is synced first; only then
do frames, answers and outcomes leave.** So nothing the node says promises more than its disk holds, and all
appends of a step share a sync.

A disk that fails, a snapshot that cannot be restored, an engine that raises: the node withdraws. It says why
(`failure`), answers nobody, leads nothing, and stays alive; what it never synced it never promised.

A connection that comes back finds the leader only after a moment: the engine, which would campaign at once,
is told that its peers are reachable after an election timeout, or when a leader is heard.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from raft import codec
from raft.codec import AnyReply, AnyRequest, CallReply, Frame
from raft.config import RaftConfig
from raft.correspondence import Asked, Correspondence
from raft.counters import Counters
from raft.disk import Disk
from raft.engine import CANDIDATE_STATE, LEADER_STATE, Engine, StateMachine
from raft.errors import FrameError, OutcomeUnknown, RaftError, SnapshotCorrupt, Unavailable
from raft.follower import Follower
from raft.journal import Identity, Journal
from raft.leader import Leader, Request
from raft.outcomes import Committed, Done, Outcome, detail_of, outcome_from, word_of
from raft.proposals import Proposals
from raft.snapshot import SnapshotStore
from raft.transport import EngineTransport

log = logging.getLogger("raft")


class Outgoing(NamedTuple):
    """A frame to publish on `subject`. Its reply subject ends in `token`, ``{peer}.{seq}``; no answer
    without.
    """

    subject: str
    data: bytes
    token: str = ""


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
    ) -> None:
        self.config, self._clock = config, clock
        self.counters = counters or Counters()
        self.failure: str | None = None
        disk = disk or Disk()
        members = tuple(sorted(config.members))
        identity = Identity(config.cluster_id, config.node_id, config.generation, members)
        store = SnapshotStore(config.data_dir, identity.cluster, identity.generation, disk)
        self.journal = Journal(
            config.data_dir,
            identity,
            disk=disk,
            accept_members=config.accept_members,
            retained=config.retained_entries,
            wall_ms=wall_ms,
            fsync_seconds=self.counters.fsync_seconds,
        )
        try:
            store.check_beside(self.journal.first_index if len(self.journal) else None)
        except RaftError:
            self.journal.close()
            raise
        self._transport = EngineTransport(config.peers)
        self.engine = Engine(
            config, self.journal, store, machine, self._transport, self.counters, self._on_state, clock
        )
        self.letters = Correspondence(config, self.journal.incarnation, self.counters)
        self._proposals = Proposals(self.engine, self.counters, config.max_command_bytes)
        parts = (config, self.engine, self._transport, self.letters, store, self.counters)
        self.leader, self._follower = Leader(*parts), Follower(*parts)
        self._guarded = _Guarded(self)
        self._answers: list[Outgoing] = []
        self._calls: list[Outgoing] = []
        self.heard_own_hello = False
        self._connect_at: float | None = None
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
            raise SnapshotCorrupt(store.path, self.failure)

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
        leader = self.engine._getLeader()
        return str(leader.id) if leader is not None and self.failure is None else None

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
        return int(self.engine.raftLastApplied)

    @property
    def commit_index(self) -> int:
        return max(int(self.engine.raftCommitIndex), self.applied_index)

    @property
    def wants_tick(self) -> bool:
        """Whether a tick would go on at once: a single node commits its own entries in the tick after the
        sync.
        """
        return not self.config.peers and self.is_leader and self.applied_index < self.journal.last_index

    # -- inputs ------------------------------------------------

    def receive(self, data: bytes, reply_to: str) -> None:
        """A request frame from the bus; its answer, if any, goes to the subject `reply_to`."""
        if self.failure is not None:
            return
        self.counters.frames_received += 1
        try:
            frame = codec.decode_request(data)
        except FrameError as error:
            self.letters.drop(error.reason, "unknown")
            return
        if isinstance(frame, codec.Hello):
            if frame.incarnation == self.letters.incarnation:
                self.heard_own_hello = True
            else:
                self._answer(reply_to, codec.HelloReply(*self._reply_stamp(frame)))
            return
        if self.letters.admits_request(frame):
            self._last_contact[frame.sender] = self._clock()
            with self._guarded:
                self._handle(frame, reply_to)

    def _handle(self, frame: AnyRequest, reply_to: str) -> None:
        match frame:
            case codec.Append():
                agreed = self._follower.append(frame)
                if agreed is not None:
                    self._heard_leader(frame)
                    self._answer(reply_to, codec.AppendReply(*self._reply_stamp(frame), *agreed))
            case codec.Vote():
                granted = self._follower.vote(frame)
                self._answer(reply_to, codec.VoteReply(*self._reply_stamp(frame), granted))
            case codec.SnapshotChunk():
                progress = self._follower.chunk(frame)
                if progress is not None:
                    self._answer(reply_to, codec.SnapshotReply(*self._reply_stamp(frame), *progress))
            case codec.TimeoutNow():
                self._transport.deliver(frame.sender, {"type": "timeout_now", "term": frame.term})
            case codec.Propose(to_incarnation=life) if life != self.letters.incarnation:
                self.letters.drop("former_incarnation", frame.sender)  # may be the copy of one it has handled
            case codec.Propose():
                self._proposals.propose(
                    frame.command, lambda outcome: self._answer_call(reply_to, frame, outcome)
                )
            case codec.Read():
                self._proposals.read(lambda outcome: self._answer_call(reply_to, frame, outcome))

    def receive_reply(self, data: bytes) -> None:
        """A reply frame from the bus."""
        if self.failure is not None:
            return
        self.counters.frames_received += 1
        try:
            frame = codec.decode_reply(data)
        except FrameError as error:
            self.letters.drop(error.reason, "unknown")
            return
        asked = self.letters.match_reply(frame)
        if asked is None:
            return
        self._last_contact[frame.sender] = self._clock()
        with self._guarded:
            if isinstance(frame, CallReply):
                outcome = outcome_from(
                    frame.outcome, frame.detail, frame.index, frame.entry_term, frame.result
                )
                self._proposals.answered(frame.answers_seq, outcome)
            elif frame.term > self.term:
                self._transport.observe_term(frame.sender, frame.term)
            elif asked.term == self.term:
                self.leader.reply(asked, frame)
            else:
                self.letters.drop("stale_term", frame.sender)

    def nobody_there(self, seq: int) -> None:
        """The bus says that nobody heard the request with this sequence number."""
        self.counters.no_responders += 1
        asked = self.letters.forget(seq)
        if asked is not None and asked.about is not None:
            self.leader.replication.unheard(asked.peer)
        self._proposals.answered(seq, Unavailable("the leader has left the bus"))

    def propose(self, command: bytes, done: Done) -> None:
        """Submit a command, here or at the leader; `done` hears the outcome from within a `flush`."""
        target = self._call_target()
        if target is None:
            self._proposals.propose(command, done)
        else:
            leaders_life = self.letters.incarnation_of(target)
            frame = codec.Propose(*self.letters.stamp(self.term), leaders_life, command)
            self._call(target, "propose", frame, done)

    def read(self, done: Done) -> None:
        """A barrier, here or at the leader; `done` hears `Committed` at its index from within a `flush`."""
        target = self._call_target()
        if target is None:
            self._proposals.read(done)
        else:
            self._call(target, "read", codec.Read(*self.letters.stamp(self.term)), done)

    def connection_changed(self, connected: bool, *, patient: bool = True) -> None:
        """The bus came or went. While it is away no peer is reachable, and the engine does not campaign."""
        self._connect_at = None
        if connected and patient and not self.is_leader:
            self._connect_at = self._clock() + self.config.election_timeout_max
        else:
            self._transport.set_connected(connected)

    def hand_over(self) -> None:
        """Ask the best follower to take over leadership; goes out with the next `flush`."""
        if self.is_leader and self.config.peers:
            self.engine.transferLeadership(None)

    # -- the step ----------------------------------------------

    def tick(self) -> None:
        """Let the engine work. Call after inputs, and at least every half heartbeat."""
        if self.failure is not None:
            return
        if self._connect_at is not None and self._clock() >= self._connect_at:
            self.connection_changed(True, patient=False)
        with self._guarded:
            self._proposals.start_barrier()
            self.engine.doTick(0.0)

    def flush(self) -> list[Outgoing]:
        """Sync, then tell outcomes and return the frames to publish."""
        frames: list[Outgoing] = []
        with self._guarded:
            if self.failure is None:
                self.journal.sync()
                frames = [self._outgoing(request) for request in self.leader.frames(self._clock())]
        if self.failure is not None:
            self._answers.clear()
            self._calls.clear()
        elif self.leader_id != self._known_leader:
            self._known_leader = self.leader_id
            self.counters.leader_changes += self.leader_id is not None
            self._proposals.leader_changed()
        for done, outcome in self._proposals.take_finished():
            self.counters.commits += isinstance(outcome, Committed)
            done(outcome)
        outbox = [*self._answers, *self._calls, *frames]
        self._answers.clear()
        self._calls.clear()
        self.counters.frames_sent += len(outbox)
        return outbox

    def withdraw(self, cause: str) -> None:
        """Take no part any more; what is in flight ends with `OutcomeUnknown` in the next `flush`."""
        self.failure = self.failure or cause
        self._proposals.withdraw(cause)

    def close(self) -> None:
        """Give the files back."""
        self.engine.destroy()

    def _on_state(self, old: int, new: int) -> None:
        if new == CANDIDATE_STATE:
            self.counters.elections += 1
        if new == LEADER_STATE:
            self._leading_from = self.journal.last_index + 1  # the no-op that the engine adds next
            self._ready_at = self._ready_at or self._leading_from
            self.leader.replication.begin_term()
        if old == LEADER_STATE:
            self._leading_from = None
            self._proposals.fail_all(lambda: OutcomeUnknown("this node lost leadership"))

    def _heard_leader(self, frame: codec.Append) -> None:
        if frame.term < self.term:
            return
        if self._ready_at is None:
            self._ready_at = frame.commit_index
        if self._connect_at is not None:
            self.connection_changed(True, patient=False)

    # -- frames ------------------------------------------------

    def _call_target(self) -> str | None:
        """The other node that leads, or None when the call is to be answered here."""
        return None if self.failure is not None or self.is_leader else self.leader_id

    def _call(self, leader: str, rpc: str, frame: AnyRequest, done: Done) -> None:
        self.letters.expect_reply(frame.seq, Asked(leader, frame.term, None))
        self._proposals.handed_over(frame.seq, done)
        self._calls.append(self._outgoing(Request(leader, rpc, frame)))

    def _outgoing(self, request: Request) -> Outgoing:
        token = f"{request.peer}.{request.frame.seq}" if request.wants_reply else ""
        return Outgoing(self.config.subject(request.peer, request.rpc), codec.encode(request.frame), token)

    def _reply_stamp(self, request: Frame) -> tuple[str, int, str, int, int, int, int, int]:
        return (*self.letters.stamp(self.term), request.incarnation, request.seq)

    def _answer(self, reply_to: str, frame: AnyReply) -> None:
        if reply_to:
            self._answers.append(Outgoing(reply_to, codec.encode(frame)))

    def _answer_call(self, reply_to: str, request: Frame, outcome: Outcome) -> None:
        stamp, nothing = self._reply_stamp(request), Committed(0, 0, b"")
        at = outcome if isinstance(outcome, Committed) else nothing
        self._answer(
            reply_to, CallReply(*stamp, word_of(outcome), at.index, at.term, at.result, detail_of(outcome))
        )


class _Guarded:
    """What runs inside touches the engine or the disk; when it fails, the node withdraws."""

    __slots__ = ("_core",)

    def __init__(self, core: RaftCore) -> None:
        self._core = core

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        error = error or self._core.engine.failure
        if not isinstance(error, Exception):
            return False
        cause = (
            f"this node has withdrawn: {type(error).__name__}: {error}. Mend the cause (disk space, disk, "
            "state machine), then start it again"
        )
        log.critical("%s", cause, exc_info=None if isinstance(error, OSError) else error)
        self._core.withdraw(cause)
        return True
