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


def shares(terms: Sequence[Mapping[str, float]], wholes: Sequence[float]) -> dict[str, float]:
    """What one of each costs, when `wholes` are sums of `terms` (how many there are of each, by name): the
    costs, none below 0, with the least squares of the errors as ratios. A term whose cost would be below 0
    costs nothing.

    Raises:
        ValueError: the sums do not tell the terms apart.
    """
    names = list(terms[0])
    while True:
        rows = [[each[name] / whole for name in names] for each, whole in zip(terms, wholes, strict=True)]
        found = dict(zip(names, _solved(rows), strict=True))
        least = min(found, key=lambda name: found[name])
        if found[least] >= 0:
            return {name: found.get(name, 0.0) for name in terms[0]}
        names.remove(least)


def _solved(rows: Sequence[Sequence[float]]) -> list[float]:
    """The x for which each row times x is nearest to 1: the normal equations, by Gauss-Jordan, with columns
    brought to a like size before."""
    width = len(rows[0])
    sizes = [max(abs(row[n]) for row in rows) or 1.0 for n in range(width)]
    scaled = [[value / size for value, size in zip(row, sizes, strict=True)] for row in rows]
    matrix = [
        [sum(row[n] * row[m] for row in scaled) for m in range(width)] + [sum(row[n] for row in scaled)]
        for n in range(width)
    ]
    for n in range(width):
        pivot = max(range(n, width), key=lambda m: abs(matrix[m][n]))
        matrix[n], matrix[pivot] = matrix[pivot], matrix[n]
        if abs(matrix[n][n]) < 1e-9:
            raise ValueError("the points do not tell the costs apart: vary each of them alone")
        matrix[n] = [value / matrix[n][n] for value in matrix[n]]
        for m in range(width):
            if m != n:
                matrix[m] = [a - matrix[m][n] * b for a, b in zip(matrix[m], matrix[n], strict=True)]
    return [matrix[n][width] / sizes[n] for n in range(width)]


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
