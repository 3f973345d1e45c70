"""Windows and what is made of them: `.partition_by`, `.window`, `.aggregate`."""

from dataclasses import replace
from math import gcd

from vpl import ast
from vpl.merging import MAX_PANES
from vpl.operations.sources import finish_join
from vpl.operations.stream import MAX_TIME_WINDOW_MS, StreamChecker, duration
from vpl.plan import (
    Aggregate,
    CountWindow,
    EventTime,
    Session,
    SlidingCount,
    SlidingTime,
    TimeWindow,
    Window,
)

MAX_COUNT_WINDOW = 1_000_000


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
    if checker.joined is not None:
        finish_join(checker, operation)
        return
    made = _window(checker, operation) or CountWindow(1)
    if isinstance(made, Session | CountWindow | SlidingCount) and checker.event_time is not None:
        hint = "write `.window(5m)` or `.window(5m, sliding: 30s)`"
        checker.report.error(operation, "`.watermark` goes with windows of a fixed duration", hint)
    elif isinstance(made, TimeWindow | SlidingTime) and checker.event_time is not None:
        size = made.size_ms
        slide = made.slide_ms if isinstance(made, SlidingTime) else size
        made = EventTime(size, slide, checker.event_time[1], checker.event_time[2])
    checker.event_time = None
    checker.window = (operation, made)


def _window(checker: StreamChecker, operation: ast.Operation) -> Window | None:
    args = operation.args
    if len(args) == 1 and args[0].name == "session":
        gap = duration(checker, args[0].value)
        return None if gap is None else Session(gap)
    if len(args) == 2 and args[0].name is None and args[1].name == "sliding":
        return _sliding(checker, args[0].value, args[1].value)
    if len(args) == 1 and args[0].name is None:
        return _size(checker, args[0].value)
    hint = "write `.window(100)`, `.window(5m)`, `.window(5m, sliding: 30s)` or `.window(session: 5s)`"
    checker.report.error(operation, "`.window` takes a number of events or a duration", hint)
    return None


def _sliding(checker: StreamChecker, size: ast.Expr, slide: ast.Expr) -> Window | None:
    whole, step = _size(checker, size), _size(checker, slide)
    if whole is None or step is None:
        return None
    if isinstance(whole, TimeWindow) and isinstance(step, TimeWindow):
        length, every = whole.size_ms, step.size_ms
    elif isinstance(whole, CountWindow) and isinstance(step, CountWindow):
        length, every = whole.size, step.size
    else:
        hint = "write `.window(5m, sliding: 30s)` or `.window(100, sliding: 10)`"
        checker.report.error(slide, "a window and its step are both events or both durations", hint)
        return None
    if every > length:
        hint = "a step as long as the window is a tumbling one: leave `sliding` out"
        checker.report.error(slide, "the step of a sliding window is not longer than the window", hint)
    elif length // gcd(length, every) > MAX_PANES:
        hint = f"choose a step that divides the window into at most {MAX_PANES:,} parts"
        checker.report.error(slide, f"a sliding window has at most {MAX_PANES:,} panes", hint)
    return SlidingTime(length, every) if isinstance(whole, TimeWindow) else SlidingCount(length, every)


def _size(checker: StreamChecker, size: ast.Expr) -> CountWindow | TimeWindow | None:
    constant = checker.scope.constants.get(size.name) if isinstance(size, ast.Name) else size
    match constant:
        case ast.Duration(value=int() as value) if 0 < value <= MAX_TIME_WINDOW_MS:
            return TimeWindow(value)
        case ast.Literal(value=int() as value) if 0 < value <= MAX_COUNT_WINDOW and value is not True:
            return CountWindow(value)
    message = "a window has 1 to 1,000,000 events or lasts 1ms to 366d"
    checker.report.error(size, message, "write `.window(100)` or `.window(5m)`")
    return None


def watermark(checker: StreamChecker, operation: ast.Operation) -> None:
    if len(operation.args) != 1 or operation.args[0].name != "out_of_order":
        hint = "write `.watermark(out_of_order: 5s)`"
        checker.report.error(operation, "`.watermark` says how far events may be out of order", hint)
    elif (late := duration(checker, operation.args[0].value, shortest=0)) is not None:
        checker.event_time = (operation, late, 0)


def allowed_lateness(checker: StreamChecker, operation: ast.Operation) -> None:
    value = checker.single(operation, "a duration")
    lateness = None if value is None else duration(checker, value, shortest=0)
    if checker.event_time is None:
        hint = "put `.watermark(out_of_order: 5s)` before it"
        checker.report.error(operation, "`.allowed_lateness` without `.watermark`", hint)
    elif lateness is not None:
        checker.event_time = (*checker.event_time[:2], lateness)


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
