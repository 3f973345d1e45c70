"""What a leader that nobody answers lets its callers pile up: memory, and how their calls end.

Both followers are frozen (SIGSTOP), and at that moment more proposals come at once than the leader takes. It
must refuse the surplus as `Unavailable` (surely not applied), end all others within their deadline, and grow
by no more than its bound on bytes in flight explains, however large the commands are. The callers share one
command, so what grows is what the node keeps; the callers themselves are measured by commands of 16 bytes.
Then the followers go on, and a write must be acknowledged again.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.raft import ours
from benchmarks.raft.figures import at_most
from raft.proposals import MOST_BYTES_IN_FLIGHT

SIZES: Final = (16, 4 * 1024, 64 * 1024)
PROPOSALS: Final = 10_000
DEADLINE_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 1.0
"""For the callers' own turns of the event loop, after their deadline."""
COPIES: Final = 4
"""Of a command in flight: the engine's entry, the journal's buffer, and a frame for each follower."""
SAMPLE_SECONDS: Final = 0.01


async def measure() -> dict[str, Any]:
    """For each size: outcomes, the slowest call in s, growth of memory in MB at its peak and later."""
    result: dict[str, Any] = {"proposals": PROPOSALS, "deadline_s": DEADLINE_SECONDS}
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="varpulis-bench-") as directory:
            async with ours.nodes(Path(directory)) as cluster:
                result[str(size)] = await _flood(cluster, size)
    callers = result[str(SIZES[0])]["peak_growth_mb"]
    limit = round(callers + COPIES * MOST_BYTES_IN_FLIGHT / 1e6, 1)
    worst = max(result[str(size)]["peak_growth_mb"] for size in SIZES)
    ended_well = all(result[str(size)]["ended_well"] for size in SIZES)
    result["targets"] = {
        "memory": at_most(
            worst,
            limit,
            f"peak growth in MB, at most its callers' and {COPIES} copies of the bytes in flight",
        ),
        "outcomes": {
            "target": "every call ended within its deadline, the surplus as Unavailable, none as Committed",
            "met": ended_well,
        },
    }
    return result


async def _flood(cluster: ours.Nodes, size: int) -> dict[str, Any]:
    leader = await cluster.leader()
    followers = [cluster.processes[member] for member in ours.MEMBERS if member != leader]
    await cluster.order(leader, 10.0, op="load", clients=8, seconds=0.5, size=size)
    process = psutil.Process(cluster.processes[leader].pid)
    before = process.memory_info().rss
    for follower in followers:
        follower.freeze()
    try:
        flood = asyncio.create_task(
            cluster.order(
                leader,
                DEADLINE_SECONDS + 10.0,
                op="flood",
                count=PROPOSALS,
                size=size,
                deadline=DEADLINE_SECONDS,
            )
        )
        peak = before
        while not flood.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(SAMPLE_SECONDS)
        ended = await flood
    finally:
        for follower in followers:
            follower.thaw()
    after = process.memory_info().rss
    began = time.monotonic()
    await ours.put(cluster.bus, await cluster.leader(), b"x", DEADLINE_SECONDS)
    outcomes = ended["outcomes"]
    return {
        **ended,
        "peak_growth_mb": round((peak - before) / 1e6, 1),
        "growth_afterwards_mb": round((after - before) / 1e6, 1),
        "writes_again_after_s": round(time.monotonic() - began, 3),
        "ended_well": outcomes.get("Unavailable", 0) > 0
        and "Committed" not in outcomes
        and sum(outcomes.values()) == PROPOSALS
        and ended["slowest_s"] <= DEADLINE_SECONDS + GRACE_SECONDS,
    }
