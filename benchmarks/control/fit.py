"""How a cost grows with the size: the exponent of a power law through measured points. Pure.

`cost = a * n**k`: 1 is linear, n log n shows as about 1.1 over the sizes that fit on one machine, 2 is
quadratic. The fit is a straight line through the logarithms (least squares), so each point counts by its
ratio and not by its height.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from benchmarks.raft.figures import at_most

EXPONENT: Final = 1.15
"""n log n between 1,000 and 10,000 fits to 1.12; what is above this grows faster than that."""


def exponent(points: Mapping[int, float]) -> float:
    """Of the power law through (size, cost).

    Raises:
        ValueError: there are not two sizes, or one of the costs is not above 0.
    """
    if len(points) < 2 or min(points.values()) <= 0:
        raise ValueError(f"no exponent goes through {dict(points)}: give two sizes and costs above 0")
    xs = [math.log(size) for size in points]
    ys = [math.log(cost) for cost in points.values()]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return over / sum((x - mean_x) ** 2 for x in xs)


def line(points: Mapping[int, float]) -> tuple[float, float]:
    """What a thing costs, and what is there without any: the slope and the intercept of a straight line."""
    mean_x, mean_y = sum(points) / len(points), sum(points.values()) / len(points)
    over = sum((x - mean_x) * (y - mean_y) for x, y in points.items())
    slope = over / sum((x - mean_x) ** 2 for x in points)
    return slope, mean_y - slope * mean_x


def grows(points: Mapping[int, float], what: str, unit: str) -> dict[str, Any]:
    """The points, their exponent, and whether it is one of n log n or less."""
    power = round(exponent(points), 3)
    return {
        "what": what,
        "unit": unit,
        "points": {str(size): round(cost, 4) for size, cost in points.items()},
        "exponent": power,
        "targets": {"exponent": at_most(power, EXPONENT, f"{what}: exponent of the growth, at most")},
    }


def doubled(first: int, last: int) -> Sequence[int]:
    """first, twice that, and so on, up to last."""
    return [first * 2**step for step in range(int(math.log2(last / first)) + 1)]
