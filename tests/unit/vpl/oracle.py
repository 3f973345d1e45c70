"""A second, slow meaning of the expression language: a closure per node, written from the language's rules
alone.

It shares no operator with the engine. `closure(expr)` gives a function from (fields, ts) to a value;
`NoValue` is raised where the language says that there is none (missing field, wrong type, division by zero,
over a limit).
"""

import math
from collections.abc import Callable
from typing import Any

from vpl import ast
from vpl.plan import Function

Closure = Callable[[dict[str, Any], int], Any]
MAX_BITS = 4096


declared: dict[str, Function] = {}
"""The functions of the program, by name."""


class NoValue(Exception):
    """The expression has no value for this event."""


def require(condition: bool) -> None:
    if not condition:
        raise NoValue


def is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


def is_int(v: Any) -> bool:
    return isinstance(v, int) and not isinstance(v, bool)


def kind(v: Any) -> str:
    if is_number(v):
        return "number"
    return type(v).__name__


def same(a: Any, b: Any) -> bool:
    if kind(a) != kind(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


def within_bits(v: Any) -> Any:
    require(not is_int(v) or v.bit_length() <= MAX_BITS)
    return v


def truncated(a: int, b: int) -> int:
    require(b != 0)
    whole = abs(a) // abs(b)
    return whole if (a >= 0) == (b > 0) else -whole


def arithmetic(op: str, a: Any, b: Any) -> Any:
    if op == "+" and kind(a) == kind(b) and kind(a) in ("str", "list"):
        return a + b
    require(is_number(a) and is_number(b))
    try:
        match op:
            case "+":
                return within_bits(a + b)
            case "-":
                return within_bits(a - b)
            case "*":
                return within_bits(a * b)
            case "/":
                return truncated(a, b) if is_int(a) and is_int(b) else a / b
            case "%":
                if is_int(a) and is_int(b):
                    return a - b * truncated(a, b)
                require(b != 0)
                return math.fmod(a, b)
            case "**":
                return exponent(a, b)
    except (ArithmeticError, ValueError):
        raise NoValue from None
    raise AssertionError(op)


def exponent(a: Any, b: Any) -> Any:
    if is_int(a) and is_int(b) and b >= 0:
        require(a in (0, 1, -1) or a.bit_length() * b <= MAX_BITS)
        return a**b
    result = float(a) ** b
    require(not isinstance(result, complex))
    return result


def bits(op: str, a: Any, b: Any) -> int:
    require(is_int(a) and is_int(b))
    if op in ("<<", ">>"):
        require(b >= 0)
        require(op == ">>" or b <= MAX_BITS)
        return int(within_bits(a << b)) if op == "<<" else int(a >> b)
    return int({"&": a & b, "|": a | b, "^": a ^ b}[op])


def ordered(op: str, a: Any, b: Any) -> bool:
    require(kind(a) == kind(b) and kind(a) in ("number", "str"))
    return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[op])


def holds(container: Any, item: Any) -> bool:
    if isinstance(container, list):
        return any(same(item, other) for other in container)
    require(isinstance(container, str | dict) and isinstance(item, str))
    return item in container


def truth(v: Any) -> bool:
    require(isinstance(v, bool))
    return bool(v)


def attempt(closure: Closure, fields: dict[str, Any], ts: int) -> Any:
    try:
        return closure(fields, ts)
    except NoValue:
        return None


def closure(expr: ast.Expr) -> Closure:
    match expr:
        case ast.Parameter(name=name):
            return lambda f, ts: f[name]
        case ast.Apply(function=name, args=args):
            function, given = declared[name], [closure(arg) for arg in args]
            body = closure(function.body)  # its fields are the parameters, each evaluated before
            return lambda f, ts: body(
                {n: g(f, ts) for n, g in zip(function.parameters, given, strict=True)}, ts
            )
        case ast.Literal(value=value):
            return lambda f, ts: value
        case ast.Field(name=name, fallback=fallback):
            return lambda f, ts: field_of(f, name, fallback)
        case ast.Unary():
            return unary(expr)
        case ast.Binary():
            return binary(expr)
        case ast.Logic():
            return logic(expr)
        case ast.IfElse(condition=condition, then=then, otherwise=otherwise):
            c, t, o = closure(condition), closure(then), closure(otherwise)
            return lambda f, ts: t(f, ts) if truth(c(f, ts)) else o(f, ts)
        case ast.TypeTest():
            return type_test(expr)
        case ast.Array(items=items):
            parts = [closure(item) for item in items]
            return lambda f, ts: [part(f, ts) for part in parts]
        case ast.Member(value=value, name=name, optional=optional):
            whole = closure(value)
            return lambda f, ts: member(attempt(whole, f, ts) if optional else whole(f, ts), name, optional)
        case ast.Index(value=value, index=index):
            whole, key = closure(value), closure(index)
            return lambda f, ts: item_of(whole(f, ts), key(f, ts))
    raise AssertionError(expr)


def field_of(fields: dict[str, Any], name: str, fallback: ast.Literal | None) -> Any:
    require(name in fields or fallback is not None)
    return fields[name] if name in fields or fallback is None else fallback.value


def member(whole: Any, name: str, optional: bool) -> Any:
    if optional and whole is None:
        return None
    require(isinstance(whole, dict) and (optional or name in whole))
    return whole.get(name)


def item_of(whole: Any, key: Any) -> Any:
    if isinstance(whole, dict):
        require(isinstance(key, str) and key in whole)
        return whole[key]
    require(isinstance(whole, str | list) and is_int(key) and -len(whole) <= key < len(whole))
    return whole[key]


def unary(expr: ast.Unary) -> Closure:
    operand = closure(expr.operand)

    def value(fields: dict[str, Any], ts: int) -> Any:
        v = operand(fields, ts)
        if expr.op == "not":
            return not truth(v)
        require(is_int(v) if expr.op == "~" else is_number(v))
        return {"-": lambda: -v, "+": lambda: v, "~": lambda: ~v}[expr.op]()

    return value


def binary(expr: ast.Binary) -> Closure:
    op, left, right = expr.op, closure(expr.left), closure(expr.right)

    def value(fields: dict[str, Any], ts: int) -> Any:
        if op == "??":
            found = attempt(left, fields, ts)
            return right(fields, ts) if found is None else found
        a, b = left(fields, ts), right(fields, ts)
        if op in ("==", "!="):
            return same(a, b) is (op == "==")
        if op in ("in", "not in"):
            return holds(b, a) is (op == "in")
        if op in ("<", "<=", ">", ">="):
            return ordered(op, a, b)
        return bits(op, a, b) if op in ("<<", ">>", "&", "|", "^") else arithmetic(op, a, b)

    return value


def logic(expr: ast.Logic) -> Closure:
    operands, stop = [closure(operand) for operand in expr.operands], expr.op == "or"

    def value(fields: dict[str, Any], ts: int) -> Any:
        for operand in operands:
            if truth(operand(fields, ts)) is stop:
                return stop
        return not stop

    return value


def type_test(expr: ast.TypeTest) -> Closure:
    operand, names = closure(expr.value), {"NoneType": "null", "dict": "map"}

    def value(fields: dict[str, Any], ts: int) -> bool:
        v = attempt(operand, fields, ts)
        exact = names.get(type(v).__name__, type(v).__name__)
        return (exact == expr.type_name or (expr.type_name == "number" and is_number(v))) is not expr.negated

    return value
