"""A change of members, as the leader carries it out: invite, follow, seal, start.

1. **invite**: a newcomer is asked to follow as a learner, until it says that it does, or why not.
2. **follow**: it gets the log like any follower, and counts for nothing. The change waits until it lags by
   `MOST_LAG` entries at most, and until a majority of the *new* members has answered within an election
   timeout: a seal behind which nobody can be elected would stop the cluster.
3. **seal**: the end of the generation is proposed. From here on nobody can take it back.
4. **start**: done, once the new generation has a leader that is known here and an entry of its own committed.

Each step ends with the change's deadline at the latest, and with the leadership of this node. Until the seal,
a change that ends leaves nothing behind but the learner's files. What a leader knows of a learner dies with
its leadership: whoever wants the change repeats it.
"""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from raft.between import Invite
from raft.core import RaftCore
from raft.errors import ChangeRefused, NotLeader, OutcomeUnknown, RaftError
from raft.generation import MOST_RETIRED, Generation
from raft.outcomes import Committed, Outcome

MOST_LAG = 64
INVITE_TIMEOUTS = 15
"""Election timeouts that a newcomer, perhaps started just now, has to answer its invitation."""

Result = Generation | RaftError
Done = Callable[[Result], None]


class Phase(Enum):
    """How far a change is."""

    INVITE = "invite"
    FOLLOW = "follow"
    SEAL = "seal"
    START = "start"


class Host(Protocol):
    """What a change needs of `raft.succession`."""

    core: RaftCore

    @property
    def generation(self) -> Generation: ...
    @property
    def has_begun(self) -> bool: ...
    def ask(self, peer: str, rpc: str, frame: Invite) -> None: ...


def refusal(now: Generation, successor: Generation, add: str | None) -> str | None:
    """Why the members cannot become those of `successor`, whatever the nodes do."""
    if add in now.retired:
        return f"{add!r} was removed in an earlier generation, and ids are never used again. Choose a new id"
    if not successor.members:
        return "the last member cannot be removed"
    if len(successor.members) > 9:
        return f"{len(successor.members)} members are too many, 9 is the limit. Remove one first"
    if len(successor.retired) > MOST_RETIRED:
        return f"{MOST_RETIRED} ids have been retired, which is the limit. Restore a copy into a new cluster"
    return None


class Change:
    """One change of members; `done` hears how it ends, once."""

    def __init__(
        self, host: Host, successor: Generation, add: str | None, *, now: float, timeout: float, done: Done
    ) -> None:
        self._host, self._successor, self._add, self._done = host, successor, add, done
        self._until = now + timeout
        patience = host.core.config.election_timeout_max
        self._invite_until = min(self._until, now + INVITE_TIMEOUTS * patience)
        self._reach_until = min(self._until, now + 2 * patience)
        self._invited_at = float("-inf")
        self._phase = Phase.INVITE if add else Phase.FOLLOW
        self.over = False

    # -- events ------------------------------------------------

    def answered(self, sender: str, refused: str) -> None:
        """A newcomer follows, or says why not."""
        if self._phase is not Phase.INVITE or sender != self._add:
            return
        if refused:
            self._end(ChangeRefused(f"{sender} refuses: {refused}"))
            return
        core = self._host.core
        core.letters.learners = frozenset((sender,))
        core.leader.replication.follow((sender,))
        self._phase = Phase.FOLLOW

    def tick(self, now: float) -> None:
        """Go on as far as possible."""
        core = self._host.core
        if self._phase is Phase.START:
            if self._host.has_begun and core.leader_id is not None:
                self._end(self._host.generation)
        elif not core.is_leader:
            lost = OutcomeUnknown("leadership was lost while the members were changed")
            self._end(lost if self._phase is Phase.SEAL else NotLeader(core.leader_id))
        elif self._phase is Phase.INVITE:
            self._invite(now)
        elif self._phase is Phase.FOLLOW:
            self._follow(now)
        if now >= self._until and not self.over:
            self._end(OutcomeUnknown("the change of members has not ended in time"))

    def give_up(self, cause: str) -> None:
        """This node takes no part any more."""
        self._end(OutcomeUnknown(cause))

    # -- inside ------------------------------------------------

    def _invite(self, now: float) -> None:
        core, newcomer = self._host.core, self._add
        assert newcomer is not None
        if now >= self._invite_until:
            reason = f"{newcomer} does not answer. Start it with --join, and the same cluster id and prefix"
            self._end(ChangeRefused(reason))
        elif now >= self._invited_at + core.config.heartbeat_interval:
            self._invited_at = now
            self._host.ask(newcomer, "invite", Invite(*core.letters.stamp(core.term), self._host.generation))

    def _follow(self, now: float) -> None:
        lag, missing = self._lag(), self._missing()
        if lag is None and missing is None and self._host.core.leads_applied:
            self._phase = Phase.SEAL
            self._host.core.propose_seal(self._successor, self._sealed)
        elif missing is not None and now >= self._reach_until:
            self._end(ChangeRefused(missing))
        elif now >= self._until:
            self._end(ChangeRefused(lag or missing or "this node does not serve as the leader yet"))

    def _lag(self) -> str | None:
        """How far the newcomer is behind, if that is too far."""
        core, newcomer = self._host.core, self._add
        if newcomer is None:
            return None
        match_index = core.leader.replication.match_index(newcomer)
        lag = core.journal.last_index - match_index
        if match_index and lag <= MOST_LAG and self._answers(newcomer):
            return None
        return f"{newcomer} has not caught up: lag {lag}. Repeat with more time"

    def _missing(self) -> str | None:
        """Who of the new members is missing, if they are too many."""
        core, members = self._host.core, self._successor.members
        silent = [
            name
            for name in members
            if name not in (core.config.node_id, self._add) and not self._answers(name)
        ]
        if len(silent) * 2 < len(members):
            return None
        answering = len(members) - len(silent)
        return f"only {answering} of {len(members)} new members answer, {', '.join(silent)} not"

    def _answers(self, name: str) -> bool:
        since = self._host.core.ms_since_contact(name)
        return since is not None and since <= self._host.core.config.election_timeout_max * 1000

    def _sealed(self, outcome: Outcome) -> None:
        if self.over:
            return
        if isinstance(outcome, Committed):
            self._phase = Phase.START
        else:
            self._end(outcome)

    def _end(self, result: Result) -> None:
        if self.over:
            return
        self.over = True
        if self._phase in (Phase.INVITE, Phase.FOLLOW):
            core = self._host.core
            core.letters.learners = frozenset()
            core.leader.replication.follow(())
        self._done(result)
