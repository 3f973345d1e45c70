"""What a leader pays for what, taken out of runs of `benchmarks control`. Pure.

Only runs that vary one thing are used (`by_workers`, `by_pipelines`, `by_deaths`, `state`); what `heartbeats`
and `deaths` measured at 1,000 and 10,000 workers is kept apart, to hold the simulation against.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from coordinator.controllers.loop import INTERVAL

BEAT_INTERVAL: Final = 5.0
"""Seconds between the heartbeats in `by_workers` and `by_pipelines`."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of the leader, unless said otherwise.

    Attributes:
        idle: of each second, with nobody there.
        beat: for a heartbeat, its answer included; beat_pipeline: more for each pipeline that it lists.
        pass_worker: of a pass of the control loop, for each worker.
        place: for a pipeline taken from a dead worker until it runs elsewhere.
        worker_bytes, pipeline_bytes: of memory, not seconds; worker_stored, pipeline_stored: of a snapshot.
    """

    idle: float
    beat: float
    beat_pipeline: float
    pass_worker: float
    place: float
    worker_bytes: float
    pipeline_bytes: float
    worker_stored: float
    pipeline_stored: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "Costs":
        """From the parts of a run.

        Raises:
            KeyError: one of the parts that are needed is missing.
        """
        workers, pipelines, state = result["by_workers"], result["by_pipelines"], result["state"]
        per_second = workers["percent_per_1000_workers_at_5s"] / 100 / 1_000
        pass_worker = state["passes"]["us_per_worker"] / 1e6
        size, spent = list(result["by_deaths"]["death_ours"]["points"].items())[-1]
        return cls(
            idle=workers["idle_percent"] / 100,
            beat=per_second * BEAT_INTERVAL - pass_worker / INTERVAL * BEAT_INTERVAL,
            beat_pipeline=pipelines["percent_per_1000_pipelines_that_run"] / 100 / 1_000 * BEAT_INTERVAL,
            pass_worker=pass_worker,
            place=spent / int(size),
            worker_bytes=state["memory_bytes"]["worker"],
            pipeline_bytes=state["memory_bytes"]["pipeline"],
            worker_stored=state["snapshot_bytes"]["worker"],
            pipeline_stored=state["snapshot_bytes"]["pipeline"],
        )
