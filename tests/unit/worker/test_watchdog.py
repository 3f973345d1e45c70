"""What takes too long is cut off, and nothing else is."""

import contextlib
import gc
import re
import time
from collections.abc import Iterator

import pytest

from worker.watchdog import IDLE, TooLong, Watchdog


@pytest.fixture
def watchdog() -> Iterator[Watchdog]:
    watch = Watchdog(0.05)
    watch.start()
    yield watch
    watch.stop()


@contextlib.contextmanager
def at_work(watchdog: Watchdog) -> Iterator[None]:
    """An event, marked as the engine's caller does."""
    try:
        watchdog.ticks = 0
        yield
    finally:
        watchdog.ticks = IDLE


def spin(seconds: float) -> None:
    """Use the processor for so long."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_loop_without_end_is_cut_off(watchdog: Watchdog) -> None:
    with pytest.raises(TooLong), at_work(watchdog):
        while True:
            pass
    assert watchdog.ticks == IDLE and watchdog.ended == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_where_it_comes_to_nothing_the_event_is_cut_off_a_while_later(watchdog: Watchdog) -> None:
    class Swallows:
        def __del__(self) -> None:
            while watchdog.ended == 0:
                pass

    def lasts() -> None:
        Swallows()
        while True:
            pass

    with pytest.raises(TooLong), at_work(watchdog):
        lasts()
    assert watchdog.ended == 2


def test_a_regular_expression_without_end_is_cut_off(watchdog: Watchdog) -> None:
    with pytest.raises(TooLong), at_work(watchdog):
        re.match(r"(a|a)*b", "a" * 64)


def test_what_catches_every_error_does_not_catch_that_its_time_is_over(watchdog: Watchdog) -> None:
    with pytest.raises(TooLong), at_work(watchdog):
        while True:
            with contextlib.suppress(Exception):
                spin(1.0)


def test_many_short_events_are_not_one_long_one(watchdog: Watchdog) -> None:
    for _ in range(20):
        watchdog.ticks = 0
        spin(0.01)
        watchdog.ticks = IDLE
    assert watchdog.ended == 0


def test_what_is_no_event_may_take_as_long_as_it_likes(watchdog: Watchdog) -> None:
    spin(0.2)
    assert watchdog.ended == 0


def test_the_garbage_of_others_is_not_at_the_cost_of_the_event(watchdog: Watchdog) -> None:
    heap = [[number] for number in range(200_000)]
    until = time.thread_time() + 0.3
    watchdog.ticks = 0
    while time.thread_time() < until:
        gc.collect()
    watchdog.ticks = IDLE
    assert watchdog.ended == 0 and heap


def test_to_wait_uses_nothing_up(watchdog: Watchdog) -> None:
    watchdog.ticks = 0
    time.sleep(0.2)
    watchdog.ticks = IDLE
    assert watchdog.ended == 0
