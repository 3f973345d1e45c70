"""The things under way: one per object, so many together, and after a failure a pause that grows.

A pass may ask for the same thing every time it runs; `start` says no while it is under way, while its pause
lasts, or while there are `limit` others (the end of each wakes the loop, so nothing is queued here). A
failure doubles the object's pause from `FIRST_PAUSE` to `LONGEST_PAUSE`, with jitter, so that a thousand
pipelines of one dead worker do not come back in step; a success clears it.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from coordinator.causes import Causes
from coordinator.log import line
from proto_schemas.errors import WireError
from transport import tracing
from transport.errors import NatsTransportError

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
MOST_DOUBLINGS: Final = 16
"""Beyond this a doubled pause only grows out of what a float holds."""
_SWEEP_ABOVE: Final = 1_000
_REMEMBER: Final = 60.0
"""Seconds after its end for which a pause still counts as the last one."""

Key = tuple[str, ...]
"""The kind of object, two names, and what else tells it from others: `("pipeline", group, name, life)`."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pause:
    until: float
    failures: int


class Actions:
    """Runs coroutines by key; `clock` gives monotonic seconds, `on_end` is called after each. With `causes`
    each is traced, as a consequence of the request that it goes back to.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        on_end: Callable[[], None],
        *,
        limit: int = 64,
        causes: Causes | None = None,
    ) -> None:
        self._clock = clock
        self._on_end = on_end
        self._limit = limit
        self._causes = causes
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._pauses: dict[Key, _Pause] = {}
        self._sweep_above = _SWEEP_ABOVE
        self.ended: Counter[str] = Counter()

    @property
    def in_flight(self) -> int:
        """How many are under way."""
        return len(self._running)

    @property
    def full(self) -> bool:
        """Whether nothing may begin before something ends."""
        return len(self._running) >= self._limit

    def free(self, key: Key) -> bool:
        """Whether `start` would take an action for `key` now."""
        pause = self._pauses.get(key)
        return key not in self._running and not self.full and (pause is None or pause.until <= self._clock())

    def failures(self, key: Key) -> int:
        """How often it failed in a row."""
        pause = self._pauses.get(key)
        return pause.failures if pause is not None else 0

    def start(self, key: Key, action: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Begin `action()` for `key`, unless it may not begin now."""
        if not self.free(key):
            return False
        task = asyncio.get_running_loop().create_task(self._run(key, action))
        self._running[key] = task
        task.add_done_callback(lambda _: self._ended(key))
        return True

    def hold(self, key: Key, seconds: float) -> None:
        """Let nothing begin for `key` for about `seconds`."""
        self._pauses[key] = _Pause(self._clock() + seconds * (0.75 + random.random() / 2), 0)

    def release(self, key: Key) -> None:
        """Let the next thing for `key` begin at once."""
        self._pauses.pop(key, None)

    def forget(self) -> None:
        """Cancel what is under way and drop all pauses: somebody else leads now."""
        for task in self._running.values():
            task.cancel()
        self._pauses.clear()

    async def close(self) -> None:
        """Cancel everything and wait for its end."""
        self.forget()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _run(self, key: Key, action: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            with self._causes.acting(f"control {key[0]}", _about(key)) if self._causes else tracing.NOTHING:
                await action()
        except (WireError, NatsTransportError) as error:
            self._failed(key, str(error))
        except Exception:
            _log.exception("%s", line("action_failed", kind=key[0], about=_about(key)))
            self._failed(key, "a defect; the log has its traceback")
        else:
            self.ended["done"] += 1
            pause = self._pauses.get(key)
            if pause is not None and pause.until <= self._clock():
                del self._pauses[key]

    def _failed(self, key: Key, reason: str) -> None:
        self.ended["failed"] += 1
        last = self._pauses.get(key)
        failures = last.failures + 1 if last is not None else 1
        pause = min(FIRST_PAUSE * 2 ** min(failures - 1, MOST_DOUBLINGS), LONGEST_PAUSE) * (
            0.5 + random.random() / 2
        )
        self._pauses[key] = _Pause(self._clock() + pause, failures)
        _log.warning(
            "%s",
            line("action_retried", kind=key[0], about=_about(key), failures=failures, reason=reason),
        )

    def _ended(self, key: Key) -> None:
        del self._running[key]
        if len(self._pauses) > self._sweep_above:
            oldest = self._clock() - _REMEMBER
            self._pauses = {key: pause for key, pause in self._pauses.items() if pause.until > oldest}
            self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._pauses))
        self._on_end()


def _about(key: Key) -> str:
    return "/".join(key[1:3])
