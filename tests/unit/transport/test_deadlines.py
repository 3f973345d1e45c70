"""Many waits, one timer."""

import asyncio
from typing import Any

import pytest

from tests.support.poll import until
from transport.deadlines import Deadlines


def give_up(wait: asyncio.Future[Any]) -> None:
    wait.set_exception(TimeoutError())


async def test_a_wait_ends_at_its_deadline_and_not_before_an_earlier_one() -> None:
    loop, ended = asyncio.get_running_loop(), list[int]()
    deadlines, waits = Deadlines(give_up), [loop.create_future() for _ in range(3)]
    for number, (wait, seconds) in enumerate(zip(waits, (0.05, 0.01, 0.03), strict=True)):

        def over(_: object, number: int = number, at: float = deadlines.add(wait, seconds)) -> None:
            if loop.time() >= at:
                ended.append(number)

        wait.add_done_callback(over)
    await asyncio.wait(waits, timeout=5)
    await until(lambda: len(ended) == 3)
    assert ended == [1, 2, 0]
    assert all(isinstance(wait.exception(), TimeoutError) for wait in waits)
    assert len(deadlines) == 0


async def test_what_is_over_does_not_end_again_and_is_not_kept() -> None:
    loop = asyncio.get_running_loop()
    deadlines, over, removed, last = Deadlines(give_up), *(loop.create_future() for _ in range(3))
    deadlines.add(over, 0.01)
    over.set_result("in time")
    deadlines.add(removed, 0.01)
    deadlines.remove(removed)
    deadlines.add(last, 0.02)
    with pytest.raises(TimeoutError):
        await last
    assert over.result() == "in time"
    assert not removed.done()
    assert len(deadlines) == 0


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
