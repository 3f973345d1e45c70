"""`.limit` and `.distinct`."""

from vpl import ast
from vpl.operations.stream import StreamChecker, duration
from vpl.plan import Distinct, Limit

MAX_LIMIT = 1_000_000_000


def limit(checker: StreamChecker, operation: ast.Operation) -> None:
    value = checker.single(operation, "a number of events")
    constant = checker.scope.constants.get(value.name) if isinstance(value, ast.Name) else value
    match constant:
        case None:
            if value is None:
                return
        case ast.Duration():
            pass
        case ast.Literal(value=int() as count) if count.__class__ is int and 0 < count <= MAX_LIMIT:
            checker.stages.append(Limit(count))
            return
    checker.report.error(value or operation, f"a limit is 1 to {MAX_LIMIT:,} events", "write `.limit(100)`")


def distinct(checker: StreamChecker, operation: ast.Operation) -> None:
    values = tuple(arg.value for arg in operation.args if arg.name is None)
    named = [arg for arg in operation.args if arg.name is not None]
    if not values or len(named) > 1 or (named and named[0].name != "within"):
        hint = "write `.distinct(badge)` or `.distinct(badge, within: 1h)`"
        checker.report.error(operation, "`.distinct` takes one expression or more, and `within`", hint)
    within = duration(checker, named[0].value) if named else None
    checker.stages.append(Distinct(tuple(map(checker.scope.resolve, values)), within))
