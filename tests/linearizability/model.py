"""What an object may answer: the sequential behaviour that a concurrent history is held against.

A `Model` is a pure function from a state and an operation to whether that answer was legal and the state
after it. It may look at `kind`, `value` and `expected` only, and values and states must be hashable: the
search remembers them.

`foresee` lets a model look over the whole history of a key before the search begins and tell it what cannot
help. All it says must be sound: a hint may shorten the search and never change its verdict. Times are those
of the awaited return: all that returned before is in the order.

    horizon(operation)       what an operation of unknown outcome leaves behind is named up to this time
    any_change               after its horizon it may still serve as some change, whichever, up to this time
    overwrites(operation)    it is legal in every state and does not depend on it
    canonical(state, time)   one state for all that no operation can tell apart any more
    pinned(state, time)      `state` must not be left: an operation invoked later needs it, and nothing not
                             yet in the order can bring it back

Register, horizon. Call an operation an observer of v if it is a read that gave v or a cas that expected v.
Take an order that explains the history and holds an unknown write of v (or an unknown cas to v) that is not
followed by an observer of v before the next change. What comes right after it is then a write, which does not
care what it overwrites, or nothing. Leave it out: the order is as legal as before and explains the same
answers. So an unknown write has to be considered only as long as an observer of its value has not returned,
and not at all if there is none; this does not even ask that its value be unique. An unknown cas that expects
v is an observer of v as long as it has to be considered itself.

Register, any_change. A refused cas (mismatch) observes every value but one: an unknown write that nobody
reads may be the reason for it. So all of them stay until the last mismatch returned. Past their horizon they
differ in nothing but the time of their invocation, so the search takes the one invoked first and remembers
how many it took, not which.

Register, canonical. If all observers of v and all mismatches that expected v have returned, no operation
tells v from another such value.

Register, pinned. If a register holds v, an observer of v is invoked only later, and no write of v (nor a cas
to v) is left that is not yet in the order, then v cannot be overwritten now.

List, horizon. What was appended stays. If no read to come holds the item of an unknown append, no read at all
can follow it, only appends: leave it out.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from tests.linearizability.history import Operation


class Forgotten:
    """The state of an object whose value no operation asks for any more."""

    def __repr__(self) -> str:
        return "a value that no later operation names"


FORGOTTEN = Forgotten()


class Foresight(Protocol):
    """What the whole history of a key tells beforehand."""

    any_change: float

    def horizon(self, operation: Operation) -> float: ...

    def overwrites(self, operation: Operation) -> bool: ...

    def canonical(self, state: object, time: float) -> object: ...

    def pinned(self, state: object, time: float) -> bool: ...


class Model(Protocol):
    """A sequential object. `reads` are the kinds that change no state, ever."""

    reads: frozenset[str]

    def step(self, state: object, operation: Operation) -> tuple[bool, object]:
        """Whether the operation could have answered so in this state, and the state after it."""

    def foresee(self, operations: Sequence[Operation], initial: object) -> Foresight: ...

    def mentions(self, operation: Operation) -> tuple[object, ...]:
        """The values an operation names: what `forget` can be asked to forget."""

    def forget(self, operations: Sequence[Operation], values: frozenset[object]) -> list[Operation]:
        """A history that is linearizable if `operations` are, and does not name `values`."""


class NoForesight:
    """Anything may matter at any time."""

    any_change = math.inf

    def horizon(self, operation: Operation) -> float:
        return math.inf

    def overwrites(self, operation: Operation) -> bool:
        return False

    def canonical(self, state: object, time: float) -> object:
        return state

    def pinned(self, state: object, time: float) -> bool:
        return False


class Register:
    """One value: read, write, compare and set. Values are compared with `==`."""

    reads = frozenset({"read", "mismatch"})

    def step(self, state: object, operation: Operation) -> tuple[bool, object]:
        kind = operation.kind
        if kind == "read":
            return state == operation.value, state
        if kind == "write":
            return True, operation.value
        if kind == "cas":
            return state == operation.expected, operation.value
        if kind == "mismatch":
            return state != operation.expected, state
        raise ValueError(f"a register knows no {kind!r}: use read, write, cas or mismatch")

    def foresee(self, operations: Sequence[Operation], initial: object) -> Foresight:
        return _RegisterForesight(operations, initial)

    def mentions(self, operation: Operation) -> tuple[object, ...]:
        return (operation.value, operation.expected) if operation.kind == "cas" else (operation.value,)

    def forget(self, operations: Sequence[Operation], values: frozenset[object]) -> list[Operation]:
        """A cas that expected a forgotten value becomes a write. Each mismatch goes: it may need one."""
        left = [one for one in operations if one.value not in values and one.kind != "mismatch"]
        return [
            replace(one, kind="write", expected=None) if one.kind == "cas" and one.expected in values else one
            for one in left
        ]


class AppendOnlyList:
    """A list: `append` puts `value` at its end, `read` gives all of it as a tuple. It begins empty."""

    reads = frozenset({"read"})

    def step(self, state: object, operation: Operation) -> tuple[bool, object]:
        items = _items(state)
        if operation.kind == "read":
            return items == operation.value, state
        if operation.kind == "append":
            return True, (*items, operation.value)
        raise ValueError(f"a list knows no {operation.kind!r}: use read or append")

    def foresee(self, operations: Sequence[Operation], initial: object) -> Foresight:
        return _ListForesight(operations)

    def mentions(self, operation: Operation) -> tuple[object, ...]:
        return (operation.value,) if operation.kind == "append" else ()

    def forget(self, operations: Sequence[Operation], values: frozenset[object]) -> list[Operation]:
        """Forgotten items go from what was read, too."""
        appends = [one for one in operations if one.kind == "append" and one.value not in values]
        reads = [one for one in operations if one.kind == "read" and isinstance(one.value, tuple)]
        return appends + [
            replace(one, value=tuple(item for item in _items(one.value) if item not in values))
            for one in reads
        ]


def _items(state: object) -> tuple[object, ...]:
    return state if isinstance(state, tuple) else ()


class _ListForesight(NoForesight):
    any_change = -math.inf

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._horizon: dict[object, float] = {}
        for one in operations:
            if one.kind == "read" and one.returned is not None:
                for item in _items(one.value):
                    _raise_to(self._horizon, item, one.returned)

    def horizon(self, operation: Operation) -> float:
        return self._horizon.get(operation.value, -math.inf)


class _RegisterForesight:
    def __init__(self, operations: Sequence[Operation], initial: object) -> None:
        self.any_change = -math.inf
        self._sources = Counter([initial])
        self._last_source: dict[object, float] = {}
        self._last_needed: dict[object, float] = {}
        self._horizon: dict[object, float] = {}
        for operation in operations:
            self._note(operation)
        self._reach_through_unknown([one for one in operations if one.kind == "cas" and one.returned is None])

    def _note(self, operation: Operation) -> None:
        returned = math.inf if operation.returned is None else operation.returned
        if operation.kind in ("write", "cas"):
            self._sources[operation.value] += 1
            _raise_to(self._last_source, operation.value, returned)
        if operation.returned is None:
            return
        if operation.kind in ("read", "cas"):
            seen = operation.value if operation.kind == "read" else operation.expected
            _raise_to(self._last_needed, seen, operation.invoked)
            _raise_to(self._horizon, seen, returned)
        elif operation.kind == "mismatch":
            _raise_to(self._horizon, operation.expected, returned)
            self.any_change = max(self.any_change, returned)

    def _reach_through_unknown(self, chain: list[Operation]) -> None:
        grown = True
        while grown:
            grown = False
            for operation in chain:
                horizon = max(self.any_change, self.horizon(operation))
                if horizon > self._horizon.get(operation.expected, -math.inf):
                    self._horizon[operation.expected] = horizon
                    grown = True

    def horizon(self, operation: Operation) -> float:
        return self._horizon.get(operation.value, -math.inf)

    def overwrites(self, operation: Operation) -> bool:
        return operation.kind == "write"

    def canonical(self, state: object, time: float) -> object:
        return state if self._horizon.get(state, -math.inf) >= time else FORGOTTEN

    def pinned(self, state: object, time: float) -> bool:
        if self._last_needed.get(state, -math.inf) <= time:
            return False
        return self._sources[state] == 1 or self._last_source.get(state, -math.inf) < time


def _raise_to(times: dict[object, float], value: object, time: float) -> None:
    times[value] = max(time, times.get(value, -math.inf))
