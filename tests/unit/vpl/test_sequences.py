"""Sequences say what their definition says (`sequence_oracle`), whatever finds the runs; they go on from any
snapshot, and hold no more than they may."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vpl.sequence_oracle import Condition, Fields, Negation, Part, Sequence, matches
from tests.unit.vpl.stream_oracle import Event, Result, is_number
from vpl import Engine, VplStateError, compile_source
from vpl.runs import MAX_RUNS, MAX_TAKEN
from vpl.values import equal

KEYS = st.sampled_from(["a"] * 4 + ["b", 1, 1.0, True, None, [1], {"x": 1}])
VALUES = st.sampled_from([1, 2, 3, 4, "x", None])
FIELDS = st.fixed_dictionaries({"k": KEYS, "v": VALUES}) | st.fixed_dictionaries({}, optional={"k": KEYS})
EVENTS = st.lists(st.tuples(st.sampled_from("ABCX"), FIELDS, st.integers(0, 120)), min_size=4, max_size=30)
Named = tuple[str, bool]
"""An earlier part, and whether it is several events."""


def _true(fields: Fields, held: dict[str, Any]) -> bool:
    return True


def _above(limit: int) -> Condition:
    def holds(fields: Fields, held: dict[str, Any]) -> bool:
        if not is_number(fields["v"]):
            raise TypeError
        return bool(fields["v"] > limit)

    return holds


def _same(name: str, many: bool) -> Condition:
    def holds(fields: Fields, held: dict[str, Any]) -> bool:
        if not many:
            return equal(fields["k"], held[name]["k"])
        known = [each["k"] for each in held[name] if each.get("k") is not None]
        return equal(fields["k"], known[-1])

    return holds


def _both(one: Condition, other: Condition) -> Condition:
    return lambda fields, held: one(fields, held) and other(fields, held)


def _other_value(name: str) -> Condition:
    return lambda fields, held: not equal(fields["v"], held[name]["v"])


@st.composite
def conditions(draw: st.DrawFn, before: list[Named]) -> tuple[str, Condition]:
    """` where ...`, or nothing, and what it means."""
    kinds: list[tuple[str, Condition]] = [("", _true), (" where v > 1", _above(1))]
    for name, many in before:
        same = f"k == last({name}.k)" if many else f"{name}.k == k"
        kinds += [(f" where {same}", _same(name, many))] * 2
        kinds.append((f" where {same} and v > 2", _both(_same(name, many), _above(2))))
        if not many:
            kinds.append((f" where {same} and v != {name}.v", _both(_same(name, many), _other_value(name))))
    return draw(st.sampled_from(kinds))


@st.composite
def sequences(draw: st.DrawFn) -> Sequence:
    """A pattern of two to four steps, with its meaning."""
    groups: list[tuple[tuple[Part, ...], bool]] = []
    negations: list[Negation] = []
    texts: list[str] = []
    before: list[Named] = []
    count = draw(st.integers(1, 4))
    for number in range(count):
        kind = draw(st.sampled_from(["one"] * 4 + ["many", "AND", "OR"]))
        size = draw(st.integers(2, 3)) if kind in ("AND", "OR") else 1
        parts: list[Part] = []
        written: list[str] = []
        names: list[Named] = []
        for _ in range(size):
            event_type, name = draw(st.sampled_from("ABC")), f"p{len(before) + len(names)}"
            where, condition = draw(conditions(before))
            written.append(f"{event_type}{'+' if kind == 'many' else ''}{where} as {name}")
            parts.append(Part(event_type, name, condition, kind == "many"))
            names.append((name, kind == "many"))
        texts.append(written[0] if size == 1 else f"{kind}({', '.join(written)})")
        groups.append((tuple(parts), kind == "AND"))
        before += names
        last = number == count - 1
        must = last and count == 1 and kind != "many" and kind != "AND"
        if must or draw(st.integers(0, 5)) == 0:
            event_type = draw(st.sampled_from("ABC"))
            where, condition = draw(conditions(before))
            texts.append(f"NOT {event_type}{where}")
            negations.append(Negation(event_type, condition, number + 1, number + 1))
    within, keyed = draw(st.integers(1, 120)), draw(st.booleans())
    text = f"pattern P = SEQ({', '.join(texts)}) within {within}ms{' partition by k' if keyed else ''}\n"
    return Sequence(f"{text}stream S = P.emit()", tuple(groups), tuple(negations), within, keyed)


def results(engine: Engine) -> list[Result]:
    return [(fields, ts) for _, _, fields, ts in engine.take()]


def feed(engine: Engine, events: list[Event]) -> None:
    for event_type, fields, ts in events:
        engine.process(event_type, fields, ts)


@settings(max_examples=400)
@given(sequences(), EVENTS)
def test_a_sequence_finds_what_a_search_of_all_runs_finds(sequence: Sequence, events: list[Event]) -> None:
    engine = compile_source(sequence.text).start()
    feed(engine, events)
    assert results(engine) == matches(sequence, events)


@settings(max_examples=150)
@given(sequences(), EVENTS, st.integers(0, 30))
def test_a_restored_sequence_goes_on_as_if_nothing_had_happened(
    sequence: Sequence, events: list[Event], cut: int
) -> None:
    program = compile_source(sequence.text)
    whole = program.start()
    feed(whole, events)
    whole.advance(100)
    whole.advance(1000)
    first, second = program.start(), program.start()
    feed(first, events[:cut])
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert second.next_deadline() == first.next_deadline()
    assert second.snapshot()["state"] == first.snapshot()["state"]
    feed(second, events[cut:])
    second.advance(100)
    second.advance(1000)
    assert results(first) + results(second) == results(whole)
    assert second.counters == whole.counters


PAIR = "stream S = A as a -> B where k == a.k as b .within(1h).emit(k: a.k, v: a.v)"


def test_the_oldest_run_gives_way_and_is_counted() -> None:
    engine = compile_source(PAIR).start()
    for n in range(MAX_RUNS + 3):
        engine.process("A", {"k": n}, n)
    for n in range(5):
        engine.process("B", {"k": n}, 20_000)
    assert [fields["k"] for fields, _ in results(engine)] == [3, 4]
    assert engine.counters["run_evicted"] == 3


def test_runs_that_are_over_are_not_counted_as_lost() -> None:
    engine = compile_source(PAIR).start()
    for n in range(MAX_RUNS + 3):
        engine.process("A", {"k": n}, n * 1000)
    assert engine.counters["run_evicted"] == 0
    assert len(engine.snapshot()["state"]["S"]["sequence"]["runs"]) == 3601


def test_an_all_step_keeps_so_many_events_and_counts_the_others() -> None:
    engine = compile_source(
        "stream S = all A as xs -> B as b .within(1h).emit(n: count(xs), v: last(xs.v))"
    ).start()
    for n in range(MAX_TAKEN + 2):
        engine.process("A", {"v": n}, n)
    engine.process("B", {}, 5_000)
    assert results(engine) == [({"n": MAX_TAKEN, "v": MAX_TAKEN - 1}, 5_000)]
    assert engine.counters["values_dropped"] == 2


def test_completed_runs_leave_nothing_behind() -> None:
    engine = compile_source(PAIR).start()
    for n in range(3_000):
        engine.process("A", {"k": n}, n)
        engine.process("B", {"k": n}, n)
    empty = engine.snapshot()["state"]["S"]["sequence"]
    assert empty["runs"] == [] and engine.next_deadline() is None
    keeper: Any = engine._keepers[0][1]
    assert not any(keeper.places) and len(keeper._queue) < 200


def test_what_a_run_holds_is_weighed() -> None:
    engine = compile_source("stream S = all A as xs -> B as b .within(1h).emit()").start()
    for n in range(100):
        engine.process("A", {"v": n, "w": n}, n)
    assert engine.outweighs(150) and not engine.outweighs(1_000)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.__setitem__(4, 2),
        lambda run: run.__setitem__(4, 0),
        lambda run: run.__setitem__(5, None),
        lambda run: run.__setitem__(6, {"v": 1}),
        lambda run: run.__setitem__(5, [{"v": 1}]),
        lambda run: run.__setitem__(3, 10**12),
        lambda run: run.pop(),
    ],
    ids=["ripe", "not begun", "without event", "further than it says", "a list", "due too late", "short"],
)
def test_a_run_that_cannot_be_is_refused(spoil: Callable[[list[Any]], None]) -> None:
    program = compile_source(PAIR)
    engine = program.start()
    engine.process("A", {"k": 1}, 5)
    snapshot = json.loads(json.dumps(engine.snapshot()))
    spoil(snapshot["state"]["S"]["sequence"]["runs"][0])
    with pytest.raises(VplStateError, match="a run of a sequence"):
        program.start().restore(snapshot)
