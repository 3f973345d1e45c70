"""How many events of a pipeline may fail before it is `failed`. Pure.

An event that the engine fails on costs that event. A pipeline on which most events fail does nothing but
write its log, and is stopped, by one of two rules:

- `in_a_row` events failed one after another;
- within `WINDOW_SECS` at least `in_a_row` failed, and they were `share` of all events or more.

Only failures are looked at, so an event that succeeds pays nothing: which events lay between two failures
says the count of all events so far.
"""

from dataclasses import dataclass
from typing import Final

from vpl.keeper import MAX_KEYS

WINDOW_SECS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pipeline may use.

    Attributes:
        in_a_row, share: see the module.
        event_secs: seconds of processor time that one event may take (`worker.watchdog`).
        keys: that each stage of a stream keeps at most; the oldest give way, and are counted.
    """

    in_a_row: int = 100
    share: float = 0.9
    event_secs: float = 1.0
    keys: int = MAX_KEYS


class ErrorBudget:
    """Counts the failures of one copy. `failures`: of all its life."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._last = 0
        self._row = 0
        self._window: tuple[float, int, int] | None = None
        self.failures = 0

    @property
    def in_a_row(self) -> int:
        """How many failed one after another until now."""
        return self._row

    def spend(self, events: int, now: float) -> str:
        """One more failure, of event number `events`, at `now` (monotonic seconds): why the budget is used
        up, or nothing while it is not."""
        self.failures += 1
        self._row = self._row + 1 if events <= self._last + 1 else 1
        self._last = events
        window = self._window
        if window is None or now - window[0] > WINDOW_SECS:
            window = self._window = now, self.failures - 1, events - 1
        if self._row >= self._limits.in_a_row:
            return f"{self._row} events in a row failed"
        _, failures, before = window
        failed, came = self.failures - failures, max(events - before, 1)
        if failed >= self._limits.in_a_row and failed >= came * self._limits.share:
            return f"{failed} of {came} events failed within {WINDOW_SECS:g} s"
        return ""

    def begin_anew(self, events: int) -> None:
        """The count of events was set to `events`, as by a checkpoint."""
        self._last, self._row, self._window = events, 0, None
