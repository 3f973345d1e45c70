"""One trial: a cluster, rounds of faults and operations with a calm after each, and the verdict.

The order at the end is a contract: the last calm has lifted all faults and compared, then the trail and the
outputs are judged, then the processes end, and only then are the logs read.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.chaos import plan
from tests.chaos.calm import Calm, Times
from tests.chaos.fleet import Fleet
from tests.chaos.outputs import Load
from tests.chaos.stage import Stage
from tests.chaos.trail import Trail
from tests.chaos.writes import Writes
from tests.support.linked import AS_SHIPPED, Cluster
from tests.support.poll import until
from tests.support.raft_watch import RaftWatch

_START: Final = 60.0
MOST_RSS: Final = 400.0
"""MB of one coordinator."""


@dataclass(kw_only=True)
class Trial:
    """What a trial found; `complaints` is empty when all promises were kept. `handed_on`: how often a copy
    put out after an older one of its instance had; `passed`: see `Calm`; `rss`: MB of the coordinators, at
    each calm."""

    seed: int
    directory: Path
    seconds: float = 0.0
    rounds: int = 0
    times: list[Times] = field(default_factory=list)
    actions: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, dict[int, int]] = field(default_factory=dict)
    acknowledged: int = 0
    attempts: int = 0
    outputs: int = 0
    handed_on: int = 0
    passed: list[float] = field(default_factory=list)
    terms: int = 0
    refused_starts: int = 0
    rollbacks: list[str] = field(default_factory=list)
    rss: list[list[float]] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


async def run(
    directory: Path,
    *,
    seed: int,
    seconds: float,
    round_seconds: float = 25.0,
    progress: Callable[[str], None] = lambda line: None,
) -> Trial:
    """Run one trial in `directory`; no round begins after `seconds`.

    Raises:
        AssertionError: the cluster did not even start.
    """
    trial = Trial(seed=seed, directory=directory)
    began = time.monotonic()

    def tell(line: str) -> None:
        trial.timeline.append(f"{time.monotonic() - began:7.1f} s  {line}")
        progress(line)

    async with (
        Cluster(directory, program=AS_SHIPPED, cluster_id="chaos") as cluster,
        Fleet(cluster, directory) as fleet,
    ):
        for number in range(plan.WORKERS):
            await fleet.join(f"w{number}")
        await until(fleet.all_ready, timeout=_START, what="all workers registered")
        rng = random.Random(f"{seed}/stage")
        writes = Writes(cluster, rng, tell)
        stage = Stage(cluster, fleet, writes, rng, tell)
        load, trail, watch = Load(cluster.nats.url), Trail(cluster), RaftWatch(cluster)
        calm = Calm(cluster, fleet, stage, writes, load, tell)
        async with load.running(), _beside(watch.run()), _beside(trail.run()):
            over = time.monotonic() + seconds
            try:
                for this in plan.rounds(seed, cluster.nats.url, seconds=round_seconds):
                    tell(f"round {this.number}")
                    await stage.play(this)
                    await calm.come(stay_dead=this.stay_dead)
                    trial.rounds += 1
                    trial.rss.append(_rss(cluster))
                    if time.monotonic() > over or calm.complaints:
                        break
                await trail.read()
            finally:
                await stage.close()
        trial.complaints += [
            *calm.complaints,
            *writes.complaints,
            *trail.complaints(writes.keys, writes.done - writes.unchanged),
        ]
        trial.complaints += [*load.witness.complaints, *load.witness.two_at_once(), *watch.complaints]
        trial.complaints += [*cluster.deaths, *fleet.deaths]
        trial.refused_starts = cluster.refused_starts + sum(node.refused_starts for node in fleet.nodes)
    trial.complaints += [*cluster.alarms, *fleet.alarms]
    most = max((max(each) for each in trial.rss if each), default=0.0)
    if most > MOST_RSS:
        trial.complaints.append(f"a coordinator took {most:.0f} MB: more than {MOST_RSS:g}")
    trial.times, trial.terms, trial.rollbacks = calm.times, watch.terms, calm.rollbacks
    trial.acknowledged, trial.attempts = writes.done.total(), writes.attempts
    trial.outputs, trial.handed_on = load.witness.count, load.witness.successions
    trial.passed = calm.passed
    for action in stage.done:
        trial.actions[action.kind] = trial.actions.get(action.kind, 0) + 1
    for (kind, status), count in sorted(writes.outcomes.items()):
        trial.outcomes.setdefault(kind, {})[status] = count
    trial.seconds = time.monotonic() - began
    return trial


def _rss(cluster: Cluster) -> list[float]:
    found = []
    for node in cluster.nodes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if node.pid is not None:
                found.append(round(psutil.Process(node.pid).memory_info().rss / 1e6, 1))
    return found


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` until the block ends; what it raised by then is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
