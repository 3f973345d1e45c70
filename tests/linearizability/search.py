"""The search for an order that explains the history of one key.

Wing and Gong (1993): put one operation after another into an order, each time one that was invoked before any
operation outside the order returned, and go back when the object could not have answered so. Lowe (2017):
remember the configurations met (which operations are in the order, and the state they lead to), for two
orders of the same operations with the same state have the same future; and put an operation into the order
only when a return waits for it ("just in time").

The search stands before a return: all that returned earlier is in the order, the operation that returns next,
the awaited one, is not. Candidates are the operations pending at that instant, so a configuration is the
number of the awaited return, the set of pending operations already in the order, and the state. The set is a
bit mask whose bits are handed out like registers: an operation takes a free bit when invoked and gives it
back when it returns, so a mask is as wide as the concurrency, not as the history. At a quiescent instant
(nothing pending) the mask is empty and only the state is left: the memory of configurations cuts the history
in time there, by itself.

Three rules keep it small. Each is sound for every deterministic model:

1. A pending read that is legal now goes into the order now. It changes nothing: what follows stays as it was.
2. Operations of unknown outcome are optional. In an order with as few of them as possible, none could be
   taken out: so what comes right after one must answer, or end, differently than it would have without it.
   Orders that break this are not followed. Two unknown operations that do the same thing are interchangeable,
   so the one invoked first goes first.
3. Of two configurations that differ only in the unknown operations used, the one that used fewer can do all
   the other can. If it led nowhere, neither does the other.

What a model foresees (see `model`) cuts further. The time needed may still grow exponentially with the
concurrency: the problem is NP-complete (Gibbons and Korach, 1997). A search therefore has a deadline and a
bound on what it remembers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.linearizability.events import Events
from tests.linearizability.history import Operation
from tests.linearizability.model import Foresight, Model

CONFIGURATIONS_LIMIT = 2_000_000  # about 0.5 GB
_CLOCK_EVERY = 1024  # configurations
_STATES_KEPT = 8
_KNOWN = object()  # the operation before was a known one


class GaveUp(Exception):
    """The deadline or the bound on memory came first. Remedy: more seconds, or fewer operations per key."""


class Configuration(NamedTuple):
    """Where the search stands."""

    awaited: int  # index into Events.known
    placed: int  # bits of pending operations that are in the order
    used: int  # bits of unknown operations that are in the order
    state: object
    without: object  # the state had the unknown operation before been left out, or _KNOWN


@dataclass
class Found:
    """What the search came to. `order` explains the history, or else as much of it as can be explained."""

    linearizable: bool = False
    order: list[Operation] = field(default_factory=list)
    awaited: int = -1  # the first return that no order reaches, as an index into the operations by return
    stuck: Operation | None = None  # that operation
    states: list[object] = field(default_factory=list)  # some of the states that orders up to there end in
    configurations: int = 0


class Search:
    """One search over the history of one key."""

    def __init__(
        self,
        operations: Sequence[Operation],
        model: Model,
        initial: object,
        foresight: Foresight | None = None,
    ) -> None:
        self._model = model
        self._initial = initial
        self._foresight = model.foresee(operations, initial) if foresight is None else foresight
        self._events = Events.of(operations, model, self._foresight)
        self._seen: dict[tuple[int, int, object, object], list[int]] = {}
        self._order: list[Operation] = []
        self._found = Found()

    def run(self, deadline: float) -> Found:
        """Depth first. Raises GaveUp when `time.monotonic()` passes `deadline`, or memory gets too large."""
        found = self._found
        children: list[tuple[Configuration, Operation | None]]
        children = [(Configuration(0, 0, 0, self._initial, _KNOWN), None)]
        untried = [(0, children)]
        while untried:
            length, children = untried[-1]
            del self._order[length:]
            if not children:
                untried.pop()
                continue
            here, operation = children.pop()
            if operation is not None:
                self._order.append(operation)
            here = self._settle(here)
            if here.awaited == len(self._events.known):
                found.linearizable, found.order, found.stuck = True, self._order, None
                return found
            if self._is_new(here, deadline):
                self._note(here)
                untried.append((len(self._order), self._successors(here)))
        return found

    def _settle(self, here: Configuration) -> Configuration:
        """Rule 1, and on to the next return that no operation in the order accounts for."""
        awaited, placed, used, state, without = here
        events, model = self._events, self._model
        known, bits = events.known, events.bits
        while awaited < len(known):
            for index in events.pending[awaited]:
                operation = known[index]
                if (
                    operation.kind in model.reads
                    and not placed & bits[index]
                    and model.step(state, operation)[0]
                ):
                    placed |= bits[index]
                    without = _KNOWN
                    self._order.append(operation)
            if not placed & bits[awaited]:
                used = events.canonical(awaited, used)
                state = self._foresight.canonical(state, events.returned[awaited])
                break
            while awaited < len(known) and placed & bits[awaited]:
                placed &= ~bits[awaited]
                awaited += 1
        return Configuration(awaited, placed, used, state, without)

    def _is_new(self, here: Configuration, deadline: float) -> bool:
        """Rule 3."""
        earlier = self._seen.setdefault((here.awaited, here.placed, here.state, here.without), [])
        if any(not used & ~here.used for used in earlier):
            return False
        earlier[:] = [used for used in earlier if here.used & ~used]
        earlier.append(here.used)
        self._found.configurations += 1
        if self._found.configurations > CONFIGURATIONS_LIMIT:
            raise GaveUp(f"more than {CONFIGURATIONS_LIMIT:,} configurations")
        if self._found.configurations % _CLOCK_EVERY == 0 and time.monotonic() > deadline:
            raise GaveUp(f"the deadline passed after {self._found.configurations:,} configurations")
        return True

    def _note(self, here: Configuration) -> None:
        found = self._found
        if here.awaited > found.awaited:
            found.awaited, found.stuck = here.awaited, self._events.known[here.awaited]
            found.order, found.states = list(self._order), []
        if here.awaited == found.awaited and here.state not in found.states[:_STATES_KEPT]:
            found.states.append(here.state)

    def _successors(self, here: Configuration) -> list[tuple[Configuration, Operation | None]]:
        """Configurations one operation further, the most promising one last, unknown ones first."""
        events, reads = self._events, self._model.reads
        pinned = self._foresight.pinned(here.state, events.returned[here.awaited])
        children: list[tuple[Configuration, Operation | None]] = []
        for shift in events.choices(here.awaited, here.used):
            operation = events.unknown[shift]
            legal, state = self._step(here, operation)
            if legal and state != here.state and not pinned:
                after = Configuration(here.awaited, here.placed, here.used | 1 << shift, state, here.state)
                children.append((after, operation))
        for index in reversed(events.pending[here.awaited]):
            operation = events.known[index]
            if here.placed & events.bits[index] or operation.kind in reads:
                continue
            legal, state = self._step(here, operation)
            if legal and not (pinned and state != here.state):
                placed = here.placed | events.bits[index]
                children.append((Configuration(here.awaited, placed, here.used, state, _KNOWN), operation))
        return children

    def _step(self, here: Configuration, operation: Operation) -> tuple[bool, object]:
        """The model's step, refused if rule 2 forbids it."""
        instant = self._events.returned[here.awaited]
        legal, state = self._model.step(here.state, operation)
        state = self._foresight.canonical(state, instant)
        if legal and here.without is not _KNOWN:
            possible, same = self._model.step(here.without, operation)
            legal = not (possible and self._foresight.canonical(same, instant) == state)
        return legal, state
