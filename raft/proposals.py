"""What callers of this node wait for.

On a follower: the leader's answer to a command or barrier handed over to it; when the leader changes, that
answer may never come, so they end at once with `OutcomeUnknown`. On the leader: each proposal ends exactly
once: applied, refused before it entered the log, or, at the moment leadership is lost, `OutcomeUnknown` (the
engine itself would never tell). Outcomes are kept back until `take_finished`, which the core calls after the
journal is synced. A barrier is a no-op entry shared by all readers that waited when it was submitted; a
reader that comes later waits for the next one, because the running one may already stand before what it wants
to see.
"""

import itertools
from collections.abc import Callable
from functools import partial

from pysyncobj import FAIL_REASON

from raft.counters import Counters
from raft.engine import Applied, Engine
from raft.entries import NOOP_BYTES, command_bytes
from raft.errors import CommandTooLarge, NotLeader, OutcomeUnknown, RaftError, Unavailable
from raft.outcomes import Committed, Done, Outcome, word_of

MOST_IN_FLIGHT = 4_096


class Proposals:
    """Commands and barriers in flight on a leader; at most `MOST_IN_FLIGHT` of each."""

    def __init__(self, engine: Engine, counters: Counters, max_command_bytes: int) -> None:
        self._engine, self._counters = engine, counters
        self._max_command_bytes = max_command_bytes
        self._withdrawn: str | None = None
        self._ids = itertools.count(1)
        self._commands: dict[int, Done] = {}
        self._readers: list[Done] = []
        self._barrier: list[Done] = []
        self._handed_over: dict[int, Done] = {}
        self._finished: list[tuple[Done, Outcome]] = []

    def propose(self, command: bytes, done: Done) -> None:
        """Submit a command; `done` hears the outcome."""
        self._counters.proposals += 1
        size, limit = len(command), self._max_command_bytes
        refusal = CommandTooLarge(size, limit) if size > limit else self._refusal(len(self._commands))
        if refusal is not None:
            self._finish(done, refusal)
            return
        number = next(self._ids)
        self._commands[number] = done
        self._engine.submit(command_bytes(command), partial(self._on_applied, number))

    def read(self, done: Done) -> None:
        """Ask for a barrier; `done` hears `Committed` at its index."""
        refusal = self._refusal(len(self._readers))
        if refusal is not None:
            self._finish(done, refusal)
            return
        self._readers.append(done)

    def start_barrier(self) -> None:
        """Submit one no-op for all waiting readers, unless one is on its way."""
        if not self._readers or self._barrier:
            return
        self._barrier, self._readers = self._readers, []
        self._counters.barriers += 1
        self._engine.submit(NOOP_BYTES, self._on_barrier)

    def fail_all(self, error: Callable[[], RaftError]) -> None:
        """Leadership is lost: nothing in flight can be followed any more."""
        waiting = [*self._commands.values(), *self._barrier, *self._readers]
        self._commands.clear()
        self._barrier, self._readers = [], []
        for done in waiting:
            self._finish(done, error())

    def handed_over(self, seq: int, done: Done) -> None:
        """A frame with this sequence number carries the call to the leader."""
        self._handed_over[seq] = done

    def answered(self, seq: int, outcome: Outcome) -> None:
        """The leader answered the call, or nobody was there."""
        done = self._handed_over.pop(seq, None)
        if done is not None:
            self._finish(done, outcome)

    def leader_changed(self) -> None:
        """Who was asked leads no more: its answers may never come."""
        calls, self._handed_over = self._handed_over, {}
        for done in calls.values():
            self._finish(done, OutcomeUnknown("the leader changed while it worked on the command"))

    def withdraw(self, cause: str) -> None:
        """This node takes no part any more: nothing in flight can be followed, and nothing new is taken."""
        self._withdrawn = cause
        self.fail_all(lambda: OutcomeUnknown(cause))
        self.leader_changed()

    def take_finished(self) -> list[tuple[Done, Outcome]]:
        """What has ended since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def _finish(self, done: Done, outcome: Outcome) -> None:
        if not isinstance(outcome, Committed):
            self._counters.proposals_failed[word_of(outcome)] += 1
        self._finished.append((done, outcome))

    def _refusal(self, in_flight: int) -> RaftError | None:
        if self._withdrawn is not None:
            return Unavailable(self._withdrawn)
        if not self._engine._isLeader():
            leader = self._engine._getLeader()
            return NotLeader(leader.id) if leader is not None else Unavailable("no leader is known")
        if in_flight >= MOST_IN_FLIGHT:
            return Unavailable(f"{in_flight} proposals are in flight, which is the limit")
        return None

    def _on_applied(self, number: int, applied: Applied | None, reason: int) -> None:
        done = self._commands.pop(number, None)
        if done is None:
            return
        if applied is None:
            self._finish(done, _refused(reason))
        elif applied.failure is not None:
            self._finish(done, applied.failure)
        else:
            term = self._engine.journal.term_at(applied.index)
            self._finish(done, Committed(applied.index, term, applied.result))

    def _on_barrier(self, applied: None, reason: int) -> None:
        readers, self._barrier = self._barrier, []
        if reason != FAIL_REASON.SUCCESS:
            for done in readers:
                self._finish(done, _refused(reason))
            return
        index = self._engine.raftLastApplied + 1
        for done in readers:
            self._finish(done, Committed(index, self._engine.journal.term_at(index), b""))


def _refused(reason: int) -> RaftError:
    """Why the engine did not apply an entry. Only a reason that names a moment before the log promises
    anything.
    """
    if reason in (FAIL_REASON.NOT_LEADER, FAIL_REASON.MISSING_LEADER, FAIL_REASON.QUEUE_FULL):
        return Unavailable("leadership was lost before the command entered the log")
    if reason == FAIL_REASON.DISCARDED:
        return Unavailable("another leader's entry took its place in the log")
    return OutcomeUnknown(f"the engine gave up on it (reason {reason})")
