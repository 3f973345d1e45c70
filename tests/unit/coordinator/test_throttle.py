"""Token buckets: who waits, how long, and that a flood of names costs no memory."""

from coordinator.security.throttle import MOST, Throttle


def test_a_burst_passes_and_then_the_rate_holds() -> None:
    throttle = Throttle(rate=2.0, burst=3.0)
    assert [throttle.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert throttle.take("a", 0.0) == 0.5
    assert throttle.take("a", 0.25) == 0.25
    assert throttle.take("a", 0.5) == 0.0
    assert throttle.take("b", 0.5) == 0.0, "each has a bucket of its own"
    assert throttle.refused == 2


def test_waiting_as_long_as_told_is_enough() -> None:
    throttle = Throttle(rate=7.0, burst=1.0)
    now = 0.0
    for _ in range(1_000):
        wait = throttle.take("a", now)
        now += wait + 1e-9
        assert wait == 0.0 or throttle.take("a", now) == 0.0
    assert 100 < now < 150


def test_a_refused_request_takes_nothing_from_the_bucket() -> None:
    throttle = Throttle(rate=1.0, burst=1.0)
    throttle.take("a", 0.0)
    for _ in range(100):
        assert throttle.take("a", 0.5) == 0.5


def test_no_rate_is_no_limit() -> None:
    throttle = Throttle(rate=0.0, burst=1.0)
    assert not any(throttle.take("a", 0.0) for _ in range(100))
    assert len(throttle) == 0


def test_a_flood_of_names_keeps_memory_bounded_and_quiet_buckets_go() -> None:
    throttle = Throttle(rate=1.0, burst=2.0)
    for number in range(3 * MOST):
        throttle.take(str(number), 0.0)
        assert len(throttle) <= MOST
    for number in range(10):
        throttle.take(f"late{number}", 100.0)
        throttle.take(f"late{number}", 100.0)
    for number in range(MOST):
        throttle.take("late0", 200.0 + number)
    assert len(throttle) == 1, "a bucket that is full again is none"


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    throttle = Throttle(rate=1.0, burst=1.0)
    throttle.take("a", 100.0)
    assert throttle.take("a", 50.0) == 1.0
