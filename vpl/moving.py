"""Windows that move on in steps shorter than themselves, and windows that end when nothing comes: by key.

**Sliding by count** (`size`, every `slide` events): panes of gcd(size, slide) events. The first result comes
when `size` events are there, then one after every `slide`.

**Sliding by time**: panes of gcd(size, slide) ms, aligned to multiples of it. A window ends at each multiple
of `slide`, as long as it holds an event: before the first event of its key at or after that end, or by the
timer. Time does not go back: an event that is older than its key's newest pane counts into that pane.

**Sessions**: a window that ends `gap` after its latest event.

In all of them the window an event is added to is in `open`, by key, where the generated code finds it.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from math import gcd
from typing import Any

from vpl.merging import MAX_PANES, Pane, merger
from vpl.windows import TimeWindows, Window, Windows, plain_key, stored_key


class _Paned(Windows):
    """Windows of panes: `open` holds the newest pane of each key, `rows` what else there is of it.

    A row is a list of `row_heads` integers and the list of panes.
    """

    row_heads = 1

    def __init__(self, slots: tuple[str, ...], fresh: Callable[..., Window], max_keys: int) -> None:
        super().__init__(slots, fresh, max_keys)
        self.rows: dict[Any, list[Any]] = {}
        self.merge = merger(slots, self.heads, lambda count: self.lose(count, "values_dropped"))

    def _row(self, key: Any, row: list[Any]) -> None:
        if len(self.rows) >= self._max_keys:
            for oldest in list(islice(self.rows, max(1, self._max_keys // 1000))):
                self._forget(oldest)
                self.lose()
        self.rows[key] = row

    def _forget(self, key: Any) -> None:
        del self.rows[key]
        self.open.pop(key, None)

    def weigh(self, limit: int) -> int:
        values = 0
        for row in self.rows.values():
            if values > limit:
                break
            values += 3 + len(row[-1]) * (1 + len(self.slots))
            for pane in row[-1]:
                values += sum(len(pane[i]) for i in (*self._sets, *self._lists))
        return values

    def save(self) -> dict[str, Any]:
        rows = [
            [plain_key(key), *row[:-1], [self._saved(pane) for pane in row[-1]]]
            for key, row in self.rows.items()
        ]
        return {"slots": list(self.slots), "shape": self._shape(), "windows": rows}

    def _shape(self) -> list[int]:
        raise NotImplementedError

    def load(self, data: Any) -> dict[Any, Any]:
        if data is not None and (not isinstance(data, dict) or not isinstance(data.get("slots"), list)):
            raise ValueError("a window does not say what its slots are")
        if data is None or data["slots"] != list(self.slots) or data.get("shape") != self._shape():
            return {}
        if not isinstance(data.get("windows"), list):
            raise ValueError("the windows are not a list")
        loaded: dict[Any, list[Any]] = {}
        for row in data["windows"]:
            if not isinstance(row, list) or len(row) != 2 + self.row_heads or not isinstance(row[-1], list):
                raise ValueError("a window has the wrong number of entries")
            heads, panes = row[1:-1], [self._pane(pane) for pane in row[-1]]
            if any(head.__class__ is not int for head in heads) or not self._consistent(heads, panes):
                raise ValueError(f"the window of key {str(row[0])[:80]!r} is not one of these")
            loaded[stored_key(row[0])] = [*heads, panes]
        if len(loaded) != len(data["windows"]):
            raise ValueError("two windows have the same key")
        return loaded

    def _consistent(self, heads: list[Any], panes: list[Pane]) -> bool:
        raise NotImplementedError

    def _pane(self, data: Any) -> Pane:
        if not isinstance(data, list) or len(data) != self.heads + len(self.slots) or not self._fits(data):
            raise ValueError("a window holds values of the wrong type")
        pane = list(data)
        for i in self._sets:
            pane[i] = {stored_key(item) for item in pane[i]}
        for i in self._lists:
            pane[i] = list(pane[i])
        return pane

    def replace(self, windows: dict[Any, Any]) -> None:
        self.rows.clear()
        self.rows.update(windows)
        super().replace({key: row[-1][-1] for key, row in windows.items()})


class SlidingCount(_Paned):
    """A pane is [events so far, slots...]; a row [panes until the next result, panes]."""

    def __init__(
        self, slots: tuple[str, ...], fresh: Callable[..., Window], max_keys: int, size: int, slide: int
    ) -> None:
        super().__init__(slots, fresh, max_keys)
        self.pane = gcd(size, slide)
        self._panes = size // self.pane
        self._step = slide // self.pane

    def start(self, key: Any) -> Pane:
        pane = self._fresh(0)
        self._row(key, [self._panes, [pane]])
        self.open[key] = pane
        return pane

    def full(self, key: Any) -> Window | None:
        """The newest pane of the key is full: the window that closes with it, if one does."""
        row = self.rows[key]
        panes, closed = row[-1], None
        row[0] -= 1
        if row[0] == 0:
            closed, row[0] = self.merge(panes), self._step
            closed[0] = sum(pane[0] for pane in panes)
        if len(panes) == self._panes:
            del panes[0]
        self.open[key] = pane = self._fresh(0)
        panes.append(pane)
        return closed

    def _shape(self) -> list[int]:
        return [self.pane, self._panes, self._step]

    def _consistent(self, heads: list[Any], panes: list[Pane]) -> bool:
        fits = 1 <= len(panes) <= self._panes and 1 <= heads[0] <= self._panes
        full = all(pane[0] == self.pane for pane in panes[:-1])
        return fits and full and 0 <= panes[-1][0] < self.pane and heads[0] + len(panes) > self._panes


class SlidingTime(_Paned):
    """A pane is [its end, slots...]; a row [end of the next window, its due, panes]."""

    row_heads = 2

    def __init__(
        self, slots: tuple[str, ...], fresh: Callable[..., Window], max_keys: int, size_ms: int, slide_ms: int
    ) -> None:
        super().__init__(slots, fresh, max_keys)
        self._size, self._slide, self._width = size_ms, slide_ms, gcd(size_ms, slide_ms)
        self._dues: list[tuple[int, int, Any, list[Any]]] = []
        self._noted = 0

    def turn(self, key: Any, ts: int, now: int | None) -> list[tuple[Any, Window, int]]:
        """Open the pane for an event at `ts`; gives the windows of its key that ended before."""
        closed = []
        row = self.rows.get(key)
        while row is not None and row[0] <= ts:
            closed.append((key, self._close(key, row), row[0] - self._slide))
            row = self.rows.get(key)
        pane = self._fresh(ts - ts % self._width + self._width)
        self.open[key] = pane
        if row is None:
            end = ts - ts % self._slide + self._slide
            self._row(key, row := [end, (ts if now is None else now) + end - ts, [pane]])
            self.open[key] = pane
            self._note(key, row)
        else:
            row[2].append(pane)
        return closed

    def _close(self, key: Any, row: list[Any]) -> Window:
        """The window that ends at `row[0]`; the row then stands at the next."""
        window = self.merge(row[2])
        window[0] = row[0]
        row[0] += self._slide
        row[1] += self._slide
        oldest = row[0] - self._size
        row[2] = [pane for pane in row[2] if pane[0] > oldest]
        if not row[2]:
            self._forget(key)
        return window

    def _note(self, key: Any, row: list[Any]) -> None:
        self._noted += 1
        if len(self._dues) > 2 * len(self.rows) + 64:
            self._dues = [due for due in self._dues if self.rows.get(due[2]) is due[3]]
            heapify(self._dues)
        heappush(self._dues, (row[1], self._noted, key, row))

    def next_due(self) -> int | None:
        dues = self._dues
        while dues:
            due, noted, key, row = dues[0]
            if self.rows.get(key) is not row:
                heappop(dues)
            elif row[1] > due:
                heappop(dues)
                heappush(dues, (row[1], noted, key, row))
            else:
                return due
        return None

    def expire(self, now: int) -> Iterator[tuple[Any, Window, int]]:
        while (due := self.next_due()) is not None and due <= now:
            _, _, key, row = self._dues[0]
            yield key, self._close(key, row), row[0] - self._slide

    def _shape(self) -> list[int]:
        return [self._size, self._slide]

    def _consistent(self, heads: list[Any], panes: list[Pane]) -> bool:
        end, low = heads[0], heads[0] - self._size
        ends = [pane[0] for pane in panes]
        fits = 1 <= len(panes) <= MAX_PANES and end % self._slide == 0
        return fits and sorted(set(ends)) == ends and low < ends[0] and ends[-1] <= end

    def replace(self, windows: dict[Any, Any]) -> None:
        super().replace(windows)
        self._dues = []
        for key, row in self.rows.items():
            self._note(key, row)


class Sessions(TimeWindows):
    """Windows whose end and due the generated code moves on with each event."""

    def next_due(self) -> int | None:
        dues = self._dues
        while (due := super().next_due()) is not None:
            _, noted, key, window = dues[0]
            if window[1] <= due:
                return due
            heappop(dues)
            heappush(dues, (window[1], noted, key, window))
        return None
