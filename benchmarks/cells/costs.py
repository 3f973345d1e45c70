"""What a leader pays for what, taken out of runs of `benchmarks control`. Pure.

Only runs that vary one thing at a time are used (`rates`, `by_deaths`, `state`); what `heartbeats`
and `deaths` measured at 1,000 and 10,000 workers is kept apart, to hold the simulation against.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds of the leader, unless said otherwise.

    Attributes:
        idle: of each second, whoever is there.
        batch: for being woken to read what has come, however much.
        beat: for a heartbeat, its answer included; beat_pipeline: more for each pipeline that it lists.
        pass_worker: of a pass of the control loop, for each worker.
        place: for a pipeline taken from a dead worker until it runs elsewhere.
        worker_bytes, pipeline_bytes: of memory, not seconds; worker_stored, pipeline_stored: of a snapshot.
    """

    idle: float
    batch: float
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
        state = result["state"]
        size, spent = list(result["by_deaths"]["death_ours"]["points"].items())[-1]
        return cls(
            **result["rates"]["costs"],
            place=spent / int(size),
            worker_bytes=state["memory_bytes"]["worker"],
            pipeline_bytes=state["memory_bytes"]["pipeline"],
            worker_stored=state["snapshot_bytes"]["worker"],
            pipeline_stored=state["snapshot_bytes"]["pipeline"],
        )
