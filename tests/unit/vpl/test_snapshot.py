"""A snapshot taken between any two events, restored elsewhere, goes on exactly as if nothing had happened."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpl import Engine, Output, VplStateError, compile_source

PROGRAM = compile_source("""
stream Timed = T.partition_by(k).window(50ms)
    .aggregate(n: count(), s: sum(v), sd: stddev(v), d: count_distinct(k), p: percentile(v, 90))
    .emit(s: s, sd: sd, d: d, p: p)
stream Counted = T.partition_by(k, b).window(3)
    .aggregate(all: collect(v), low: min(v), e: ema(v, 2), f: first(b)).emit()
stream Twice = Counted.window(2).aggregate(n: count_distinct(low), l: last(all)).emit()
""")

Step = tuple[int, dict[str, Any]] | int
keys = st.sampled_from(["a", "é", 1, True, None, 2.5])
events = st.fixed_dictionaries(
    {"k": keys, "v": st.integers(-3, 3) | st.just("x")}, optional={"b": st.booleans() | keys}
)
steps = st.lists(st.tuples(st.integers(0, 200), events) | st.integers(0, 300), max_size=30)


def feed(engine: Engine, script: list[Step]) -> list[Output]:
    for step in script:
        if isinstance(step, int):
            engine.advance(step)
        else:
            engine.process("T", step[1], step[0])
    return engine.take()


@settings(max_examples=60)
@given(steps)
def test_at_every_index_a_restored_engine_goes_on_like_the_uninterrupted_one(script: list[Step]) -> None:
    whole = PROGRAM.start()
    outputs = feed(whole, script)
    for index in range(len(script) + 1):
        first = PROGRAM.start()
        before = feed(first, script[:index])
        data = json.loads(json.dumps(first.snapshot()))
        second = PROGRAM.start()
        second.restore(data)
        assert second.next_deadline() == first.next_deadline()
        assert before + feed(second, script[index:]) == outputs
        assert second.counters == whole.counters
        assert second.snapshot() == whole.snapshot()


def filled() -> Engine:
    engine = PROGRAM.start()
    feed(engine, [(1, {"k": "a", "v": 1, "b": True}), (2, {"k": True, "v": 2, "b": None})])
    return engine


def test_later_events_do_not_change_a_snapshot() -> None:
    engine = filled()
    data = engine.snapshot()
    before = copy.deepcopy(data)
    feed(engine, [(3, {"k": "a", "v": 7, "b": True}), (9000, {"k": "a", "v": 7, "b": True})])
    assert data == before


def test_two_engines_restored_from_one_snapshot_share_nothing() -> None:
    data = filled().snapshot()
    one, other = PROGRAM.start(), PROGRAM.start()
    one.restore(data)
    other.restore(data)
    feed(one, [(3, {"k": "a", "v": 5, "b": True})])
    assert other.snapshot() == {**data, "counters": other.counters}


def test_another_programs_state_is_refused_unless_forced() -> None:
    data = filled().snapshot()
    changed = compile_source(
        PROGRAM.source + "stream New = T.partition_by(k).window(1s).aggregate(n: count()).emit()"
    ).start()
    with pytest.raises(VplStateError, match=r"another program.*force"):
        changed.restore(data)
    changed.restore(data, force=True)
    state = changed.snapshot()["state"]
    assert state["Timed"] == data["state"]["Timed"]
    assert state["New"]["window"]["windows"] == []


def test_forced_windows_of_another_shape_start_empty() -> None:
    data = filled().snapshot()
    changed = compile_source(PROGRAM.source.replace("sum(v)", "sum(w)")).start()
    changed.restore(data, force=True)
    assert changed.snapshot()["state"]["Timed"]["window"]["windows"] == []
    assert changed.snapshot()["state"]["Counted"] == data["state"]["Counted"]


@pytest.mark.parametrize("force", [False, True])
def test_a_newer_version_is_always_refused(force: bool) -> None:
    with pytest.raises(VplStateError, match="newer release"):
        PROGRAM.start().restore({**filled().snapshot(), "v": 2}, force=force)


def damaged() -> list[tuple[str, Any]]:
    good = filled().snapshot()
    window = good["state"]["Timed"]["window"]

    def with_window(**changes: Any) -> dict[str, Any]:
        state = {**good["state"], "Timed": {"window": {**window, **changes}}}
        return {**good, "state": state}

    row = window["windows"][0]
    return [
        ("not an object", []),
        ("no version", {**good, "v": None}),
        ("boolean version", {**good, "v": True}),
        ("no counters", {**good, "counters": None}),
        ("negative counter", {**good, "counters": {"events_in": -1}}),
        ("no state", {**good, "state": [1]}),
        ("state of numbers", {**good, "state": {"Timed": 3}}),
        ("window of numbers", {**good, "state": {"Timed": {"window": 3}}}),
        ("no windows", with_window(windows=None)),
        ("short row", with_window(windows=[row[:-1]])),
        ("row of text", with_window(windows=["abc"])),
        ("text for a sum", with_window(windows=[[*row[:4], "x", *row[5:]]])),
        ("fraction for an end", with_window(windows=[[row[0], 1.5, *row[2:]]])),
        ("key that is a map", with_window(windows=[[{}, *row[1:]]])),
        ("same key twice", with_window(windows=[row, row])),
        ("unhashable distinct", with_window(windows=[[x if x != ["a"] else [{}] for x in row]])),
    ]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("name", "data"), damaged(), ids=[name for name, _ in damaged()])
def test_malformed_data_is_refused_and_changes_nothing(name: str, data: Any, force: bool) -> None:
    engine = filled()
    before = engine.snapshot()
    with pytest.raises(VplStateError, match="malformed"):
        engine.restore(data, force=force)
    assert engine.snapshot() == before


@settings(max_examples=200)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda v: st.lists(v, max_size=3)
    ),
    st.data(),
)
def test_no_part_of_a_snapshot_can_be_replaced_so_that_the_engine_breaks_later(
    value: Any, data: st.DataObject
) -> None:
    snapshot = filled().snapshot()
    rows = snapshot["state"]["Timed"]["window"]["windows"]
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.integers(0, len(row) - 1))] = value
    engine = PROGRAM.start()
    try:
        engine.restore(snapshot)
    except VplStateError:
        return
    feed(engine, [(1, {"k": "a", "v": 1}), (2, {"k": True, "v": 2}), 10**9])
    json.dumps(engine.snapshot())
