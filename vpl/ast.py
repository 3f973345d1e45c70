"""The syntax tree: what a program says, before anything is known about what it means.

Every node carries the 1-based line and column of its first character. Durations and timestamps are already
milliseconds. Operations of a stream are kept in one general form (name and arguments): which operations
exist, and what they take, is the business of the checks, so that an unknown one can be named rather than
mis-parsed. Name resolution (`vpl.scope`) replaces each `Name` by a `Field`, an `EventTime` or a `Literal`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    line: int = field(default=1, compare=False, repr=False)
    column: int = field(default=1, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Expr(Node):
    """Anything that has a value."""


@dataclass(frozen=True, slots=True)
class Literal(Expr):
    """null, a boolean, a number, a text, or a constant list or map."""

    value: Any


@dataclass(frozen=True, slots=True)
class Duration(Literal):
    """A duration as it was written; its value is milliseconds."""


@dataclass(frozen=True, slots=True)
class Name(Expr):
    """A bare name, not resolved yet."""

    name: str


@dataclass(frozen=True, slots=True)
class Field(Expr):
    """A field of the current event; `fallback` is used when the event has no such field."""

    name: str
    fallback: Literal | None = None


@dataclass(frozen=True, slots=True)
class EventTime(Expr):
    """The field of this name, else the event's own time (ms)."""

    name: str


@dataclass(frozen=True, slots=True)
class Member(Expr):
    value: Expr
    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Index(Expr):
    value: Expr
    index: Expr


@dataclass(frozen=True, slots=True)
class Slice(Expr):
    value: Expr
    start: Expr | None
    stop: Expr | None


@dataclass(frozen=True, slots=True)
class Call(Expr):
    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Apply(Expr):
    """A call of a function that the program declares."""

    function: str
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Parameter(Expr):
    """A parameter of the function whose body this is."""

    name: str


@dataclass(frozen=True, slots=True)
class Aggregation(Expr):
    """An aggregate over the events of a window; `parameter` is the number some of them take."""

    function: str
    arg: Expr | None
    parameter: int | float | None = None


@dataclass(frozen=True, slots=True)
class Captured(Expr):
    """What a run of a sequence has in this slot: an event, or the list of those that an `all` step took."""

    slot: int


@dataclass(frozen=True, slots=True)
class Fold(Expr):
    """An aggregate over a list of events; `number` is that of its function in the plan."""

    number: int
    events: Expr


@dataclass(frozen=True, slots=True)
class Unary(Expr):
    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Binary(Expr):
    """Arithmetic, bits, comparison, `in`, `not in` and `??`."""

    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Logic(Expr):
    """`and` / `or` over two or more operands, flat, evaluated left to right, short-circuit."""

    op: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class TypeTest(Expr):
    value: Expr
    type_name: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IfElse(Expr):
    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True)
class Array(Expr):
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Map(Expr):
    entries: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True, slots=True)
class Argument(Node):
    """`expr`, `name: expr` or `expr where expr` between the parentheses of an operation."""

    name: str | None
    value: Expr
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """`.name(args)`."""

    name: str
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Part(Node):
    """`T where ... as x` of a sequence; `many`: as many as come (`all T`, `T+`)."""

    event_type: str
    alias: str | None = None
    where: Expr | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Step(Operation):
    """A step of a sequence: `any` of its parts (mostly there is one), `all` of them in whatever order, or
    `never` its one part before the next step.
    """

    kind: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Source(Node):
    """What a stream consumes: an event type, a stream or a pattern; `combinator` is the `merge` of
    `merge(args)`. `where` and `every` (`all T`) belong to the first step of a sequence.
    """

    name: str
    alias: str | None = None
    combinator: bool = False
    every: bool = False
    args: tuple[Argument, ...] = ()
    where: Expr | None = None


@dataclass(frozen=True, slots=True)
class Statement(Node):
    name: str


@dataclass(frozen=True, slots=True)
class Connector(Statement):
    type: str
    params: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class EventType(Statement):
    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Definition(Statement):
    """`const`, `let` or `var`: a value computed once, at deploy."""

    kind: str
    value: Expr


@dataclass(frozen=True, slots=True)
class Function(Statement):
    """`fn name(parameters) -> type: body`; the types are documentation."""

    parameters: tuple[tuple[str, str], ...]
    body: Expr


@dataclass(frozen=True, slots=True)
class Pattern(Statement):
    """`pattern name = SEQ(...) within d partition by key`: a sequence that streams take by its name."""

    steps: tuple[Step, ...]
    options: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Stream(Statement):
    source: Source
    operations: tuple[Operation, ...]


def children(expr: Expr) -> Iterator[Expr]:
    """The direct sub-expressions of `expr`, left to right."""
    match expr:
        case Member(value=value) | TypeTest(value=value):
            yield value
        case Index(value=value, index=index):
            yield from (value, index)
        case Slice(value=value, start=start, stop=stop):
            yield from (part for part in (value, start, stop) if part is not None)
        case Call(args=args) | Apply(args=args) | Array(items=args) | Logic(operands=args):
            yield from args
        case Aggregation(arg=arg) if arg is not None:
            yield arg
        case Fold(events=events):
            yield events
        case Unary(operand=operand):
            yield operand
        case Binary(left=left, right=right):
            yield from (left, right)
        case IfElse(condition=condition, then=then, otherwise=otherwise):
            yield from (condition, then, otherwise)
        case Map(entries=entries):
            yield from (value for _, value in entries)


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything in it, parents first."""
    yield expr
    for child in children(expr):
        yield from walk(child)
