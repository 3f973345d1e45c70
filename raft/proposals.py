"""What callers of this node wait for.

On a follower: the leader's answer to a command or read handed over to it. When the leader changes, that
answer may never come; the former leader gets a moment to tell, for it may have handed leadership over and the
call with it, then they end with `OutcomeUnknown`. On the leader: each proposal ends exactly once: applied,
refused before it entered the log, or, at the moment leadership is lost, `OutcomeUnknown` (the engine itself
would never tell). Outcomes are kept back until `take_finished`, which the core calls after the journal is
synced.

What a leader without followers could pile up is bounded twice, by count and by bytes; beyond that a proposal
is refused at once, and surely not applied.
"""

import itertools
from collections.abc import Callable
from functools import partial

from pysyncobj import FAIL_REASON

from raft.counters import Counters
from raft.engine import Applied, Engine
from raft.entries import command_bytes, seal_bytes
from raft.errors import CommandTooLarge, NotLeader, OutcomeUnknown, RaftError, Unavailable
from raft.outcomes import Committed, Done, Outcome, word_of

MOST_IN_FLIGHT = 4_096
MOST_BYTES_IN_FLIGHT = 32 * 1024 * 1024


class Proposals:
    """Commands in flight on a leader, calls handed over by a follower; at most `MOST_IN_FLIGHT` of each, and
    `MOST_BYTES_IN_FLIGHT` of commands.
    """

    def __init__(
        self,
        engine: Engine,
        counters: Counters,
        max_command_bytes: int,
        leader: Callable[[], str | None],
        clock: Callable[[], float],
    ) -> None:
        self._engine, self._counters, self._clock = engine, counters, clock
        self._max_command_bytes, self._leader = max_command_bytes, leader
        self._withdrawn: str | None = None
        self._ids = itertools.count(1)
        self._commands: dict[int, tuple[Done, int, float]] = {}
        self._bytes = 0
        self._handed_over: dict[int, Done] = {}
        self._orphans: list[tuple[float, list[int]]] = []
        self._finished: list[tuple[Done, Outcome]] = []

    def propose(self, command: bytes, done: Done) -> None:
        """Submit a command; `done` hears the outcome."""
        self._counters.proposals += 1
        size, limit = len(command), self._max_command_bytes
        refusal = CommandTooLarge(size, limit) if size > limit else self.refusal()
        if refusal is not None:
            self.finish(done, refusal)
            return
        number = next(self._ids)
        self._commands[number] = done, size, self._clock()
        self._bytes += size
        self._engine.submit(command_bytes(command), partial(self._on_applied, number))

    def propose_seal(self, payload: bytes, done: Done) -> None:
        """Submit the end of this generation."""
        refusal = self.refusal()
        if refusal is not None:
            self.finish(done, refusal)
            return
        number = next(self._ids)
        self._commands[number] = done, 0, self._clock()
        self._engine.submit(seal_bytes(payload), partial(self._on_applied, number))

    def fail_all(self, error: RaftError) -> None:
        """Leadership is lost: nothing in flight can be followed any more."""
        commands, self._commands, self._bytes = self._commands, {}, 0
        for done, _, _ in commands.values():
            self.finish(done, error)

    def seal(self, refused: Unavailable) -> None:
        """No command has an effect any more, here in flight or new."""
        self._withdrawn = refused.cause
        self.fail_all(refused)

    def hand_over(self, done: Done, seq: int) -> bool:
        """The frame with this sequence number will carry a call to the leader; False when too many wait."""
        waiting = len(self._handed_over)
        if waiting >= MOST_IN_FLIGHT:
            self.finish(done, Unavailable(f"{waiting} calls wait for the leader, which is the limit"))
            return False
        self._handed_over[seq] = done
        return True

    def answered(self, seq: int, outcome: Outcome) -> None:
        """The leader answered the call, or nobody was there."""
        done = self._handed_over.pop(seq, None)
        if done is not None:
            self.finish(done, outcome)

    def leader_changed(self, until: float) -> None:
        """Who was asked leads no more: its answers are waited for until then."""
        if self._handed_over:
            self._orphans.append((until, list(self._handed_over)))

    @property
    def has_orphans(self) -> bool:
        """Whether a former leader's answers are waited for."""
        return bool(self._orphans)

    def expire(self, now: float) -> None:
        """End the calls that a former leader has not answered in time."""
        while self._orphans and now >= self._orphans[0][0]:
            for seq in self._orphans.pop(0)[1]:
                self.answered(seq, OutcomeUnknown("the leader changed while it worked on the command"))

    def withdraw(self, cause: str) -> None:
        """This node takes no part any more: nothing in flight can be followed, and nothing new is taken."""
        self._withdrawn = cause
        self.fail_all(OutcomeUnknown(cause))
        for seq in list(self._handed_over):
            self.answered(seq, OutcomeUnknown(cause))

    def take_finished(self) -> list[tuple[Done, Outcome]]:
        """What has ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def finish(self, done: Done, outcome: Outcome) -> None:
        """Tell `done` after the sync."""
        if not isinstance(outcome, Committed):
            self._counters.proposals_failed[word_of(outcome)] += 1
        self._finished.append((done, outcome))

    def refusal(self) -> RaftError | None:
        """Why no call can be taken now."""
        if self._withdrawn is not None:
            return Unavailable(self._withdrawn)
        if not self._engine._isLeader():
            leader = self._leader()
            return NotLeader(leader) if leader is not None else Unavailable("no leader is known")
        in_flight = len(self._commands)
        if in_flight >= MOST_IN_FLIGHT or self._bytes >= MOST_BYTES_IN_FLIGHT:
            return Unavailable(
                f"{in_flight} proposals of {self._bytes} bytes are in flight, which is the limit"
            )
        return None

    def _on_applied(self, number: int, applied: Applied | None, reason: int) -> None:
        done, size, began = self._commands.pop(number, (None, 0, 0.0))
        if done is None:
            return
        self._bytes -= size
        if applied is None:
            self.finish(done, _refused(reason))
        elif applied.failure is not None:
            self.finish(done, applied.failure)
        else:
            self._counters.commit_seconds.observe(self._clock() - began)
            term = self._engine.journal.term_at(applied.index)
            self.finish(done, Committed(applied.index, term, applied.result))


def _refused(reason: int) -> RaftError:
    """Why the engine did not apply an entry. Only a reason that names a moment before the log promises
    anything.
    """
    if reason in (FAIL_REASON.NOT_LEADER, FAIL_REASON.MISSING_LEADER, FAIL_REASON.QUEUE_FULL):
        return Unavailable("leadership was lost before the command entered the log")
    if reason == FAIL_REASON.DISCARDED:
        return Unavailable("another leader's entry took its place in the log")
    return OutcomeUnknown(f"the engine gave up on it (reason {reason})")
