"""Whether the state of a program can be divided by the value of one field, and its parts by key.

Instances of a pipeline that share its events by a field each hold the windows of the keys they own. When they
become more or fewer, windows go along with their keys. That takes that each window belongs to one value of
that field: its stream says `.partition_by(field)`, alone or among others, and the field is then still what
came from outside (a `.select` may rename it, and must not make another one of it). A window over all events,
or by other fields, holds what several instances gathered; nobody could say whose it is.

State is the plain data of `vpl.snapshot`: nothing here looks into a window but at its key.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vpl import ast
from vpl.plan import Aggregate, Project, StreamPlan
from vpl.stages import kept

State = dict[str, Any]
"""`{stream: {operation: {"slots": [...], "windows": [[key, ...], ...]}}}`."""
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
    """The windows whose value of the field is `mine`; the rest as it is."""
    return {
        stream: {
            operation: {
                **held,
                "windows": [row for row in held["windows"] if mine(_value(row[0], where[stream, operation]))],
            }
            for operation, held in operations.items()
        }
        for stream, operations in state.items()
    }


def joined(states: Iterable[State]) -> State:
    """The windows of all: parts of states of one program, without a key in common."""
    whole: State = {}
    for state in states:
        for stream, operations in state.items():
            for operation, held in operations.items():
                there = whole.setdefault(stream, {}).setdefault(operation, {**held, "windows": []})
                there["windows"] += held["windows"]
    return whole


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
            elif isinstance(stage, Aggregate):
                at = next((i for i, key in enumerate(stage.keys) if _is_one_of(key, names)), None)
                if at is None:
                    by = "all events together" if not stage.keys else "other keys"
                    raise Undivided(
                        f"stream {stream.name} has a window over {by}: write .partition_by({self._field}) "
                        "before it"
                    )
                self.found[stream.name, operations[id(stage)]] = at if len(stage.keys) > 1 else None
                names = frozenset(name for name, i in stage.key_fields if i == at)
            elif id(stage) in operations:
                raise Undivided(
                    f"stream {stream.name} keeps a state that cannot be divided by key "
                    f"({operations[id(stage)]}): deploy it with a fixed number of replicas"
                )
        return names


def _is_one_of(expr: ast.Expr, names: frozenset[str]) -> bool:
    return isinstance(expr, ast.Field) and expr.name in names and expr.fallback is None
