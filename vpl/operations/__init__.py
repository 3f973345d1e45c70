"""The operations of a stream: each is checked and becomes stages of the plan, or is refused by name.

`OPERATIONS` maps a name to the function that takes it, `SOURCES` that of a source like `merge(...)`;
`vpl.operations.refused` says what to use instead of the others. Adding an operation is a row in the table, a
function in a module here, and a stage in `vpl.plan` and `vpl.stages`.
"""

from collections.abc import Callable, Mapping

from vpl import ast
from vpl.operations import passing, sequence, sources, sparse, ways, window
from vpl.operations.refused import COMBINATORS, FOREIGN, UNAVAILABLE
from vpl.operations.stream import MAX_TIME_WINDOW_MS, StreamChecker, literal_params
from vpl.operations.window import MAX_COUNT_WINDOW
from vpl.plan import StreamPlan

__all__ = [
    "COMBINATORS",
    "FOREIGN",
    "MAX_COUNT_WINDOW",
    "MAX_TIME_WINDOW_MS",
    "OPERATIONS",
    "SOURCES",
    "UNAVAILABLE",
    "StreamChecker",
    "check_stream",
    "inputs",
    "literal_params",
]

OPERATIONS: Mapping[str, Callable[[StreamChecker, ast.Operation], None]] = {
    "where": passing.where,
    "filter": passing.where,
    "having": passing.having,
    "select": passing.select,
    "emit": passing.emit,
    "from": ways.source,
    "to": ways.to,
    "print": ways.print_,
    "log": ways.log,
    "partition_by": window.partition_by,
    "window": window.window,
    "aggregate": window.aggregate,
    "watermark": window.watermark,
    "allowed_lateness": window.allowed_lateness,
    "distinct": sparse.distinct,
    "limit": sparse.limit,
    "on": sources.on,
}

SOURCES: Mapping[str, Callable[[StreamChecker, ast.Source], None]] = {
    "merge": sources.merge,
    "join": sources.join,
    "timer": sources.timer,
}
"""Sources that are written as a call. Each sets the scope, and adds the stage that comes first, if any."""


def inputs(stream: ast.Stream) -> tuple[str, ...]:
    """The types that a stream takes, each once, in order: what decides the order of the checks."""
    source = stream.source
    if sequence.is_sequence(stream):
        return sequence.types(stream)
    if not source.combinator:
        return (source.name,)
    if source.name not in SOURCES or source.name == "timer":
        return ()
    return tuple(dict.fromkeys(a.value.name for a in source.args if isinstance(a.value, ast.Name)))


def check_stream(checker: StreamChecker) -> StreamPlan:
    """Go through the operations of a stream; what is wrong is reported, and left out."""
    stream, report = checker.stream, checker.report
    source = stream.source
    checker.inputs = inputs(stream)
    if source.combinator and source.name in SOURCES:
        SOURCES[source.name](checker, source)
    elif source.combinator:
        message, hint = COMBINATORS.get(source.name, (f"`{source.name}(...)` is not a source", None))
        report.error(source, message, hint or "a stream takes an event type or another stream")
    steps = None
    if sequence.is_sequence(stream):
        steps = sequence.SequenceChecker(checker)
    for operation in stream.operations:
        if steps is None or not steps.takes(operation):
            _take(checker, operation)
    if steps is not None:
        steps.finish()
    checker.require_aggregate()
    sources.require_window(checker)
    if checker.event_time is not None:
        report.error(checker.event_time[0], "`.watermark` without a window", "put `.window(5m)` after it")
    if checker.partition is not None:
        report.error(
            checker.partition, "`.partition_by` without a window", "add `.window(...).aggregate(...)`"
        )
    return StreamPlan(stream.name, checker.inputs, tuple(checker.stages))


def _take(checker: StreamChecker, operation: ast.Operation) -> None:
    name, report = operation.name, checker.report
    if name != "aggregate":
        checker.require_aggregate()
    if name not in ("on", "window"):
        sources.require_window(checker)
    if checker.event_time is not None and name not in ("allowed_lateness", "partition_by", "window"):
        report.error(checker.event_time[0], "`.watermark` without a window", "put `.window(5m)` after it")
        checker.event_time = None
    if name in UNAVAILABLE or name in FOREIGN:
        report.error(operation, *(UNAVAILABLE.get(name) or FOREIGN[name]))
    elif name in sequence.OWN and name not in OPERATIONS:
        hint = f"put it before the other operations: {sequence.HINT[6:]}"
        report.error(operation, f"`{name if name == '->' else '.' + name}` after the sequence", hint)
    elif take := OPERATIONS.get(name):
        for arg in operation.args:
            if arg.where is not None:
                report.error(arg, "`where` cannot stand here", "filter with `.where(...)` before")
        take(checker, operation)
    else:
        report.error(
            operation, f"unknown operation `.{name}`", report.similar(name, [*OPERATIONS, *UNAVAILABLE])
        )
