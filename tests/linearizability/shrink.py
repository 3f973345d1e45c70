"""Makes a history that is not linearizable small, so that a person can see why.

A part of a history proves something only if the whole could not be fine while the part is not. Each step here
keeps to that: were the history linearizable, so would be what the step makes of it.

    cut        Everything up to an instant: later invocations go; what is pending then has an unknown outcome.
    forget     The history had some values never been (`Model.forget`).
    leave out  A read. It changes nothing.

A step is kept if the smaller history is still at fault. Cuts are tried by bisection (a longer prefix is at
fault if a shorter one is), values in halves, quarters and so on. Time is bounded; the history is small enough
whenever it ends.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.linearizability.history import Operation
from tests.linearizability.model import Model
from tests.linearizability.search import GaveUp, Search

_Item = TypeVar("_Item")
_TRY_SECONDS = 2.0


def shrink(operations: Sequence[Operation], model: Model, initial: object, seconds: float) -> list[Operation]:
    """A small history that is at fault because `operations`, the history of one key, is."""
    deadline = time.monotonic() + seconds

    def at_fault(history: Sequence[Operation]) -> bool:
        now = time.monotonic()
        if now >= deadline:
            return False
        try:
            return not Search(history, model, initial).run(min(deadline, now + _TRY_SECONDS)).linearizable
        except GaveUp:
            return False

    history = _shortest_prefix(list(operations), model, at_fault)
    values = list(dict.fromkeys(value for one in history for value in model.mentions(one)))
    whole = history
    kept = _fewest(values, lambda some: at_fault(_without(whole, values, some, model)))
    if len(kept) < len(values):
        history = _without(whole, values, kept, model)
    reads = [one for one in history if one.kind in model.reads]
    others = [one for one in history if one.kind not in model.reads]
    needed = _fewest(reads, lambda some: at_fault([*others, *some]))
    return sorted([*others, *needed], key=lambda one: one.invoked)


def _without(
    history: Sequence[Operation], values: Sequence[object], kept: Sequence[object], model: Model
) -> list[Operation]:
    return model.forget(history, frozenset(values) - frozenset(kept))


def _shortest_prefix(
    history: list[Operation], model: Model, at_fault: Callable[[Sequence[Operation]], bool]
) -> list[Operation]:
    returns = sorted({one.returned for one in history if one.returned is not None})
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        if at_fault(cut(history, returns[middle], model)):
            high = middle
        else:
            low = middle + 1
    prefix = cut(history, returns[high], model)
    return prefix if at_fault(prefix) else history


def cut(history: Sequence[Operation], instant: float, model: Model) -> list[Operation]:
    """What was known at `instant`: a history that is linearizable if `history` is."""
    prefix: list[Operation] = []
    for one in history:
        if one.returned is not None and one.returned <= instant:
            prefix.append(one)
        elif one.invoked <= instant and one.kind not in model.reads:
            prefix.append(replace(one, returned=None))
    return prefix


def _fewest(items: Sequence[_Item], enough: Callable[[Sequence[_Item]], bool]) -> list[_Item]:
    """A part of `items` that is enough, and of which no single one can go (Zeller's ddmin, complements)."""
    kept = list(items)
    size = max(1, len(kept) // 2)
    while kept:
        start, before = 0, len(kept)
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if enough(rest):
                kept = rest
            else:
                start += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
