"""What is made of measured times: percentiles of one load, medians of rounds, targets. Pure.

A figure of several rounds is the median of the rounds' figures, so one bad moment of the machine does not
decide it; the smallest and the largest round stand beside it, so that nobody has to believe in a quiet
machine. A target compares two figures of the same run and says `met`; where one of them is missing (etcd is
not installed) it says why instead, and is neither met nor missed.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

Figures = dict[str, float]

SPREAD: Final = ("p50_ms", "per_second")
"""Figures whose smallest and largest round are told."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` (0..1) of all are not above, by nearest rank; raises ValueError on none."""
    if not values:
        raise ValueError("no values were measured, so there is no percentile")
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def milliseconds(seconds: Sequence[float]) -> Figures:
    """Median and 99th percentile, in ms."""
    return {
        "p50_ms": round(percentile(seconds, 0.5) * 1e3, 3),
        "p99_ms": round(percentile(seconds, 0.99) * 1e3, 3),
    }


def of_rounds(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The median round, figure by figure, with the spread of those in `SPREAD`."""
    figures: dict[str, Any] = {
        name: round(statistics.median(each[name] for each in rounds), 3)
        for name in rounds[0]
        if all(name in each for each in rounds)
    }
    for name in SPREAD:
        if name in figures:
            figures[f"{name}_range"] = [min(r[name] for r in rounds), max(r[name] for r in rounds)]
    return figures


def gaps(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and all of a row of times."""
    return {
        "rounds": len(seconds),
        "median_s": round(statistics.median(seconds), 3),
        "min_s": round(min(seconds), 3),
        "max_s": round(max(seconds), 3),
        "all_s": [round(each, 3) for each in seconds],
    }


def at_most(value: float | None, limit: float | None, what: str) -> dict[str, Any]:
    """A target: `value` does not exceed `limit`; None where there is no such figure."""
    return _target(value, limit, what, value is not None and limit is not None and value <= limit)


def at_least(value: float | None, limit: float | None, what: str) -> dict[str, Any]:
    """A target: `value` is not below `limit`; None where there is no such figure."""
    return _target(value, limit, what, value is not None and limit is not None and value >= limit)


def times(factor: float, figure: float | None) -> float | None:
    """A limit that is a multiple of another figure, if there is one."""
    return None if figure is None else round(factor * figure, 3)


def _target(value: float | None, limit: float | None, what: str, met: bool) -> dict[str, Any]:
    if value is None or limit is None:
        return {"target": what, "value": value, "limit": limit, "not_judged": "a figure is missing"}
    return {"target": what, "value": value, "limit": limit, "met": met}
