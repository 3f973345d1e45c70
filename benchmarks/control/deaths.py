"""A worker with a thousand pipelines dies: how long from its being found dead until all run elsewhere.

Once a worker of ours, and once one of the seed's, which leaves a stray for each copy. Detection is told too:
from the kill until the coordinators write down that it is unhealthy.
"""

import asyncio
import time
from typing import Any, Final

from benchmarks.control.bed import PATIENCE, SETTLE, Bed, bed, workers
from benchmarks.raft.figures import at_most

TARGET: Final = 5.0
TAKERS: Final = 20


async def measure(*, pipelines: int) -> dict[str, Any]:
    """Both kinds, each in a cluster of its own."""
    result = {
        "ours": await death(pipelines),
        "seed": await death(pipelines, seed=True),
    }
    return {
        "pipelines": pipelines,
        "takers": TAKERS,
        **result,
        "targets": {
            kind: at_most(
                figures["placed_s"],
                TARGET,
                f"{pipelines:,} pipelines of a dead worker ({kind}) elsewhere, s after detection, at most",
            )
            for kind, figures in result.items()
        },
    }


async def death(pipelines: int, *, seed: bool = False) -> dict[str, Any]:
    """One worker holds all, 20 others could; it dies."""
    async with bed() as stage:
        await stage.fleet.join(workers(1, pipelines, seed=seed))
        await stage.fill("g", pipelines)
        await stage.fleet.join(workers(TAKERS, pipelines // 10, first=1))
        await asyncio.sleep(SETTLE)
        return await kill(stage, "w-00000", pipelines) | {"leader_changed": await stage.leader_changed()}


async def kill(stage: Bed, worker: str, pipelines: int) -> dict[str, Any]:
    """Kill it; the figures once all it held runs elsewhere."""
    stage.fleet.forget_counts()
    began = time.time()
    with stage.meter() as meter:
        await stage.fleet.kill(worker)
        found = await _found_dead(stage, worker)
        while stage.fleet.commands["deploy"] < pipelines:
            await asyncio.sleep(0.005)
            if time.time() > found + PATIENCE:
                raise TimeoutError(f"{stage.fleet.commands} came within {PATIENCE:g} s after the death")
        last_deploy = time.time()
        total = pipelines
        await stage.until_running(total)
        placed = time.time()
    return {
        "detected_s": round(found - began, 3),
        "placed_s": round(placed - found, 3),
        "last_deploy_s": round(last_deploy - found, 3),
        "deploys": stage.fleet.commands["deploy"],
        **meter.figures(pipelines),
    }


async def _found_dead(stage: Bed, worker: str) -> float:
    """When, in seconds since 1970, by the trail of decisions, asked of a follower. Where a thousand further
    events have pushed that one out already: when it was last seen alive, which is earlier."""
    deadline, follower = time.monotonic() + PATIENCE, stage.followers[0]
    alive = time.time()
    while time.monotonic() < deadline:
        trail = await stage.get("/events", of=follower, what="worker_unhealthy", about=worker)
        if trail["events"]:
            return float(trail["events"][-1]["at"]) / 1e3
        asked = time.time()
        if (await stage.get(f"/workers/{worker}", of=follower))["status"] == "unhealthy":
            return alive
        alive = asked
        await asyncio.sleep(0.005)
    raise TimeoutError(f"{worker} is not called unhealthy within {PATIENCE:g} s after its death")
