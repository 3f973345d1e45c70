"""What a heartbeat costs the leader, taken apart: one cluster at rates, batches, lists and sizes of which one
is changed at a time.

What the leader takes in a second is taken to be a sum:

    idle + workers * passes a second * pass + batches * batch + heartbeats * beat + pipelines listed * listed

A *batch* is what comes in one read of the socket: an event loop that sleeps is woken, reads, and writes the
answers, however many there are. That is dearer than any heartbeat in it, so a rate alone says little: the
fleet sends all that is due every `tick` seconds, and the tick is varied, too. The costs are those with which
the sum meets all measured points best, each by its ratio (`fit.shares`); the share of each point that the sum
misses is told.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.control.bed import Bed, bed, workers
from benchmarks.control.fit import shares
from benchmarks.control.heartbeats import beats
from coordinator.controllers.loop import INTERVAL as PASS_INTERVAL

ASKED: Final = 5.0
"""Seconds between heartbeats that the coordinators ask for; more often is a load and no offence."""
SLOW, USUAL, FAST = 0.02, 0.005, 0.001
"""Ticks in seconds: some 50, 200 and up to 1,000 batches a second."""
FEW: Final = ((5.0, SLOW), (1.0, SLOW), (1.0, USUAL), (1.0, FAST))
LISTED: Final = ((1.0, USUAL), (1.0, SLOW), (5.0, SLOW))
MANY: Final = ((5.0, SLOW), (5.0, FAST), (2.5, USUAL))
"""Interval and tick of each point: of the first workers, of them with pipelines, of all workers."""


async def measure(*, few: int, pipelines: int, many: int, seconds: float) -> dict[str, Any]:
    """`few` workers; `pipelines` on them; then `many` workers. Each point takes `seconds`."""
    points: list[dict[str, float]] = []
    async with bed(interval=ASKED) as stage:
        await stage.fleet.join(workers(few, 2 * pipelines // few + 2))
        await asyncio.sleep(ASKED + 1)
        points += [await _point(stage, seconds, *each, listed=0) for each in FEW]
        await stage.fill("g", pipelines)
        points += [await _point(stage, seconds, *each, listed=pipelines / few) for each in LISTED]
        await stage.fleet.join(workers(many - few, 2, first=few))
        await asyncio.sleep(ASKED + 1)
        points += [await _point(stage, seconds, *each, listed=pipelines / many) for each in MANY]
        changed = await stage.leader_changed()
    return {"points": points, "leader_changed": changed, **fitted(points)}


async def _point(
    stage: Bed, seconds: float, interval: float, tick: float, *, listed: float
) -> dict[str, float]:
    """`listed`: pipelines in a heartbeat, on average."""
    stage.fleet.pace(interval, tick)
    await asyncio.sleep(interval + 0.5)
    figures = await beats(stage, seconds)
    return {
        "workers": len(stage.fleet.workers),
        "interval_s": interval,
        "tick_s": tick,
        "beats_per_s": figures["beats"] / seconds,
        "batches_per_s": figures["batches"] / seconds,
        "listed_per_s": figures["beats"] / seconds * listed,
        "leader_percent": figures["leader_percent"],
    }


def fitted(points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The costs in seconds of a core, and how far the sum of them is from the points. Pure.

    Raises:
        ValueError: the points do not tell the costs apart.
    """
    terms = [
        {
            "idle": 1.0,
            "pass_worker": each["workers"] / PASS_INTERVAL,
            "batch": each["batches_per_s"],
            "beat": each["beats_per_s"],
            "beat_pipeline": each["listed_per_s"],
        }
        for each in points
    ]
    measured = [each["leader_percent"] / 100 for each in points]
    costs = shares(terms, measured)
    missed = [
        100 * (sum(costs[name] * count for name, count in each.items()) / whole - 1)
        for each, whole in zip(terms, measured, strict=True)
    ]
    return {"costs": costs, "missed_percent": [round(each, 1) for each in missed]}
