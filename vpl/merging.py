"""Panes: a moving window is a row of small windows side by side, and its content is theirs, merged.

So an event is added once, to the pane it falls into, whatever the number of windows that see it; only when a
window closes are its panes (at most `MAX_PANES`) merged, slot by slot. What an aggregate keeps of a pane must
therefore say all about it that a later merge needs; an `ema` keeps the numbers themselves.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from vpl.aggregates import MAX_VALUES
from vpl.values import MISMATCH

MAX_PANES = 1_000

Pane = list[Any]
Merge = Callable[[Sequence[Pane]], Pane]


def merger(slots: tuple[str, ...], heads: int, lose: Callable[[int], None]) -> Merge:
    """The function that merges panes, oldest first, into a new window of `heads` entries, None, and the
    slots.

    `lose` is told how many gathered values did not fit into the merged window.
    """
    kinds = [slot.partition(" ")[0] for slot in slots]
    rules: list[Callable[[Sequence[Pane]], Any]] = []
    for at, (slot, kind) in enumerate(zip(slots, kinds, strict=True), heads):
        if kind in ("mean", "squares"):
            count, mean, squares = (heads + slots.index(slot.replace(kind, name, 1)) for name in _SPREAD)
            rules.append(partial(_spread, count, mean, squares, kind == "squares"))
        elif kind in ("numbers", "values"):
            rules.append(partial(_gathered, at, lose))
        elif kind == "distinct":
            rules.append(partial(_distinct, at, lose))
        else:
            rules.append(partial(_folded, at, _FOLDS[kind]))
    return lambda panes: [None] * heads + [rule(panes) for rule in rules]


_SPREAD = ("count", "mean", "squares")


def _folded(at: int, fold: Callable[[Any, Any], Any], panes: Sequence[Pane]) -> Any:
    value = panes[0][at]
    for pane in panes[1:]:
        try:
            value = fold(value, pane[at])
        except MISMATCH:  # a sum beyond the range of floats: what does not fit is left out, as event by event
            continue
    return value


def _smaller(a: Any, b: Any) -> Any:
    return b if a is None or (b is not None and b < a) else a


def _larger(a: Any, b: Any) -> Any:
    return b if a is None or (b is not None and b > a) else a


_FOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "events": lambda a, b: a + b,
    "count": lambda a, b: a + b,
    "sum": lambda a, b: a + b,
    "min": _smaller,
    "max": _larger,
    "first": lambda a, b: b if a is None else a,
    "last": lambda a, b: a if b is None else b,
}


def _spread(count: int, mean: int, squares: int, want_squares: bool, panes: Sequence[Pane]) -> float:
    """Chan's rule for the mean and the sum of squared distances of two sets."""
    n, m, s = 0, 0.0, 0.0
    for pane in panes:
        if more := pane[count]:
            d = pane[mean] - m
            n += more
            m += d * more / n
            s += pane[squares] + d * d * (n - more) * more / n
    return s if want_squares else m


def _gathered(at: int, lose: Callable[[int], None], panes: Sequence[Pane]) -> list[Any]:
    total = sum(len(pane[at]) for pane in panes)
    if total > MAX_VALUES:
        lose(total - MAX_VALUES)
    return list(islice(chain.from_iterable(pane[at] for pane in panes), MAX_VALUES))


def _distinct(at: int, lose: Callable[[int], None], panes: Sequence[Pane]) -> set[Any]:
    whole: set[Any] = set().union(*(pane[at] for pane in panes))
    if len(whole) > MAX_VALUES:
        lose(len(whole) - MAX_VALUES)
        whole = set(islice(whole, MAX_VALUES))
    return whole
