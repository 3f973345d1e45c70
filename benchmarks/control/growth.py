"""Costs against the number of workers and of pipelines, at n, 2n, 4n, ...: nothing grows faster than n log n.

In one cluster that grows: workers join, size by size, and after each step heartbeats alone are measured; then
pipelines are deployed, size by size; at last a worker dies that holds as many as the size says. Each cost is
the leader's processor time, which other load on the machine hardly touches.
"""

import asyncio
from typing import Any

from benchmarks.control.bed import SETTLE, bed, workers
from benchmarks.control.deaths import kill
from benchmarks.control.fit import doubled, grows, line
from benchmarks.control.heartbeats import beats

INTERVAL = 5.0


async def measure(*, largest_fleet: int, largest_load: int, seconds: float) -> dict[str, Any]:
    """Up to so many workers, and so many pipelines; `seconds` of heartbeats at each size."""
    by_workers = await _workers(doubled(largest_fleet // 8, largest_fleet), seconds)
    by_pipelines = await _pipelines(doubled(largest_load // 8, largest_load), seconds)
    by_death = await _deaths(doubled(largest_load // 8, largest_load))
    return {**by_workers, **by_pipelines, **by_death}


async def _workers(sizes: Any, seconds: float) -> dict[str, Any]:
    joining: dict[int, float] = {}
    beating: dict[int, float] = {}
    async with bed(interval=INTERVAL) as stage:
        idle = await beats_idle(stage, seconds)
        there, spent = 0, 0.0
        for size in sizes:
            with stage.meter() as meter:
                await stage.fleet.join(workers(size - there, 10, first=there))
            there, spent = size, spent + meter.cpu["leader"]
            joining[size] = spent
            await asyncio.sleep(INTERVAL + SETTLE)
            figures = await beats(stage, seconds)
            beating[size] = max(figures["leader_percent"] - idle, 0.01)
    slope, _ = line(beating)
    return {
        "idle_percent": idle,
        "percent_per_1000_workers_at_5s": round(1000 * slope, 3),
        "joining": grows(joining, "n workers join", "CPU s of the leader"),
        "beating": grows(
            beating,
            f"heartbeats of n workers every {INTERVAL:g} s, less what an idle leader takes",
            "percent of a core",
        ),
    }


async def beats_idle(stage: Any, seconds: float) -> float:
    """What the leader takes with nobody there."""
    await asyncio.sleep(SETTLE)
    with stage.meter() as meter:
        await asyncio.sleep(seconds)
    return float(meter.percent("leader"))


async def _pipelines(sizes: Any, seconds: float) -> dict[str, Any]:
    """On a fleet that stays as it is."""
    deploying: dict[int, float] = {}
    resting: dict[int, float] = {}
    fleet = 200
    async with bed(interval=INTERVAL, joined=workers(fleet, 2 * sizes[-1] // fleet)) as stage:
        before = stage.resident_mb()["leader"]
        there, spent = 0, 0.0
        for size in sizes:
            with stage.meter() as meter:
                await stage.fill(f"g-{size}", size - there)
            there, spent = size, spent + meter.cpu["leader"]
            deploying[size] = spent
            await asyncio.sleep(INTERVAL + SETTLE)
            resting[size] = (await beats(stage, seconds))["leader_percent"]
        memory = (stage.resident_mb()["leader"] - before) * 1e6 / there
    slope, _ = line(resting)
    return {
        "leader_memory_bytes_per_pipeline": round(memory),
        "percent_per_1000_pipelines_that_run": round(1000 * slope, 3),
        "deploying": grows(deploying, "n pipelines are deployed, in groups of 100", "CPU s of the leader"),
        "resting": grows(
            resting, f"n pipelines run on {fleet} workers that beat every {INTERVAL:g} s", "percent of a core"
        ),
    }


async def _deaths(sizes: Any) -> dict[str, Any]:
    """In one cluster, one worker after another dies, each with twice as many pipelines as the one before."""
    spent: dict[str, dict[int, float]] = {"ours": {}, "seed": {}}
    slowest: dict[str, dict[int, float]] = {"ours": {}, "seed": {}}
    for kind, costs in spent.items():
        for size in sizes:
            async with bed() as stage:
                await stage.fleet.join(workers(1, size, seed=kind == "seed"))
                await stage.fill("g", size)
                await stage.fleet.join(workers(20, size // 10, first=1))
                await asyncio.sleep(SETTLE)
                figures = await kill(stage, "w-00000", size)
            costs[size] = figures["leader_us_each"] * size / 1e6
            slowest[kind][size] = figures["placed_s"]
    return {
        f"death_{kind}": grows(
            costs, f"n pipelines of a dead worker ({kind}) are placed anew", "CPU s of the leader"
        )
        | {"placed_s": {str(size): took for size, took in slowest[kind].items()}}
        for kind, costs in spent.items()
    }
