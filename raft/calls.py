"""Where a command or a read goes: into the log here, to the leader, or nowhere for a moment.

- This node leads: a command enters the log (`raft.proposals`), a read joins a round (`raft.reads`).
- Another node leads: the call is handed over to it as a frame, and its answer is the call's.
- Leadership is on its way: it is being handed over (`raft.handover`), or nobody is known to lead since less
  than two heartbeats. The call is held back and goes on once a leader is known; so neither a hand-over nor a
  quick election fails a call. After that moment it is refused, surely not applied.
- A call that another node handed over is not handed on: two nodes that take each other for the leader would
  do so for ever. It is refused where another leads, else it takes the same ways; its outcome travels back.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from raft import codec
from raft.config import RaftConfig
from raft.correspondence import Correspondence
from raft.errors import NotLeader, OutcomeUnknown, TransferRefused, Unavailable
from raft.handover import HandOver
from raft.outbox import Outbox
from raft.outcomes import Committed, Done, Outcome
from raft.proposals import Proposals
from raft.reads import Reads
from raft.replication import Replication

MOMENT = 2
"""Heartbeats that a call waits for a leader, or for the answer of a former one."""


class Standing(Protocol):
    """What calls need to know about their node."""

    @property
    def is_leader(self) -> bool: ...
    @property
    def leads_applied(self) -> bool: ...
    @property
    def leader_id(self) -> str | None: ...
    @property
    def term(self) -> int: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def failure(self) -> str | None: ...


class Calls:
    """The calls of one node. `now` is in seconds everywhere."""

    def __init__(
        self,
        config: RaftConfig,
        node: Standing,
        proposals: Proposals,
        reads: Reads,
        replication: Replication,
        letters: Correspondence,
        outbox: Outbox,
        clock: Callable[[], float],
    ) -> None:
        self._config, self._node, self._proposals, self._replication = config, node, proposals, replication
        self._letters, self._outbox, self._clock = letters, outbox, clock
        self._moment = MOMENT * config.heartbeat_interval
        self._handover = HandOver(config.heartbeat_interval)
        self._leaderless_from = float("-inf")
        self.reads = reads

    # -- ways in -----------------------------------------------

    def propose(self, command: bytes, done: Done) -> None:
        """Submit a command, here or at the leader; `done` hears the outcome from within a `flush`."""
        target = self._target()
        if target is not None:
            if (seq := self._hand_over(done)) is not None:
                stamp = self._letters.stamp_with(seq, self._node.term)
                frame = codec.Propose(*stamp, self._letters.incarnation_of(target), command)
                self._outbox.call(target, "propose", frame)
        elif not self._hold(partial(self.propose, command), done):
            self._proposals.propose(command, done)

    def read(self, done: Done) -> None:
        """A linearizable read; `done` hears the index from which on it may be read here."""
        target = self._target()
        if target is not None:
            if (seq := self._hand_over(done)) is not None:
                frame = codec.Read(*self._letters.stamp_with(seq, self._node.term))
                self._outbox.call(target, "read", frame)
        elif not self._hold(self.read, done):
            refusal = self._proposals.refusal() or self.reads.refusal()
            if refusal is None:
                self.reads.add(done)
            else:
                self._proposals.finish(done, refusal)

    def handed_over(self, frame: codec.Propose | codec.Read, reply_to: str) -> None:
        """A call of another node, which takes this one for the leader."""

        def done(outcome: Outcome) -> None:
            self._outbox.answer_call(reply_to, frame, self._node.term, outcome)

        if isinstance(frame, codec.Propose) and frame.to_incarnation != self._letters.incarnation:
            # It may be the copy of one that was handled then: nothing can be promised, not even a refusal.
            self._letters.drop("former_incarnation", frame.sender)
        elif self._target() is not None:
            self._proposals.finish(done, NotLeader(self._node.leader_id))
        elif isinstance(frame, codec.Read):
            self.read(done)
        else:
            self.propose(frame.command, done)

    def transfer(self, to: str | None) -> str:
        """Begin to give leadership to `to`, or to the follower that is furthest; the id of whom it goes to.

        Raises `NotLeader` and `TransferRefused`.
        """
        if not self._node.is_leader:
            raise NotLeader(self._node.leader_id)
        reachable = [peer for peer in self._config.peers if self._replication.reaches(peer)]
        if to is None and reachable:
            to = max(reachable, key=self._replication.match_index)
        if to is None or to not in reachable:
            stranger = to is not None and to not in self._config.peers
            raise TransferRefused(to, "it is no member" if stranger else "it does not answer")
        self._handover.begin(to, self._clock() + self._config.election_timeout_max)
        return to

    @property
    def hands_over(self) -> bool:
        """Whether a target has leadership to take, and still time for it."""
        return self._handover.target is not None

    @property
    def busy(self) -> bool:
        """Whether a read, a hand-over or an answer is waited for, and time may end it."""
        return self.reads.asking or self._handover.holds or self._proposals.has_orphans

    # -- time passes -------------------------------------------

    def tick(self, now: float) -> None:
        """End what has waited long enough. Before the engine works."""
        self._proposals.expire(now)
        if self._handover.holds and self._over(now):
            self._release()

    def lead(self, last_index: int, now: float, tell: Callable[[str], None]) -> None:
        """What a leader does after the engine has worked: confirm reads, hand leadership over (`tell` a peer
        to campaign).
        """
        if self.reads.waiting:
            self._finish_reads()
            if self._node.leads_applied and self.reads.begin(self._node.commit_index, self._letters.last_seq):
                self._replication.ask_all()
                self._finish_reads()  # at once, where nobody has to be asked
        target = self._handover.target
        if target is None or self._replication.match_index(target) < last_index:
            return
        if self._node.commit_index == last_index and self._handover.tell_due(now):
            tell(target)

    def leader_changed(self, leader: str | None, now: float) -> None:
        """Another node leads, or none is known to."""
        self._proposals.leader_changed(now + self._moment)
        if leader is None:
            self._leaderless_from = now
        else:
            self._release()

    def lost_leadership(self) -> None:
        """This node leads no more: nothing in flight can be followed."""
        lost = OutcomeUnknown("this node lost leadership")
        self._proposals.fail_all(lost)
        for done in self.reads.take_all():
            self._proposals.finish(done, lost)

    def await_leader(self, until: float) -> None:
        """There is no leader yet: calls wait for one until then."""
        self._leaderless_from = until - self._moment

    def seal(self, cause: str) -> None:
        """The generation has ended: what is in flight here comes behind the seal, and what is new would. The
        leader's answers to calls that were handed over may still come.
        """
        refused = Unavailable(cause)
        self._proposals.seal(refused)
        self._refuse_reads(refused)

    def end(self, cause: str, *, seal_applied: bool) -> None:
        """The generation has ended, and no answer comes any more: of the calls handed over nobody knows. Once
        its seal is applied here, what is still in flight comes behind it. A node that only hears of the end
        knows of no command: another leader may have committed it before the seal.
        """
        if seal_applied:
            self.seal(cause)
        else:
            self._refuse_reads(Unavailable(cause))
        self.withdraw(cause)

    def _refuse_reads(self, refused: Unavailable) -> None:
        for done in self.reads.take_all():
            self._proposals.finish(done, refused)
        self._release()

    def withdraw(self, cause: str) -> None:
        """This node takes no part any more: nothing can be followed, and nothing new is taken."""
        self._proposals.withdraw(cause)
        for done in self.reads.take_all():
            self._proposals.finish(done, OutcomeUnknown(cause))
        self._release()

    # -- inside ------------------------------------------------

    def _target(self) -> str | None:
        """The other node that leads, or None when the call is not for it."""
        node = self._node
        return None if node.failure is not None or node.is_leader else node.leader_id

    def _hand_over(self, done: Done) -> int | None:
        seq = self._letters.next_seq()
        return seq if self._proposals.hand_over(done, seq) else None

    def _hold(self, call: Callable[[Done], None], done: Done) -> bool:
        if self._node.failure is not None or self._over(self._clock()):
            return False
        return self._handover.hold(call, done)

    def _over(self, now: float) -> bool:
        """Whether there is nothing to wait for."""
        if self._handover.target is not None and not self._handover.expired(now):
            return False
        if now - self._leaderless_from >= self._moment:
            return True
        return self._node.leader_id is not None

    def _release(self) -> None:
        for call, done in self._handover.end():
            call(done)

    def _finish_reads(self) -> None:
        confirmed = self.reads.take_confirmed()
        if confirmed is not None:
            index, readers = confirmed
            for done in readers:
                self._proposals.finish(done, Committed(index, self._node.term, b""))
