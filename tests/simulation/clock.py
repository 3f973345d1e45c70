"""Virtual time: one for the world, and a clock for each machine that runs at its own rate and may jump.

A monotonic clock never goes back, so jumps go forward only. The engine reads the time through a global of its
module; while a cluster works, that global is the clock of the machine whose step it is.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pysyncobj.syncobj


class MachineClock:
    """One machine's monotonic clock over the world's time."""

    def __init__(self, world: Callable[[], float], rate: float = 1.0) -> None:
        self._world, self._rate, self._ahead = world, rate, 0.0

    def __call__(self) -> float:
        return self._world() * self._rate + self._ahead

    def world_seconds(self, seconds: float) -> float:
        """How long the world takes until this clock has gone on by `seconds`."""
        return seconds / self._rate

    def jump(self, seconds: float) -> None:
        """Go forward at once."""
        self._ahead += seconds


@contextmanager
def engine_in_virtual_time(clock: Callable[[], float], seed: int) -> Iterator[None]:
    """Let the engine read `clock`, and draw its election timeouts from `seed`."""
    module, state = pysyncobj.syncobj, random.getstate()
    original = module.monotonicTime
    module.monotonicTime = clock
    random.seed(seed)
    try:
        yield
    finally:
        module.monotonicTime = original
        random.setstate(state)
