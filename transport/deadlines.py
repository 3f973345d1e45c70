"""Deadlines of many short waits, with one timer: most waits end long before their deadline.

A timer of the loop for each wait is made and cancelled for nothing. Here a wait is an entry in a table, and
the one timer is set for the earliest deadline it was told of. When it goes off, it looks through the table,
ends what is due, and is set again for the earliest that is left: about once per span of the deadlines in use,
however many waits there were.
"""

import asyncio
from collections.abc import Callable
from typing import Any

_Wait = asyncio.Future[Any]


class Deadlines:
    """The waits of one event loop; `expire` ends one whose time has come. Whoever adds one removes it."""

    def __init__(self, expire: Callable[[_Wait], None]) -> None:
        self._expire = expire
        self._loop = asyncio.get_running_loop()
        self._ends: dict[_Wait, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, wait: _Wait, seconds: float) -> float:
        """`wait` ends after so many seconds, if it has not before; when that is, by the loop's clock."""
        at = self._loop.time() + seconds
        self.add_until(wait, at)
        return at

    def add_until(self, wait: _Wait, at: float) -> None:
        """The same, at a time of the loop's clock."""
        self._ends[wait] = at
        if at < self._timer_at:
            self._set(at)

    def remove(self, wait: _Wait) -> None:
        """It is over."""
        self._ends.pop(wait, None)

    def close(self) -> None:
        """Let the timer go; nothing ends by itself any more."""
        self._ends.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, float("inf")

    def _set(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self._timer, self._timer_at = None, float("inf")
        due = [wait for wait, at in self._ends.items() if at <= now]
        for wait in due:
            del self._ends[wait]
            if not wait.done():
                self._expire(wait)
        if self._ends:
            self._set(min(self._ends.values()))
