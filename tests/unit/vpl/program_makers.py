"""Whole programs at random: up to five streams over events from outside and over each other, each of a few
stages.

Every event has, or may lack, the fields `k` (what stages go by), `v` (what is calculated with; it stays tame,
so that sums are exact) and `w` (whatever an expression made).
"""

import re
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tests.unit.vpl import stream_oracle
from tests.unit.vpl.program_oracle import Stage, Stream, limited, passing, projecting, written
from tests.unit.vpl.sequence_oracle import Sequence, matches
from tests.unit.vpl.stream_oracle import Event, Result
from tests.unit.vpl.test_expressions import larger, scalars
from tests.unit.vpl.test_sequences import sequences
from vpl import ast

OUTSIDE = ("A", "B", "C")
LIMIT = ast.Field("LIMIT", ast.Literal(2))
DECLARED = "const LIMIT = 2\n"
K, V, W = (ast.Field(name) for name in "kvw")

KEYS = st.sampled_from(["a"] * 4 + ["b", 1, True, None, [1]])
VALUES = st.integers(-3, 6) | st.sampled_from(["x", None, True, 0.5])
WILD = scalars | st.just([1, "a"]) | st.just({"k": 5})
FIELDS = st.fixed_dictionaries({"k": KEYS, "v": VALUES}, optional={"w": WILD}) | st.fixed_dictionaries(
    {}, optional={"k": KEYS, "v": VALUES, "w": WILD}
)
EVENTS = st.lists(st.tuples(st.sampled_from(OUTSIDE), FIELDS, st.integers(0, 200)), min_size=10, max_size=30)

wild = st.recursive(st.builds(ast.Literal, scalars) | st.sampled_from([K, V, W, LIMIT]), larger, max_leaves=6)
tame = st.recursive(
    st.sampled_from([V, V, V, LIMIT]) | st.builds(ast.Literal, st.integers(-3, 6)),
    lambda inner: (
        st.builds(ast.Binary, st.sampled_from(["+", "-", "??"]), inner, inner)
        | st.builds(ast.Unary, st.just("-"), inner)
    ),
    max_leaves=3,
)
some = st.sampled_from(
    [
        ast.Binary(">", V, ast.Literal(0)),
        ast.Binary("<=", V, LIMIT),
        ast.TypeTest(V, "int"),
        ast.Binary("==", K, ast.Literal("a")),
        ast.Binary("!=", ast.Binary("??", K, ast.Literal("b")), ast.Literal("b")),
        ast.Logic("or", (ast.TypeTest(W, "null", negated=True), ast.Binary("<", V, ast.Literal(3)))),
    ]
)
tests = st.one_of(some, some, some, wild)
parts = st.fixed_dictionaries(
    {"k": st.sampled_from([K, ast.Binary("??", K, ast.Literal("a"))]), "v": tame, "w": wild}
)
SUMMED = ("n", "s", "lo", "hi", "first", "last")
"""Of a window, what may be the next `v`."""
KEPT = ("all", "kinds", "p", "n", "first")
"""Of a window, what may be the next `w`."""


def _project(operation: str, made: dict[str, ast.Expr]) -> Stage:
    text = ", ".join(f"{name}: {written(part)}" for name, part in made.items())
    return Stage(f".{operation}({text})", projecting(made), operation == "emit")


@st.composite
def windows(draw: st.DrawFn, by_key: bool = False) -> list[Stage]:
    """A window of any kind with all aggregates, perhaps a `.having`, and what is made of it. `by_key`: none
    in event time, where all keys have one watermark."""
    size = draw(st.integers(1, 4))
    slide = draw(st.integers(1, size))
    length, gap = 10 * size, draw(st.integers(1, 60))
    unordered, lateness = draw(st.integers(0, 90)), draw(st.integers(0, 90))

    def count(events: list[Event]) -> list[Result]:
        return stream_oracle.sliding_count(events, size, slide)

    def time(events: list[Event]) -> list[Result]:
        return stream_oracle.sliding_time(events, length, 10 * slide)

    def tumbling(events: list[Event]) -> list[Result]:
        return stream_oracle.tumbling_time(events, length)

    def sessions(events: list[Event]) -> list[Result]:
        return stream_oracle.sessions(events, gap)

    def event_time(events: list[Event]) -> list[Result]:
        return stream_oracle.event_time(events, length, 10 * slide, unordered, lateness)[0]

    watermark = f".watermark(out_of_order: {unordered}ms).allowed_lateness({lateness}ms)"
    kinds = [
        ("", f"{size}, sliding: {slide}", count),
        ("", f"{length}ms, sliding: {10 * slide}ms", time),
        ("", f"{length}ms", tumbling),
        ("", f"session: {gap}ms", sessions),
        (watermark, f"{length}ms, sliding: {10 * slide}ms", event_time),
    ]
    before, window, play = draw(st.sampled_from(kinds[:-1] if by_key else kinds))
    text = f"{before}.partition_by(k).window({window}).aggregate({stream_oracle.AGGREGATES})"
    stages = [Stage(text, play)]
    if draw(st.booleans()):
        condition = ast.Binary(
            draw(st.sampled_from([">", "<=", "!="])), ast.Field("n"), ast.Literal(draw(st.integers(1, 3)))
        )
        stages.append(Stage(f".having({written(condition)})", passing(condition)))
    made: dict[str, ast.Expr] = {
        "k": K,
        "v": ast.Field(draw(st.sampled_from(SUMMED))),
        "w": ast.Field(draw(st.sampled_from(KEPT))),
    }
    return [*stages, _project(draw(st.sampled_from(["select", "emit"])), made)]


@st.composite
def stage_lists(draw: st.DrawFn, by_key: bool = False) -> list[Stage]:
    """Up to three operations, and mostly an `.emit()` at the end. `by_key`: none that knows of other keys."""
    stages: list[Stage] = []
    kinds = ["where", "where", "select", "emit", "distinct", "window", "window" if by_key else "limit"]
    for _ in range(draw(st.integers(0, 3))):
        match draw(st.sampled_from(kinds)):
            case "where":
                condition = draw(tests)
                stages.append(Stage(f".where({written(condition)})", passing(condition)))
            case "limit":
                count = draw(st.integers(1, 6))
                stages.append(Stage(f".limit({count})", limited(count)))
            case "distinct":
                stages.append(_distinct(draw(st.none() if by_key else st.none() | st.integers(1, 100))))
            case "window":
                stages += draw(windows(by_key))
            case operation:
                stages.append(_project(operation, draw(parts)))
    if draw(st.integers(0, 4)):
        stages.append(Stage(".emit()", lambda events: [(fields, ts) for _, fields, ts in events], True))
    return stages


def _distinct(within: int | None) -> Stage:
    named = "" if within is None else f", within: {within}ms"
    return Stage(f".distinct(k{named})", lambda events: stream_oracle.distinct(events, within))


def _join(left: str, right: str, within: int) -> list[Stage]:
    """Both sides, and the three fields made of a pair."""

    def play(events: list[Event]) -> list[Result]:
        sides = [("A" if name == left else "B", fields, ts) for name, fields, ts in events]
        pairs = stream_oracle.joined(sides, within)
        return [({left: pair["A"], right: pair["B"]}, ts) for pair, ts in pairs]

    one, other = ast.Field(left), ast.Field(right)
    made: dict[str, ast.Expr] = {
        "k": ast.Member(one, "k"),
        "v": ast.Binary("+", ast.Member(one, "v"), ast.Member(other, "v")),
        "w": ast.Member(other, "w", optional=True),
    }
    on = f".on({left}.k == {right}.k).window({within}ms)"
    return [Stage(on, play), _project("select", made)]


def _sequence(sequence: Sequence, named: dict[str, str], number: int) -> tuple[str, list[Stage]]:
    """Its pattern, over other types, and its stages."""

    def part(part: Any) -> Any:
        return replace(part, event_type=named[part.event_type])

    renamed = replace(
        sequence,
        groups=tuple((tuple(map(part, group)), every) for group, every in sequence.groups),
        negations=tuple(map(part, sequence.negations)),
    )
    pattern = re.sub(r"\b[ABC]\b", lambda found: named[found[0]], sequence.text.partition("\n")[0])
    pattern = pattern.replace("pattern P ", f"pattern P{number} ")
    single = [part.name for group, _ in sequence.groups for part in group if not part.many]
    made: dict[str, ast.Expr] = {"k": ast.Literal("a"), "v": ast.Literal(1), "w": ast.Literal(None)}
    if single:
        first, last = ast.Field(single[0]), ast.Field(single[-1])
        made = {"k": ast.Member(first, "k"), "v": ast.Member(last, "v"), "w": ast.Member(first, "w", True)}
    stages = [Stage("", lambda events: matches(renamed, events)), _project("select", made)]
    return pattern + "\n", stages


@st.composite
def streams(draw: st.DrawFn, by_key: bool = False) -> list[Stream]:
    """The streams of a program; each takes from outside, or from those before it. `by_key`: mostly such that
    keys have nothing to do with each other."""
    made: list[Stream] = []
    ways = ["one", "one", "one", "merge", "join"] + ([] if by_key else ["sequence"])
    for number in range(draw(st.integers(1, 5))):
        known = [*OUTSIDE, *[stream.name for stream in made] * 2]
        source = st.sampled_from(known)
        name, further = f"S{number}", draw(stage_lists(by_key))
        match draw(st.sampled_from(ways)):
            case "one":
                made.append(Stream(name, ((one := draw(source)),), one, tuple(further)))
            case "merge":
                several = draw(st.lists(source, min_size=2, max_size=3, unique=True))
                made.append(Stream(name, tuple(several), f"merge({', '.join(several)})", tuple(further)))
            case "join":
                left, right = draw(st.lists(source, min_size=2, max_size=2, unique=True))
                joined = _join(left, right, draw(st.integers(1, 100)))
                made.append(Stream(name, (left, right), f"join({left}, {right})", (*joined, *further)))
            case "sequence":
                named = {letter: draw(source) for letter in OUTSIDE}
                sequence = draw(sequences())
                pattern, stages = _sequence(sequence, named, number)
                taken = [part.event_type for group, _ in sequence.groups for part in group]
                taken += [negation.event_type for negation in sequence.negations]
                inputs = tuple(dict.fromkeys(named[letter] for letter in taken))
                made.append(Stream(name, inputs, f"P{number}", (*stages, *further), pattern))
    return made


def text(made: list[Stream]) -> str:
    """The whole program."""
    return DECLARED + "".join(f"{stream.text}\n" for stream in made)
