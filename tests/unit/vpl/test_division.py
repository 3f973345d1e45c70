"""States that are divided by a field: which can be, and that nothing is lost or doubled on the way."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_schemas.partition import Owners
from vpl import compile_source
from vpl.division import Undivided, joined, part

PROGRAM = """
stream Ins = In.where(n >= 0).select(n: n, customer: k, site: site)
stream Sums = Ins.partition_by(customer).window(1000).aggregate(total: sum(n), seen: collect(n))
    .emit(customer: customer, total: total)
stream Both = In.partition_by(site, k).window(1h).aggregate(c: count()).emit(c: c)
stream Rise = In as a -> all In where n > a.n as more -> In where n == 0 as low
    .within(1h).partition_by(site, k).emit(n: count(more))
"""
KEYS = st.one_of(
    st.text(max_size=3), st.integers(-5, 5), st.none(), st.booleans(), st.sampled_from([1.0, 2.5])
)
EVENTS = st.lists(st.tuples(KEYS, st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=60)
COUNTS = st.integers(1, 6)


def state_of(events: list[tuple[Any, str, int]]) -> dict[str, Any]:
    engine = compile_source(PROGRAM).start()
    for number, (key, site, n) in enumerate(events):
        engine.process("In", {"k": key, "site": site, "n": n}, number)
    found: dict[str, Any] = engine.snapshot()["state"]
    return found


def rows(state: dict[str, Any]) -> list[str]:
    """Every window there is, wherever it is."""
    return sorted(
        repr((stream, operation, row))
        for stream, operations in state.items()
        for operation, held in operations.items()
        for row in held.get("windows", [[row[0], *row[2:]] for row in held.get("runs", ())])
    )


def unstamped(state: dict[str, Any]) -> dict[str, Any]:
    """Without the numbers by which runs say in which order they came where they wait."""
    runs = state["Rise"]["sequence"]
    without = {**runs, "runs": [[row[0], *row[2:]] for row in runs["runs"]]}
    return {**state, "Rise": {"sequence": without}}


def shared_out(states: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    where, owners = compile_source(PROGRAM).divided_by("k"), Owners(count)
    return [
        joined(part(state, where, lambda value, me=me: owners.of(value) == me) for state in states)  # type: ignore[misc]
        for me in range(count)
    ]


@given(EVENTS, st.lists(COUNTS, min_size=1, max_size=4))
@settings(max_examples=150)
def test_however_often_a_state_is_divided_all_windows_are_there_once_and_with_their_owners(
    events: list[tuple[Any, str, int]], counts: list[int]
) -> None:
    whole = state_of(events)
    states, where = [whole], compile_source(PROGRAM).divided_by("k")
    for count in counts:
        states, owners = shared_out(states, count), Owners(count)
        assert rows(joined(states)) == rows(whole)
        for number, state in enumerate(states):
            others = part(state, where, lambda value, me=number, by=owners: by.of(value) != me)  # type: ignore[misc]
            assert rows(others) == []
    program = compile_source(PROGRAM)
    for state in states:
        data = {"v": 1, "source_sha256": program.source_sha256, "counters": {}, "vars": {}, "state": state}
        engine = program.start()
        engine.restore(data)
        assert unstamped(engine.snapshot()["state"]) == unstamped(state), "an engine takes it as it is"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("T.limit(3)", "a limit counts the events of all keys"),
        ("T.watermark(out_of_order: 1s).partition_by(k).window(1s).aggregate(n: count())", "one watermark"),
        ("timer(5s)", "a timer fires in each instance"),
        ("join(T, U).on(T.j == U.j).window(1s)", "joins by other keys"),
        ("T.distinct(j)", "tells values of other fields apart"),
        ("T as t -> U as u .within(1s)", "a sequence over all events together"),
        ("T as t -> U as u .within(1s).partition_by(j)", "or by other keys"),
    ],
)
def test_what_is_common_to_all_keys_is_refused_by_name_and_why(program: str, why: str) -> None:
    with pytest.raises(Undivided, match=why):
        compile_source(f"stream S = {program}.emit()").divided_by("k")


@given(EVENTS, EVENTS, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60)
def test_moving_windows_joins_and_distinct_values_go_along_with_their_keys(
    before: list[tuple[Any, str, int]], after: list[tuple[Any, str, int]], old: int, new: int
) -> None:
    program = compile_source(
        """stream A = In.partition_by(k).window(4, sliding: 2).aggregate(s: sum(n)).emit()
        stream B = In.partition_by(site, k).window(8ms, sliding: 4ms).aggregate(s: sum(n)).emit()
        stream C = In.partition_by(k).window(session: 3ms).aggregate(s: sum(n)).emit()
        stream D = join(In, Out).on(In.k == Out.k).window(20ms).emit(k: In.k, n: In.n + Out.n)
        stream E = In.distinct(site, k).emit(k: k)
        stream F = In as a -> all In where n > a.n as more -> Out where site == a.site as o .within(30ms)
            .partition_by(k).not(Out where n == a.n).emit(n: count(more), k: a.k)"""
    )
    where = program.divided_by("k")

    def engines(states: list[dict[str, Any]]) -> list[Any]:
        made = [program.start() for _ in states]
        for engine, state in zip(made, states, strict=True):
            engine.restore({**program.start().snapshot(), "state": state})
        return made

    def play(parts: list[Any], events: list[tuple[Any, str, int]], start: int) -> list[str]:
        owners = Owners(len(parts))
        for number, (key, site, n) in enumerate(events, start):
            event = {"k": key, "site": site, "n": n}
            parts[owners.of(key)].process("Out" if n % 3 == 0 else "In", event, number)
        for engine in parts:
            engine.now = start + len(events)
        return sorted(repr(output) for engine in parts for output in engine.take())

    empty = program.start().snapshot()["state"]
    one, several = engines([empty]), engines([empty] * old)
    assert play(one, before, 0) == play(several, before, 0)
    states = [engine.snapshot()["state"] for engine in several]
    owners = Owners(new)
    divided = [
        joined(part(state, where, lambda value, me=me: owners.of(value) == me) for state in states)  # type: ignore[misc]
        for me in range(new)
    ]
    assert play(one, after, len(before)) == play(engines(divided), after, len(before))


@given(EVENTS, EVENTS, st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60)
def test_instances_that_became_more_or_fewer_put_out_what_one_would_have(
    before: list[tuple[Any, str, int]], after: list[tuple[Any, str, int]], old: int, new: int
) -> None:
    """Each instance handles the events of its keys, before the division and after it."""
    program = compile_source(PROGRAM.replace("window(1000)", "window(3)"))
    where = program.divided_by("k")

    def handled(engine: Any, events: list[tuple[Any, str, int]], number: int, count: int) -> list[str]:
        owners = Owners(count)
        for at, (key, site, n) in enumerate(events):
            if owners.of(key) == number:
                engine.process("In", {"k": key, "site": site, "n": n}, at)
        return [repr(output) for output in engine.take()]

    alone = program.start()
    want = sorted(handled(alone, before, 0, 1) + handled(alone, after, 0, 1))
    engines = [program.start() for _ in range(old)]
    got = [output for me, engine in enumerate(engines) for output in handled(engine, before, me, old)]
    states = [engine.snapshot()["state"] for engine in engines]
    owners = Owners(new)
    for me in range(new):
        engine = program.start()
        state = joined(part(each, where, lambda value, me=me: owners.of(value) == me) for each in states)  # type: ignore[misc]
        engine.restore(
            {"v": 1, "source_sha256": program.source_sha256, "counters": {}, "vars": {}, "state": state}
        )
        got += handled(engine, after, me, new)
    assert sorted(got) == want


def test_one_instance_more_takes_about_one_window_in_n() -> None:
    keys = [f"customer-{number}" for number in range(3_000)]
    whole = state_of([(key, "a", 1) for key in keys])
    for count in (2, 3, 5):
        first, second = shared_out([whole], count), shared_out([whole], count + 1)
        stayed = sum(
            len({*rows(before)} & {*rows(after)}) for before, after in zip(first, second[:count], strict=True)
        )
        moved = len(rows(whole)) - stayed
        assert 0.8 < moved / (len(rows(whole)) / (count + 1)) < 1.2
        assert moved == len(rows(second[count])), "and no window goes anywhere else"


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("stream S = In.window(3).aggregate(t: sum(n)).emit(t: t)", "stream S has a window over all events"),
        (
            "stream S = In.partition_by(site).window(3).aggregate(t: sum(n)).emit(t: t)",
            "stream S has a window over other keys",
        ),
        (
            "stream A = In.select(k: site, n: n)\n"
            "stream S = A.partition_by(k).window(3).aggregate(t: sum(n)).emit(t: t)",
            "stream S has a window over other keys",
        ),
        (
            'stream A = In.select(k: k + "x", n: n)\n'
            "stream S = A.partition_by(k).window(3).aggregate(t: sum(n)).emit(t: t)",
            "stream S has a window over other keys",
        ),
        (
            "stream A = In.partition_by(k).window(3).aggregate(t: sum(n))\n"
            "stream S = A.window(2).aggregate(u: sum(t)).emit(u: u)",
            "stream S has a window over all events",
        ),
    ],
)
def test_a_window_that_is_not_of_one_key_cannot_be_divided(program: str, told: str) -> None:
    with pytest.raises(Undivided, match=told):
        compile_source(program).divided_by("k")


def test_the_key_is_followed_through_renames_and_windows() -> None:
    program = """
stream A = In.select(who: k, n: n)
stream B = A.partition_by(who).window(3).aggregate(t: sum(n))
stream C = B.partition_by(who).window(2).aggregate(u: sum(t)).emit(who: who, u: u)
stream D = In.where(n > 3).emit(n: n)
"""
    assert compile_source(program).divided_by("k") == {("B", "window"): None, ("C", "window"): None}
