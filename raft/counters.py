"""Plain integers for the hot paths; whoever exports metrics reads them.

One object per node. Names are the metric names without prefix; `frames_dropped` is keyed by reason.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

FSYNC_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds, upper bounds; one more bucket holds what is above."""


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound, with sum and count: what Prometheus calls a histogram."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(FSYNC_BOUNDS) + 1))
    count: int = 0
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.buckets[bisect_left(FSYNC_BOUNDS, seconds)] += 1
        self.count += 1
        self.total += seconds


@dataclass(slots=True)
class Counters:
    """What a node has done since it started."""

    proposals: int = 0
    proposals_failed: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    barriers: int = 0
    elections: int = 0
    leader_changes: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped: Counter[str] = field(default_factory=Counter)
    no_responders: int = 0
    snapshots: int = 0
    snapshots_failed: int = 0
    snapshots_sent: int = 0
    snapshots_installed: int = 0
    snapshots_refused: int = 0
    snapshots_too_large: int = 0
    apply_failures: int = 0
    fsync_seconds: Histogram = field(default_factory=Histogram)
