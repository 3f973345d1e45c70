"""What heartbeats cost the leader, with pipelines that run.

They do not go through Raft: every coordinator hears each one and keeps it in memory, and the leader answers.
The share is of one core, over `seconds`, of everything the process does meanwhile: reading, checking,
answering, and the passes of the control loop over workers and pipelines.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.control.bed import SETTLE, Bed, bed, workers
from benchmarks.raft.figures import at_most, percentile

CASES: Final = {1_000: (1.0, 15.0), 10_000: (5.0, 50.0)}
"""By the number of workers: seconds between their heartbeats, percent of a core that the leader may take."""
INTERVAL, LIMIT = 5.0, 50.0
"""For other numbers of workers."""


async def measure(*, pipelines: int, seconds: float, fleets: Sequence[int]) -> dict[str, Any]:
    """Each fleet in a cluster of its own, in which so many `pipelines` run."""
    result: dict[str, Any] = {}
    targets: dict[str, Any] = {}
    for count in fleets:
        interval, limit = CASES.get(count, (INTERVAL, LIMIT))
        async with bed(interval=interval, joined=workers(count, 2 * pipelines // count + 2)) as stage:
            await stage.fill("g", pipelines)
            await asyncio.sleep(interval + SETTLE)
            name = f"{count} at {interval:g} s"
            result[name] = await beats(stage, seconds) | {
                "workers": count,
                "interval_s": interval,
                "pipelines": pipelines,
                "memory_mb": stage.resident_mb(),
                "leader_changed": await stage.leader_changed(),
            }
            targets[f"{count}"] = at_most(
                result[name]["leader_percent"],
                limit,
                f"{count:,} workers at {interval:g} s with {pipelines:,} pipelines: leader, percent of a "
                "core, at most",
            )
    return {**result, "targets": targets}


async def beats(stage: Bed, seconds: float) -> dict[str, Any]:
    """What `seconds` of nothing but heartbeats cost."""
    stage.fleet.forget_counts()
    with stage.meter() as meter:
        await asyncio.sleep(seconds)
    fleet = stage.fleet
    return {
        "beats": fleet.beats,
        "per_second": round(fleet.beats / meter.seconds),
        "batches": fleet.batches,
        "answered": fleet.acks,
        "directives": dict(fleet.directives),
        "answer_p50_ms": round(percentile(fleet.round_trips, 0.5) * 1e3, 2),
        "answer_p99_ms": round(percentile(fleet.round_trips, 0.99) * 1e3, 2),
        **meter.figures(fleet.beats),
    }
