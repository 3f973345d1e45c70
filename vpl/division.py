"""Whether the state of a program can be divided by the value of one field, and its parts by key.

Instances of a pipeline that share its events by a field each hold the windows of the keys they own. When they
become more or fewer, windows go along with their keys. That takes that each window belongs to one value of
that field: its stream says `.partition_by(field)`, alone or among others, and the field is then still what
came from outside (a `.select` may rename it, and must not make another one of it). A window over all events,
or by other fields, holds what several instances gathered; nobody could say whose it is.

A join belongs to the field when it compares it, `.distinct` when it is one of its values, a sequence when it
is partitioned by it; all then divide by key as windows do. What is common to all keys is refused by name: a
timer, a limit, a watermark, the time of a `.distinct(..., within: ...)`.

State is the plain data of `vpl.snapshot`: nothing here looks into a row but at its key.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from vpl import ast
from vpl.plan import Aggregate, Distinct, EventTime, Join, Limit, Project, Sequence, StreamPlan, Timer
from vpl.stages import kept

State = dict[str, Any]
"""`{stream: {operation: {"windows": [[key, ...], ...], ...}}}`; `values` of distinct, `events` of a join,
`runs` of a sequence.
"""
Positions = Mapping[tuple[str, str], int | None]
"""By stream and operation: which part of a window's key is the field; None: the key is the field."""


class Undivided(ValueError):
    """The state cannot be divided by that field; the text says why."""


def positions(streams: Iterable[StreamPlan], field: str) -> Positions:
    """Where the keys of all windows hold `field`.

    Raises:
        Undivided: a window is not of one value of it.
    """
    analysis = _Analysis({stream.name: stream for stream in streams}, field)
    for name in analysis.streams:
        analysis.leaves(name)
    return analysis.found


def part(state: State, where: Positions, mine: Callable[[Any], bool]) -> State:
    """What of the state has a value of the field that is `mine`; the rest of it as it is."""
    return {
        stream: {
            operation: {
                **held,
                (rows := _rows(held)): [
                    row for row in held[rows] if mine(_value(_key(rows, row), where[stream, operation]))
                ],
            }
            for operation, held in operations.items()
        }
        for stream, operations in state.items()
    }


def joined(states: Iterable[State]) -> State:
    """The state of all: parts of states of one program, without a key in common."""
    whole: State = {}
    for state in states:
        for stream, operations in state.items():
            for operation, held in operations.items():
                rows = _rows(held)
                there = whole.setdefault(stream, {}).setdefault(operation, {**held, rows: []})
                there[rows] = there[rows] + held[rows]
                if rows in _QUEUED:
                    there[rows].sort(key=lambda row: row[_QUEUED[rows]])
                    there["until"] = max(there["until"], held["until"])
    return whole


def _rows(held: Mapping[str, Any]) -> str:
    """Under which name an operation keeps its rows."""
    return next(name for name in ("windows", "events", "values", "runs") if name in held)


_QUEUED: Final = {"events": 0, "runs": 3}
"""What stands in one queue, in the order of this entry: until when it waits."""


def _key(rows: str, row: Any) -> Any:
    return row[2] if rows == "events" else row[0]


def _value(key: Any, position: int | None) -> Any:
    value = key if position is None else key[position]
    return value[0] if isinstance(value, list) else value  # a boolean is wrapped: see `vpl.windows`


class _Analysis:
    """Follows the field through the streams: under which names it leaves each of them."""

    def __init__(self, streams: dict[str, StreamPlan], field: str) -> None:
        self.streams = streams
        self.found: dict[tuple[str, str], int | None] = {}
        self._field = field
        self._leaves: dict[str, frozenset[str]] = {}

    def leaves(self, name: str) -> frozenset[str]:
        if name not in self.streams:
            return frozenset({self._field})
        if name not in self._leaves:
            self._leaves[name] = frozenset()  # nothing is read of a stream that feeds itself
            self._leaves[name] = self._follow(self.streams[name])
        return self._leaves[name]

    def _follow(self, stream: StreamPlan) -> frozenset[str]:
        names = frozenset.intersection(*map(self.leaves, stream.inputs)) if stream.inputs else frozenset()
        operations = {id(plan.stage): plan.operation for plan in kept(stream)}
        for stage in stream.stages:
            if isinstance(stage, Project):
                names = frozenset(name for name, expr in stage.fields if _is_one_of(expr, names))
            elif isinstance(stage, Timer):
                raise Undivided(f"stream {stream.name} has a timer, and a timer fires in each instance")
            elif isinstance(stage, Limit):
                raise Undivided(f"stream {stream.name} has a limit: a limit counts the events of all keys")
            elif isinstance(stage, Aggregate):
                if isinstance(stage.window, EventTime):
                    raise Undivided(
                        f"stream {stream.name} has a window in event time: its keys have one watermark"
                    )
                at = self._position(stage.keys, names)
                if at is None:
                    by = "all events together" if not stage.keys else "other keys"
                    raise Undivided(
                        f"stream {stream.name} has a window over {by}: write .partition_by({self._field}) "
                        "before it"
                    )
                self._found(stream, operations[id(stage)], stage.keys, at)
                names = frozenset(name for name, i in stage.key_fields if i == at)
            elif isinstance(stage, Distinct):
                if (at := self._position(stage.values, names)) is None or stage.within_ms is not None:
                    raise Undivided(
                        f"stream {stream.name} tells values of other fields apart, or for a time: "
                        f"write .distinct({self._field}, ...) without `within`"
                    )
                self._found(stream, operations[id(stage)], stage.values, at)
            elif isinstance(stage, Join):
                sides = zip(stage.keys, stream.inputs, strict=True)
                first, second = (self._positions(keys, self.leaves(name)) for keys, name in sides)
                if not first & second:
                    raise Undivided(
                        f"stream {stream.name} joins by other keys: compare {self._field} in its .on(...)"
                    )
                self._found(stream, operations[id(stage)], stage.keys[0], min(first & second))
                names = frozenset()
            elif isinstance(stage, Sequence):
                at = self._position(stage.keys, names)
                if at is None:
                    raise Undivided(
                        f"stream {stream.name} has a sequence over all events together, or by other keys: "
                        f"write .partition_by({self._field}) after its .within(...)"
                    )
                self._found(stream, operations[id(stage)], stage.keys, at)
                names = frozenset()
            elif id(stage) in operations:
                raise Undivided(
                    f"stream {stream.name} keeps a state that is not of one key ({operations[id(stage)]})"
                )
        return names

    @staticmethod
    def _positions(keys: tuple[ast.Expr, ...], names: frozenset[str]) -> set[int]:
        return {i for i, key in enumerate(keys) if _is_one_of(key, names)}

    def _position(self, keys: tuple[ast.Expr, ...], names: frozenset[str]) -> int | None:
        return min(self._positions(keys, names), default=None)

    def _found(self, stream: StreamPlan, operation: str, keys: tuple[ast.Expr, ...], at: int) -> None:
        self.found[stream.name, operation] = at if len(keys) > 1 else None


def _is_one_of(expr: ast.Expr, names: frozenset[str]) -> bool:
    return isinstance(expr, ast.Field) and expr.name in names and expr.fallback is None
