"""Harms a cluster by a seeded plan, and requires that it recovers.

The plan goes through all faults in random order, again and again. One step in five adds a second fault on the
coordinators while the first lasts, and most changes of members meet one. After each step the nemesis waits,
with a deadline, until all coordinators are ready and a write that began after the healing was acknowledged:
no progress is a finding like a lost write.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.support.faults import FAULTS, ON_COORDINATORS, ON_MEMBERS
from tests.support.linked import READY_TIMEOUT, Cluster
from tests.support.poll import until

_SECOND_FAULT: Final = 0.2
_FAULT_IN_A_CHANGE: Final = 0.6
TWO_AT_ONCE: Final = "two at once"


@dataclass(frozen=True, slots=True)
class Step:
    """Faults that are on at once, for `hold` seconds, and the seconds of rest after they are healed."""

    faults: tuple[str, ...]
    hold: float
    rest: float


@dataclass(frozen=True, slots=True)
class Harm:
    """A step as it was carried out; times are those of the history."""

    kind: str
    what: str
    began: float
    healed: float
    recovered: float


def plan(seed: int, *, longest_hold: float = 3.0, longest_rest: float = 1.0) -> Iterator[Step]:
    """The same steps for the same seed, without end."""
    rng = random.Random(f"{seed}/plan")
    while True:
        for fault in rng.sample(sorted(FAULTS), len(FAULTS)):
            second = rng.choice(sorted(set(ON_COORDINATORS) - {fault}))
            chance = _FAULT_IN_A_CHANGE if fault in ON_MEMBERS else _SECOND_FAULT
            faults = (fault, second) if rng.random() < chance else (fault,)
            yield Step(faults, rng.uniform(0.5, longest_hold), rng.uniform(0.1, longest_rest))


@dataclass
class Nemesis:
    """Carries a plan out. `acknowledged`: when the last write was, on `clock`."""

    cluster: Cluster
    seed: int
    acknowledged: Callable[[], float]
    progress: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    harms: list[Harm] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def run(self, seconds: float) -> None:
        """Begin no step after so many seconds; the last one is healed before this returns."""
        over = self.clock() + seconds
        rng = random.Random(f"{self.seed}/nemesis")
        for step in plan(self.seed):
            if self.clock() >= over or self.complaints:
                return
            await self._carry_out(step, rng)

    async def _carry_out(self, step: Step, rng: random.Random) -> None:
        kind = step.faults[0] if len(step.faults) == 1 else TWO_AT_ONCE
        what = ""
        began = self.clock()
        healed = None
        try:
            async with contextlib.AsyncExitStack() as faults:
                for name in step.faults:
                    hit = await faults.enter_async_context(FAULTS[name](self.cluster, rng))
                    what += f"{' + ' if what else ''}{name} ({hit})"
                self.progress(what)
                await asyncio.sleep(step.hold)
            self.cluster.heal()
            healed = self.clock()
            await until(
                lambda: self.acknowledged() > healed, timeout=READY_TIMEOUT, what="a write acknowledged"
            )
            recovered = self.clock()
            await self.cluster.all_ready()
        except AssertionError as error:
            recovered = self.clock()
            self.complaints.append(f"no recovery after {what}: {error}")
        finally:
            self.cluster.heal()
        self.harms.append(Harm(kind, what, began, healed or recovered, recovered))
        await asyncio.sleep(step.rest)

    def _written_since(self, time: float) -> bool:
        return self.acknowledged() > time
