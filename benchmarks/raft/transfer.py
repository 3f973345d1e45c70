"""Leadership given away under load: the longest time in which nothing was committed, and who noticed.

Eight callers in one node write all the time and retry as `coordinator.ledger` does; the leader is told to
hand over, again and again, wherever it is, so the callers' node is leader at times and follower at others. A
gap is the time between two commits, one after the other, that touches a transfer; the longest one that
touches none stands beside it.
"""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.raft import ours
from benchmarks.raft.figures import at_most

CLIENTS: Final = 8
PAUSE_SECONDS: Final = 0.5
AFTERWARDS_SECONDS: Final = 0.2
"""How long after it was told to be over a transfer still counts as the cause of a gap."""
TIMEOUT_SECONDS: Final = 5.0
TARGET_MS: Final = 100.0

Span = tuple[float, float]


async def measure(*, transfers: int) -> dict[str, Any]:
    """Gaps in ms; calls that failed, and that were retried."""
    with tempfile.TemporaryDirectory(prefix="varpulis-bench-") as directory:
        async with ours.nodes(Path(directory)) as cluster:
            told = await cluster.leader()
            seconds = transfers * (PAUSE_SECONDS + 0.5) + PAUSE_SECONDS
            load = asyncio.create_task(
                cluster.order(
                    ours.MEMBERS[0], seconds + 20.0, op="steady", clients=CLIENTS, seconds=seconds, size=200
                )
            )
            windows: list[Span] = []
            leaders, refused = [told], 0
            while len(windows) < transfers and not load.done():
                await asyncio.sleep(PAUSE_SECONDS)
                leader = await cluster.leader()
                began = time.monotonic()
                try:
                    answer = await cluster.order(
                        leader, TIMEOUT_SECONDS + 1, op="transfer", deadline=TIMEOUT_SECONDS
                    )
                    leaders.append(answer["leader_id"])
                except ours.OrderFailed:  # it leads on, but its callers may have waited
                    refused += 1
                windows.append((began, time.monotonic() + AFTERWARDS_SECONDS))
            steady = await load
    longest, otherwise = longest_gaps(steady["commits"], windows)
    return {
        "transfers": len(windows),
        "refused_transfers": refused,
        "leaders": leaders,
        "commits": len(steady["commits"]),
        "longest_gap_ms": [round(gap * 1e3, 1) for gap in longest],
        "longest_gap_without_transfer_ms": round(otherwise * 1e3, 1),
        "retried_calls": steady["retried"],
        "failed_calls": steady["failed"],
        "targets": {
            "gap": at_most(
                round(max(longest) * 1e3, 1), TARGET_MS, "longest gap in ms over all transfers, at most"
            ),
            "refused": at_most(refused, 0, "transfers that were refused, or did not come about in time"),
            "failed": at_most(steady["failed"], 0, "calls that failed although they retried"),
        },
    }


def longest_gaps(commits: Sequence[float], windows: Sequence[Span]) -> tuple[list[float], float]:
    """For each window the longest gap that touches it; and the longest that touches none (all in seconds).

    Raises ValueError for a window with no commit behind it: the load ended too early to tell.
    """
    spans = list(itertools.pairwise(sorted(commits)))
    of_windows = []
    for begin, end in windows:
        touching = [late - early for early, late in spans if early < end and late > begin]
        if not touching or max(commits) < end:
            raise ValueError("the load ended before the transfer did: let it run longer")
        of_windows.append(max(touching))
    others = [
        late - early for early, late in spans if all(early >= end or late <= begin for begin, end in windows)
    ]
    return of_windows, max(others, default=0.0)
