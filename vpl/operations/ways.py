"""Ways in and out of a stream: `.from`, `.to`, `.print`, `.log`."""

from dataclasses import replace
from typing import Any

from vpl import ast
from vpl.operations.stream import StreamChecker
from vpl.plan import Deliver, Fields, SinkBinding, SourceBinding

LOG_LEVELS = ("debug", "info", "warn", "error")


def source(checker: StreamChecker, operation: ast.Operation) -> None:
    if operation is not checker.stream.operations[0]:
        checker.report.error(
            operation, "`.from` comes first", "write `stream S = Type.from(Bus, topic: ...)`"
        )
    if (found := checker.connector(operation)) is not None:
        checker.sources.append(SourceBinding(found[0], checker.stream.source.name, found[1]))


def _deliver(
    checker: StreamChecker,
    binding: SinkBinding,
    texts: tuple[ast.Expr, ...] = (),
    fields: Fields | None = None,
) -> None:
    checker.stages.append(Deliver(checker.first_sink + len(checker.sinks), texts, fields))
    checker.sinks.append(binding)


def to(checker: StreamChecker, operation: ast.Operation) -> None:
    if (found := checker.connector(operation)) is not None:
        _deliver(checker, SinkBinding(found[0], checker.stream.name, found[1], "to"))


def print_(checker: StreamChecker, operation: ast.Operation) -> None:
    for arg in operation.args:
        if arg.name is not None:
            checker.report.error(
                arg, "`.print` takes expressions without names", "use `.log(name: expression)`"
            )
    texts = tuple(checker.scope.resolve(arg.value) for arg in operation.args)
    _deliver(checker, SinkBinding(None, checker.stream.name, {}, "print"), texts)


def log(checker: StreamChecker, operation: ast.Operation) -> None:
    level: Any = "info"
    texts: tuple[ast.Expr, ...] = ()
    rest = []
    for arg in operation.args:
        if arg.name == "level":
            level = arg.value.value if isinstance(arg.value, ast.Literal) else None
            if level not in LOG_LEVELS:
                checker.report.error(arg, "unknown log level", f"levels are {', '.join(LOG_LEVELS)}")
        elif arg.name == "message" or (arg.name is None and not isinstance(arg.value, ast.Name)):
            texts = (*texts, checker.scope.resolve(arg.value))
        else:
            rest.append(arg)
    fields = checker.named(replace(operation, args=tuple(rest)), checker.scope) if rest else None
    _deliver(checker, SinkBinding(None, checker.stream.name, {"level": level}, "log"), texts, fields)
