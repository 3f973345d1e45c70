"""The open windows of one stream, by key; the generated code updates them, this opens, expires and saves
them.

A window is a list. Of a count window: [events so far, slots...]. Of a time window: [end, due, slots...]: an
event of its key with a time of `end` or later closes it, and so does the timer at `due`. Both are absolute,
in ms.

`due` is processing time: the host's clock when the window opened, plus its size. Where the host tells no
clock (`Engine.now` is None) the time of the first event stands for it. So live events close by either,
whichever is first, and replayed old events are not cut short by the timer as long as the host tells its
clock.

Dues lie in a heap; a window that closed by an event leaves its entry behind, which is dropped when it comes
up, or when such entries outnumber the windows. At most `max_keys` windows are open: the oldest give way,
without result, and are counted as `window_evicted`.
"""

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

from vpl.aggregates import SLOTS
from vpl.keeper import Keeper
from vpl.values import NUMBERS

Window = list[Any]


class Windows(Keeper):
    """Count windows, and what all windows have in common. `slots` names each slot of a window, in order."""

    heads = 1  # entries of a window before its slots

    def __init__(self, slots: tuple[str, ...], fresh: Callable[..., Window], max_keys: int) -> None:
        super().__init__()
        self.open: dict[Any, Window] = {}
        self.slots = slots
        self._kinds = tuple(SLOTS[slot.partition(" ")[0]] for slot in slots)
        self._sets = [self.heads + i for i, kind in enumerate(self._kinds) if kind.is_set]
        self._lists = [self.heads + i for i, kind in enumerate(self._kinds) if kind.fresh == "[]"]
        self._fresh = fresh
        self._max_keys = max_keys

    def start(self, key: Any) -> Window:
        """Open a window for `key`, which has none."""
        window = self._fresh(0)
        self._put(key, window)
        return window

    def _put(self, key: Any, window: Window) -> None:
        if len(self.open) >= self._max_keys:
            # In batches: dropping one at a time from the front of a dict gets slower with each.
            for oldest in list(islice(self.open, max(1, self._max_keys // 1000))):
                del self.open[oldest]
                self.lose()
        self.open[key] = window

    def weigh(self, limit: int) -> int:
        """About how many values it holds; it stops counting beyond `limit`."""
        values = len(self.open) * (1 + self.heads + len(self.slots))
        gathering = (*self._sets, *self._lists)
        if gathering:
            for window in self.open.values():
                if values > limit:
                    break
                values += sum(len(window[i]) for i in gathering)
        return values

    def save(self) -> dict[str, Any]:
        """Plain data that later events do not change."""
        if not self._sets and not self._lists:
            rows = [[key, *window] for key, window in self.open.items()]
            if not all(row[0].__class__ is str for row in rows):
                rows = [[plain_key(key), *window] for key, *window in rows]
        else:
            rows = [[plain_key(key), *self._saved(window)] for key, window in self.open.items()]
        return {"slots": list(self.slots), "windows": rows}

    def _saved(self, window: Window) -> Window:
        copy = window.copy()
        for i in (*self._sets, *self._lists):
            copy[i] = [plain_key(item) for item in copy[i]] if i in self._sets else list(copy[i])
        return copy

    def load(self, data: Any) -> dict[Any, Window]:
        """The windows in what `save` gave; raises ValueError on anything else. Changes nothing yet."""
        if data is None:
            return {}
        if not isinstance(data, dict) or not isinstance(data.get("slots"), list):
            raise ValueError("a window does not say what its slots are")
        if data["slots"] != list(self.slots):
            return {}
        if not isinstance(data.get("windows"), list):
            raise ValueError("the windows are not a list")
        loaded: dict[Any, Window] = {}
        for row in data["windows"]:
            if not isinstance(row, list) or len(row) != 1 + self.heads + len(self.slots):
                raise ValueError("a window has the wrong number of entries")
            window = list(row[1:])
            if not self._fits(window):
                raise ValueError(f"the window of key {str(row[0])[:80]!r} holds values of the wrong type")
            for i in self._sets:
                window[i] = {stored_key(item) for item in window[i]}
            for i in self._lists:
                window[i] = list(window[i])
            loaded[stored_key(row[0])] = window
        if len(loaded) != len(data["windows"]):
            raise ValueError("two windows have the same key")
        return loaded

    def _fits(self, window: Window) -> bool:
        heads, slots = window[: self.heads], window[self.heads :]
        return all(head.__class__ is int for head in heads) and all(
            kind.fits(value) for kind, value in zip(self._kinds, slots, strict=True)
        )

    def replace(self, windows: dict[Any, Window]) -> None:
        """Continue with these windows. (The dict stays the same object: generated code holds it.)"""
        self.open.clear()
        self.open.update(windows)


class TimeWindows(Windows):
    heads = 2

    def __init__(
        self, slots: tuple[str, ...], fresh: Callable[..., Window], max_keys: int, size_ms: int
    ) -> None:
        super().__init__(slots, fresh, max_keys)
        self._size_ms = size_ms
        self._opened = 0
        self._dues: list[tuple[int, int, Any, Window]] = []

    def start_at(self, key: Any, ts: int, now: int | None) -> Window:
        """Open a window for `key`; `ts` is its first event's time, `now` the processing time if known."""
        window = self._fresh(ts + self._size_ms, (ts if now is None else now) + self._size_ms)
        self._put(key, window)
        self._note(key, window)
        return window

    def _note(self, key: Any, window: Window) -> None:
        self._opened += 1
        if len(self._dues) > 2 * len(self.open) + 64:
            self._dues = [due for due in self._dues if self.open.get(due[2]) is due[3]]
            heapify(self._dues)
        heappush(self._dues, (window[1], self._opened, key, window))

    def next_due(self) -> int | None:
        """When the next window is due by the timer; None when none is open."""
        dues = self._dues
        while dues and self.open.get(dues[0][2]) is not dues[0][3]:
            heappop(dues)
        return dues[0][0] if dues else None

    def expire(self, now: int) -> Iterator[tuple[Any, Window, int]]:
        """Take out the windows due at `now`, earliest first."""
        while (due := self.next_due()) is not None and due <= now:
            _, _, key, window = heappop(self._dues)
            del self.open[key]
            yield key, window, window[0]

    def replace(self, windows: dict[Any, Window]) -> None:
        super().replace(windows)
        self._dues = []
        for key, window in self.open.items():
            self._note(key, window)


def key_of(value: Any) -> Any:
    """A value as a key: a boolean is wrapped, because Python takes True and 1 for the same key."""
    if value.__class__ is bool:
        return (value,)
    if value.__class__ is str or value is None or (value.__class__ in NUMBERS and value == value):
        return value
    raise TypeError("a key is a text, a number, a boolean or null")


def value_of(key: Any) -> Any:
    """The value that `key_of` made a key."""
    return key[0] if key.__class__ is tuple else key


def plain_key(key: Any) -> Any:
    return [plain_key(part) for part in key] if key.__class__ is tuple else key


def stored_key(data: Any) -> Any:
    """The key in plain data; raises ValueError for what is none."""
    if data.__class__ is list:
        wrapped = len(data) == 1 and data[0].__class__ is bool
        return tuple(data) if wrapped else tuple(map(stored_key, data))
    if data is None or data.__class__ is str or (data.__class__ in NUMBERS and data == data):
        return data
    raise ValueError(f"{str(data)[:80]!r} is not a key")
