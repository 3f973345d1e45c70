"""How many workers the cluster wants: advice for whoever can start and stop them. Pure.

`need` looks at one moment. Pipelines take slots, and load takes cores; both are to stay between `low` and
`high` of what the ready workers have:

    more workers    when slots or load are above `high`: as many as bring both down to it
    fewer workers   when they would still be at `low` or below on fewer, and nothing waits
    hold            in between, so that the same load never asks for more and then for fewer

A cordoned worker counts as none: it takes nothing new. A pipeline that waits, also for a place off a worker
that is drained, counts as a slot wanted. One that waits although there is room waits for something
else (its constraints, a worker that refused it), which any number of workers may not cure: that is said and
nothing more is asked for.

`Advisor` turns moments into advice: a new one is given when every look of the last `up_after` (for fewer
workers `down_after`) seconds agrees on the direction, and then the most modest number among them. Looks that
disagree leave the advice as it is.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.state.model import State
from coordinator.state.records import Phase
from coordinator.state.strategy import takes_new

UP: Final = "scale_up"
DOWN: Final = "scale_down"
HOLD: Final = "hold"
ADVICE: Final = (UP, DOWN, HOLD)
MAX_LOOKS: Final = 4_000
_NOT_YET: Final = "observing since this node leads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When to ask for more or fewer. Raises `ValueError` when they contradict each other."""

    high: float = 0.8
    """Part of slots, or of cores, above which more workers are wanted; up to 1. The rest is what a worker's
    death may need elsewhere: with n workers, below (n - 1) / n."""
    low: float = 0.4
    """Part that fewer workers may reach; well below `high`, or a small change of load turns the advice."""
    up_after: float = 30.0
    """Seconds that more must be wanted. Shorter reacts to bursts, longer lets pipelines wait; 0..3600."""
    down_after: float = 300.0
    """Seconds that fewer must be wanted: longer than a pause in the load; 0..3600."""
    min_workers: int = 1
    """Never advise fewer."""
    max_workers: int = 10_000
    """Never advise more."""

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= 1:
            raise ValueError(f"low is {self.low} and high {self.high}: give 0 < low < high <= 1")
        if not (0 <= self.up_after <= 3600 and 0 <= self.down_after <= 3600):
            raise ValueError(
                f"up_after is {self.up_after} and down_after {self.down_after}: give 0 to 3600 seconds"
            )
        if not 0 <= self.min_workers <= self.max_workers:
            raise ValueError(
                f"min_workers is {self.min_workers} and max_workers {self.max_workers}: "
                "give 0 <= min_workers <= max_workers"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One look. `load`: cores' worth of work, as the sum of the workers' loads (0 to 1 each)."""

    advice: str
    wanted: int
    reason: str
    ready: int
    capacity: int
    assigned: int
    pending: int
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What is advised since `since` (ms since 1970)."""

    advice: str
    wanted: int
    reason: str
    since: int


def need(state: State, loads: Mapping[str, float], limits: Thresholds) -> Need:
    """What the cluster needs now. `loads`: of the workers that tell, 0 to 1."""
    slots = {w.id: w.max_pipelines for w in state.workers.values() if takes_new(w)}
    ready, capacity = len(slots), sum(slots.values())
    assigned, pending, waiting = 0, 0, ""
    moving = {(move.group, move.pipeline): move.to_worker for move in state.migrations.values()}
    drained = {drain.worker_id: drain.reason for drain in state.drains.values()}
    for group, pipeline, placement in state.each_placement():
        if moving.get((group, pipeline), placement.worker_id) in slots:
            assigned += 1
        elif placement.phase is Phase.PENDING or placement.worker_id in drained:
            pending += 1
            why = placement.reason or drained.get(placement.worker_id or "") or "not placed yet"
            waiting = waiting or f"{group}/{pipeline}: {why}"
    load = sum(loads.get(worker, 0.0) for worker in slots)
    known = [worker.max_pipelines for worker in state.workers.values() if worker.max_pipelines]
    size = capacity / ready if capacity else (sum(known) / len(known) if known else 1.0)

    def workers(part: float) -> tuple[int, int]:
        return _whole((assigned + pending) / (size * part)), _whole(load / part)

    by_slots, by_load = workers(limits.high)
    enough = min(max(by_slots, by_load, limits.min_workers), limits.max_workers)
    least = min(max(*workers(limits.low), limits.min_workers), limits.max_workers)
    advice, wanted = HOLD, ready
    if enough > ready:
        advice, wanted = UP, enough
        reason = _why_more(by_slots >= by_load, assigned, pending, capacity, load, ready, waiting)
    elif pending:
        reason = f"{pending} pipelines wait although {capacity - assigned} slots are free: {waiting}"
    elif least < ready:
        advice, wanted = DOWN, least
        reason = f"{assigned} of {capacity} slots and {load:.2f} of {ready} workers' cores are in use"
    else:
        reason = f"{assigned} of {capacity} slots and {load:.2f} of {ready} workers' cores are in use"
    return Need(
        advice=advice,
        wanted=wanted,
        reason=reason,
        ready=ready,
        capacity=capacity,
        assigned=assigned,
        pending=pending,
        load=round(load, 3),
    )


def _whole(workers: float) -> int:
    """Rounded up; what is above a whole number by the error of a float only is that number."""
    return math.ceil(round(workers, 9))


def _why_more(
    slots: bool, assigned: int, pending: int, capacity: int, load: float, ready: int, waiting: str
) -> str:
    if pending:
        return f"{pending} pipelines wait, {assigned} of {capacity} slots are taken: {waiting}"
    if slots and assigned:
        return f"{assigned} of {capacity} slots are taken"
    if load:
        return f"{load:.2f} of {ready} workers' cores are in use"
    return f"{ready} workers are ready, fewer than the least wanted"


class Advisor:
    """Looks in, advice out; `at` are ms since 1970, given by the caller."""

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._looks: deque[tuple[int, Need]] = deque(maxlen=MAX_LOOKS)
        self.advice: Advice | None = None

    def forget(self) -> None:
        """Somebody else advises now."""
        self._looks.clear()
        self.advice = None

    def look(self, now: Need, at: int) -> bool:
        """Take one look into account; whether the advice or its number changed."""
        self._looks.append((at, now))
        if self.advice is None:
            self.advice = Advice(advice=HOLD, wanted=now.ready, reason=_NOT_YET, since=at)
            return False
        agreed = self._agreed(now.advice, at)
        if not agreed:
            return False
        modest = {UP: min, DOWN: max}.get(now.advice)
        wanted = modest(each.wanted for each in agreed) if modest is not None else now.wanted
        before = self.advice
        same = (before.advice, before.wanted) == (now.advice, wanted)
        since = before.since if before.advice == now.advice else at
        self.advice = Advice(advice=now.advice, wanted=wanted, reason=now.reason, since=since)
        return not same and (before.advice, now.advice) != (HOLD, HOLD)

    def _agreed(self, advice: str, at: int) -> list[Need]:
        """The looks of the window, when they span it and agree; else none."""
        window = 1000 * (self._limits.down_after if advice == DOWN else self._limits.up_after)
        found = []
        for when, look in reversed(self._looks):
            if look.advice != advice:
                return []
            found.append(look)
            if when <= at - window:
                return found
        return []
