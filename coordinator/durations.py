"""How long something took, counted by upper bounds: what Prometheus calls a histogram, in plain integers."""

from bisect import bisect_left


class Durations:
    """Attributes:
    bounds: upper bounds in seconds, ascending; one more bucket holds what is above.
    buckets, total: how many fell under each bound, and the sum of all in seconds.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
