"""The functions of the language: name -> how many arguments, what comes out, and the code.

A function checks its own arguments and raises a mismatch (`vpl.values.MISMATCH`) for what it is not made for.
None of them keeps state, reads a clock, or can be made to use much memory: texts and lists have limits.
`is_null` and `coalesce` are not here: they look at expressions that may have no value (`vpl.expressions`).
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from vpl import values
from vpl.patterns import matches
from vpl.values import integer, number, short, sized, text

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Function:
    """`result` is a type name of `vpl.expressions`, "any" when it depends on the arguments."""

    call: Callable[..., Any]
    min_args: int
    max_args: int
    result: str


def _round(x: Any, digits: Any = 0) -> Any:
    """Half away from zero, of the number as it is written; an integer when no digits are asked for."""
    if not 0 <= integer(digits) <= 15:
        raise ValueError("round() takes 0 to 15 digits")
    if number(x).__class__ is int:
        return x
    if digits == 0:
        return int(Decimal(repr(x)).to_integral_value(ROUND_HALF_UP))
    if abs(x) >= 1e15:
        return x
    return float(Decimal(repr(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def _extreme(choose: Callable[[Any], Any]) -> Callable[..., Any]:
    def extreme(*args: Any) -> Any:
        items = args[0] if len(args) == 1 else list(args)
        if items.__class__ is not list:
            raise TypeError("a list, or two or more arguments, are needed")
        if not all(v.__class__ is str for v in items):
            for item in items:
                number(item)
        return choose(items)

    return extreme


def _length(x: Any) -> int:
    if x.__class__ in (str, list, dict):
        return len(x)
    raise TypeError("only a text, a list or a map has a length")


def _split(x: Any, separator: Any) -> list[str]:
    parts = text(x).split(text(separator), values.MAX_ITEMS)
    return list(sized(parts))


def _join(items: Any, separator: Any) -> str:
    if items.__class__ is not list:
        raise TypeError("join() takes a list of texts")
    if sum(len(text(item)) for item in items) + len(text(separator)) * len(items) > values.MAX_TEXT:
        raise OverflowError("join() makes too long a text")
    return str(separator.join(items))


def _replace(x: Any, old: Any, new: Any) -> str:
    growth = max(0, len(text(new)) - len(text(old))) * text(x).count(old)
    if len(x) + growth > values.MAX_TEXT:
        raise OverflowError("replace() makes too long a text")
    return str(x.replace(old, new))


def _substring(x: Any, start: Any, length: Any = None) -> str:
    """`length` characters from position `start` (0-based); to the end when it is left out."""
    if integer(start) < 0 or (length is not None and integer(length) < 0):
        raise ValueError("substring() takes no negative numbers")
    return text(x)[start : None if length is None else start + length]


def _to_int(x: Any) -> int:
    if x.__class__ is str:
        stripped = x.strip()
        if _INTEGER.fullmatch(stripped):
            return int(stripped)
        x = _to_float(stripped)
    return int(x) if x.__class__ is bool else int(number(x))


def _to_float(x: Any) -> float:
    if x.__class__ is str:
        if not _NUMBER.fullmatch(x.strip()):
            raise ValueError("the text is not a number")
        return float(x)
    return float(x) if x.__class__ is bool else float(number(x))


def to_string(x: Any) -> str:
    """The text of a scalar as JSON writes it, a text as it is."""
    if x.__class__ is str:
        return str(x)
    if x is None or x is True or x is False:
        return {None: "null", True: "true", False: "false"}[x]
    return str(number(x))


def show(x: Any) -> str:
    """Any value as a person reads it in a log line."""
    return x if x.__class__ is str else json.dumps(x, ensure_ascii=False, default=str)


def _clamp(x: Any, low: Any, high: Any) -> Any:
    return min(max(number(x), number(low)), number(high))


def _sign(x: Any) -> int:
    return int(number(x) > 0) - int(x < 0)


def _log(x: Any, base: Any = math.e) -> float:
    return math.log(number(x)) if base == math.e else math.log(number(x), number(base))


def _contains(container: Any, item: Any) -> bool:
    return values.contains(container, item)


FUNCTIONS: dict[str, Function] = {
    "abs": Function(lambda x: abs(number(x)), 1, 1, "number"),
    "ceil": Function(lambda x: math.ceil(number(x)), 1, 1, "int"),
    "clamp": Function(_clamp, 3, 3, "number"),
    "contains": Function(_contains, 2, 2, "bool"),
    "ends_with": Function(lambda x, end: text(x).endswith(text(end)), 2, 2, "bool"),
    "exp": Function(lambda x: math.exp(number(x)), 1, 1, "float"),
    "floor": Function(lambda x: math.floor(number(x)), 1, 1, "int"),
    "index_of": Function(lambda x, part: text(x).find(text(part)), 2, 2, "int"),
    "join": Function(_join, 2, 2, "str"),
    "keys": Function(lambda x: list(dict.keys(x)), 1, 1, "list"),
    "len": Function(_length, 1, 1, "int"),
    "log": Function(_log, 1, 2, "float"),
    "log10": Function(lambda x: math.log10(number(x)), 1, 1, "float"),
    "lower": Function(lambda x: short(text(x).lower()), 1, 1, "str"),
    "max": Function(_extreme(max), 1, 100, "any"),
    "min": Function(_extreme(min), 1, 100, "any"),
    "pow": Function(values.power, 2, 2, "number"),
    "regex_match": Function(matches, 2, 2, "bool"),
    "replace": Function(_replace, 3, 3, "str"),
    "round": Function(_round, 1, 2, "number"),
    "sign": Function(_sign, 1, 1, "int"),
    "split": Function(_split, 2, 2, "list"),
    "sqrt": Function(lambda x: math.sqrt(number(x)), 1, 1, "float"),
    "starts_with": Function(lambda x, start: text(x).startswith(text(start)), 2, 2, "bool"),
    "substring": Function(_substring, 2, 3, "str"),
    "to_float": Function(_to_float, 1, 1, "float"),
    "to_int": Function(_to_int, 1, 1, "int"),
    "to_string": Function(to_string, 1, 1, "str"),
    "trim": Function(lambda x: text(x).strip(), 1, 1, "str"),
    "upper": Function(lambda x: short(text(x).upper()), 1, 1, "str"),
    "values": Function(lambda x: list(dict.values(x)), 1, 1, "list"),
}
