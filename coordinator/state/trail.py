"""The trail of decisions: how its events are numbered, and which of them somebody has not seen yet.

An event's number is the time of its command in ms, or one more than the number before it when that is
higher. So numbers rise strictly, a time is as good a place to begin as a number, and two coordinators give
an event the same number although one of them has forgotten, or never numbered, what came before: a counter
would go on from wherever each of them stood.

The trail is bounded. Whoever last saw number N has missed nothing when the trail has never been cut or still
holds an event of number N or below; a number above the newest is of another trail (before a restore), and
means that everything is to be read anew.
"""

from bisect import bisect_right
from collections.abc import Sequence

from msgspec.structs import replace

from coordinator.state.limits import MAX_AUDIT
from coordinator.state.records import Event


def number(trail: Sequence[Event], at: int) -> int:
    """The number of the next event, of a command stamped `at` (ms)."""
    return max(trail[-1].seq + 1, at) if trail else max(at, 1)


def number_all(trail: list[Event]) -> None:
    """Number the events of a trail that was written without numbers, in place."""
    last = 0
    for position, event in enumerate(trail):
        last = event.seq or max(last + 1, event.at)
        if event.seq != last:
            trail[position] = replace(event, seq=last)


def newest(trail: Sequence[Event]) -> int:
    """The number of the newest event; 0 when there is none."""
    return trail[-1].seq if trail else 0


def after(trail: Sequence[Event], seq: int) -> Sequence[Event]:
    """The events above a number, oldest first."""
    return trail[bisect_right(trail, seq, key=lambda event: event.seq) :]


def complete_since(trail: Sequence[Event], seq: int) -> bool:
    """Whether `after` gives all there ever were above that number."""
    uncut = len(trail) < MAX_AUDIT or trail[0].seq <= seq
    return uncut and seq <= newest(trail)


def matches(event: Event, *, about: str | None, what: str | None, by: str | None) -> bool:
    """Whether an event is one of those asked for.

    `about` also takes what lies below it: `orders` takes `orders/filter@7`, `orders/filter` takes every
    epoch. `what` takes a prefix that ends in `*`; `by` takes a kind, such as `api`, whoever it was.
    """
    if about is not None and event.about != about and not event.about.startswith((f"{about}/", f"{about}@")):
        return False
    prefix = what[:-1] if what is not None and what.endswith("*") else None
    if what is not None and event.what != what and (prefix is None or not event.what.startswith(prefix)):
        return False
    return by is None or event.by == by or event.by.startswith(f"{by}:")
