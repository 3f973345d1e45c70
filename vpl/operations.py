"""The operations of a stream: each is checked and becomes stages of the plan, or is refused by name.

`OPERATIONS` maps a name to the method that takes it; `UNAVAILABLE` and `FOREIGN` map names to what to do
instead. Adding an operation is a row in the table, a method here and a stage in `vpl.plan`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vpl import ast
from vpl.plan import (
    Aggregate,
    CountWindow,
    Deliver,
    Emit,
    Fields,
    Filter,
    Project,
    SinkBinding,
    SourceBinding,
    Stage,
    StreamPlan,
    TimeWindow,
)
from vpl.scope import Report, Scope

MAX_COUNT_WINDOW = 1_000_000
MAX_TIME_WINDOW_MS = 366 * 86_400_000
LOG_LEVELS = ("debug", "info", "warn", "error")

UNAVAILABLE = {
    "->": (
        "sequences (`->`) are not available in this version",
        "use `.partition_by`, `.window` and `.having`",
    ),
    "within": (
        "`.within` belongs to sequences, which are not available in this version",
        "use `.window(...)`",
    ),
    "not": ("`.not` belongs to sequences, which are not available in this version", "use `.where(not ...)`"),
    "distinct": ("`.distinct` is not available in this version", "use `count_distinct(...)` over a window"),
    "limit": ("`.limit` is not available in this version", "use `.where` to let less through"),
    "watermark": ("`.watermark` is not available in this version", "windows close by time and by a timer"),
    "allowed_lateness": (
        "`.allowed_lateness` is not available in this version",
        "late events count as they come",
    ),
    "on": ("`.on` belongs to joins, which are not available in this version", "use one stream per type"),
    "pattern": ("named patterns are not available in this version", "use `.where` and windows"),
    "emit as": ("`.emit as` is not available in this version", "name the stream as the type it should make"),
    "tap": ("`.tap` is not available in this version", "use `.log(...)` or `.print(...)`"),
}
FOREIGN = {
    "process": ("`.process` is not part of this language", "use `.where`, `.select` and `.aggregate`"),
    "context": (
        "`.context` is not part of this language",
        "deploy a pipeline of its own; workers run side by side",
    ),
    "concurrent": ("`.concurrent` is not part of this language", "give the pipeline `replicas`"),
    "enrich": (
        "`.enrich` is not part of this language",
        "put the data into the events before they come here",
    ),
    "forecast": ("`.forecast` is not part of this language", "use `ema(...)` over a window"),
    "trend_aggregate": (
        "`.trend_aggregate` is not part of this language",
        "use `.aggregate` with first() and last()",
    ),
    "score": ("`.score` is not part of this language", "compute the score with an expression in `.emit`"),
}
COMBINATORS = {
    "merge": ("`merge(...)` is not available in this version", "write one stream per type"),
    "join": ("`join(...)` is not available in this version", "bring both into one type before"),
    "timer": ("`timer(...)` is not available in this version", "windows close by a timer by themselves"),
    "sequence": ("`sequence(...)` is not available in this version", "use `.window` and `.having`"),
}


class StreamChecker:
    """Goes through the operations of one stream and gathers its stages, sources and sinks."""

    def __init__(self, stream: ast.Stream, scope: Scope, connectors: frozenset[str], first_sink: int) -> None:
        self._stream = stream
        self._scope = scope
        self._connectors = connectors
        self._first_sink = first_sink
        self._stages: list[Stage] = []
        self._keys: tuple[ast.Argument, ...] = ()
        self._partition: ast.Operation | None = None
        self._window: tuple[ast.Operation, CountWindow | TimeWindow] | None = None
        self._aggregated = False
        self.sources: list[SourceBinding] = []
        self.sinks: list[SinkBinding] = []

    @property
    def _report(self) -> Report:
        return self._scope.report

    @property
    def fields(self) -> frozenset[str] | None:
        """The fields of the events that leave the stream; None when any may."""
        return self._scope.fields

    def check(self) -> StreamPlan:
        source = self._stream.source
        if source.combinator:
            message, hint = COMBINATORS.get(source.name, (f"`{source.name}(...)` is not a source", None))
            self._report.error(source, message, hint or "a stream takes an event type or another stream")
        if source.every:
            message = "`all` belongs to sequences, which are not available in this version"
            self._report.error(source, message, "every event is taken without it")
        for operation in self._stream.operations:
            self._operation(operation)
        self._require_aggregate()
        if self._partition is not None:
            self._report.error(
                self._partition, "`.partition_by` without a window", "add `.window(...).aggregate(...)`"
            )
        return StreamPlan(self._stream.name, source.name, tuple(self._stages))

    def _operation(self, operation: ast.Operation) -> None:
        if operation.name != "aggregate":
            self._require_aggregate()
        if operation.name in UNAVAILABLE or operation.name in FOREIGN:
            self._report.error(operation, *(UNAVAILABLE.get(operation.name) or FOREIGN[operation.name]))
        elif take := OPERATIONS.get(operation.name):
            for arg in operation.args:
                if arg.where is not None:
                    self._report.error(arg, "`where` cannot stand here", "filter with `.where(...)` before")
            take(self, operation)
        else:
            known = [*OPERATIONS, *UNAVAILABLE]
            self._report.error(
                operation,
                f"unknown operation `.{operation.name}`",
                self._report.similar(operation.name, known),
            )

    def _require_aggregate(self) -> None:
        if self._window is not None:
            hint = "add `.aggregate(name: count(), ...)` right after it"
            self._report.error(self._window[0], "`.window` without `.aggregate`", hint)
            self._window = None

    # -- arguments

    def _single(self, operation: ast.Operation, what: str) -> ast.Expr | None:
        if len(operation.args) == 1 and operation.args[0].name is None:
            return operation.args[0].value
        self._report.error(
            operation, f"`.{operation.name}` takes {what}", f"write `.{operation.name}({what})`"
        )
        return None

    def _named(self, operation: ast.Operation, scope: Scope) -> Fields:
        fields: dict[str, ast.Expr] = {}
        for arg in operation.args:
            name = arg.name or (arg.value.name if isinstance(arg.value, ast.Name) else None)
            if name is None:
                self._report.error(arg, "a field needs a name", "write `name: expression`")
            elif name in fields:
                self._report.error(arg, f"the field `{name}` is given twice", "remove one of them")
            else:
                fields[name] = scope.resolve(arg.value)
        return tuple(fields.items())

    def _params(self, args: tuple[ast.Argument, ...]) -> dict[str, Any]:
        return literal_params(args, self._scope.constants, self._report)

    def _connector(self, operation: ast.Operation) -> tuple[str, dict[str, Any]] | None:
        first, rest = operation.args[:1], operation.args[1:]
        if not first or first[0].name is not None or not isinstance(first[0].value, ast.Name):
            hint = f"write `.{operation.name}(Bus, topic: ...)`"
            self._report.error(operation, f"`.{operation.name}` begins with the name of a connector", hint)
            return None
        name = first[0].value.name
        if name not in self._connectors:
            hint = (
                self._report.similar(name, self._connectors)
                or f"declare it: `connector {name} = nats(servers: ...)`"
            )
            self._report.error(first[0].value, f"unknown connector `{name}`", hint)
        return name, self._params(rest)

    # -- operations

    def _where(self, operation: ast.Operation) -> None:
        condition = self._single(operation, "a condition")
        if condition is not None:
            self._stages.append(Filter(self._scope.resolve(condition)))

    def _having(self, operation: ast.Operation) -> None:
        if not self._aggregated:
            self._report.error(
                operation, "`.having` without `.aggregate` before it", "filter events with `.where`"
            )
        self._where(operation)

    def _project(self, operation: ast.Operation) -> None:
        fields = self._named(operation, self._scope)
        self._stages.append(Project(fields))
        self._scope = self._scope.narrowed(frozenset(name for name, _ in fields), self._stream.name)

    def _select(self, operation: ast.Operation) -> None:
        if not operation.args:
            self._report.error(
                operation, "`.select` takes one field or more", "write `.select(name: expression)`"
            )
        self._project(operation)

    def _emit(self, operation: ast.Operation) -> None:
        if operation.args:
            self._project(operation)
        self._stages.append(Emit())

    def _from(self, operation: ast.Operation) -> None:
        if operation is not self._stream.operations[0]:
            self._report.error(
                operation, "`.from` comes first", "write `stream S = Type.from(Bus, topic: ...)`"
            )
        if (found := self._connector(operation)) is not None:
            self.sources.append(SourceBinding(found[0], self._stream.source.name, found[1]))

    def _deliver(
        self, binding: SinkBinding, texts: tuple[ast.Expr, ...] = (), fields: Fields | None = None
    ) -> None:
        self._stages.append(Deliver(self._first_sink + len(self.sinks), texts, fields))
        self.sinks.append(binding)

    def _to(self, operation: ast.Operation) -> None:
        if (found := self._connector(operation)) is not None:
            self._deliver(SinkBinding(found[0], self._stream.name, found[1], "to"))

    def _print(self, operation: ast.Operation) -> None:
        for arg in operation.args:
            if arg.name is not None:
                self._report.error(
                    arg, "`.print` takes expressions without names", "use `.log(name: expression)`"
                )
        texts = tuple(self._scope.resolve(arg.value) for arg in operation.args)
        self._deliver(SinkBinding(None, self._stream.name, {}, "print"), texts)

    def _log(self, operation: ast.Operation) -> None:
        level: Any = "info"
        texts: tuple[ast.Expr, ...] = ()
        rest = []
        for arg in operation.args:
            if arg.name == "level":
                level = arg.value.value if isinstance(arg.value, ast.Literal) else None
                if level not in LOG_LEVELS:
                    self._report.error(arg, "unknown log level", f"levels are {', '.join(LOG_LEVELS)}")
            elif arg.name == "message" or (arg.name is None and not isinstance(arg.value, ast.Name)):
                texts = (*texts, self._scope.resolve(arg.value))
            else:
                rest.append(arg)
        fields = self._named(replace(operation, args=tuple(rest)), self._scope) if rest else None
        self._deliver(SinkBinding(None, self._stream.name, {"level": level}, "log"), texts, fields)

    def _partition_by(self, operation: ast.Operation) -> None:
        if self._partition is not None:
            self._report.error(
                operation, "a second `.partition_by`", "give all keys to one: `.partition_by(a, b)`"
            )
        if not operation.args or any(arg.name is not None for arg in operation.args):
            hint = "write `.partition_by(site)`"
            self._report.error(operation, "`.partition_by` takes one expression or more", hint)
        self._partition, self._keys = operation, operation.args

    def _take_window(self, operation: ast.Operation) -> None:
        kind = operation.args[0].name if operation.args else None
        named = next((arg for arg in operation.args if arg.name is not None), None)
        if named is not None and (kind == "session" or named.name == "sliding"):
            what = "session windows" if kind == "session" else "sliding windows"
            hint = "use a tumbling window: `.window(5m)` or `.window(100)`"
            self._report.error(named, f"{what} are not available in this version", hint)
            self._window = (operation, CountWindow(1))
            return
        size = self._single(operation, "a number of events or a duration")
        self._window = (operation, self._window_size(size) if size is not None else CountWindow(1))

    def _window_size(self, size: ast.Expr) -> CountWindow | TimeWindow:
        constant = self._scope.constants.get(size.name) if isinstance(size, ast.Name) else size
        match constant:
            case ast.Duration(value=int() as value) if 0 < value <= MAX_TIME_WINDOW_MS:
                return TimeWindow(value)
            case ast.Literal(value=int() as value) if 0 < value <= MAX_COUNT_WINDOW and value is not True:
                return CountWindow(value)
        message = "a window has 1 to 1,000,000 events or lasts 1ms to 366d"
        self._report.error(size, message, "write `.window(100)` or `.window(5m)`")
        return CountWindow(1)

    def _aggregate(self, operation: ast.Operation) -> None:
        if self._window is None:
            hint = "put `.window(100)` or `.window(5m)` before it"
            self._report.error(operation, "`.aggregate` without `.window`", hint)
            self._window = (operation, CountWindow(1))
        keys = tuple(self._scope.resolve(arg.value) for arg in self._keys)
        names = [arg.value.name if isinstance(arg.value, ast.Name) else None for arg in self._keys]
        results = self._named(operation, replace(self._scope, in_aggregate=True))
        if not results:
            self._report.error(
                operation, "`.aggregate` takes one result or more", "write `.aggregate(n: count())`"
            )
        made = {name for name, _ in results}
        key_fields = tuple((name, i) for i, name in enumerate(names) if name is not None and name not in made)
        self._stages.append(Aggregate(self._window[1], keys, key_fields, results))
        self._scope = self._scope.narrowed(
            frozenset(made | {name for name, _ in key_fields}), self._stream.name
        )
        self._window, self._aggregated = None, True
        self._partition, self._keys = None, ()


OPERATIONS: Mapping[str, Callable[[StreamChecker, ast.Operation], None]] = {
    "where": StreamChecker._where,
    "filter": StreamChecker._where,
    "having": StreamChecker._having,
    "select": StreamChecker._select,
    "emit": StreamChecker._emit,
    "from": StreamChecker._from,
    "to": StreamChecker._to,
    "print": StreamChecker._print,
    "log": StreamChecker._log,
    "partition_by": StreamChecker._partition_by,
    "window": StreamChecker._take_window,
    "aggregate": StreamChecker._aggregate,
}


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
