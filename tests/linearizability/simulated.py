"""Histories that are linearizable by construction: clients with random delays use one real object per key.

Each operation takes effect at one instant between its invocation and its return, and answers what the object
answered then. Of the operations of unknown outcome half never take effect, some take effect in time, some
long after the client gave up.
"""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from tests.linearizability.history import Operation


@dataclass(frozen=True)
class Load:
    """`values` is how many different ones are written; 0: no value is written twice."""

    operations: int
    clients: int = 5
    keys: int = 1
    unknown: float = 0.1
    values: int = 0


def simulated(seed: int, load: Load) -> list[Operation]:
    """What the clients recorded."""
    return _World(random.Random(seed), load).run()


class _World:
    def __init__(self, draw: random.Random, load: Load) -> None:
        self._draw = draw
        self._load = load
        self._registers: dict[str, object] = {}
        self._history: list[Operation] = []
        self._fresh = count(1)
        self._sequence = count()
        self._now = 0.0
        self._events: list[tuple[float, int, Iterator[float]]] = []

    def run(self) -> list[Operation]:
        share, rest = divmod(self._load.operations, self._load.clients)
        for process in range(self._load.clients):
            self._go_on(self._draw.random(), self._client(process, share + (process < rest)))
        while self._events:
            now, _, task = heapq.heappop(self._events)
            self._now = now
            delay = next(task, None)
            if delay is not None:
                self._go_on(now + delay, task)
        return self._history

    def _go_on(self, at: float, task: Iterator[float]) -> None:
        heapq.heappush(self._events, (at, next(self._sequence), task))

    def _client(self, process: int, operations: int) -> Iterator[float]:
        """Yields how long it waits."""
        for _ in range(operations):
            operation = self._invocation(process)
            if self._draw.random() < self._load.unknown:
                self._history.append(operation)
                if self._draw.random() < 0.5:
                    late = self._draw.choice([0.5, 5.0, 50.0])
                    self._go_on(self._now + self._draw.expovariate(1 / late), self._effect(operation))
                yield 1.0
            else:
                yield self._draw.expovariate(1.0)
                answer = self._applied(operation)
                yield self._draw.expovariate(1.0)
                self._history.append(replace(answer, returned=self._now))
            yield self._draw.expovariate(5.0)

    def _effect(self, operation: Operation) -> Iterator[float]:
        self._applied(operation)
        yield from ()

    def _invocation(self, process: int) -> Operation:
        draw, load = self._draw, self._load
        key = f"k{draw.randrange(load.keys)}"
        kind = draw.choices(["read", "write", "cas"], [5, 3, 2])[0]
        value = None if kind == "read" else draw.randrange(load.values) if load.values else next(self._fresh)
        guess = self._registers.get(key) if draw.random() < 0.8 else 0
        expected = guess if kind == "cas" else None
        return Operation(process, key, kind, value, expected=expected, invoked=self._now, returned=None)

    def _applied(self, operation: Operation) -> Operation:
        """What the register makes of it: the operation as its client would record it."""
        held = self._registers.get(operation.key)
        if operation.kind == "read":
            return replace(operation, value=held)
        if operation.kind == "cas" and held != operation.expected:
            return replace(operation, kind="mismatch", value=None)
        self._registers[operation.key] = operation.value
        return operation
