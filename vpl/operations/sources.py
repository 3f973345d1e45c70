"""Sources that are written as a call: `merge(A, B)`, `join(A, B).on(...).window(...)`, `timer(5s)`."""

from dataclasses import replace

from vpl import ast
from vpl.operations.stream import Joined, StreamChecker, duration
from vpl.plan import Join, Timer
from vpl.scope import Scope


def merge(checker: StreamChecker, source: ast.Source) -> None:
    if _types(checker, source) < 2:
        checker.report.error(source, "`merge` takes two types or more", "write `merge(Door, Gate)`")


def timer(checker: StreamChecker, source: ast.Source) -> None:
    if len(source.args) != 1 or source.args[0].name is not None:
        checker.report.error(source, "`timer` takes a duration", "write `timer(5s)`")
    elif (period := duration(checker, source.args[0].value)) is not None:
        checker.stages.append(Timer(period))
    checker.scope = checker.scope.narrowed(frozenset(), checker.stream.name)


def join(checker: StreamChecker, source: ast.Source) -> None:
    if _types(checker, source) != 2:
        hint = "write `join(Order, Payment).on(Order.id == Payment.id).window(5s)`"
        checker.report.error(source, "`join` takes two different types", hint)
        checker.inputs = (*checker.inputs, "", "")[:2]
    checker.joined = (source, None)
    checker.scope = checker.scope.narrowed(frozenset(checker.inputs), checker.stream.name)


def _types(checker: StreamChecker, source: ast.Source) -> int:
    for arg in source.args:
        if arg.name is not None or not isinstance(arg.value, ast.Name):
            hint = f"write `{source.name}(Door, Gate)`; filter in a stream of its own before"
            checker.report.error(arg, f"`{source.name}` takes the names of types or streams", hint)
    return len(checker.inputs)


def on(checker: StreamChecker, operation: ast.Operation) -> None:
    if checker.joined is None or checker.joined[1] is not None:
        hint = "write `join(A, B).on(A.k == B.k).window(5s)`"
        checker.report.error(operation, "`.on` comes once, right after `join(...)`", hint)
        return
    condition = checker.single(operation, "an equality")
    parts = condition.operands if isinstance(condition, ast.Logic) and condition.op == "and" else (condition,)
    pairs = [_equality(checker, part) for part in parts if part is not None]
    left, right = (tuple(pair[i] for pair in pairs if pair is not None) for i in (0, 1))
    checker.joined = (checker.joined[0], (left, right))


def _equality(checker: StreamChecker, expr: ast.Expr) -> tuple[ast.Expr, ast.Expr] | None:
    first, second = checker.inputs
    if not second:
        return None  # `join` has been refused already
    if isinstance(expr, ast.Binary) and expr.op == "==":
        sides = {_side(checker, expr.left): expr.left, _side(checker, expr.right): expr.right}
        if set(sides) == {first, second}:
            return _of(checker, sides[first], first), _of(checker, sides[second], second)
    hint = f"write `.on({first}.k == {second}.k)`, several of them with `and`; filter with `.where` after"
    checker.report.error(expr, "a join compares an expression of each side with `==`", hint)
    return None


def _side(checker: StreamChecker, expr: ast.Expr) -> str | None:
    """The type whose fields alone the expression names, each as `Type.field`."""
    names = {part.name for part in ast.walk(expr) if isinstance(part, ast.Name)}
    return names.pop() if len(names) == 1 and names <= set(checker.inputs) else None


def _of(checker: StreamChecker, expr: ast.Expr, name: str) -> ast.Expr:
    scope: Scope = replace(checker.scope, fields=checker.fields_of.get(name), alias=name, event_type=name)
    return scope.resolve(expr)


def finish_join(checker: StreamChecker, operation: ast.Operation) -> None:
    """The `.window(5s)` of a join."""
    assert checker.joined is not None
    source, keys = checker.joined
    checker.joined = None
    if keys is None:
        hint = "write `join(A, B).on(A.k == B.k).window(5s)`"
        checker.report.error(source, "`join` without `.on`", hint)
    value = checker.single(operation, "a duration")
    within = None if value is None else duration(checker, value)
    if keys is not None and within is not None:
        checker.stages.append(Join(keys, within))


def require_window(checker: StreamChecker) -> None:
    """Reports a join that no `.on(...).window(...)` follows."""
    joined: Joined | None = checker.joined
    if joined is not None:
        what = "`.on`" if joined[1] is None else "`.window`"
        hint = "write `join(A, B).on(A.k == B.k).window(5s)`"
        checker.report.error(joined[0], f"`join` without {what}", hint)
        checker.joined = None
