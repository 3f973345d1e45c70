"""What the check of one stream gathers while its operations are gone through, and how arguments are read.

`vpl.operations` goes through the operations; each of them works on this.
"""

from collections.abc import Mapping
from typing import Any

from vpl import ast
from vpl.plan import Fields, SinkBinding, SourceBinding, Stage, Window
from vpl.scope import Report, Scope

MAX_TIME_WINDOW_MS = 366 * 86_400_000

Keys = tuple[tuple[ast.Expr, ...], tuple[ast.Expr, ...]]
Joined = tuple[ast.Source, Keys | None]


class StreamChecker:
    """`fields_of`: by stream, the fields that it makes, where they are known; `declared`: by type, those that
    its `event` block names.

    `scope`: what names mean after the operations so far; `inputs`: the types that the stream takes.

    `window` and `partition` wait for their `.aggregate`; `event_time` (the `.watermark`, out of order,
    lateness) for its `.window`; `joined` (what `join` made of its source, the keys of `.on`) for `.on` and
    `.window`.
    """

    def __init__(
        self,
        stream: ast.Stream,
        scope: Scope,
        connectors: frozenset[str],
        first_sink: int,
        made: Mapping[str, frozenset[str] | None],
        declared: Mapping[str, frozenset[str]],
    ) -> None:
        self.stream = stream
        self.scope = scope
        self.first_sink = first_sink
        self.fields_of = made
        self.declared = declared
        self.inputs: tuple[str, ...] = ()
        self.stages: list[Stage] = []
        self.keys: tuple[ast.Argument, ...] = ()
        self.partition: ast.Operation | None = None
        self.window: tuple[ast.Operation, Window] | None = None
        self.event_time: tuple[ast.Operation, int, int] | None = None
        self.joined: Joined | None = None
        self.aggregated = False
        self.sources: list[SourceBinding] = []
        self.sinks: list[SinkBinding] = []
        self._connectors = connectors

    @property
    def report(self) -> Report:
        return self.scope.report

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields of the events that leave the stream; None when any may."""
        return self.scope.fields

    def require_aggregate(self) -> None:
        """Reports a window that no `.aggregate` follows."""
        if self.window is not None:
            hint = "add `.aggregate(name: count(), ...)` right after it"
            self.report.error(self.window[0], "`.window` without `.aggregate`", hint)
            self.window = None

    def single(self, operation: ast.Operation, what: str) -> ast.Expr | None:
        if len(operation.args) == 1 and operation.args[0].name is None:
            return operation.args[0].value
        self.report.error(
            operation, f"`.{operation.name}` takes {what}", f"write `.{operation.name}({what})`"
        )
        return None

    def named(self, operation: ast.Operation, scope: Scope) -> Fields:
        fields: dict[str, ast.Expr] = {}
        for arg in operation.args:
            name = arg.name or (arg.value.name if isinstance(arg.value, ast.Name) else None)
            if name is None:
                self.report.error(arg, "a field needs a name", "write `name: expression`")
            elif name in fields:
                self.report.error(arg, f"the field `{name}` is given twice", "remove one of them")
            else:
                fields[name] = scope.resolve(arg.value)
        return tuple(fields.items())

    def params(self, args: tuple[ast.Argument, ...]) -> dict[str, Any]:
        return literal_params(args, self.scope.constants, self.report)

    def connector(self, operation: ast.Operation) -> tuple[str, dict[str, Any]] | None:
        first, rest = operation.args[:1], operation.args[1:]
        if not first or first[0].name is not None or not isinstance(first[0].value, ast.Name):
            hint = f"write `.{operation.name}(Bus, topic: ...)`"
            self.report.error(operation, f"`.{operation.name}` begins with the name of a connector", hint)
            return None
        name = first[0].value.name
        if name not in self._connectors:
            hint = (
                self.report.similar(name, self._connectors)
                or f"declare it: `connector {name} = nats(servers: ...)`"
            )
            self.report.error(first[0].value, f"unknown connector `{name}`", hint)
        return name, self.params(rest)


def literal_params(
    args: tuple[ast.Argument, ...], constants: Mapping[str, ast.Literal], report: Report
) -> dict[str, Any]:
    """The values of `name: literal` arguments; a constant may stand for a literal."""
    params: dict[str, Any] = {}
    for arg in args:
        if arg.name is None:
            report.error(arg, "a parameter needs a name", 'write `name: "value"`')
            continue
        if arg.name in params:
            report.error(arg, f"the parameter `{arg.name}` is given twice", "remove one of them")
        try:
            params[arg.name] = _literal(arg.value, constants)
        except LookupError:
            hint = 'write a text as "...", or declare a `const`'
            report.error(arg, f"the parameter `{arg.name}` is not a constant", hint)
    return params


def _literal(expr: ast.Expr, constants: Mapping[str, ast.Literal]) -> Any:
    match expr:
        case ast.Literal(value=value):
            return value
        case ast.Name(name=name):
            return constants[name].value
        case ast.Array(items=items):
            return [_literal(item, constants) for item in items]
        case ast.Map(entries=entries):
            return {key: _literal(value, constants) for key, value in entries}
    raise LookupError


def duration(checker: StreamChecker, expr: ast.Expr, *, shortest: int = 1) -> int | None:
    """The milliseconds of a duration, or of a constant that is one; anything else is reported."""
    constant = checker.scope.constants.get(expr.name) if isinstance(expr, ast.Name) else expr
    match constant:
        case ast.Duration(value=int() as value) if shortest <= value <= MAX_TIME_WINDOW_MS:
            return value
    message = f"this is a duration of {shortest}ms to 366d"
    checker.report.error(expr, message, "write it like 500ms, 10s, 5m, 1h or 2d")
    return None
