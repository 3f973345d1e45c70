"""Stages with a state say what their definitions say (`stream_oracle`), and go on from any snapshot as if
nothing
had happened."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vpl import stream_oracle as oracle
from vpl import Engine, Output, Program, VplStateError, compile_source
from vpl.merging import MAX_PANES
from vpl.pairs import MAX_PER_KEY

KEYS = st.sampled_from(["a"] * 6 + ["é", 1, True, None, 2.5, [1]])
VALUES = st.integers(-9, 9) | st.sampled_from(["x", None, True, 0.5, 2**57])
FIELDS = st.fixed_dictionaries({"k": KEYS, "v": VALUES}) | st.fixed_dictionaries({}, optional={"k": KEYS})
TIMES = st.integers(0, 120) | st.integers(0, 400)


def events(*types: str) -> st.SearchStrategy[list[oracle.Event]]:
    return st.lists(st.tuples(st.sampled_from(types), FIELDS, TIMES), min_size=5, max_size=40)


def results(program: Program, script: list[oracle.Event], **counters: int) -> list[oracle.Result]:
    engine = program.start()
    for event_type, fields, ts in script:
        engine.process(event_type, fields, ts)
    for name, count in counters.items():
        assert engine.counters[name] == count
    return [(fields, ts) for _, _, fields, ts in engine.take()]


def alike(found: list[oracle.Result], expected: list[oracle.Result]) -> None:
    """Equal, but for the last digits of floats, which depend on the order of additions."""
    assert len(found) == len(expected)
    for (fields, ts), (wanted, at) in zip(found, expected, strict=True):
        assert ts == at
        assert fields.keys() == wanted.keys()
        for name, value in wanted.items():
            if isinstance(value, float):
                assert fields[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
            else:
                assert repr(fields[name]) == repr(value) or fields[name] == pytest.approx(value)


def windowed(window: str) -> Program:
    return compile_source(f"stream S = T{window}.aggregate({oracle.AGGREGATES}).emit()")


SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda pair: (max(pair), min(pair)))


@settings(max_examples=150)
@given(events("T"), SIZES)
def test_a_sliding_count_window_is_the_aggregate_of_the_last_events(
    script: list[oracle.Event], sizes: tuple[int, int]
) -> None:
    size, slide = sizes
    program = windowed(f".partition_by(k).window({size}, sliding: {slide})")
    alike(results(program, script), oracle.sliding_count(script, size, slide))


@settings(max_examples=150)
@given(events("T"), SIZES)
def test_a_sliding_time_window_is_the_aggregate_of_the_last_moments(
    script: list[oracle.Event], sizes: tuple[int, int]
) -> None:
    size, slide = (10 * part for part in sizes)
    program = windowed(f".partition_by(k).window({size}ms, sliding: {slide}ms)")
    alike(results(program, script), oracle.sliding_time(script, size, slide))


@settings(max_examples=150)
@given(events("T"), st.integers(1, 90))
def test_a_session_ends_where_nothing_came_for_its_gap(script: list[oracle.Event], gap: int) -> None:
    program = windowed(f".partition_by(k).window(session: {gap}ms)")
    alike(results(program, script), oracle.sessions(script, gap))


@settings(max_examples=200)
@given(events("T"), SIZES, st.integers(0, 90), st.integers(0, 90))
def test_event_time_windows_hold_their_own_events_whatever_the_order(
    script: list[oracle.Event], sizes: tuple[int, int], out_of_order: int, lateness: int
) -> None:
    size, slide = (10 * part for part in sizes)
    program = windowed(
        f".watermark(out_of_order: {out_of_order}ms).allowed_lateness({lateness}ms).partition_by(k)"
        f".window({size}ms, sliding: {slide}ms)"
    )
    expected, late = oracle.event_time(script, size, slide, out_of_order, lateness)
    found = results(program, script, late=late)
    canonical = [sorted(rows, key=lambda row: (row[1], repr(row[0]))) for rows in (found, expected)]
    assert [ts for _, ts in found] == [ts for _, ts in expected]
    alike(*canonical)


@settings(max_examples=150)
@given(events("A", "B"), st.integers(1, 200))
def test_a_join_makes_each_pair_once_in_both_directions(script: list[oracle.Event], within: int) -> None:
    program = compile_source(f"stream S = join(A, B).on(A.k == B.k).window({within}ms).emit()")
    assert results(program, script) == oracle.joined(script, within)


@settings(max_examples=150)
@given(events("T"), st.none() | st.integers(1, 200))
def test_distinct_lets_each_value_pass_once_in_its_time(
    script: list[oracle.Event], within: int | None
) -> None:
    named = "" if within is None else f", within: {within}ms"
    program = compile_source(f"stream S = T.distinct(k{named}).emit()")
    assert results(program, script) == oracle.distinct(script, within)


EVERYTHING = compile_source(f"""
fn twice(x: float) -> float:
    return x * 2
stream Few    = T.partition_by(k).window(4, sliding: 2).aggregate({oracle.AGGREGATES}).emit()
stream Moving = T.partition_by(k).window(60ms, sliding: 20ms).aggregate({oracle.AGGREGATES}).emit()
stream Visit  = T.partition_by(k).window(session: 30ms).aggregate({oracle.AGGREGATES}).emit()
stream Timely = T.watermark(out_of_order: 20ms).allowed_lateness(30ms).partition_by(k)
    .window(50ms, sliding: 25ms).aggregate({oracle.AGGREGATES}).emit()
stream First  = T.limit(3).emit(v: twice(v))
stream New    = T.distinct(k, within: 50ms).emit(k: k)
stream Both   = merge(First, New).emit()
stream Pair   = join(T, U).on(T.k == U.k).window(40ms).emit(k: T.k, v: U.v)
stream Tick   = timer(70ms).window(2).aggregate(n: count()).emit()
stream Rise   = T as a -> all T where v > a.v as more -> U where k == a.k as u .within(60ms).partition_by(k)
    .emit(n: count(more), v: u.v)
stream Lack   = T as a .not(U where k == a.k).within(50ms).emit(k: a.k)
""")
Step = oracle.Event | int
STEPS = st.lists(st.tuples(st.sampled_from("TU"), FIELDS, TIMES) | TIMES, max_size=25)


def feed(engine: Engine, script: list[Step]) -> list[Output]:
    for step in script:
        if isinstance(step, int):
            engine.advance(step)
        else:
            engine.process(*step)
    return engine.take()


@settings(max_examples=60)
@given(STEPS)
def test_at_every_index_a_restored_engine_goes_on_like_the_uninterrupted_one(script: list[Step]) -> None:
    whole = EVERYTHING.start()
    outputs = feed(whole, script)
    for index in range(len(script) + 1):
        first = EVERYTHING.start()
        before = feed(first, script[:index])
        second = EVERYTHING.start()
        second.restore(orjson.loads(json_of(first)))
        assert second.next_deadline() == first.next_deadline()
        assert before + feed(second, script[index:]) == outputs
        assert second.counters == whole.counters
        assert second.snapshot() == whole.snapshot()


def json_of(engine: Engine) -> bytes:
    return orjson.dumps(engine.snapshot())


def filled() -> Engine:
    engine = EVERYTHING.start()
    rows: list[Step] = [
        (name, {"k": k, "v": v}, ts)
        for ts, (name, k, v) in enumerate([("T", "a", 1), ("U", "a", 2), ("T", True, 3), ("T", "a", "x")])
    ]
    feed(engine, [5, *rows])
    return engine


@settings(max_examples=300)
@given(st.data())
def test_garbage_anywhere_in_a_snapshot_is_refused_or_harmless(data: st.DataObject) -> None:
    snapshot: Any = orjson.loads(json_of(filled()))
    place: Any = snapshot["state"]
    garbage: Any = data.draw(
        st.none() | st.booleans() | st.integers(-5, 500) | st.text(max_size=2) | st.just([]) | st.just({})
    )
    while True:
        key = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 3)) == 0:
            place[key] = garbage
            break
        place = place[key]
    engine = EVERYTHING.start()
    try:
        engine.restore(snapshot)
    except VplStateError:
        assert engine.snapshot() == EVERYTHING.start().snapshot()
        return
    feed(
        engine,
        [("T", {"k": "a", "v": 1}, 9), ("U", {"k": "a"}, 9), 600, ("T", {"k": "a", "v": 1}, 700), 10**6],
    )
    json_of(engine)


def test_over_their_bounds_the_oldest_give_way_and_are_counted() -> None:
    engine = EVERYTHING.start(max_keys=5)
    for n in range(8):
        engine.process("T", {"k": str(n), "v": n}, 0)
    counters = engine.counters
    assert counters["join_evicted"] == 3
    assert counters["distinct_evicted"] == 3
    assert counters["window_evicted"] == 4 * 3
    assert counters["run_evicted"] == 2 * 3
    engine.advance(10**6)
    assert engine.snapshot()["state"]["Pair"]["join"]["events"] == []


def test_one_key_of_a_join_cannot_hold_all_its_memory() -> None:
    engine = compile_source("stream S = join(A, B).on(A.k == B.k).window(1h).emit()").start()
    for n in range(MAX_PER_KEY + 7):
        engine.process("A", {"k": 1, "n": n}, n)
    engine.process("A", {"k": 2}, 0)
    assert engine.counters["join_evicted"] == 7
    saved = engine.snapshot()["state"]["S"]["join"]["events"]
    assert len(saved) == MAX_PER_KEY + 1
    assert saved[0][4]["n"] == 7


def test_the_windows_of_a_stage_without_events_leave_nothing_behind() -> None:
    engine = EVERYTHING.start()
    for n in range(3_000):
        engine.process("T", {"k": n, "v": n}, n)
        engine.advance(n)
    engine.advance(10**9)
    state = engine.snapshot()["state"]
    assert [state[name]["window"]["windows"] for name in ("Moving", "Visit")] == [[], []]
    assert state["Timely"]["window"]["pending"] == []
    assert len(state["Timely"]["window"]["panes"]) < 2 * MAX_PANES
