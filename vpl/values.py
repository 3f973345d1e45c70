"""What the operators mean, for values of any type; generated code calls these where it cannot prove the
types.

A value is null, a boolean, a number (int or float), a text, a list or a map. Booleans are not numbers: they
never compare or add with them. Equality between unlike types is false; every other operation on types it is
not made for is a mismatch, and so is a missing field, an index outside, a division by zero, a result over a
limit. A mismatch is any of `MISMATCH`, the errors Python itself raises, so that the fast paths need no code
to detect it. The limits make sure that no event can make an expression use much memory or time.
"""

import math
from collections.abc import Callable
from typing import Any

MISMATCH = (ArithmeticError, LookupError, TypeError, ValueError, RecursionError)

MAX_BITS = 4096
MAX_TEXT = 1 << 20
MAX_ITEMS = 10_000

NUMBERS = frozenset((int, float))
_SCALARS = frozenset((int, float, str, bool, type(None)))


def not_a_number(value: Any) -> Any:
    raise TypeError(f"a number is needed, not {type(value).__name__}")


def number(value: Any) -> Any:
    return value if value.__class__ in NUMBERS else not_a_number(value)


def boolean(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise TypeError(f"true or false is needed, not {type(value).__name__}")


def text(value: Any) -> str:
    if value.__class__ is str:
        return str(value)
    raise TypeError(f"a text is needed, not {type(value).__name__}")


def integer(value: Any) -> int:
    if value.__class__ is int:
        return int(value)
    raise TypeError(f"an integer is needed, not {type(value).__name__}")


def equal(a: Any, b: Any) -> bool:
    """Numbers by value, everything else only with its own type, lists and maps item by item."""
    if a.__class__ is b.__class__:
        if a.__class__ in _SCALARS:
            return bool(a == b)
        if a.__class__ is list:
            return len(a) == len(b) and all(map(equal, a, b))
        return a.keys() == b.keys() and all(equal(v, b[k]) for k, v in a.items())
    return a.__class__ in NUMBERS and b.__class__ in NUMBERS and bool(a == b)


def _ordered(a: Any, b: Any) -> None:
    if not (a.__class__ in NUMBERS and b.__class__ in NUMBERS) and not (a.__class__ is b.__class__ is str):
        raise TypeError("only two numbers or two texts have an order")


def less(a: Any, b: Any) -> bool:
    _ordered(a, b)
    return bool(a < b)


def less_equal(a: Any, b: Any) -> bool:
    _ordered(a, b)
    return bool(a <= b)


def bounded(value: Any) -> Any:
    """`value`, unless it is an integer of more than `MAX_BITS` bits."""
    if value.__class__ is int and value.bit_length() > MAX_BITS:
        raise OverflowError(f"an integer of more than {MAX_BITS} bits")
    return value


def sized(value: Any) -> Any:
    """`value`, unless it holds more than `MAX_ITEMS` items at all levels together."""
    left = MAX_ITEMS
    level: list[Any] = [value]
    while level:
        nested = [v for v in level if v.__class__ is list or v.__class__ is dict]
        left -= sum(map(len, nested))
        if left < 0:
            raise OverflowError(f"a value of more than {MAX_ITEMS} items")
        level = [item for v in nested for item in (v.values() if isinstance(v, dict) else v)]
    return value


def short(value: str) -> str:
    if len(value) > MAX_TEXT:
        raise OverflowError(f"a text of more than {MAX_TEXT} characters")
    return value


def add(a: Any, b: Any) -> Any:
    """Numbers add, texts and lists join."""
    if isinstance(a, str) and isinstance(b, str):
        return short(a + b)
    if isinstance(a, list) and isinstance(b, list):
        return sized([*a, *b])
    return bounded(number(a) + number(b))


def subtract(a: Any, b: Any) -> Any:
    return bounded(number(a) - number(b))


def multiply(a: Any, b: Any) -> Any:
    return bounded(number(a) * number(b))


def divide(a: Any, b: Any) -> Any:
    """Two integers give an integer, cut toward zero; otherwise a float."""
    if a.__class__ is b.__class__ is int:
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) is (b < 0) else -quotient
    return number(a) / number(b)


def remainder(a: Any, b: Any) -> Any:
    """What `divide` leaves: it has the sign of `a`."""
    if a.__class__ is b.__class__ is int:
        rest = abs(a) % abs(b)
        return rest if a >= 0 else -rest
    return math.fmod(number(a), number(b))


def power(a: Any, b: Any) -> Any:
    if number(a).__class__ is int and number(b).__class__ is int and b >= 0:
        if a.bit_length() * b > MAX_BITS and a not in (0, 1, -1):
            raise OverflowError(f"an integer of more than {MAX_BITS} bits")
        return a**b
    result = float(a) ** number(b)
    if result.__class__ is complex:
        raise ValueError("a negative number has no such root")
    return result


def shift_left(a: Any, b: Any) -> int:
    if integer(b) > MAX_BITS:
        raise OverflowError(f"a shift by more than {MAX_BITS} bits")
    return int(bounded(integer(a) << b))


def shift_right(a: Any, b: Any) -> int:
    return integer(a) >> integer(b)


def bit_and(a: Any, b: Any) -> int:
    return integer(a) & integer(b)


def bit_or(a: Any, b: Any) -> int:
    return integer(a) | integer(b)


def bit_xor(a: Any, b: Any) -> int:
    return integer(a) ^ integer(b)


def contains(container: Any, item: Any) -> bool:
    """A text in a text, a value in a list, a key in a map."""
    if container.__class__ is str:
        return text(item) in container
    if container.__class__ is list:
        return any(equal(item, other) for other in container)
    if container.__class__ is dict:
        return text(item) in container
    raise TypeError("only a text, a list or a map contains something")


def index(container: Any, key: Any) -> Any:
    """A list or a text by position (from the end when negative), a map by key."""
    if container.__class__ is dict:
        return container[text(key)]
    if container.__class__ is list or container.__class__ is str:
        return container[integer(key)]
    raise TypeError("only a text, a list or a map has items")


def cut(container: Any, start: Any, stop: Any) -> Any:
    """`container[start:stop]` of a text or a list; an end left out is None."""
    if container.__class__ is not list and container.__class__ is not str:
        raise TypeError("only a text or a list can be cut")
    return container[None if start is None else integer(start) : None if stop is None else integer(stop)]


def member(container: Any, name: str) -> Any:
    if container.__class__ is dict:
        return container[name]
    raise TypeError("only a map has members")


def optional_member(container: Any, name: str) -> Any:
    """The member, or null where the map is null or has none of that name."""
    if container is None:
        return None
    if container.__class__ is dict:
        return container.get(name)
    raise TypeError("only a map has members")


def attempt(make: Callable[[], Any]) -> Any:
    """The value of an expression, or null when it has none (the left side of `??`)."""
    try:
        return make()
    except MISMATCH:
        return None


TYPE_TESTS: dict[str, Callable[[Any], bool]] = {
    "null": lambda v: v is None,
    "bool": lambda v: v.__class__ is bool,
    "int": lambda v: v.__class__ is int,
    "float": lambda v: v.__class__ is float,
    "number": lambda v: v.__class__ in NUMBERS,
    "str": lambda v: v.__class__ is str,
    "list": lambda v: v.__class__ is list,
    "map": lambda v: v.__class__ is dict,
}
