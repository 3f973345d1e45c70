"""How long each phase took when this node came to lead.

- **detection**: from the last word of the former leader until this node asked the others for a pre-vote;
- **election**: from then until it was elected. Where leadership was handed over, only this, from when it was
  told to campaign;
- **first_commit**: from its election until an entry of its own term was committed and applied, after which it
  serves.

A leader that is heard again ends the attempt, and so does another one that was faster: what is counted are
the elections that this node won. The first one of a cluster has no detection, as there was no leader before.
"""

from raft.counters import Counters

_NEVER = float("-inf")


class Ascent:
    """One attempt at a time. `now` and `heard_at` are in seconds of the node's clock."""

    def __init__(self, counters: Counters) -> None:
        self._seen = counters.failover_seconds
        self._heard_at = self._began = self._elected = _NEVER

    def suspects(self, heard_at: float, now: float) -> None:
        """The others are asked whether they hear the leader, who was heard last at `heard_at`."""
        if self._began == _NEVER:
            self._heard_at, self._began = heard_at, now

    def told(self, now: float) -> None:
        """The leader hands over to this node."""
        self._heard_at, self._began = _NEVER, now

    def given_up(self) -> None:
        """A leader was heard."""
        self._began = _NEVER

    def elected(self, now: float) -> None:
        """This node leads."""
        if self._heard_at != _NEVER:
            self._seen["detection"].observe(self._began - self._heard_at)
        if self._began != _NEVER:
            self._seen["election"].observe(now - self._began)
        self._heard_at, self._began, self._elected = _NEVER, _NEVER, now

    def deposed(self) -> None:
        """It leads no more."""
        self._elected = _NEVER

    @property
    def unserved(self) -> bool:
        """Whether this node was elected and has not committed anything since."""
        return self._elected != _NEVER

    def committed(self, now: float) -> None:
        """Its first entry is committed and applied."""
        self._seen["first_commit"].observe(now - self._elected)
        self._elected = _NEVER
