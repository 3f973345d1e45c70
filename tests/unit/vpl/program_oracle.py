"""The slow meaning of whole programs: streams of stages, each a function from all that ever came to it to all
that ever left it.

A stage keeps every event and is asked for everything anew with each; what is new goes on at once to the stage
behind it, and from the last one to the streams over this stream's name, in the order in which these are
written. No timer runs, and the host tells no clock.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.unit.vpl.oracle import Closure, NoValue, closure
from tests.unit.vpl.stream_oracle import Event, Result
from vpl import ast

Play = Callable[[list[Event]], list[Result]]
"""All that came to all that left; more events add to its end."""


@dataclass(frozen=True)
class Stage:
    """`text` is how the language writes it; `puts_out`: what leaves it is an output of the program."""

    text: str
    play: Play
    puts_out: bool = False


@dataclass(frozen=True)
class Stream:
    """`source` is the text before the first stage, `before` what stands before the stream."""

    name: str
    inputs: tuple[str, ...]
    source: str
    stages: tuple[Stage, ...]
    before: str = ""

    @property
    def text(self) -> str:
        return (
            f"{self.before}stream {self.name} = {self.source}{''.join(stage.text for stage in self.stages)}"
        )


def outputs(streams: list[Stream], events: list[Event]) -> list[tuple[str, dict[str, Any], int]]:
    """(stream, fields, ts) of each output, in order."""
    player = _Player(streams)
    for event in events:
        player.event(event)
    return player.outputs


class _Player:
    def __init__(self, streams: list[Stream]) -> None:
        self._streams = streams
        self._came: dict[tuple[str, int], list[Event]] = {}
        self.outputs: list[tuple[str, dict[str, Any], int]] = []

    def event(self, event: Event) -> None:
        for stream in self._streams:
            if event[0] in stream.inputs:
                self._enter(stream, 0, event)

    def _enter(self, stream: Stream, at: int, event: Event) -> None:
        if at == len(stream.stages):
            self.event((stream.name, *event[1:]))
            return
        stage, came = stream.stages[at], self._came.setdefault((stream.name, at), [])
        before = len(stage.play(came))
        came.append(event)
        for fields, ts in stage.play(came)[before:]:
            if stage.puts_out:
                self.outputs.append((stream.name, fields, ts))
            self._enter(stream, at + 1, (event[0], fields, ts))


def each(change: Callable[[dict[str, Any], int], dict[str, Any] | None]) -> Play:
    """A stage without memory: what becomes of each event, or None where it ends."""

    def play(events: list[Event]) -> list[Result]:
        made = [(change(fields, ts), ts) for _, fields, ts in events]
        return [(fields, ts) for fields, ts in made if fields is not None]

    return play


def passing(condition: ast.Expr) -> Play:
    """`.where`, `.having`."""
    holds = closure(condition)

    def change(fields: dict[str, Any], ts: int) -> dict[str, Any] | None:
        try:
            return fields if holds(fields, ts) is True else None
        except NoValue:
            return None

    return each(change)


def projecting(parts: dict[str, ast.Expr]) -> Play:
    """`.select`, `.emit`."""
    closures: dict[str, Closure] = {name: closure(part) for name, part in parts.items()}

    def change(fields: dict[str, Any], ts: int) -> dict[str, Any]:
        made = {}
        for name, value in closures.items():
            try:
                made[name] = value(fields, ts)
            except NoValue:
                continue
        return made

    return each(change)


def limited(count: int) -> Play:
    return lambda events: [(fields, ts) for _, fields, ts in events[:count]]


def written(expr: ast.Expr) -> str:
    """The expression as the language writes it, with all its parentheses."""
    match expr:
        case ast.Literal(value=value):
            return _literal(value)
        case ast.Field(name=name):
            return name
        case ast.Unary(op=op, operand=operand):
            return f"({op} {written(operand)})"
        case ast.Binary(op=op, left=left, right=right):
            return f"({written(left)} {op} {written(right)})"
        case ast.Logic(op=op, operands=operands):
            return f"({f' {op} '.join(map(written, operands))})"
        case ast.IfElse(condition=condition, then=then, otherwise=otherwise):
            return f"(if {written(condition)} then {written(then)} else {written(otherwise)})"
        case ast.TypeTest(value=value, type_name=type_name, negated=negated):
            return f"({written(value)} is {'not ' if negated else ''}{type_name})"
        case ast.Array(items=items):
            return f"[{', '.join(map(written, items))}]"
        case ast.Member(value=value, name=name, optional=optional):
            return f"{_whole(value)}{'?.' if optional else '.'}{name}"
        case ast.Index(value=value, index=index):
            return f"{_whole(value)}[{written(index)}]"
    raise AssertionError(expr)


def _whole(value: ast.Expr) -> str:
    return written(value) if isinstance(value, ast.Field) else f"({written(value)})"


def _literal(value: Any) -> str:
    if isinstance(value, float):
        text = repr(value).replace("e+", "e")
        return f"({text})" if value < 0 else text
    text = json.dumps(value, ensure_ascii=False)
    return f"({text})" if text.startswith("-") else text
