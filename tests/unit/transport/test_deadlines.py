"""Many waits, one timer."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pytest import approx

from transport.deadlines import Deadlines


def give_up(wait: asyncio.Future[Any]) -> None:
    wait.set_exception(TimeoutError())


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on a loop whose clock goes on by just what the loop would have waited."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(scenario())


class NoWaiting(selectors.DefaultSelector):
    """Tells what is ready now, and counts the seconds it was to wait."""

    waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.waited += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waiting = NoWaiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.waited


def test_a_wait_ends_at_its_deadline_whatever_the_order_they_were_added_in() -> None:
    async def scenario() -> None:
        loop, ended = asyncio.get_running_loop(), list[tuple[int, float]]()
        deadlines, waits = Deadlines(give_up), [loop.create_future() for _ in range(3)]
        for number, (wait, seconds) in enumerate(zip(waits, (5.0, 1.0, 3.0), strict=True)):
            assert deadlines.add(wait, seconds) == loop.time() + seconds

            def over(_: object, number: int = number) -> None:
                ended.append((number, loop.time()))

            wait.add_done_callback(over)
        await asyncio.wait(waits)
        await asyncio.sleep(0)  # what was waited for tells of its end in the order it was asked to
        assert [number for number, _ in ended] == [1, 2, 0]
        assert [at for _, at in ended] == approx([1.0, 3.0, 5.0])
        assert all(isinstance(wait.exception(), TimeoutError) for wait in waits)
        assert len(deadlines) == 0

    in_virtual_time(scenario)


def test_what_is_over_does_not_end_again_and_is_not_kept() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        deadlines, over, removed, last = Deadlines(give_up), *(loop.create_future() for _ in range(3))
        deadlines.add(over, 1.0)
        over.set_result("in time")
        deadlines.add(removed, 1.0)
        deadlines.remove(removed)
        deadlines.add(last, 2.0)
        with pytest.raises(TimeoutError):
            await last
        assert over.result() == "in time"
        assert not removed.done()
        assert len(deadlines) == 0

    in_virtual_time(scenario)


async def test_a_thousand_waits_make_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def counted(at: float, *rest: Any) -> asyncio.TimerHandle:
        timers.append(at)
        return call_at(at, *rest)

    monkeypatch.setattr(loop, "call_at", counted)
    deadlines = Deadlines(give_up)
    for _ in range(1000):
        wait = loop.create_future()
        deadlines.add(wait, 10.0)
        deadlines.remove(wait)
    assert len(timers) == 1
    deadlines.close()
