"""A group of 100 pipelines, from the POST to the answer that all of them run.

The programs differ, so each is parsed and checked; workers answer at once.
"""

from typing import Any, Final

from benchmarks.control.bed import GROUP, bed, workers
from benchmarks.raft.figures import at_most, gaps

TARGET: Final = 2.0
WORKERS: Final = 100


async def measure(*, rounds: int) -> dict[str, Any]:
    """`rounds` groups one after another, on `WORKERS` workers."""
    async with bed(joined=workers(WORKERS, rounds + 10)) as stage:
        await stage.deploy("warm")
        with stage.meter() as meter:
            took = [await stage.deploy(f"g-{number}") for number in range(rounds)]
        changed = await stage.leader_changed()
    return {
        "pipelines": GROUP,
        "workers": WORKERS,
        **gaps(took),
        **meter.figures(GROUP * rounds),
        "leader_changed": changed,
        "targets": {
            "slowest": at_most(
                round(max(took), 3),
                TARGET,
                f"slowest group of {GROUP} pipelines, POST to all running in s, at most",
            )
        },
    }
