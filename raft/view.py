"""What may be asked of a core, and when it wants to step though nothing comes in.

All of it is read from the engine and the journal; nothing here changes anything.
"""

from collections.abc import Callable

from raft.calls import Calls
from raft.campaign import Campaign
from raft.config import RaftConfig
from raft.engine import Engine
from raft.journal import Journal
from raft.leader import Leader


class CoreView:
    """The state of a `RaftCore`, whose parts these are.

    Attributes:
        failure: why the node has withdrawn, once it has.
        leading_from: the first index of this node's own term, while it leads.
        ready_at: the commit index when a leader was first heard.
        last_contact: when a frame of each peer counted last.
        known_leader: who led when that was told last.
    """

    config: RaftConfig
    engine: Engine
    journal: Journal
    leader: Leader
    _campaign: Campaign
    _calls: Calls
    _clock: Callable[[], float]
    failure: str | None
    leading_from: int | None
    ready_at: int | None
    last_contact: dict[str, float]
    known_leader: str | None

    @property
    def is_leader(self) -> bool:
        """Whether the engine leads, as far as it knows."""
        return self.failure is None and bool(self.engine._isLeader())

    @property
    def leads_applied(self) -> bool:
        """Whether this node leads, and its state holds everything committed before it did."""
        return self.is_leader and self.leading_from is not None and self.applied_index >= self.leading_from

    @property
    def ready(self) -> bool:
        """Whether what was committed when a leader was first heard is applied."""
        return self.ready_at is not None and self.applied_index >= self.ready_at

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
        at = self.last_contact.get(peer)
        return None if at is None else int((self._clock() - at) * 1000)

    @property
    def term(self) -> int:
        return int(self.engine.raftCurrentTerm)

    @property
    def applied_index(self) -> int:
        return self.engine.until_seal(int(self.engine.raftLastApplied))

    @property
    def commit_index(self) -> int:
        """In this generation: behind its seal the next one has other entries."""
        committed = max(int(self.engine.raftCommitIndex), int(self.engine.raftLastApplied))
        return self.engine.until_seal(committed)

    @property
    def wants_tick(self) -> bool:
        """Whether a tick would go on at once: a single node commits its own entries in the tick after the
        sync.
        """
        return not self.config.peers and self.is_leader and self.applied_index < self.journal.last_index

    @property
    def hears_leader(self) -> bool:
        """Whether another node leads, and was heard as it should."""
        return not self.is_leader and not self._campaign.prevote.suspects(self._clock())

    def rest(self) -> float:
        """Seconds until a tick is due though nothing comes in."""
        now, interval = self._clock(), self.config.heartbeat_interval
        if self._calls.busy:
            return interval / 2
        if self.is_leader:
            due = self.leader.due_at + interval - now
            return max(due, 0.0) + 0.001 if self.config.peers else interval
        return max(self._campaign.prevote.next_look(now) - now, 0.0) + 0.001

    @property
    def at_rest(self) -> bool:
        """Whether nothing is to be synced, applied or told."""
        told = self.leader_id == self.known_leader
        return told and not self.journal.dirty and self.commit_index == self.applied_index
