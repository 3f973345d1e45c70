"""What `.limit`, `.distinct` and `timer(...)` remember: how many passed, what was seen, what is due."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from vpl.keeper import Keeper
from vpl.windows import plain_key, stored_key


class Passed(Keeper):
    """How many events have passed a `.limit`: `count[0]`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = [0]

    def save(self) -> dict[str, Any]:
        return {"passed": self.count[0]}

    def load(self, data: Any) -> int:
        passed = 0 if data is None else data.get("passed") if isinstance(data, dict) else None
        if passed.__class__ is not int or passed < 0:
            raise ValueError("a limit does not say how many events have passed")
        return passed

    def replace(self, loaded: int) -> None:
        self.count[0] = loaded

    def weigh(self, limit: int) -> int:
        return 1


class Seen(Keeper):
    """The values that passed a `.distinct`, oldest first, each with the time until which it is no longer new.

    Time is that of the latest event, so it never goes back, and the values are in the order in which they are
    forgotten. Over `limit` values the oldest are forgotten early, and counted as `distinct_evicted`.
    """

    loss = "distinct_evicted"

    def __init__(self, within_ms: int | None, limit: int) -> None:
        super().__init__()
        self._within = within_ms
        self._limit = limit
        self._until: dict[Any, int | None] = {}
        self._latest: int | None = None

    def is_new(self, key: Any, ts: int) -> bool:
        """Whether the value passes at `ts`; it then does not until its time is over."""
        until = self._until
        if self._within is not None:
            latest = self._latest = ts if self._latest is None or ts > self._latest else self._latest
            while until:
                first = next(iter(until))
                if (end := until[first]) is None or end > latest:
                    break
                del until[first]
        if key in until:
            return False
        if len(until) >= self._limit:
            for oldest in list(islice(until, max(1, self._limit // 1000))):
                del until[oldest]
                self.lose()
        until[key] = None if self._within is None else latest + self._within
        return True

    def save(self) -> dict[str, Any]:
        values = [[plain_key(key), until] for key, until in self._until.items()]
        return {"within": self._within, "latest": self._latest, "values": values}

    def load(self, data: Any) -> tuple[int | None, dict[Any, int | None]]:
        if data is None:
            return None, {}
        if not isinstance(data, dict) or not isinstance(data.get("values"), list):
            raise ValueError("the distinct values are not a list")
        if data.get("within") != self._within:
            return None, {}
        latest, times = data.get("latest"), int if self._within is not None else type(None)
        if latest.__class__ is not times and (latest is not None or data["values"]):
            raise ValueError("the distinct values have no time")
        until: dict[Any, int | None] = {}
        for row in data["values"]:
            if not isinstance(row, list) or len(row) != 2 or row[1].__class__ is not times:
                raise ValueError("a distinct value does not say until when")
            until[stored_key(row[0])] = row[1]
        times_up = [end for end in until.values() if end is not None]
        if len(until) != len(data["values"]) or sorted(times_up) != times_up:
            raise ValueError("the distinct values are not in order, each once")
        return latest, until

    def replace(self, loaded: tuple[int | None, dict[Any, int | None]]) -> None:
        self._latest, until = loaded
        self._until.clear()
        self._until.update(until)

    def weigh(self, limit: int) -> int:
        return 2 * len(self._until)


class Ticks(Keeper):
    """When a timer fires next: at multiples of its period, from the first one after the clock is known.

    Where the clock went on by more than a period at once, there is one event, of the latest multiple.
    """

    def __init__(self, period_ms: int) -> None:
        super().__init__()
        self._period = period_ms
        self._due: int | None = None

    def begin(self, now: int) -> None:
        if self._due is None:
            self._due = now - now % self._period + self._period

    def next_due(self) -> int | None:
        return self._due

    def expire(self, now: int) -> Iterator[tuple[int]]:
        self.begin(now)
        if self._due is not None and self._due <= now:
            at = now - now % self._period
            self._due = at + self._period
            yield (at,)

    def save(self) -> dict[str, Any]:
        return {"period": self._period, "due": self._due}

    def load(self, data: Any) -> int | None:
        if data is None:
            return None
        if not isinstance(data, dict):
            raise ValueError("a timer is not an object")
        if data.get("period") != self._period:
            return None
        due = data.get("due")
        if due is not None and (due.__class__ is not int or due % self._period):
            raise ValueError("a timer is due at no multiple of its period")
        return due

    def replace(self, loaded: int | None) -> None:
        self._due = loaded

    def weigh(self, limit: int) -> int:
        return 1
