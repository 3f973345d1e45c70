"""Leadership handed to another node on purpose (Raft thesis 3.10), and the calls that wait meanwhile.

From `begin` on no new call enters the log: calls are held back, at most `MOST_HELD`. When the target has
everything and all of it is committed, it is told to campaign at once, again each heartbeat, for the bus may
lose that. When the new leader is known, the calls go there; when the target does not make it in time, they
enter the log here. So no caller sees more than a pause.
"""

from collections.abc import Callable

from raft.outcomes import Done

MOST_HELD = 4_096
Call = Callable[[Done], None]


class HandOver:
    """A hand-over in progress, or none. Times in seconds."""

    def __init__(self, heartbeat_interval: float) -> None:
        self._heartbeat = heartbeat_interval
        self.target: str | None = None
        self._until = 0.0
        self._told_at = float("-inf")
        self._held: list[tuple[Call, Done]] = []

    @property
    def holds(self) -> bool:
        """Whether calls wait, or a target is to be told."""
        return self.target is not None or bool(self._held)

    def begin(self, target: str, until: float) -> None:
        """Hand over to `target`, which has time until then; a second call changes the target."""
        self.target, self._until, self._told_at = target, until, float("-inf")

    def hold(self, call: Call, done: Done) -> bool:
        """Keep a call for later; False when too many wait."""
        if len(self._held) >= MOST_HELD:
            return False
        self._held.append((call, done))
        return True

    def expired(self, now: float) -> bool:
        """Whether the target has had its time."""
        return now >= self._until

    def tell_due(self, now: float) -> bool:
        """Whether the target, which is ready, is to be told now; a call that says so counts as told."""
        if now - self._told_at < self._heartbeat:
            return False
        self._told_at = now
        return True

    def end(self) -> list[tuple[Call, Done]]:
        """It is over; the calls that were held back."""
        self.target = None
        held, self._held = self._held, []
        return held
