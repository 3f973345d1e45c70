"""Events through NATS and workers: how many a second, what a hop adds, what a second worker brings.

`throughput`: a filter in one worker beside the same filter as a bare nats-py callback. `hop`: from one
pipeline to the next. `keys`: two instances that share by key. All processes, the nats-server and the load
share one machine; what is compared takes turns in the same run, and a figure is the median of its slices.
"""

from typing import Any, Final

from benchmarks import WrongUsage
from benchmarks.routing import hop, keys, throughput

PARTS: Final = ("throughput", "hop", "keys")


def run(
    parts: str = ",".join(PARTS),
    events: int = 200_000,
    rounds: int = 5,
    passing_percent: int = 100,
    round_trips: int = 1500,
) -> dict[str, Any]:
    """Each of `parts`.

    Args:
        events: of a slice of `throughput`, of which `passing_percent` pass the filter, and of `keys`.
        round_trips: of a slice of `hop`.
    """
    wanted = parts.split(",")
    if unknown := [part for part in wanted if part not in PARTS]:
        raise WrongUsage(f"{unknown[0]!r} is no part: use {', '.join(PARTS)}")
    found: dict[str, Any] = {}
    if "throughput" in wanted:
        found["throughput"] = throughput.measure(events, rounds, passing_percent)
    if "hop" in wanted:
        found["hop"] = hop.measure(round_trips, rounds)
    if "keys" in wanted:
        found["keys"] = keys.measure(events // 2, rounds)
    return found
