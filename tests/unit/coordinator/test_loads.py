"""Measured loads are calm: what differs by noise is equal, and what changes is noticed."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.heartbeats import HeartbeatTable
from coordinator.loads import SMOOTHING, STEP, Load, first
from proto_schemas.messages.membership import Heartbeat


def beats(load: Load, *measured: float, every: float = 1.0) -> list[Load]:
    seen = []
    for each in measured:
        load = load.then(each, every)
        seen.append(load)
    return seen


def test_a_burst_of_one_heartbeat_changes_nothing() -> None:
    assert {load.step for load in beats(first(0.2), 1.0, 0.2, 0.2)} <= {0.2, 0.3}
    assert beats(first(0.2), 0.9, *[0.2] * 20)[-1].step == 0.2


@given(noise=st.lists(st.floats(-0.07, 0.07), min_size=1, max_size=100), level=st.integers(1, 9))
def test_noise_below_a_step_never_changes_what_decides(noise: list[float], level: int) -> None:
    start = first(level * STEP)
    assert {load.step for load in beats(start, *(level * STEP + each for each in noise))} == {start.step}


def test_what_stays_is_noticed_within_some_smoothing_times() -> None:
    assert beats(first(0.0), *[0.8] * int(4 * SMOOTHING))[-1].step == 0.8
    assert beats(first(0.8), *[0.0] * int(4 * SMOOTHING))[-1].step == 0.0


@given(measured=st.floats(), seconds=st.floats(allow_nan=False))
def test_nonsense_stays_between_nothing_and_all(measured: float, seconds: float) -> None:
    load = first(measured).then(measured, seconds)
    assert 0.0 <= load.smooth <= 1.0
    assert 0.0 <= load.step <= 1.0


def test_the_table_keeps_the_load_of_those_who_tell_one() -> None:
    table = HeartbeatTable()
    for name, load in (("w1", 0.5), ("seed", None)):
        table.heard(name, Heartbeat(events_processed=0, pipelines_running=0, load=load), 0.0)
    assert table.loads() == {"w1": 0.5}
    table.heard("w1", Heartbeat(events_processed=0, pipelines_running=0, load=0.9), 100.0)
    assert table.loads() == {"w1": 0.9}
