"""One Raft node without a network: frames and calls in, frames and outcomes out, nothing awaited.

A step is: any number of inputs (`receive`, `receive_reply`, `propose`, `read`, `connection_changed`), then
`acknowledge`, one `tick`, `early` and `flush`. **The order of effects is the contract:**

1. `acknowledge`: a follower's journal is synced and its answers leave before it applies what became
   committed, so that a commit never waits for a follower's state machine. What it is asked to keep, it keeps
   while the frame is handled; the tick adds nothing that the answer promises.
2. `early`: a leader's appends may leave before its own journal is synced, so that its disk and its followers'
   work at the same time (thesis 10.2.1). Safe, because an append promises nothing of this node's disk but its
   term, which was synced before anybody voted for it; and because the leader counts its own copy only in
   `tick`, that is, after the `flush` that synced it: answers that come sooner wait until then.
3. `flush`: **the journal is synced first; only then do votes, acknowledgements and outcomes leave.** So
   nothing the node says promises more than its disk holds, and all appends of a step share a sync.

A disk that fails, a snapshot that cannot be restored, an engine that raises: the node withdraws. It says why
(`failure`), answers nobody, leads nothing, and stays alive; what it never synced it never promised.

`raft.view` says what may be asked of a core, `raft.reception` handles the frames that come in,
`raft.campaign` says when the engine may campaign, `raft.calls` where commands and reads go.
"""

import logging
import time
from collections.abc import Callable

from raft.calls import Calls
from raft.campaign import Campaign
from raft.compaction import Background
from raft.config import RaftConfig
from raft.correspondence import Correspondence
from raft.counters import Counters
from raft.disk import Disk
from raft.engine import CANDIDATE_STATE, LEADER_STATE, Engine, MachineAt, StateMachine
from raft.errors import RaftError, SnapshotCorrupt
from raft.follower import Follower
from raft.generation import Generation, encode_seal
from raft.guard import Guard
from raft.journal import Identity, Journal
from raft.leader import Leader
from raft.outbox import Outbox, Outgoing
from raft.outcomes import Committed, Done
from raft.proposals import Proposals
from raft.reads import Reads
from raft.reception import Reception
from raft.snapshot import SnapshotStore
from raft.transport import EngineTransport
from raft.view import CoreView

log = logging.getLogger("raft")


def wall_clock_ns() -> int:
    """Nanoseconds since the epoch: of two nodes that start under one id in the same millisecond each must
    know its own frames."""
    return time.time_ns()


class RaftCore(CoreView):
    """Opens the node's files and engine; with `machine_at`, the machine holds the snapshot already. Raises
    `JournalCorrupt`, `SnapshotCorrupt`, `FormatTooNew`, `WrongCluster`, `MembersChanged`, OSError.
    """

    def __init__(
        self,
        config: RaftConfig,
        machine: StateMachine,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = wall_clock_ns,
        disk: Disk | None = None,
        counters: Counters | None = None,
        background: Background | None = None,
        campaign_at_once: bool = False,
        machine_at: MachineAt | None = None,
        incarnation: int | None = None,
    ) -> None:
        self.config, self._clock = config, clock
        self.counters = counters or Counters()
        self.failure = self.leading_from = self.ready_at = self.known_leader = None
        self.last_contact = {}
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
            wall_ns=wall_ns,
            incarnation=incarnation,
            fsync_seconds=self.counters.fsync_seconds,
        )
        try:
            if machine_at is None:
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
            machine_at=machine_at,
        )
        self.letters = Correspondence(config, self.journal.incarnation, self.counters)
        self._proposals = Proposals(
            self.engine, self.counters, config.max_command_bytes, lambda: self.leader_id, clock
        )
        parts = (config, self.engine, self._transport, self.letters, store, self.counters)
        self.leader, follower = Leader(*parts), Follower(*parts)
        self._guarded = Guard(self)
        self._outbox = Outbox(config, self.letters)
        self._campaign = Campaign(
            config, self.engine, self._transport, self.letters, self._outbox, self.counters, clock
        )
        self._reads = Reads(config.peers, self.counters)
        self._appends_left = False
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
        self._reception = Reception(
            self,
            self._guarded,
            self._transport,
            self.letters,
            self._outbox,
            self._campaign,
            follower,
            self.leader,
            self._calls,
            self._proposals,
            self._reads,
            self.counters,
            clock,
        )
        self._load_state(store)

    def _load_state(self, store: SnapshotStore) -> None:
        with self._guarded:
            self.engine.doTick(0.0)
            self.journal.sync()
        if self.failure is not None:
            self.close()
            raise self.journal.failure or SnapshotCorrupt(store.path, self.failure)

    # -- inputs ------------------------------------------------

    def receive(self, data: bytes, reply_to: str) -> bool:
        """A request frame from the bus; its answer, if any, goes to the subject `reply_to`. Returns whether
        it calls for a step now.
        """
        return self._reception.request(data, reply_to)

    def receive_reply(self, data: bytes) -> bool:
        """A reply frame from the bus. Returns whether it calls for a step now."""
        return self._reception.reply(data)

    def nobody_there(self, seq: int) -> None:
        """The bus says that nobody heard the request with this sequence number."""
        self._reception.nobody_there(seq)

    @property
    def heard_own_hello(self) -> bool:
        """Whether this node's own hello has come back to it."""
        return self._reception.heard_own_hello

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

    @property
    def hands_over(self) -> bool:
        """Whether a hand-over that `transfer` began is under way; it lasts an election timeout at most."""
        return self._calls.hands_over

    def connection_changed(self, connected: bool, *, patient: bool = True) -> None:
        """The bus came or went. While it is away no peer is reachable, and the engine does not campaign.

        `patient`: the bus has just come back, so that nobody listens there yet proves nothing.
        """
        self._campaign.connection_changed(connected, patient=patient)

    # -- the step ----------------------------------------------

    def acknowledge(self) -> list[Outgoing]:
        """A follower's answers to what it was sent, synced; see the module. The others leave with `flush`."""
        if self.failure is not None or not self.journal.dirty or self.is_leader:
            return []
        answers: list[Outgoing] = []
        with self._guarded:
            self.journal.sync()
            answers = self._outbox.take_answers()
            self.counters.frames_sent += len(answers)
        return answers

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
                if self._campaign.ascent.unserved and self.leads_applied:
                    self._campaign.ascent.committed(self._clock())

    def early(self) -> list[Outgoing]:
        """The appends that need not wait for the sync, see the module; the others leave with `flush`."""
        if self.failure is not None or not self.config.peers or not self.journal.dirty or not self.is_leader:
            return []
        frames: list[Outgoing] = []
        with self._guarded:
            frames = [self._outbox.frame(request) for request in self.leader.appends(self._clock())]
            self.counters.frames_sent += len(frames)
            self._appends_left = True
        return frames if self.failure is None else []

    def flush(self, *, keep_news: bool = False) -> list[Outgoing]:
        """Sync, then tell outcomes and return the frames to publish.

        `keep_news`: `news` is asked later for those that only tell the commit index.
        """
        frames: list[Outgoing] = []
        with self._guarded:
            if self.failure is None:
                self.journal.sync()
                if self.leader.holds_elections:
                    frames = [self._outbox.frame(request) for request in self.leader.elections()]
                if not self._appends_left:
                    frames += [self._outbox.frame(request) for request in self.leader.appends(self._clock())]
                self._appends_left = False
                if not keep_news:
                    frames += self.news()
        if self.failure is not None:
            self._outbox.clear()
        elif (leader := self.leader_id) != self.known_leader:
            self.known_leader = leader
            self.counters.leader_changes += leader is not None
            self._calls.leader_changed(leader, self._clock())
        for done, outcome in self._proposals.take_finished():
            self.counters.commits += isinstance(outcome, Committed)
            done(outcome)
        if self._outbox.answers_calls:
            frames += self.news()  # the answered node's caller waits until the command is applied there
        frames = self._outbox.take() + frames
        self.counters.frames_sent += len(frames)
        return frames

    @property
    def keeps_news(self) -> bool:
        """Whether `news` would tell a peer something."""
        return self.is_leader and self.leader.replication.keeps_news

    def news(self) -> list[Outgoing]:
        """The frames that only tell the commit index, to peers that have not heard it by another one."""
        if self.failure is not None:
            return []
        with self._guarded:
            return [self._outbox.frame(request) for request in self.leader.news(self._clock())]
        return []

    def propose_seal(self, successor: Generation, done: Done) -> None:
        """End this generation; `done` hears it from within a `flush`. For `raft.succession`."""
        self._proposals.propose_seal(encode_seal(successor), done)

    def await_leader(self, seconds: float) -> None:
        """A leader is on its way: calls wait for it as long as an election may take, and `seconds` more."""
        self._calls.await_leader(self._clock() + self.config.election_timeout_max + seconds)

    def seal(self, cause: str) -> None:
        """This generation has ended, and goes on only to tell others. For `raft.succession`; calls in flight
        have no effect, and hear it from the next `flush`.
        """
        self._calls.seal(cause)

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
            self.leading_from = self.journal.last_index + 1  # the no-op that the engine adds next
            self.ready_at = self.ready_at or self.leading_from
            self.leader.replication.begin_term()
        if old == LEADER_STATE:
            self.leading_from = None
            self._calls.lost_leadership()
