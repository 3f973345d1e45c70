"""A leader as a queue: one server, which takes what comes in the order in which it comes.

That is what an event loop is. Its work is heartbeats (each worker's own beat, at a phase of its own, seen at
the next tick, as the measured fleet sends them), being woken for what comes while it has nothing to do, the
passes of the control loop (a quarter of a second apart, and never more than a fifth of the loop), the two
questions to a worker whose heartbeat is late, and the placements after a death, `IN_FLIGHT` at a time.
Service times are measured costs; arrivals and deaths come from a seeded generator; nothing looks at a clock.

It leaves out: followers, nats-server and the network (their times are constants), placements that are
refused, and the memory. What it is for is the shape: where the server saturates, and what waiting does to
detection and placement before that.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.cells.costs import Costs
from benchmarks.control.fleet import TICK
from benchmarks.raft.figures import percentile
from coordinator.controllers.liveness import ASK_AGAIN
from coordinator.controllers.loop import BREATH, INTERVAL, REST_PER_PASS
from coordinator.heartbeats import SUSPECT_INTERVALS

IN_FLIGHT: Final = 256
"""Placements under way at a time, as the control loop has them."""
ASK: Final = 0.0005
"""Seconds for a question and its answer, or for a commit, that are not the leader's CPU."""
COMMITS: Final = 3
"""Of a pipeline that is placed anew: displaced, placed, runs."""
GIVE_UP: Final = 60.0
"""Seconds simulated after the last death."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cluster. `interval`: seconds between a worker's heartbeats; `pipelines`: of each worker."""

    workers: int
    interval: float
    pipelines: float = 1.0


@dataclass(slots=True)
class Outcome:
    """`utilisation`: the part of the time in which the leader worked; the rest in seconds. `answer_p99`: from
    a heartbeat to its answer. `detected`, `placed`: for each death, the latter from its detection on;
    `unplaced`: deaths that were not dealt with in time."""

    utilisation: float = 0.0
    answer_p99: float = 0.0
    detected: list[float] = field(default_factory=list)
    placed: list[float] = field(default_factory=list)
    unplaced: int = 0


class _Death:
    """A worker that stops at a time."""

    def __init__(self, at: float, last_beat: float, pipelines: int) -> None:
        self.at, self.last_beat, self.left = at, last_beat, pipelines
        self.under_way = 0
        self.asked = False
        self.detected: float | None = None


def simulate(
    cell: Cell, costs: Costs, *, seed: int, seconds: float, deaths: int, pipelines_of_dead: int
) -> Outcome:
    """`seconds` of rest, in which utilisation is taken; then `deaths`, one after another, well apart."""
    return _Run(cell, costs, random.Random(seed), seconds, deaths, pipelines_of_dead).go()


class _Run:
    def __init__(
        self, cell: Cell, costs: Costs, rng: random.Random, seconds: float, deaths: int, held: int
    ) -> None:
        self._cell, self._costs = cell, costs
        self._phases = sorted(rng.uniform(0, cell.interval) for _ in range(cell.workers))
        self._beat = costs.beat + costs.beat_pipeline * cell.pipelines
        self._rest_until = seconds
        apart = SUSPECT_INTERVALS * cell.interval + 10
        self._deaths = deque(
            self._death(rng, seconds + apart * number + rng.uniform(0, cell.interval), held)
            for number in range(deaths)
        )
        self._end = seconds + apart * deaths + (GIVE_UP if deaths else 0)
        self._free = self._busy = 0.0
        self._read_at = -1.0
        self._answers: list[float] = []
        self._outcome = Outcome()
        self._numbers = 0
        self._events: list[tuple[float, int, str, _Death | None]] = []
        self._dying: list[_Death] = []

    def _death(self, rng: random.Random, at: float, held: int) -> _Death:
        phase = rng.choice(self._phases)
        periods = (at - phase) // self._cell.interval
        return _Death(at, phase + periods * self._cell.interval, held)

    def go(self) -> Outcome:
        """Until all deaths are dealt with, or the end."""
        outcome, dead = self._outcome, len(self._deaths)
        self._at(0.0, "pass")
        beats = self._beats()
        beat = next(beats)
        while len(outcome.placed) < dead or min(beat, self._events[0][0]) < self._rest_until:
            if min(beat, self._events[0][0]) > self._end:
                break
            if beat <= self._events[0][0]:
                self._answers.append(self._serve(beat, self._woken(beat) + self._beat) - beat)
                beat = next(beats)
            else:
                at, _, kind, death = heapq.heappop(self._events)
                self._do(at, kind, death)
        outcome.utilisation = min(self._busy / self._rest_until, 1.0) + self._costs.idle
        outcome.answer_p99 = percentile(self._answers, 0.99)
        outcome.unplaced = dead - len(outcome.placed)
        return outcome

    def _beats(self) -> Iterator[float]:
        """The times of all heartbeats; that of one worker fewer is not worth telling apart."""
        period = 0.0
        while True:
            for phase in self._phases:
                yield math.ceil((period + phase) / TICK) * TICK
            period += self._cell.interval

    def _woken(self, at: float) -> float:
        """What it costs to be told that something has come: nothing while it works anyway."""
        woken = at > self._read_at and at >= self._free
        self._read_at = at
        return self._costs.batch if woken else 0.0

    def _serve(self, at: float, cost: float) -> float:
        """When work that arrives at a time is done."""
        start = max(at, self._free)
        self._free = start + cost
        if start < self._rest_until:
            self._busy += min(cost, self._rest_until - start)
        return self._free

    def _at(self, at: float, kind: str, death: _Death | None = None) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (at, self._numbers, kind, death))

    def _do(self, at: float, kind: str, death: _Death | None) -> None:
        if kind == "pass":
            self._pass(at)
        elif death is None:
            raise ValueError(f"a defect: {kind} is about a death")
        elif kind == "ask":
            self._at(self._serve(at, self._beat) + ASK + ASK_AGAIN, "ask again", death)
        elif kind == "ask again":
            death.detected = self._serve(at, self._beat) + 2 * ASK
            self._outcome.detected.append(death.detected - death.at)
            for _ in range(min(IN_FLIGHT, death.left)):
                self._at(death.detected + BREATH, "place", death)
                death.left -= 1
                death.under_way += 1
        elif kind == "place":
            self._at(self._serve(at, self._costs.place) + COMMITS * ASK, "placed", death)
        elif kind == "placed":
            self._placed(at, death)

    def _pass(self, at: float) -> None:
        cost = self._costs.pass_worker * self._cell.workers
        done = self._serve(at, cost)
        while self._deaths and self._deaths[0].at <= at:
            self._dying.append(self._deaths.popleft())
        late = SUSPECT_INTERVALS * self._cell.interval
        for death in self._dying:
            if not death.asked and done - death.last_beat > late:
                death.asked = True
                self._at(done, "ask", death)
        busy = any(death.under_way for death in self._dying)
        rest = max(BREATH, REST_PER_PASS * cost)
        self._at(done + (rest if busy else max(INTERVAL, rest)), "pass")

    def _placed(self, at: float, death: _Death) -> None:
        death.under_way -= 1
        if death.left:
            death.left -= 1
            death.under_way += 1
            self._at(at, "place", death)
        elif not death.under_way:
            self._dying.remove(death)
            self._outcome.placed.append(at - (death.detected or at))
