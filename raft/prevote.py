"""When this node may campaign: a vote before the vote (Raft thesis 9.6), and when it need not wait for it.

The engine campaigns when its election timer has run out *and* it believes that a peer is connected. That
belief is given here. Each node keeps evidence of its own: when it last heard a leader, and whether the bus
says that nobody listens under the leader's id any more.

- **suspicion**: no leader heard for `SUSPICION` heartbeats, or the leader is gone from the bus. Then a
  pre-vote round goes to all peers, the leader among them, and again each heartbeat, at first sooner when the
  leader is gone.
- A peer **grants** when it leads nothing, hears no leader itself (silent for the shortest election timeout,
  or gone from the bus), and its log is not ahead of the asker's. It changes nothing of its own by that.
- With the grants of a majority, none older than two heartbeats, the engine **may campaign**. So a node that
  is cut off, or comes back, asks for ever and raises no term, and a healthy leader stays (9.6).
- **haste**: when the bus says that the leader is gone, waiting for the election timer proves nothing more.
  The follower that is first by id campaigns at once, the next one half a heartbeat later, and so on: they do
  not meet. A bus that has just come back is not believed: the leader may be about to come back too.

None of this bears on safety: votes and terms decide. Times in seconds.
"""

from raft.config import RaftConfig

SUSPICION = 1.6
"""Heartbeats without a word of the leader before peers are asked. Fewer ask at each hiccup of the machine."""
AGAIN = 0.2
"""Heartbeats between two rounds, in the one heartbeat after the bus said that the leader is gone: a peer that
was asked first may not have known yet.
"""
_NEVER = float("-inf")


class PreVote:
    """One node's evidence about the leader, and the pre-vote round it has going."""

    def __init__(self, config: RaftConfig) -> None:
        self._peers, self._node_id = config.peers, config.node_id
        self._heartbeat, self._silence = config.heartbeat_interval, config.election_timeout_min
        self._patience = config.election_timeout_max
        self._heard_at = _NEVER
        self._gone_at: float | None = None
        self._bus_up_at: float | None = None
        self._asked_at = _NEVER
        self._granted_at: dict[str, float] = {}

    # -- evidence ----------------------------------------------

    def heard_leader(self, now: float) -> None:
        """An append or a snapshot chunk of the present term came in."""
        self._heard_at = now
        if self._gone_at is not None or self._granted_at:
            self._gone_at = None
            self._granted_at.clear()

    def leader_gone(self, now: float) -> None:
        """The bus says that nobody listens under the leader's id."""
        if self._bus_up_at is not None and now - self._bus_up_at >= self._silence and self._gone_at is None:
            self._gone_at = now

    def connection_changed(self, connected: bool, now: float) -> None:
        """The bus came or went; what was granted before is void."""
        self._bus_up_at = now if connected else None
        self._gone_at = None
        self._granted_at.clear()

    def joined_at_once(self) -> None:
        """The bus was there before this node: it is believed from now on."""
        self._bus_up_at = _NEVER

    @property
    def heard_at(self) -> float:
        """When a leader was heard last."""
        return self._heard_at

    def silent(self, now: float) -> bool:
        """Whether there is no leader, as far as this node can know."""
        return self._gone_at is not None or now - self._heard_at >= self._silence

    def suspects(self, now: float) -> bool:
        """Whether the leader, if there is one, should have been heard by now."""
        return self._gone_at is not None or now >= self._heard_at + SUSPICION * self._heartbeat

    def next_look(self, now: float) -> float:
        """When to see again whether there is a leader."""
        if self._just_gone(now):
            return now + AGAIN * self._heartbeat
        if self.suspects(now):
            return now + self._heartbeat / 2
        return self._heard_at + SUSPICION * self._heartbeat

    def _just_gone(self, now: float) -> bool:
        return self._gone_at is not None and now - self._gone_at < self._heartbeat

    def lost(self, now: float) -> bool:
        """Whether the leader that was heard last is to be forgotten: calls handed to it would only wait."""
        return self._gone_at is not None or now - self._heard_at >= self._patience

    # -- rounds ------------------------------------------------

    def round_due(self, now: float) -> bool:
        """Whether the peers are to be asked now; a call that says so begins the round."""
        pause = AGAIN * self._heartbeat if self._just_gone(now) else self._heartbeat
        if self._bus_up_at is None or now - self._asked_at < pause:
            return False
        if not self.suspects(now):
            return False
        self._asked_at = now
        return True

    def granted(self, peer: str, now: float) -> None:
        """`peer` would vote for this node."""
        self._granted_at[peer] = now

    def may_campaign(self, now: float) -> bool:
        """Whether a majority, this node included, hears no leader and would vote for this node."""
        if self._bus_up_at is None or not self.silent(now):
            return False
        fresh = sum(now - at <= 2 * self._heartbeat for at in self._granted_at.values())
        return 1 + fresh > (len(self._peers) + 1) / 2

    def haste(self, leader: str, now: float) -> bool:
        """Whether to campaign without waiting for the election timer."""
        if self._gone_at is None or not self.may_campaign(now):
            return False
        rank = sum(other < self._node_id for other in self._peers if other != leader)
        return now - self._gone_at >= rank * self._heartbeat / 2
