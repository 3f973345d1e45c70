"""Windows in event time: they close by the watermark, so that events out of order find theirs.

The watermark of a stage is the latest event time seen by it, of any key, less `out_of_order`: what is older
is not expected any more. A window [end - size, end) of a key closes when the watermark reaches its end; ends
are multiples of the step. Its panes stay until the watermark is `lateness` past the last window that sees
them: an event that comes until then is added, and the closed windows it belongs to come out again, with the
same key and time and the corrected result. Anything later is dropped and counted as `late`.

Where no event moves the watermark on, the timer does: a window is due by the host's clock when the watermark
would have reached its end, had events gone on to come (`out_of_order` after the rest of the window), and the
watermark then goes to that end. So what the timer closed is late afterwards, as if an event had closed it.

Where the host tells its clock, the watermark does not go beyond it: an event from the future waits for its
time, and does not make all others late.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from math import gcd
from typing import Any

from vpl.merging import Pane, merger
from vpl.windows import Window, Windows, plain_key, stored_key


class EventWindows(Windows):
    """`open` holds the panes by (key, start); a pane is [end of the first window that sees it, slots...]."""

    def __init__(
        self,
        slots: tuple[str, ...],
        fresh: Callable[..., Window],
        max_keys: int,
        shape: tuple[int, int, int, int],
    ) -> None:
        super().__init__(slots, fresh, max_keys)
        self.shape = shape
        self.size, self.slide, self._out_of_order, self._lateness = shape
        self.width = gcd(self.size, self.slide)
        self.merge = merger(slots, self.heads, lambda count: self.lose(count, "values_dropped"))
        self.watermark: int | None = None
        self._pending: dict[tuple[int, Any], int] = {}  # (end, key) of open windows -> due
        self._ends: list[tuple[int, int, Any]] = []
        self._dues: list[tuple[int, int, int, Any]] = []
        self._spent: list[
            tuple[int, int, tuple[Any, int]]
        ] = []  # (when a pane is of no more use, n, its key)
        self._noted = 0

    def pane(self, key: Any, ts: int, now: int | None) -> Pane | None:
        """A new pane for an event at `ts`; None when it is too late for all its windows."""
        start = ts - ts % self.width
        first = start - start % self.slide + self.slide
        last = first + (start + self.size - first) // self.slide * self.slide
        if self.watermark is not None and last + self._lateness <= self.watermark:
            self.lose(1, "late")
            return None
        pane = self._fresh(first)
        self._put((key, start), pane)
        self._use(key, start, last)
        arrived = (ts if now is None or ts > now else now) + self._out_of_order
        for end in range(first, last + 1, self.slide):
            if (self.watermark is None or end > self.watermark) and (end, key) not in self._pending:
                self._wait(end, key, arrived + end - ts)
        return pane

    def _use(self, key: Any, start: int, last: int) -> None:
        self._noted += 1
        heappush(self._spent, (last + self._lateness, self._noted, (key, start)))

    def _put(self, key: Any, window: Window) -> None:
        before = len(self.open)
        oldest = list(islice(self.open, max(1, self._max_keys // 1000))) if before >= self._max_keys else ()
        super()._put(key, window)
        for owner, start in oldest:
            first = start - start % self.slide + self.slide
            for end in range(first, start + self.size + 1, self.slide):
                if (end, owner) in self._pending and self._content(owner, end) is None:
                    del self._pending[end, owner]
        if oldest:
            self._forget_the_gone()

    def _forget_the_gone(self) -> None:
        """Heaps hold what is gone until it comes up; not more of it than of what is there."""
        if len(self._ends) > 2 * len(self._pending) + 64:
            self._ends = [entry for entry in self._ends if (entry[0], entry[2]) in self._pending]
            self._dues = [entry for entry in self._dues if (entry[2], entry[3]) in self._pending]
            heapify(self._ends)
            heapify(self._dues)
        if len(self._spent) > 2 * len(self.open) + 64:
            self._spent = [entry for entry in self._spent if entry[2] in self.open]
            heapify(self._spent)

    def _wait(self, end: int, key: Any, due: int) -> None:
        self._noted += 1
        self._pending[end, key] = due
        heappush(self._ends, (end, self._noted, key))
        heappush(self._dues, (due, self._noted, end, key))

    def seen(self, ts: int) -> list[tuple[Any, Window, int]]:
        """The watermark after an event at `ts`; the windows that close with it, earliest end first."""
        return self._move(ts - self._out_of_order)

    def _move(self, watermark: int) -> list[tuple[Any, Window, int]]:
        if self.watermark is not None and watermark <= self.watermark:
            return []
        self.watermark = watermark
        closed = []
        while self._ends and self._ends[0][0] <= watermark:
            end, _, key = heappop(self._ends)
            if self._pending.pop((end, key), None) is not None and (window := self._content(key, end)):
                closed.append((key, window, end))
        while self._spent and self._spent[0][0] <= watermark:
            self.open.pop(heappop(self._spent)[2], None)
        return closed

    def _content(self, key: Any, end: int) -> Window | None:
        starts = range(end - self.size, end, self.width)
        panes = [pane for start in starts if (pane := self.open.get((key, start))) is not None]
        if not panes:
            return None
        window = self.merge(panes)
        window[0] = end
        return window

    def corrected(self, key: Any, ts: int) -> list[tuple[Any, Window, int]]:
        """The closed windows that an event at `ts` belongs to, with it."""
        watermark = self.watermark
        assert watermark is not None
        first = ts - ts % self.slide + self.slide
        ends = range(first, min(ts + self.size, watermark) + 1, self.slide)
        found = ((end, self._content(key, end)) for end in ends if end + self._lateness > watermark)
        return [(key, window, end) for end, window in found if window is not None]

    def next_due(self) -> int | None:
        dues = self._dues
        while dues and self._pending.get((dues[0][2], dues[0][3])) != dues[0][0]:
            heappop(dues)
        return dues[0][0] if dues else None

    def expire(self, now: int) -> Iterator[tuple[Any, Window, int]]:
        while (due := self.next_due()) is not None and due <= now:
            yield from self._move(self._dues[0][2])

    def weigh(self, limit: int) -> int:
        return super().weigh(limit) + 4 * len(self._pending)

    def save(self) -> dict[str, Any]:
        panes = [[plain_key(key), start, *self._saved(pane)] for (key, start), pane in self.open.items()]
        ends = dict.fromkeys((end, key) for end, _, key in sorted(self._ends, key=lambda entry: entry[:2]))
        pending = [[plain_key(k), end, self._pending[end, k]] for end, k in ends if (end, k) in self._pending]
        return {
            "slots": list(self.slots),
            "shape": list(self.shape),
            "watermark": self.watermark,
            "panes": panes,
            "pending": pending,
        }

    def load(self, data: Any) -> Any:
        if data is None:
            return None, {}, []
        if not isinstance(data, dict) or not isinstance(data.get("slots"), list):
            raise ValueError("a window does not say what its slots are")
        if data["slots"] != list(self.slots) or data.get("shape") != list(self.shape):
            return None, {}, []
        watermark, panes, waiting = data.get("watermark"), data.get("panes"), data.get("pending")
        if watermark is not None and watermark.__class__ is not int:
            raise ValueError("the watermark is not a time")
        if not isinstance(panes, list) or not isinstance(waiting, list):
            raise ValueError("the panes are not a list")
        loaded = dict(map(self._loaded, panes))
        pending = [self._waiting(row, watermark) for row in waiting]
        if len(loaded) != len(panes) or len({row[:2] for row in pending}) != len(pending):
            raise ValueError("two windows have the same key and time")
        return watermark, loaded, pending

    def _loaded(self, row: Any) -> tuple[tuple[Any, int], Pane]:
        if not isinstance(row, list) or len(row) != 3 + len(self.slots) or not self._fits(row[2:]):
            raise ValueError("a pane holds values of the wrong type")
        key, start, *pane = row
        if start.__class__ is not int or start % self.width:
            raise ValueError("a pane begins at no time of these windows")
        if pane[0] != start - start % self.slide + self.slide:
            raise ValueError("a pane belongs to no window")
        for i in self._sets:
            pane[i] = {stored_key(item) for item in pane[i]}
        for i in self._lists:
            pane[i] = list(pane[i])
        return (stored_key(key), start), pane

    def _waiting(self, row: Any, watermark: int | None) -> tuple[int, Any, int]:
        if not isinstance(row, list) or len(row) != 3 or {item.__class__ for item in row[1:]} != {int}:
            raise ValueError("an open window has no end and due")
        if row[1] % self.slide or (watermark is not None and row[1] <= watermark):
            raise ValueError("an open window ends at no time of these windows")
        return row[1], stored_key(row[0]), row[2]

    def replace(self, windows: Any) -> None:
        self.watermark, panes, pending = windows
        super().replace(panes)
        self._pending, self._ends, self._dues, self._spent = {}, [], [], []
        for (key, start), pane in panes.items():
            self._use(key, start, pane[0] + (start + self.size - pane[0]) // self.slide * self.slide)
        for end, key, due in pending:
            self._wait(end, key, due)
