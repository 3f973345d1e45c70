"""Events that a copy keeps while its pipeline moves, and the order in which they are handled afterwards. No
I/O.

While two copies of one line listen, the server gives each event to exactly one of them, at random: none is
lost, none doubled, but two lists come out of it, and no clock says how to join them (two processes read
their sockets when they are given time, and two machines have two clocks). What does say it is a
**witness**: beside its share the new copy hears *all* events of the line, in the order of the server, and
notes what they were. So the lists say which events there are, and the witness which comes before which. Two
events with the same bytes on the same subject are one and the same to the pipeline, so it does not matter
which is meant.

The witness is read from its end, for the same event may have come, and been handled, before the move as
well. What it did not see comes first where the old copy held it (it came before the witness listened), and
last where the new copy did.

In a cluster of servers one that does not know yet that the old copy left sends events to the old one's
server, which passes them on to the new one's: they come late, or early, and whoever listens there without a
queue hears them twice. So the witness listens in a queue of its own, where it hears each once and on the
direct way; and the new copy goes live when what it holds and what was seen agree (`Witness.disagrees`).

A copy that hears the lines of several shares gets each event once in every one of them; the witness sees
it once. So each share is put in its order by itself: events of two shares have no key in common, and their
order does not matter.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from proto_schemas.messages.moves import HeldEvent
from transport.subscription import Message

MAX_HELD: Final = 100_000
MAX_HELD_BYTES: Final = 32 * 1024 * 1024
"""What one copy holds at most; beyond it events are dropped, newest first, and counted."""
MAX_WITNESSED: Final = 4 * MAX_HELD
"""Events the witness remembers, newest last: twice what two copies can hold."""


class Held:
    """The events one copy holds, oldest first. `overflow`: those that found it full."""

    def __init__(self) -> None:
        self._events: deque[HeldEvent] = deque()
        self._bytes = 0
        self.overflow = 0

    def __len__(self) -> int:
        return len(self._events)

    def add(self, message: Message, at: int, share: int | None = None) -> None:
        """Keep a message that arrived at `at` (ms) in the line of a share, or drop and count it."""
        self._keep(HeldEvent(subject=message.subject, at=at, data=message.data, share=share))

    def next(self) -> HeldEvent | None:
        """Take the oldest one out."""
        if not self._events:
            return None
        event = self._events.popleft()
        self._bytes -= len(event.data)
        return event

    def events(self) -> list[HeldEvent]:
        """All of them; they stay."""
        return list(self._events)

    def replace(self, events: Iterable[HeldEvent]) -> None:
        """Hold these instead."""
        self._events.clear()
        self._bytes = 0
        for event in events:
            self._keep(event)

    def _keep(self, event: HeldEvent) -> None:
        if len(self._events) >= MAX_HELD or self._bytes + len(event.data) > MAX_HELD_BYTES:
            self.overflow += 1
            return
        self._events.append(event)
        self._bytes += len(event.data)


class Witness:
    """Notes which events came, in their order."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=MAX_WITNESSED)
        self._count = self._joined = 0

    def see(self, message: Message) -> None:
        """One more; called from the read loop."""
        self._seen.append(hash((message.subject, message.data)))
        self._count += 1

    @property
    def count(self) -> int:
        """How many it has seen."""
        return self._count

    def joined(self) -> None:
        """What comes from now on is held by one of the two copies."""
        self._joined = self._count

    def disagrees(self, old: Iterable[HeldEvent], new: Iterable[HeldEvent], until: int) -> bool:
        """Of the first `until` events one that came since the new copy joined is held by neither, or the new
        one holds what was not seen."""
        first = max(self._joined, self._count - len(self._seen))
        begin = first - self._count + len(self._seen)
        seen, own = list(islice(self._seen, begin, None)), set(map(_key, new))
        return bool(own.difference(seen) or set(seen[: until - first]).difference(own, map(_key, old)))

    def in_order(self, old: Iterable[HeldEvent], new: Iterable[HeldEvent]) -> list[HeldEvent]:
        """What two copies held, each in its order, as one list, share by share."""
        shares: dict[int, tuple[list[HeldEvent], list[HeldEvent]]] = {}
        for which, events in enumerate((old, new)):
            for event in events:
                shares.setdefault(-1 if event.share is None else event.share, ([], []))[which].append(event)
        return [event for share in sorted(shares) for event in self._in_order(*shares[share])]

    def _in_order(self, old: Sequence[HeldEvent], new: Sequence[HeldEvent]) -> list[HeldEvent]:
        waiting: dict[int, list[HeldEvent]] = {}
        for event in (*old, *new):
            waiting.setdefault(_key(event), []).append(event)
        backwards = [events.pop() for key in reversed(self._seen) if (events := waiting.get(key))]
        unseen = Counter({key: len(events) for key, events in waiting.items()})
        before = [event for event in old if _take(unseen, _key(event))]
        after = [event for event in new if _take(unseen, _key(event))]
        return [*before, *reversed(backwards), *after]


def _key(event: HeldEvent) -> int:
    return hash((event.subject, event.data))


def _take(counts: "Counter[int]", key: int) -> bool:
    if counts[key] <= 0:
        return False
    counts[key] -= 1
    return True
