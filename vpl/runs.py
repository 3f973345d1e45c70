"""The runs of a sequence: matches that have begun and wait for what comes next.

A run is a list: [stamp, time of its first event, due, places, position, partition, slots...]. `position` is
the step that it waits for (counted from 0; the number of steps when it waits for its time to be over), and a
slot holds the event of one part of the sequence, the list of events of an `all` part, or null.

Where a run waits, it stands in *places*: dicts from a key to the runs with that key (the run itself, or, once
there were several, a dict of them by stamp, in the order in which they came there). There is one place for
each part that may take it on, and one for each negation that may end it. So an event looks only at runs that
it can equal. Which keys these are, the generated code knows: `parks[position]` puts a run where it belongs.

A run is over when its `due` has passed: the host's clock when it opened, plus the time of `.within` (where
the host tells no clock, the latest event's time). What then is complete, because only a negation or further
events could still come, comes out; so it does when an event shows that its time is over. Over `limit` runs
the oldest gives way and is counted as `run_evicted`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any, Final

from vpl.keeper import Keeper
from vpl.plan import Sequence
from vpl.windows import key_of, plain_key, stored_key

HEADS: Final = 6
"""Entries of a run before its slots."""
MAX_RUNS: Final = 10_000
MAX_TAKEN: Final = 1_000
"""Events that one `all` part of a run keeps."""

Run = list[Any]
Place = dict[Any, Run | dict[int, Run]]
Parked = list[tuple[Place, Any]]

_STAMP, _FIRST, _DUE, _PLACES, _POSITION, _KEY = range(HEADS)


class Runs(Keeper):
    loss = "run_evicted"

    def __init__(self, sequence: Sequence, places: int, limit: int) -> None:
        super().__init__()
        self.places: tuple[Place, ...] = tuple({} for _ in range(places))
        self.parks: dict[int, Callable[[Run], None]] = {}
        self._sequence = sequence
        self._within = sequence.within_ms
        self._last = len(sequence.groups)
        self._limit = min(limit, MAX_RUNS)
        self._queue: deque[Run] = deque()  # all of them, as they opened
        self._ended = 0  # of the queue
        self._ripe: list[tuple[int, int, Run]] = []  # those that only wait for their time to be over
        self._stamps = 0
        self._until = 0

    # --- as events come

    def open(self, run: Run, now: int | None, parked: Parked) -> None:
        """A run begins, and waits in these places."""
        self._begin(run, now)
        self.park(run, parked)
        if len(self._queue) - self._ended > self._limit:
            self._give_way()

    def open_at(self, run: Run, now: int | None, place: Place, key: Any) -> None:
        """`open` in the usual case, written out because it is called for every other event of `A -> B`: the
        run waits in this place alone, and not only for its time to be over.
        """
        until = (run[_FIRST] if now is None else now) + self._within
        if until > self._until:
            self._until = until
        else:
            until = self._until
        run[_DUE] = until
        queue = self._queue
        if now is None and queue and queue[0][_DUE] < until - self._within:
            self._forget(until - self._within)
        queue.append(run)
        self._stamps = run[_STAMP] = self._stamps + 1
        run[_PLACES] = ((place, key),)
        if key in place:
            _enter(place, key, run)
        else:
            place[key] = run
        if len(queue) - self._ended > self._limit:
            self._give_way()

    def _begin(self, run: Run, now: int | None) -> None:
        until = (run[_FIRST] if now is None else now) + self._within
        if until > self._until:
            self._until = until
        else:
            until = self._until
        run[_DUE] = until
        queue = self._queue
        if now is None and queue and queue[0][_DUE] < until - self._within:
            self._forget(until - self._within)
        queue.append(run)

    def park(self, run: Run, parked: Parked) -> None:
        """The run waits in these places, each under its key."""
        self._stamps = stamp = self._stamps + 1
        run[_STAMP], run[_PLACES] = stamp, parked
        for place, key in parked:
            _enter(place, key, run)
        if run[_POSITION] == self._last:
            heappush(self._ripe, (run[_FIRST] + self._within, stamp, run))

    def leave(self, run: Run) -> None:
        """The run waits nowhere."""
        for place, key in run[_PLACES]:
            _leave(place, key, run)
        run[_PLACES] = ()

    def leave_one(self, run: Run, place: Place) -> None:
        """The run waits there no more, and still elsewhere."""
        rest = []
        for parked in run[_PLACES]:
            if parked[0] is place:
                _leave(place, parked[1], run)
            else:
                rest.append(parked)
        run[_PLACES] = rest

    def end(self, run: Run) -> None:
        """The run is complete, or will never be."""
        for place, key in run[_PLACES]:
            _leave(place, key, run)
        run[_STAMP], run[_PLACES] = 0, ()
        self._ended += 1
        self._tidy()

    def end_at(self, run: Run, place: Place, key: Any, there: Run | dict[int, Run]) -> None:
        """`end` of a run that waits in this place alone, under this key: with those that are `there`."""
        if there is run:
            del place[key]
        else:
            _leave(place, key, run)
        run[_STAMP], run[_PLACES] = 0, ()
        self._ended = ended = self._ended + 1
        if ended > 64:
            self._tidy()

    def _tidy(self) -> None:
        """Take those that ended out of the queue, once they are more than half of it."""
        if self._ended > len(self._queue) // 2 + 64:
            self._queue = deque([run for run in self._queue if run[_STAMP]])
            self._ripe = [entry for entry in self._ripe if entry[2][_STAMP] == entry[1]]
            heapify(self._ripe)
            self._ended = 0

    def over(self, ts: int) -> Iterator[tuple[Run]]:
        """Take out the complete runs whose time is over when an event of `ts` comes, in the order in which it
        ended.
        """
        ripe = self._ripe
        while ripe and ripe[0][0] < ts:
            _, stamp, run = heappop(ripe)
            if run[_STAMP] == stamp:
                self.end(run)
                ripe = self._ripe
                yield (run,)

    def _give_way(self) -> None:
        while not self._queue[0][_STAMP]:
            self._queue.popleft()
            self._ended -= 1
        self.end(self._queue[0])
        self.lose()

    def _forget(self, now: int) -> None:
        """Drop from the front what is over; what is complete then is for `over` and `expire`."""
        queue = self._queue
        while queue and (queue[0][_STAMP] == 0 or queue[0][_DUE] < now):
            run = queue[0]
            if run[_STAMP]:
                if run[_POSITION] == self._last:
                    return
                self.leave(run)
                run[_STAMP] = 0
            else:
                self._ended -= 1
            queue.popleft()

    # --- the timer

    def next_due(self) -> int | None:
        queue = self._queue
        while queue and not queue[0][_STAMP]:
            queue.popleft()
            self._ended -= 1
        return queue[0][_DUE] + 1 if queue else None

    def expire(self, now: int) -> Iterator[tuple[Run]]:
        while (due := self.next_due()) is not None and due <= now:
            run = self._queue[0]
            self.end(run)
            if run[_POSITION] == self._last:
                yield (run,)

    # --- as plain data

    def save(self) -> dict[str, Any]:
        many = self._many()
        runs = [run for run in self._queue if run[_STAMP]]
        ranks = {stamp: i for i, stamp in enumerate(sorted([run[_STAMP] for run in runs]), 1)}
        rows = []
        for run in runs:
            row = [plain_key(run[_KEY]), ranks[run[_STAMP]], run[_FIRST], run[_DUE], run[_POSITION]]
            row += run[HEADS:]
            for slot in many:
                if row[slot - 1] is not None:
                    row[slot - 1] = list(row[slot - 1])
            rows.append(row)
        return {"shape": self._shape(), "until": self._until, "runs": rows}

    def _many(self) -> list[int]:
        return [HEADS + i for i, item in enumerate(self._sequence.items) if item.many]

    def _shape(self) -> list[Any]:
        groups = [[item.event_type for item in group.items] for group in self._sequence.groups]
        return [self._within, len(self._sequence.keys), groups, self._many()]

    def load(self, data: Any) -> tuple[int, list[Run]]:
        if data is None:
            return 0, []
        if not isinstance(data, dict) or not isinstance(data.get("runs"), list):
            raise ValueError("the runs of a sequence are not a list")
        if data.get("shape") != self._shape():
            return 0, []
        until, runs = data.get("until"), [self._loaded(row) for row in data["runs"]]
        if until.__class__ is not int or any(a[_DUE] > b[_DUE] for a, b in pairwise(runs)):
            raise ValueError("the runs of a sequence are not in order")
        if runs and runs[-1][_DUE] > until:
            raise ValueError("a run of a sequence is due too late")
        return until, runs

    def _loaded(self, row: Any) -> Run:
        if not isinstance(row, list) or len(row) != HEADS - 1 + len(self._sequence.items):
            raise ValueError("a run of a sequence has the wrong number of entries")
        key, stamp, first, due, position, *slots = row
        if any(each.__class__ is not int for each in (stamp, first, due, position)):
            raise ValueError("a run of a sequence has no time or position")
        if not 1 - self._begins_partly() <= position <= self._last - (not self._sequence.ripens):
            raise ValueError("a run of a sequence waits for no step")
        for item, held in zip(self._sequence.items, slots, strict=True):
            events = held if item.many and held.__class__ is list else [held]
            if held is not None and not (events and all(event.__class__ is dict for event in events)):
                raise ValueError("a run of a sequence holds no events")
        slots = [list(held) if held.__class__ is list else held for held in slots]
        if not self._filled(position, slots):
            raise ValueError("a run of a sequence has not come as far as it says")
        return [stamp, first, due, (), position, stored_key(key), *slots]

    def _begins_partly(self) -> bool:
        first = self._sequence.groups[0]
        return first.every and len(first.items) > 1

    def _filled(self, position: int, slots: list[Any]) -> bool:
        """Whether the events are there that a run at this position has."""
        at = 0
        for number, group in enumerate(self._sequence.groups):
            there = [slot is not None for slot in slots[at : at + len(group.items)]]
            at += len(group.items)
            if number < position and not (all(there) if group.every else sum(there) == 1):
                return False
            if number > position and any(there):
                return False
            if number == position and any(there) and (all(there) or not group.every):
                return False
            if number == position == 0 and not any(there):
                return False
        return True

    def replace(self, loaded: tuple[int, list[Run]]) -> None:
        self._until, runs = loaded
        for place in self.places:
            place.clear()
        self._queue, self._ended, self._ripe = deque(runs), 0, []
        for run in sorted(runs, key=lambda run: run[_STAMP]):
            self.parks[run[_POSITION]](run)
        while len(self._queue) - self._ended > self._limit:
            self._give_way()

    def weigh(self, limit: int) -> int:
        values = 0
        for run in self._queue:
            if values > limit:
                break
            values += len(run)
            for held in run[HEADS:]:
                if held.__class__ is dict:
                    values += len(held)
                elif held is not None:
                    values += sum(map(len, held))
        return values


def _enter(place: Place, key: Any, run: Run) -> None:
    """One more that waits there."""
    there = place.get(key)
    if there is None:
        place[key] = run
    elif isinstance(there, dict):
        there[run[_STAMP]] = run
    else:
        place[key] = {there[_STAMP]: there, run[_STAMP]: run}


def _leave(place: Place, key: Any, run: Run) -> None:
    """One that waits there no more."""
    there = place[key]
    if isinstance(there, dict):
        del there[run[_STAMP]]
    if there is run or not there:
        del place[key]


def bucket_of(value: Any) -> Any:
    """The key under which runs with this value wait: equal values have the same one. Lists and maps share
    one, and are compared when it comes to it.
    """
    try:
        return key_of(value)
    except TypeError:
        return ()
