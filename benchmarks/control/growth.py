"""Costs against the number of workers and of pipelines, at n, 2n, 4n, ...: nothing grows faster than n log n.

Each cost is the leader's processor time, which other load on the machine hardly touches.
"""

import asyncio
from statistics import median
from typing import Any, Final

from benchmarks.control.bed import SETTLE, Bed, bed, workers
from benchmarks.control.deaths import kill
from benchmarks.control.fit import doubled, grows, line
from benchmarks.control.heartbeats import beats
from benchmarks.control.rates import SLOW

INTERVAL: Final = 5.0
FEW: Final = 16
"""A part of so many of the workers is there before the others come."""
LOOKS: Final = 3


async def by_workers(*, largest: int, seconds: float) -> dict[str, Any]:
    """Workers join, size by size; after each step heartbeats are measured for so many `seconds`.

    Some workers are there from the beginning, enough that the leader is woken as often as it ever will be.
    What they cost is the constant part, and is taken off.
    """
    sizes = doubled(largest // 8, largest)
    few = largest // FEW
    joining: dict[int, float] = {}
    beating: dict[int, float] = {}
    async with bed(interval=INTERVAL) as stage:
        idle = await _idle(stage, seconds)
        await stage.fleet.join(workers(few, 10))
        others = constant = await _beating(stage, seconds)
        there, spent = 0, 0.0
        for size in sizes:
            with stage.meter() as meter:
                await stage.fleet.join(workers(size - there, 10, first=few + there))
            spent += meter.cpu["leader"] - others / 100 * meter.seconds
            there, joining[size] = size, spent
            others = await _beating(stage, seconds)
            beating[size] = max(others - constant, 0.01)
    slope, _ = line(beating)
    return {
        "idle_percent": idle,
        "constant_percent": constant,
        "percent_per_1000_workers_at_5s": round(1000 * slope, 3),
        "joining": grows(joining, "n workers join, less the heartbeats of others", "CPU s of the leader"),
        "beating": grows(
            beating,
            f"heartbeats of n workers every {INTERVAL:g} s, beside those of {few}",
            "percent of a core",
        ),
    }


async def _beating(stage: Bed, seconds: float) -> float:
    """Percent of a core that the heartbeats of all there take: the median of some looks."""
    stage.fleet.pace(INTERVAL, SLOW)
    await asyncio.sleep(INTERVAL + SETTLE)
    looks = [(await beats(stage, seconds / LOOKS))["leader_percent"] for _ in range(LOOKS)]
    return float(median(looks))


async def _idle(stage: Bed, seconds: float) -> float:
    """What the leader takes with nobody there."""
    await asyncio.sleep(SETTLE)
    with stage.meter() as meter:
        await asyncio.sleep(seconds)
    return float(meter.percent("leader"))


async def by_pipelines(*, largest: int, seconds: float) -> dict[str, Any]:
    """Pipelines are deployed, size by size, on a fleet that stays as it is."""
    sizes = doubled(largest // 8, largest)
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


async def by_deaths(*, largest: int) -> dict[str, Any]:
    """A worker dies that holds so many, each time in a fresh cluster."""
    sizes = doubled(largest // 8, largest)
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
