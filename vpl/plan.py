"""What a checked program does, stage by stage: the common ground of the checks, which make it, and the
compiler.

A stream is its source and a row of stages that the current event passes; a stage may end the event's way
(`Filter`), replace it (`Project`, `Aggregate`) or hand it out (`Emit`, `Deliver`). All names are resolved.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from vpl import ast

_SECRET_NAME = re.compile(r"pass|token|secret|nkey|cred|seed|auth|jwt|(api|private)_?key", re.IGNORECASE)
_USER_IN_URL = re.compile(r"//[^/@\s'\"]*@")


def masked(params: dict[str, Any]) -> str:
    """Parameters as they may be shown: without secrets, told by their names, and without users in URLs."""
    shown = (f"{n}: {'***' if _SECRET_NAME.search(n) else repr(value)}" for n, value in params.items())
    return _USER_IN_URL.sub("//***@", ", ".join(shown))


@dataclass(frozen=True, slots=True)
class ConnectorDecl:
    """`connector name = type(params)`; the repr masks parameters whose name tells of a secret."""

    name: str
    type: str
    params: dict[str, Any]

    def __repr__(self) -> str:
        return f"ConnectorDecl({self.name} = {self.type}({masked(self.params)}))"


@dataclass(frozen=True, slots=True)
class SourceBinding:
    """`.from(connector, ...)`: events of `event_type` arrive through it; the topic is in `params`."""

    connector: str
    event_type: str
    params: dict[str, Any]

    def __repr__(self) -> str:
        return f"SourceBinding({self.event_type}.from({self.connector}, {masked(self.params)}))"


@dataclass(frozen=True, slots=True)
class SinkBinding:
    """Where a stream hands events out; `kind` is "to", "print" or "log" (the last two have no connector)."""

    connector: str | None
    stream: str
    params: dict[str, Any]
    kind: str

    def __repr__(self) -> str:
        return f"SinkBinding({self.stream}.{self.kind}({self.connector}, {masked(self.params)}))"


Fields = tuple[tuple[str, ast.Expr], ...]


@dataclass(frozen=True, slots=True)
class Filter:
    condition: ast.Expr


@dataclass(frozen=True, slots=True)
class Project:
    """The event becomes one of exactly these fields."""

    fields: Fields


@dataclass(frozen=True, slots=True)
class Emit:
    """The current event is an output of the pipeline."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """The current event, or `fields` of it, goes to a sink; `texts` are joined to its `message`."""

    sink: int
    texts: tuple[ast.Expr, ...] = ()
    fields: Fields | None = None


@dataclass(frozen=True, slots=True)
class CountWindow:
    size: int


@dataclass(frozen=True, slots=True)
class TimeWindow:
    size_ms: int


@dataclass(frozen=True, slots=True)
class SlidingCount:
    """The last `size` events, every `slide` events."""

    size: int
    slide: int


@dataclass(frozen=True, slots=True)
class SlidingTime:
    """The last `size_ms`, at each multiple of `slide_ms`."""

    size_ms: int
    slide_ms: int


@dataclass(frozen=True, slots=True)
class Session:
    """Events that follow each other within less than `gap_ms`."""

    gap_ms: int


@dataclass(frozen=True, slots=True)
class EventTime:
    """Tumbling (`slide_ms` is `size_ms`) or sliding, closed by a watermark."""

    size_ms: int
    slide_ms: int
    out_of_order_ms: int
    lateness_ms: int


Window = CountWindow | TimeWindow | SlidingCount | SlidingTime | Session | EventTime


@dataclass(frozen=True, slots=True)
class Limit:
    """The first `count` events pass, for the life of the pipeline."""

    count: int


@dataclass(frozen=True, slots=True)
class Distinct:
    """The first event of each value passes; after `within_ms` (None: never) the value is new again."""

    values: tuple[ast.Expr, ...]
    within_ms: int | None


@dataclass(frozen=True, slots=True)
class Timer:
    """An event without fields at each multiple of `period_ms` of the clock. Comes first."""

    period_ms: int


@dataclass(frozen=True, slots=True)
class Join:
    """Pairs of events of the two inputs, equal in `keys`, at most `within_ms` apart. Comes first."""

    keys: tuple[tuple[ast.Expr, ...], tuple[ast.Expr, ...]]
    within_ms: int


Equalities = tuple[tuple[ast.Expr, ast.Expr], ...]
"""What of an event equals what of a run, where that is a condition."""


@dataclass(frozen=True, slots=True)
class Item:
    """One part of a step: an event of a type. `name`: under which it stands in the match; `many`: as many as
    come; `conditions` must all hold, and `equal` is the equalities among them that runs are found by;
    `times`: the names by which the program asks for its time.
    """

    event_type: str
    name: str | None
    conditions: tuple[ast.Expr, ...]
    equal: Equalities
    many: bool
    times: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """A step: one of its items, or `every` one of them in whatever order."""

    items: tuple[Item, ...]
    every: bool


@dataclass(frozen=True, slots=True)
class Negation:
    """An event that ends a run while it waits for a step from `first` to `last` (counted from 0)."""

    event_type: str
    conditions: tuple[ast.Expr, ...]
    equal: Equalities
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """Events that follow each other within `within_ms` of the first, of the same `keys`. Comes first."""

    groups: tuple[Group, ...]
    negations: tuple[Negation, ...]
    within_ms: int
    keys: tuple[ast.Expr, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, in the order of their slots."""
        return tuple(item for group in self.groups for item in group.items)

    @property
    def ripens(self) -> bool:
        """Whether a match is complete only when its time is over."""
        end = len(self.groups)
        return self.groups[-1].items[-1].many or any(negation.last == end for negation in self.negations)


@dataclass(frozen=True, slots=True)
class Function:
    """`fn name(parameters): body`; the names in the body are `ast.Parameter`."""

    name: str
    parameters: tuple[str, ...]
    body: ast.Expr


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Events gather per key in a window; when it closes, the event of key fields and results goes on."""

    window: Window
    keys: tuple[ast.Expr, ...]
    key_fields: tuple[tuple[str, int], ...]
    results: Fields


Stage = Filter | Project | Emit | Deliver | Aggregate | Limit | Distinct | Timer | Join | Sequence


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A stream: `inputs` are the types it takes, each once; none for a stream that the clock feeds."""

    name: str
    inputs: tuple[str, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole program; `streams` in the order they are declared; `folds` are aggregates over lists of events,
    by number.
    """

    connectors: dict[str, ConnectorDecl] = field(default_factory=dict)
    sources: tuple[SourceBinding, ...] = ()
    sinks: tuple[SinkBinding, ...] = ()
    streams: tuple[StreamPlan, ...] = ()
    functions: tuple[Function, ...] = ()
    folds: tuple[ast.Aggregation, ...] = ()
    variables: dict[str, Any] = field(default_factory=dict)
