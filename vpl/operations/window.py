"""Windows and what is made of them: `.partition_by`, `.window`, `.aggregate`."""

from dataclasses import replace

from vpl import ast
from vpl.operations.stream import StreamChecker
from vpl.plan import Aggregate, CountWindow, TimeWindow

MAX_COUNT_WINDOW = 1_000_000
MAX_TIME_WINDOW_MS = 366 * 86_400_000


def partition_by(checker: StreamChecker, operation: ast.Operation) -> None:
    if checker.partition is not None:
        checker.report.error(
            operation, "a second `.partition_by`", "give all keys to one: `.partition_by(a, b)`"
        )
    if not operation.args or any(arg.name is not None for arg in operation.args):
        hint = "write `.partition_by(site)`"
        checker.report.error(operation, "`.partition_by` takes one expression or more", hint)
    checker.partition, checker.keys = operation, operation.args


def window(checker: StreamChecker, operation: ast.Operation) -> None:
    kind = operation.args[0].name if operation.args else None
    named = next((arg for arg in operation.args if arg.name is not None), None)
    if named is not None and (kind == "session" or named.name == "sliding"):
        what = "session windows" if kind == "session" else "sliding windows"
        hint = "use a tumbling window: `.window(5m)` or `.window(100)`"
        checker.report.error(named, f"{what} are not available in this version", hint)
        checker.window = (operation, CountWindow(1))
        return
    size = checker.single(operation, "a number of events or a duration")
    checker.window = (operation, _window_size(checker, size) if size is not None else CountWindow(1))


def _window_size(checker: StreamChecker, size: ast.Expr) -> CountWindow | TimeWindow:
    constant = checker.scope.constants.get(size.name) if isinstance(size, ast.Name) else size
    match constant:
        case ast.Duration(value=int() as value) if 0 < value <= MAX_TIME_WINDOW_MS:
            return TimeWindow(value)
        case ast.Literal(value=int() as value) if 0 < value <= MAX_COUNT_WINDOW and value is not True:
            return CountWindow(value)
    message = "a window has 1 to 1,000,000 events or lasts 1ms to 366d"
    checker.report.error(size, message, "write `.window(100)` or `.window(5m)`")
    return CountWindow(1)


def aggregate(checker: StreamChecker, operation: ast.Operation) -> None:
    if checker.window is None:
        hint = "put `.window(100)` or `.window(5m)` before it"
        checker.report.error(operation, "`.aggregate` without `.window`", hint)
        checker.window = (operation, CountWindow(1))
    keys = tuple(checker.scope.resolve(arg.value) for arg in checker.keys)
    names = [arg.value.name if isinstance(arg.value, ast.Name) else None for arg in checker.keys]
    results = checker.named(operation, replace(checker.scope, in_aggregate=True))
    if not results:
        checker.report.error(
            operation, "`.aggregate` takes one result or more", "write `.aggregate(n: count())`"
        )
    made = {name for name, _ in results}
    key_fields = tuple((name, i) for i, name in enumerate(names) if name is not None and name not in made)
    checker.stages.append(Aggregate(checker.window[1], keys, key_fields, results))
    checker.scope = checker.scope.narrowed(
        frozenset(made | {name for name, _ in key_fields}), checker.stream.name
    )
    checker.window, checker.aggregated = None, True
    checker.partition, checker.keys = None, ()
