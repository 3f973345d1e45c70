"""The aggregates: what a window remembers for each, how an event changes it, what comes out.

A window is a list; an aggregate asks for slots in it and shares them with others over the same argument
(`avg(x)` and `sum(x)` keep one sum). `update` is code run for an argument `{v}` that has a value; `{x}`
names the slot x. Events in which the argument has no value (missing, null, of the wrong type) are left out
by that aggregate. Slots that gather values are bounded by `MAX_VALUES`; what does not fit is counted in
`values_dropped`. To add an aggregate, add a row to `AGGREGATES`, and to `SLOTS` if it remembers something
new.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vpl.values import NUMBERS

MAX_VALUES = 10_000

_BOUNDED = "if len({{{slot}}}) < {limit}: {{{slot}}}.{method}\nelse: values_dropped += 1"


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in a window: Python source of its first content, its update, and whether stored data fits it.

    A slot whose content is a set is saved as a list (`is_set`).
    """

    fresh: str
    update: str
    fits: Callable[[Any], bool]
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`argument` says what the argument must be: "none", "optional", "any", "number" or "float"."""

    argument: str
    slots: tuple[str, ...]
    result: str
    parameter: tuple[float, float] | None = None


def present(value: Any) -> Any:
    """`value`, unless the window saw none."""
    if value is None:
        raise LookupError("no event of the window had a value")
    return value


def deviation(count: int, squares: float) -> float:
    """The sample standard deviation (n - 1); of one value 0.0, of none a mismatch."""
    return math.sqrt(squares / (count - 1)) if count > 1 else 0.0 / count


def percentile(numbers: list[float], percent: float) -> float:
    """The value below which `percent` % of the values lie, interpolated between neighbours."""
    ordered = sorted(numbers)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def ema_of(numbers: list[float], alpha: float) -> float:
    """The exponential moving average of numbers that were kept, oldest first."""
    value = present(numbers[0] if numbers else None)
    for number in numbers[1:]:
        value += alpha * (number - value)
    return float(value)


def _is_count(value: Any) -> bool:
    return value.__class__ is int and value >= 0


def _is_number(value: Any) -> bool:
    return value.__class__ in NUMBERS


def _is_number_or_null(value: Any) -> bool:
    return value is None or value.__class__ in NUMBERS


def _is_numbers(value: Any) -> bool:
    return value.__class__ is list and len(value) <= MAX_VALUES and all(map(_is_number, value))


def _is_list(value: Any) -> bool:
    return value.__class__ is list and len(value) <= MAX_VALUES


SLOTS: dict[str, Slot] = {
    "events": Slot("0", "{events} += 1", _is_count),
    "count": Slot("0", "{count} += 1", _is_count),
    "sum": Slot("0", "{sum} += {v}", _is_number),
    "min": Slot("None", "if {min} is None or {v} < {min}: {min} = {v}", _is_number_or_null),
    "max": Slot("None", "if {max} is None or {v} > {max}: {max} = {v}", _is_number_or_null),
    "first": Slot("None", "if {first} is None: {first} = {v}", lambda _: True),
    "last": Slot("None", "{last} = {v}", lambda _: True),
    # Welford: `count` stands before it in `slots`, so it holds this event already.
    "mean": Slot(
        "0.0", "d = {v} - {mean}\n{mean} += d / {count}\n{squares} += d * ({v} - {mean})", _is_number
    ),
    "squares": Slot("0.0", "", _is_number),
    "ema": Slot(
        "None", "{ema} = {v} if {ema} is None else {ema} + {alpha} * ({v} - {ema})", _is_number_or_null
    ),
    "numbers": Slot(
        "[]", _BOUNDED.format(slot="numbers", limit=MAX_VALUES, method="append({v})"), _is_numbers
    ),
    "values": Slot("[]", _BOUNDED.format(slot="values", limit=MAX_VALUES, method="append({v})"), _is_list),
    "distinct": Slot(
        "set()", _BOUNDED.format(slot="distinct", limit=MAX_VALUES, method="add(key_of({v}))"), _is_list, True
    ),
}

AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate("optional", ("count",), "{count}"),
    "sum": Aggregate("number", ("sum",), "{sum}"),
    "avg": Aggregate("number", ("sum", "count"), "({sum} / {count})"),
    "min": Aggregate("number", ("min",), "present({min})"),
    "max": Aggregate("number", ("max",), "present({max})"),
    "first": Aggregate("any", ("first",), "present({first})"),
    "last": Aggregate("any", ("last",), "present({last})"),
    "stddev": Aggregate("float", ("count", "mean", "squares"), "deviation({count}, {squares})"),
    "count_distinct": Aggregate("any", ("distinct",), "len({distinct})"),
    "ema": Aggregate("float", ("ema",), "present({ema})", (1, 1_000_000)),
    "percentile": Aggregate("float", ("numbers",), "percentile({numbers}, {parameter})", (0, 100)),
    "collect": Aggregate("any", ("values",), "{values}"),
}

MERGED: dict[str, Aggregate] = {
    "ema of numbers": Aggregate("float", ("numbers",), "ema_of({numbers}, {alpha})", (1, 1_000_000)),
}
"""What an aggregate keeps instead where its window is put together of panes."""
