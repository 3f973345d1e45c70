"""What a round of a drill measured, and whether it was good enough. No I/O.

A figure that was not reached at all is `None`, which misses every objective: what never came back must not
pass for what came back at once.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Round = Mapping[str, float | None]
"""The figures of one round by name: seconds (`*_s`) or counts."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The most that a figure may be in any round."""

    figure: str
    most: float

    def met(self, rounds: Sequence[Round]) -> bool:
        """Every round has the figure, and none is above; no rounds prove nothing."""
        values = [one.get(self.figure) for one in rounds]
        return bool(values) and all(value is not None and value <= self.most for value in values)


def lost_and_doubled(sent: Iterable[int], received: Iterable[int]) -> tuple[int, int]:
    """How many of the numbers sent never came out, and how many outputs were one too many."""
    counts = Counter(received)
    return len(set(sent) - counts.keys()), sum(count - 1 for count in counts.values())


def summary(rounds: Sequence[Round], objectives: Sequence[Objective]) -> dict[str, Any]:
    """Median and maximum of each figure over the rounds that have it, and each objective with its verdict."""
    names = dict.fromkeys(name for one in rounds for name in one)
    known = {name: [value for one in rounds if (value := one.get(name)) is not None] for name in names}
    return {
        "rounds": [dict(one) for one in rounds],
        "figures": {
            name: {"median": statistics.median(values), "max": max(values)} if values else None
            for name, values in known.items()
        },
        "objectives": [
            {"figure": one.figure, "most": one.most, "met": one.met(rounds)} for one in objectives
        ],
        "met": all(one.met(rounds) for one in objectives),
    }
