"""The history of one key as the search reads it: return after return, and what is pending at each.

Every known operation gets a bit while it is pending. Bits are given back at the return and used again, so
masks stay as narrow as the history is concurrent. Operations of unknown outcome get a bit each for good: they
never return.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Self

from tests.linearizability.history import Operation
from tests.linearizability.model import Foresight, Model


@dataclass
class Events:
    """Lists with one entry per known operation, in the order of their returns."""

    known: list[Operation] = field(default_factory=list)
    returned: list[float] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    pending: list[tuple[int, ...]] = field(
        default_factory=list
    )  # known operations pending at this return, itself first
    usable: list[int] = field(default_factory=list)  # unknown operations invoked by then that still matter
    live: list[int] = field(default_factory=list)  # unknown operations that still matter, invoked or not
    unknown: list[Operation] = field(default_factory=list)  # by invocation
    blank: list[int] = field(default_factory=list)  # unknown writes that matter only as some change
    twins: list[int] = field(
        default_factory=list
    )  # per unknown operation: all that do the same thing, as bits
    _first: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, operations: Sequence[Operation], model: Model, foresight: Foresight) -> Self:
        events = cls()
        by_return = [(one.returned, one) for one in operations if one.returned is not None]
        by_return.sort(key=lambda pair: pair[0])
        events.returned = [returned for returned, _ in by_return]
        events.known = [one for _, one in by_return]
        events._hand_out_bits()
        unknown = (one for one in operations if one.returned is None and one.kind not in model.reads)
        events._take_unknown(
            [one for one in unknown if max(foresight.horizon(one), foresight.any_change) >= one.invoked],
            foresight,
        )
        return events

    def _hand_out_bits(self) -> None:
        self.bits = [0] * len(self.known)
        invocations = sorted(range(len(self.known)), key=lambda index: self.known[index].invoked)
        arriving = iter([*invocations, -1])
        next_in = next(arriving)
        active: list[int] = []
        free: list[int] = []
        fresh = (1 << shift for shift in count())
        for index, returned in enumerate(self.returned):
            while next_in >= 0 and self.known[next_in].invoked <= returned:
                self.bits[next_in] = free.pop() if free else next(fresh)
                active.append(next_in)
                next_in = next(arriving)
            active.sort()
            self.pending.append(tuple(active))
            active.remove(index)
            free.append(self.bits[index])

    def _take_unknown(self, unknown: list[Operation], foresight: Foresight) -> None:
        self.unknown = sorted(unknown, key=lambda one: one.invoked)
        alike: dict[tuple[str, object, object], int] = {}
        for shift, one in enumerate(self.unknown):
            signature = (one.kind, one.value, one.expected)
            alike[signature] = alike.get(signature, 0) | 1 << shift
        self.twins = [alike[one.kind, one.value, one.expected] for one in self.unknown]
        writes = sum(1 << shift for shift, one in enumerate(self.unknown) if foresight.overwrites(one))
        expiring = sorted((foresight.horizon(one), 1 << shift) for shift, one in enumerate(self.unknown))
        everything = (1 << len(self.unknown)) - 1
        invoked, expired = 0, 0
        next_in, next_out = 0, 0
        for returned in self.returned:
            while next_in < len(self.unknown) and self.unknown[next_in].invoked <= returned:
                invoked |= 1 << next_in
                next_in += 1
            while next_out < len(expiring) and expiring[next_out][0] < returned:
                expired |= expiring[next_out][1]
                next_out += 1
            dead = expired if returned > foresight.any_change else 0
            self.live.append(everything & ~dead)
            self.usable.append(invoked & ~dead)
            self.blank.append(expired & writes & ~dead)

    def choices(self, awaited: int, used: int) -> Iterator[int]:
        """Unknown operations that may come next: of those that do the same thing, the one invoked first."""
        left, blank = self.usable[awaited] & ~used, self.blank[awaited]
        while left:
            lowest = left & -left
            shift = lowest.bit_length() - 1
            yield shift
            left &= ~(blank if lowest & blank else self.twins[shift])

    def canonical(self, awaited: int, used: int) -> int:
        """Unknown operations used, less those that matter no more, and blank ones by their number only."""
        used &= self.live[awaited]
        blank = self.blank[awaited]
        if not used & blank:
            return used
        number = (used & blank).bit_count()
        first = self._first.get((blank, number))
        if first is None:
            first, left = 0, blank
            for _ in range(number):
                first |= left & -left
                left &= left - 1
            self._first[blank, number] = first
        return used & ~blank | first
