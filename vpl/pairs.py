"""The events of both sides of a join that may still find a partner, by key.

An event looks at those of the other side with its key, in the order in which they came, and then waits itself
for as long as the join's window lasts, by the host's clock (where it tells none, by the latest event's time).
Whether two events make a pair is decided by their own times alone: at most `within` apart. Over `limit`
events in all, or `MAX_PER_KEY` of one side and key, the oldest give way and are counted as `join_evicted`.
"""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from vpl.keeper import Keeper
from vpl.windows import plain_key, stored_key

MAX_PER_KEY = 1_000

Waiting = tuple[int, int, Any, int, dict[str, Any]]
"""(until, side, key, ts, fields)"""


class Pairs(Keeper):
    loss = "join_evicted"

    def __init__(self, within_ms: int, limit: int) -> None:
        super().__init__()
        self._within = within_ms
        self._limit = limit
        self._sides: tuple[dict[Any, deque[Waiting]], dict[Any, deque[Waiting]]] = ({}, {})
        self._queue: deque[Waiting] = deque()  # all of them, oldest first
        self._gone = 0  # of the queue, those that gave way before their turn
        self._until = 0

    def meet(
        self, side: int, key: Any, ts: int, fields: dict[str, Any], now: int | None
    ) -> list[tuple[dict[str, Any], int]]:
        """The partners of an event of `side` (0 or 1), each with the time of the pair; it then waits."""
        self._until = max(self._until, (ts if now is None else now) + self._within)
        self._drop(self._until - self._within)
        within = self._within
        others = self._sides[1 - side].get(key, ())
        found = [(w[4], w[3] if w[3] > ts else ts) for w in others if -within <= ts - w[3] <= within]
        self._add((self._until, side, key, ts, fields))
        return found

    def _add(self, waiting: Waiting) -> None:
        same = self._sides[waiting[1]].setdefault(waiting[2], deque())
        if len(same) >= MAX_PER_KEY:
            same.popleft()
            self._gone += 1
            self.lose()
            if self._gone > len(self._queue) // 2 + 64:
                self._queue = deque(w for w in self._queue if self._waits(w))
                self._gone = 0
        same.append(waiting)
        self._queue.append(waiting)
        while len(self._queue) - self._gone > self._limit:
            if self._pop():
                self.lose()

    def _waits(self, waiting: Waiting) -> bool:
        """It is one of those that wait; they stand in the order of the queue."""
        same = self._sides[waiting[1]].get(waiting[2])
        return same is not None and any(w is waiting for w in same)

    def _pop(self) -> bool:
        waiting = self._queue.popleft()
        side = self._sides[waiting[1]]
        same = side.get(waiting[2])
        if same is None or same[0] is not waiting:
            self._gone -= 1
            return False
        same.popleft()
        if not same:
            del side[waiting[2]]
        return True

    def _drop(self, now: int) -> None:
        while self._queue and self._queue[0][0] < now:
            self._pop()

    def next_due(self) -> int | None:
        return self._queue[0][0] + 1 if self._queue else None

    def expire(self, now: int) -> Iterator[tuple[Any, ...]]:
        self._drop(now)
        return iter(())

    def save(self) -> dict[str, Any]:
        waiting = [w for w in self._queue if not self._gone or self._waits(w)]
        return {
            "within": self._within,
            "until": self._until,
            "events": [[until, side, plain_key(key), ts, fields] for until, side, key, ts, fields in waiting],
        }

    def load(self, data: Any) -> tuple[int, list[Waiting]]:
        if data is None:
            return 0, []
        if not isinstance(data, dict) or not isinstance(data.get("events"), list):
            raise ValueError("the events of a join are not a list")
        if data.get("within") != self._within:
            return 0, []
        last, loaded = data.get("until"), [_waiting(row) for row in data["events"]]
        if last.__class__ is not int or any(a[0] > b[0] for a, b in pairwise(loaded)):
            raise ValueError("the events of a join are not in order")
        if loaded and loaded[-1][0] > last:
            raise ValueError("an event of a join waits for too long")
        return last, loaded

    def replace(self, loaded: tuple[int, list[Waiting]]) -> None:
        self._until, waiting = loaded
        self._queue.clear()
        self._gone = 0
        for side in self._sides:
            side.clear()
        for one in waiting:
            self._add(one)

    def weigh(self, limit: int) -> int:
        values = 5 * len(self._queue)
        for waiting in self._queue:
            if values > limit:
                break
            values += len(waiting[4])
        return values


def _waiting(row: Any) -> Waiting:
    if not isinstance(row, list) or len(row) != 5:
        raise ValueError("an event of a join has the wrong number of entries")
    until, side, key, ts, fields = row
    if until.__class__ is not int or ts.__class__ is not int or side.__class__ is not int:
        raise ValueError("an event of a join has no time or side")
    if side not in (0, 1) or not isinstance(fields, dict):
        raise ValueError("an event of a join has no fields or side")
    return until, side, stored_key(key), ts, fields
