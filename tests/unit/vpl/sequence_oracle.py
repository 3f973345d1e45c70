"""The slow meaning of a sequence: all runs in a list, each asked at each event, whatever it waits for.

A `Sequence` says in Python what `text` says in the language. No timer runs; the host tells no clock.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.unit.vpl.stream_oracle import Event, Result, key_of
from vpl.values import MISMATCH

Fields = dict[str, Any]
Condition = Callable[[Fields, dict[str, Any]], bool]
"""Of the event, and what the run holds by name."""


@dataclass(frozen=True)
class Part:
    event_type: str
    name: str
    condition: Condition
    many: bool = False


@dataclass(frozen=True)
class Negation:
    event_type: str
    condition: Condition
    first: int
    last: int


@dataclass(frozen=True)
class Sequence:
    text: str
    groups: tuple[tuple[tuple[Part, ...], bool], ...]
    negations: tuple[Negation, ...]
    within: int
    keyed: bool


@dataclass
class Run:
    first: int
    key: Any
    position: int
    due: int
    arrived: int = 0
    held: dict[str, Any] = field(default_factory=dict)


def matches(sequence: Sequence, events: list[Event]) -> list[Result]:
    return _Player(sequence).play(events)


class _Player:
    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.runs: list[Run] = []
        self.results: list[Result] = []
        self.arrivals = 0
        end = len(sequence.groups)
        self.ripens = sequence.groups[-1][0][-1].many or any(n.last == end for n in sequence.negations)
        self.clock = 0

    def play(self, events: list[Event]) -> list[Result]:
        types = {part.event_type for parts, _ in self.sequence.groups for part in parts}
        types |= {negation.event_type for negation in self.sequence.negations}
        for event_type, fields, ts in events:
            if event_type in types:
                self.event(event_type, fields, ts)
        return self.results

    def event(self, event_type: str, fields: Fields, ts: int) -> None:
        sequence, end = self.sequence, len(self.sequence.groups)
        ripe = [run for run in self.runs if run.position == end and run.first + sequence.within < ts]
        for run in sorted(ripe, key=lambda run: (run.first, run.arrived)):
            self.complete(run, run.first + sequence.within)
        key: Any = None
        if sequence.keyed:
            try:
                key = key_of(fields)
            except (KeyError, TypeError):
                return
        for negation in sequence.negations:
            if negation.event_type == event_type:
                for run in self.those(key, ts, negation.first, negation.last):
                    if fits(negation.condition, fields, run.held):
                        self.runs.remove(run)
        extended = False
        for position in range(end, -1, -1):
            if position < end:
                self.take(position, event_type, fields, ts, key)
            if position > 0:
                part = sequence.groups[position - 1][0][0]
                if part.many and part.event_type == event_type:
                    for run in self.those(key, ts, position, position):
                        before = {name: held for name, held in run.held.items() if name != part.name}
                        if fits(part.condition, fields, before):
                            run.held[part.name].append(fields)
                            extended = extended or position == 1
        self.open(event_type, fields, ts, key, extended=extended)

    def those(self, key: Any, ts: int, first: int, last: int) -> list[Run]:
        found = [
            run
            for run in self.runs
            if run.key == key and first <= run.position <= last and ts - run.first <= self.sequence.within
        ]
        return sorted(found, key=lambda run: run.arrived)

    def take(self, position: int, event_type: str, fields: Fields, ts: int, key: Any) -> None:
        parts, every = self.sequence.groups[position]
        taken: list[Run] = []
        for part in parts:
            if part.event_type != event_type:
                continue
            for run in self.those(key, ts, position, position):
                others = {other.name for other in parts}
                before = {name: held for name, held in run.held.items() if name not in others}
                if run in taken or part.name in run.held or (position == 0 and not run.held):
                    continue
                if fits(part.condition, fields, before):
                    taken.append(run)
                    run.held[part.name] = [fields] if part.many else fields
                    if not every or all(other.name in run.held for other in parts):
                        self.go_on(run, ts)

    def go_on(self, run: Run, ts: int) -> None:
        run.position += 1
        self.arrivals += 1
        run.arrived = self.arrivals
        if run.position == len(self.sequence.groups) and not self.ripens:
            self.complete(run, ts)

    def open(self, event_type: str, fields: Fields, ts: int, key: Any, *, extended: bool) -> None:
        parts, every = self.sequence.groups[0]
        for part in parts:
            if part.event_type == event_type and not extended and fits(part.condition, fields, {}):
                self.forget(ts)
                run = Run(ts, key, 0 if every and len(parts) > 1 else 1, self.clock + self.sequence.within)
                run.held[part.name] = [fields] if part.many else fields
                self.arrivals += 1
                run.arrived = self.arrivals
                self.runs.append(run)
                return

    def forget(self, ts: int) -> None:
        """Where the host tells no clock, the latest event that begins a match stands for it."""
        self.clock = max(self.clock, ts)
        while self.runs and self.runs[0].due < self.clock:
            if self.runs[0].position == len(self.sequence.groups):
                break
            del self.runs[0]

    def complete(self, run: Run, ts: int) -> None:
        self.runs.remove(run)
        order = [part.name for parts, _ in self.sequence.groups for part in parts]
        self.results.append(({name: run.held[name] for name in order if name in run.held}, ts))


def fits(condition: Condition, fields: Fields, held: dict[str, Any]) -> bool:
    try:
        return condition(fields, held)
    except MISMATCH:
        return False
