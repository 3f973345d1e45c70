"""Operations on the event at hand: `.where`, `.having`, `.select`, `.emit`."""

from vpl import ast
from vpl.operations.stream import StreamChecker
from vpl.plan import Emit, Filter, Project


def where(checker: StreamChecker, operation: ast.Operation) -> None:
    condition = checker.single(operation, "a condition")
    if condition is not None:
        checker.stages.append(Filter(checker.scope.resolve(condition)))


def having(checker: StreamChecker, operation: ast.Operation) -> None:
    if not checker.aggregated:
        checker.report.error(
            operation, "`.having` without `.aggregate` before it", "filter events with `.where`"
        )
    where(checker, operation)


def project(checker: StreamChecker, operation: ast.Operation) -> None:
    fields = checker.named(operation, checker.scope)
    checker.stages.append(Project(fields))
    checker.scope = checker.scope.narrowed(frozenset(name for name, _ in fields), checker.stream.name)


def select(checker: StreamChecker, operation: ast.Operation) -> None:
    if not operation.args:
        checker.report.error(
            operation, "`.select` takes one field or more", "write `.select(name: expression)`"
        )
    project(checker, operation)


def emit(checker: StreamChecker, operation: ast.Operation) -> None:
    if operation.args:
        project(checker, operation)
    checker.stages.append(Emit())
