"""What clients did and saw, and when: the evidence a checker judges.

An `Operation` is an interval. It took effect, if at all, at one instant between `invoked` and `returned`.
Three ends are told apart, and the difference is the whole point:

    ok         it took effect, and the result is known
    fail       it surely had no effect, now or later: it is left out of the history
    unknown    nobody knows (a timeout, a lost connection): `returned` is None, and it may take effect at any
               instant after `invoked`, even long after the client gave up, or never

To call an unknown end a failure makes a checker cry wolf; to call a failure unknown makes it blind. A read
whose end is unknown tells nothing and changes nothing, so it is left out too.

A key is an object of its own. The kinds of a register are:

    read       `value` is what was read
    write      `value` is what was written
    cas        `value` was written because the register held `expected`
    mismatch   a cas that was refused because the register did not hold `expected`; it wrote nothing

The order of two operations is known only if one returned before the other was invoked; equal times count as
concurrent, which can hide a fault but never invent one. A `Recorder` lives in one event loop and so sees the
true order of its events: where its clock stands still (a virtual clock often does) it moves on by the
smallest step a float can take, and no order is lost. Histories of several recorders may be joined if they
read one clock.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True)
class Operation:
    """One call of one client. Values must be hashable; times are seconds of any one clock."""

    process: int
    key: str
    kind: str
    value: object
    _: KW_ONLY
    expected: object = None
    invoked: float
    returned: float | None

    def __post_init__(self) -> None:
        if self.returned is not None and self.returned < self.invoked:
            raise ValueError(
                f"operation returned at {self.returned}, before it was invoked at {self.invoked}"
            )


class NotPending(Exception):
    """An operation was ended twice, or never begun. Remedy: end each token once."""


class Recorder:
    """Takes down the operations of the clients in one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._now = -math.inf
        self._tokens = 0
        self._pending: dict[int, Operation] = {}
        self._ended: list[Operation] = []

    def invoke(self, process: int, key: str, kind: str, value: object = None, expected: object = None) -> int:
        """Begin an operation, right before it is sent; the token ends it. A read has no value yet."""
        self._tokens += 1
        self._pending[self._tokens] = Operation(
            process, key, kind, value, expected=expected, invoked=self._tick(), returned=None
        )
        return self._tokens

    def ok(self, token: int, value: object = None) -> None:
        """It took effect. `value` is what a read gave; other kinds keep what they were invoked with."""
        operation = self._end(token)
        if operation.kind == "read":
            operation = replace(operation, value=value)
        self._ended.append(replace(operation, returned=self._tick()))

    def mismatch(self, token: int) -> None:
        """A cas was refused because the register held something else than `expected`."""
        operation = replace(self._end(token), kind="mismatch", value=None)
        self._ended.append(replace(operation, returned=self._tick()))

    def fail(self, token: int) -> None:
        """It surely has no effect, now or later."""
        self._end(token)

    def unknown(self, token: int) -> None:
        """It may take effect at any time from `invoke` on, or never."""
        operation = self._end(token)
        if operation.kind != "read":
            self._ended.append(operation)

    def history(self) -> list[Operation]:
        """All that was recorded, by time of invocation. What is still pending counts as unknown."""
        pending = (operation for operation in self._pending.values() if operation.kind != "read")
        return sorted([*self._ended, *pending], key=lambda operation: operation.invoked)

    def _end(self, token: int) -> Operation:
        try:
            return self._pending.pop(token)
        except KeyError:
            raise NotPending(f"operation {token} was ended before, or never invoked") from None

    def _tick(self) -> float:
        self._now = max(self._clock(), math.nextafter(self._now, math.inf))
        return self._now


def save(operations: Iterable[Operation], path: Path) -> None:
    """Write one JSON object per line. Values must be such that JSON can hold them."""
    with path.open("wb") as file:
        for operation in operations:
            file.write(orjson.dumps(asdict(operation), option=orjson.OPT_APPEND_NEWLINE))


def load(path: Path) -> list[Operation]:
    """Read what `save` wrote. Lists come back as tuples, which can be hashed."""
    return [_operation(orjson.loads(line)) for line in path.read_bytes().splitlines()]


def _operation(fields: dict[str, Any]) -> Operation:
    fields["value"], fields["expected"] = _frozen(fields["value"]), _frozen(fields["expected"])
    return Operation(**fields)


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
