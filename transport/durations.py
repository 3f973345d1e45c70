"""How long something took, counted by upper bounds: what Prometheus calls a histogram, in plain integers.

To count one costs less than a microsecond and keeps nothing; whoever exports metrics reads the numbers.
"""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

LATENCY_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds, upper bounds, for what should take milliseconds."""
REQUEST_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The same for what waits for another process."""


class Durations:
    """Attributes:
    bounds: upper bounds in seconds, ascending; one more bucket holds what is above.
    buckets, total: how many fell under each bound, and the sum of all in seconds.
    """

    __slots__ = ("bounds", "buckets", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.buckets)

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


def cumulated(seen: Durations) -> list[tuple[str, float]]:
    """The buckets as Prometheus wants them: (upper bound, how many were not above it)."""
    bounds = [*(str(bound) for bound in seen.bounds), "+Inf"]
    return list(zip(bounds, accumulate(seen.buckets.copy()), strict=True))
