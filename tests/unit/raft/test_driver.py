"""When a core is stepped: for inputs, for time, and as seldom as both allow. The test plays the loop."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from raft.bus import Bus
from raft.driver import LONGEST_REST_SECONDS, NEWS_SECONDS, Driver
from raft.outbox import Outgoing
from raft.succession import Succession

REST, SILENT_REST = 0.08, 0.025


class Timer:
    def __init__(self, at: float, call: Callable[[], None]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """A loop whose time is moved by `until`."""

    def __init__(self) -> None:
        self.now, self.timers, self.soon, self.made = 100.0, list[Timer](), list[Callable[[], None]](), 0

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def call_at(self, at: float, call: Callable[[], None]) -> Timer:
        self.made += 1
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self.call_at(self.now + seconds, call)

    def turn(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def until(self, at: float) -> None:
        self.turn()
        while due := [timer for timer in self.timers if not timer.cancelled and timer.at <= at]:
            first = min(due, key=lambda timer: timer.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
            self.turn()
        self.now = at


class Core:
    """A core that rests until `REST` seconds after it heard last, and less in silence."""

    def __init__(self, loop: Loop) -> None:
        self._loop, self.heard_at, self.steps = loop, loop.now, list[float]()
        self.hears_leader, self.keeps_news, self.wants_tick, self.told = True, False, False, list[float]()

    def rest(self) -> float:
        due = self.heard_at + REST
        return due - self._loop.now if self._loop.now < due else SILENT_REST

    def acknowledge(self) -> list[Outgoing]:
        return []

    def tick(self) -> None:
        self.steps.append(self._loop.now)

    def early(self) -> list[Outgoing]:
        return []

    def flush(self, *, keep_news: bool) -> list[Outgoing]:
        return []

    def news(self) -> list[Outgoing]:
        self.told.append(self._loop.now)
        self.keeps_news = False
        return []


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    played = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: played)
    return played


@pytest.fixture
def core(loop: Loop) -> Core:
    return Core(loop)


@pytest.fixture
def driver(loop: Loop, core: Core) -> Driver:
    made = Driver(cast("Succession", core), cast("Bus", Any), "inbox", lambda: None)
    loop.turn()
    return made


def test_what_wakes_in_one_turn_shares_a_step(driver: Driver, loop: Loop, core: Core) -> None:
    before = len(core.steps)
    for _ in range(10):
        driver.wake()
    loop.turn()
    assert len(core.steps) == before + 1


def test_a_step_follows_the_rest_of_the_last_one(driver: Driver, loop: Loop, core: Core) -> None:
    loop.until(loop.now + REST + 0.002)
    assert len(core.steps) == 2


def test_many_steps_share_one_timer(driver: Driver, loop: Loop, core: Core) -> None:
    before, began = loop.made, loop.now
    for number in range(1, 40):
        loop.until(began + number * 0.001)
        core.heard_at = loop.now
        driver.wake()
    loop.turn()
    assert len(core.steps) == 40
    assert loop.made == before
    loop.until(core.heard_at + REST - 0.002)
    assert len(core.steps) == 40
    loop.until(core.heard_at + REST + 0.002)
    assert len(core.steps) == 41


def test_heartbeats_put_a_followers_steps_off_but_not_for_ever(
    driver: Driver, loop: Loop, core: Core
) -> None:
    began = loop.now
    for number in range(1, 41):
        loop.until(began + number * 0.05)
        core.heard_at = loop.now
        driver.put_off()
    assert 2.0 / (LONGEST_REST_SECONDS + REST) - 1 <= len(core.steps) <= 2.0 / LONGEST_REST_SECONDS + 2


def test_silence_is_noticed_in_time_though_heartbeats_put_steps_off(
    driver: Driver, loop: Loop, core: Core
) -> None:
    loop.until(loop.now + 0.05)
    core.heard_at = loop.now
    driver.put_off()
    steps = len(core.steps)
    core.hears_leader = False
    loop.until(loop.now + REST + 0.002)
    assert len(core.steps) == steps + 1
    driver.put_off()
    loop.until(loop.now + SILENT_REST)
    assert len(core.steps) == steps + 2, "only a heard leader puts anything off"


def test_news_leaves_a_moment_later_once(driver: Driver, loop: Loop, core: Core) -> None:
    core.keeps_news = True
    for _ in range(3):
        driver.wake()
        loop.turn()
    assert core.told == []
    loop.until(loop.now + NEWS_SECONDS)
    assert len(core.told) == 1
