"""The slow meaning of stateful stages: everything that ever came is kept, and each result is computed anew.

Only definitions stand here, no panes and no heaps: a window's result is an aggregate over the list of its
events. `Events` are (type, fields, ts) of one stream over `T` (a join: `A` and `B`); the host's clock is the
latest event time, and no timer runs. Results are (fields, ts), in order.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

Event = tuple[str, dict[str, Any], int]
Result = tuple[dict[str, Any], int]
Row = tuple[int, Any]
"""(ts, value of v)"""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def key_of(fields: dict[str, Any]) -> Any:
    """The key as something hashable; raises KeyError or TypeError for what is no key."""
    value = fields["k"]
    if isinstance(value, list | dict):
        raise TypeError
    return (isinstance(value, bool), value)


def summary(key: Any, rows: list[Row]) -> dict[str, Any]:
    """n, s, lo, hi, first, last, sd, kinds, all, e (ema over 3), p (median) of a window."""
    values = [value for _, value in rows if value is not None]
    numbers = [value for value in values if is_number(value)]
    made: dict[str, Any] = {"k": key[1], "n": len(rows), "s": sum(numbers)}
    if numbers:
        mean = sum(numbers) / len(numbers)
        squares = sum((x - mean) ** 2 for x in numbers)
        made |= {"lo": min(numbers), "hi": max(numbers)}
        made["sd"] = math.sqrt(squares / (len(numbers) - 1)) if len(numbers) > 1 else 0.0
        average = float(numbers[0])
        for x in numbers[1:]:
            average += 0.5 * (x - average)
        ordered = sorted(numbers)
        half, odd = divmod(len(ordered), 2)
        median = ordered[half] if odd else (ordered[half - 1] + ordered[half]) / 2
        made |= {"e": average, "p": float(median)}
    if values:
        made |= {"first": values[0], "last": values[-1]}
    made |= {"kinds": len({(isinstance(v, bool), v) for v in values}), "all": values}
    return made


AGGREGATES = (
    "n: count(), s: sum(v), lo: min(v), hi: max(v), first: first(v), last: last(v), sd: stddev(v), "
    "kinds: count_distinct(v), all: collect(v), e: ema(v, 3), p: percentile(v, 50)"
)


def keyed(events: Iterable[Event]) -> Iterable[tuple[Any, int, Any]]:
    for _, fields, ts in events:
        try:
            yield key_of(fields), ts, fields.get("v")
        except (KeyError, TypeError):
            continue


def sliding_count(events: Iterable[Event], size: int, slide: int) -> list[Result]:
    came: dict[Any, list[Row]] = {}
    results: list[Result] = []
    for key, ts, value in keyed(events):
        rows = came.setdefault(key, [])
        rows.append((ts, value))
        if len(rows) >= size and (len(rows) - size) % slide == 0:
            results.append((summary(key, rows[-size:]), ts))
    return results


def sliding_time(events: Iterable[Event], size: int, slide: int) -> list[Result]:
    """Time does not go back: an event is as late as its key's latest, at least to the pane of that."""
    width = math.gcd(size, slide)
    came: dict[Any, list[Row]] = {}
    results: list[Result] = []
    for key, ts, value in keyed(events):
        rows = came.setdefault(key, [])
        if rows:
            end = rows[-1][0] - rows[-1][0] % slide + slide
            while end <= ts and end - size <= rows[-1][0]:
                if inside := [row for row in rows if end - size <= row[0] < end]:
                    results.append((summary(key, inside), end))
                end += slide
        at = max(ts, rows[-1][0] - rows[-1][0] % width) if rows else ts
        rows.append((at - at % width, value))
    return results


def tumbling_time(events: Iterable[Event], size: int) -> list[Result]:
    """A window begins with its first event; one whose time is before that counts into it all the same."""
    open_since: dict[Any, int] = {}
    came: dict[Any, list[Row]] = {}
    results: list[Result] = []
    for key, ts, value in keyed(events):
        if key in came and ts >= open_since[key] + size:
            results.append((summary(key, came.pop(key)), open_since[key] + size))
        if key not in came:
            open_since[key], came[key] = ts, []
        came[key].append((ts, value))
    return results


def sessions(events: Iterable[Event], gap: int) -> list[Result]:
    came: dict[Any, list[Row]] = {}
    results: list[Result] = []
    for key, ts, value in keyed(events):
        rows = came.setdefault(key, [])
        if rows and ts >= (end := max(at for at, _ in rows) + gap):
            results.append((summary(key, rows), end))
            rows.clear()
        rows.append((ts, value))
    return results


def event_time(
    events: Iterable[Event], size: int, slide: int, out_of_order: int, lateness: int
) -> tuple[list[Result], int]:
    """The results, and how many events were too late."""
    width = math.gcd(size, slide)
    came: list[tuple[Any, int, Any]] = []
    results: list[Result] = []
    late, watermark, closed = 0, -math.inf, -math.inf

    def content(key: Any, end: int) -> list[Row]:
        rows = [(ts - ts % width, v) for k, ts, v in came if k == key and end - size <= ts < end]
        return sorted(rows, key=lambda row: row[0])

    for key, ts, value in keyed(events):
        watermark = max(watermark, ts - out_of_order)
        ends = {
            (end, k) for k, at, _ in came for end in ends_of(at, size, slide) if closed < end <= watermark
        }
        opened: dict[tuple[int, Any], int] = {}
        for k, at, _ in came:
            for end in ends_of(at, size, slide):
                opened.setdefault((end, k), len(opened))
        for end, k in sorted(ends, key=lambda pair: (pair[0], opened[pair])):
            results.append((summary(k, content(k, end)), end))
        closed = watermark
        own = ends_of(ts, size, slide)
        last = max(ends_of(ts - ts % width, size, slide))
        if last + lateness <= watermark:
            late += 1
            continue
        came.append((key, ts, value))
        again = [end for end in own if end <= watermark < end + lateness]
        results += [(summary(key, content(key, end)), end) for end in again]
    return results, late


def ends_of(ts: int, size: int, slide: int) -> list[int]:
    first = ts - ts % slide + slide
    return list(range(first, ts + size + 1, slide))


def joined(events: Iterable[Event], within: int) -> list[Result]:
    came: list[tuple[int, str, Any, dict[str, Any], int]] = []
    results: list[Result] = []
    clock = 0
    for name, fields, ts in events:
        try:
            key = key_of(fields)
        except (KeyError, TypeError):
            continue
        clock = max(clock, ts)
        for until, other, k, partner, at in came:
            if other != name and k == key and until >= clock and abs(ts - at) <= within:
                a, b = (fields, partner) if name == "A" else (partner, fields)
                results.append(({"A": a, "B": b}, max(ts, at)))
        came.append((clock + within, name, key, fields, ts))
    return results


def distinct(events: Iterable[Event], within: int | None) -> list[Result]:
    until: dict[Any, float] = {}
    results: list[Result] = []
    clock = 0
    for (key, ts, _), (_, fields, _) in zip(
        keyed(events), ((t, f, s) for t, f, s in events if has_key(f)), strict=True
    ):
        clock = max(clock, ts)
        if until.get(key, -math.inf) <= clock:
            until[key] = math.inf if within is None else clock + within
            results.append((fields, ts))
    return results


def has_key(fields: dict[str, Any]) -> bool:
    try:
        key_of(fields)
    except (KeyError, TypeError):
        return False
    return True


Oracle = Callable[[list[Event]], list[Result]]
