"""Pipelines whose copies run, fail, and fail again: each time they are left alone for longer.

The state does not count these, for a copy that runs has nothing left of what came before. So the leader
remembers; a new one begins with the first pause. A pipeline that has not failed for `CALM` seconds begins
anew, as one that was mended should.
"""

from typing import Final

from coordinator.controllers.actions import MOST_DOUBLINGS, Key
from coordinator.controllers.deployment import RETRY_FAILED, RETRY_FAILED_AT_MOST

CALM: Final = 300.0
MOST: Final = 10_000
"""Pipelines that are remembered."""


class Relapses:
    """By key of the pipeline: how often in a row its copies failed, and when (seconds) the last one did."""

    def __init__(self) -> None:
        self._known: dict[Key, tuple[int, float]] = {}

    def note(self, key: Key, now: float) -> tuple[int, float]:
        """One more failed at `now`: how many in a row, and for how many seconds to leave it alone."""
        times, last = self._known.pop(key, (0, now))
        times = times + 1 if now - last <= CALM else 1
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]  # that which has not failed for the longest time
        self._known[key] = times, now
        pause = RETRY_FAILED * 2.0 ** min(times - 1, MOST_DOUBLINGS)
        return times, min(pause, RETRY_FAILED_AT_MOST)

    def forget(self) -> None:
        """Somebody else leads now."""
        self._known.clear()
