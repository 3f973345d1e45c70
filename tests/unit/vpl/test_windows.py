"""When windows close, how many may be open, and what they keep."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vpl import Engine, compile_source
from vpl.aggregates import MAX_VALUES
from vpl.windows import TimeWindows

COUNTS = compile_source("stream S = T.partition_by(k).window(10).aggregate(n: count()).emit()")
TIMED = compile_source("stream S = T.partition_by(k).window(1s).aggregate(n: count()).emit(k: k, n: n)")
TIMED_N = compile_source("stream S = T.partition_by(k).window(1s).aggregate(n: count()).emit()")


def outputs(engine: Engine) -> list[tuple[object, int, int]]:
    return [(fields.get("k"), fields["n"], ts) for _, _, fields, ts in engine.take()]


def test_the_timer_closes_windows_earliest_due_first() -> None:
    engine = TIMED.start()
    for key, ts in (("late", 500), ("early", 100), ("middle", 300)):
        engine.process("T", {"k": key}, ts)
    assert engine.next_deadline() == 1100
    engine.advance(1_400)
    assert outputs(engine) == [("early", 1, 1100), ("middle", 1, 1300)]
    assert engine.next_deadline() == 1500


def test_a_window_that_an_event_closed_is_not_closed_again_by_the_timer() -> None:
    engine = TIMED.start()
    engine.process("T", {"k": "a"}, 0)
    engine.process("T", {"k": "a"}, 1_000)
    engine.advance(1_000)
    assert outputs(engine) == [("a", 1, 1000)]
    assert engine.next_deadline() == 2_000


def test_an_event_from_the_future_does_not_hold_a_window_open_when_the_host_tells_its_clock() -> None:
    engine = TIMED.start()
    engine.now = 50
    engine.process("T", {"k": "a"}, 10**15)
    engine.advance(1_050)
    assert len(engine.take()) == 1


def test_a_window_fed_by_the_timer_is_due_by_the_timers_clock() -> None:
    program = compile_source("""stream A = T.window(1s).aggregate(n: count())
    stream B = A.window(1s).aggregate(m: sum(n)).emit()""")
    engine = program.start()
    engine.now = 10
    engine.process("T", {}, 5)
    engine.advance(50_000)
    assert engine.take() == []
    assert engine.next_deadline() == 51_000
    engine.advance(51_000)
    assert [fields for _, _, fields, _ in engine.take()] == [{"m": 1}]


def test_over_the_bound_the_oldest_windows_give_way_and_are_counted() -> None:
    for program in (COUNTS, TIMED):
        engine = program.start(max_keys=5)
        for key in range(8):
            engine.process("T", {"k": str(key)}, 0)
        [stream] = engine.snapshot()["state"].values()
        assert [row[0] for row in stream["window"]["windows"]] == ["3", "4", "5", "6", "7"]
        assert engine.counters["window_evicted"] == 3
        engine.advance(10**6)


def test_entries_of_closed_windows_do_not_pile_up() -> None:
    windows = TimeWindows((), lambda end, due: [end, due], 100, 1_000_000)
    for ts in range(5_000):
        windows.open.pop("k", None)
        windows.start_at("k", ts, 0)
    assert len(windows._dues) < 200


def test_gathered_values_are_bounded_and_what_is_dropped_is_counted() -> None:
    program = compile_source(
        "stream S = T.window(1h).aggregate(all: collect(v), d: count_distinct(v)).emit(d: d, n: len(all))"
    )
    engine = program.start()
    for v in range(MAX_VALUES + 3):
        engine.process("T", {"v": v}, 0)
    engine.advance(10**9)
    [(_, _, fields, _)] = engine.take()
    assert fields == {"d": MAX_VALUES, "n": MAX_VALUES}
    assert engine.counters["values_dropped"] == 6


def test_an_aggregate_of_no_values_is_left_out() -> None:
    program = compile_source(
        "stream S = T.window(1).aggregate(n: count(x), a: avg(x), m: min(x), s: sum(x), d: stddev(x), "
        "p: percentile(x, 5)).emit()"
    )
    engine = program.start()
    engine.process("T", {}, 0)
    assert [fields for _, _, fields, _ in engine.take()] == [{"n": 0, "s": 0}]


def test_sums_beyond_the_range_of_floats_are_mismatches_and_never_raise() -> None:
    engine = compile_source(
        "stream S = T.window(3).aggregate(s: sum(v), d: stddev(v), a: avg(v)).emit()"
    ).start()
    for v in (10**400, 1.5, 2):
        engine.process("T", {"v": v}, 0)
    assert len(engine.take()) == 1
    assert engine.counters["mismatches"] > 0


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5000)), max_size=60))
def test_every_event_is_counted_in_exactly_one_window(events: list[tuple[str, int]]) -> None:
    engine = TIMED_N.start()
    for key, ts in events:
        engine.process("T", {"k": key}, ts)
        if ts % 7 == 0:
            engine.advance(ts)
    engine.advance(10**6)
    assert sum(fields["n"] for _, _, fields, _ in engine.take()) == len(events)
    assert engine.next_deadline() is None
