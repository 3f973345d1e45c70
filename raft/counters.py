"""Plain integers for the hot paths; whoever exports metrics reads them.

One object per node. Names are the metric names without prefix; `frames_dropped` is keyed by reason.
"""

from collections import Counter
from dataclasses import dataclass, field

from transport.durations import REQUEST_BOUNDS, Durations

FAILOVER_PHASES = ("detection", "election", "first_commit")
"""See `raft.ascent`."""


@dataclass(slots=True)
class Counters:
    """What a node has done since it started.

    Attributes:
        commit_seconds: from a proposal here, while this node led, until it was committed and applied here.
        round_trip_seconds: by peer, from a question to its answer.
        failover_seconds: by phase, of the elections this node won.
    """

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
    fsync_seconds: Durations = field(default_factory=Durations)
    commit_seconds: Durations = field(default_factory=Durations)
    round_trip_seconds: dict[str, Durations] = field(default_factory=dict)
    failover_seconds: dict[str, Durations] = field(
        default_factory=lambda: {phase: Durations(REQUEST_BOUNDS) for phase in FAILOVER_PHASES}
    )

    def round_trip(self, peer: str, seconds: float) -> None:
        """Count the answer to an append."""
        seen = self.round_trip_seconds.get(peer)
        if seen is None:
            seen = self.round_trip_seconds[peer] = Durations()
        seen.observe(seconds)
