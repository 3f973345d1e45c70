"""What a compiled program does, as data for people: `varpulis explain`.

Streams in the order of the program, each with what it takes, the stages that an event passes, whom it feeds,
what it keeps, and its ways out. Parameters of connectors are shown without secrets.
"""

import re
from collections import Counter
from dataclasses import dataclass

from vpl.engine import Program
from vpl.plan import Deliver, Emit, Stage, StreamPlan, masked


@dataclass(frozen=True, slots=True)
class StreamExplained:
    """One stream. `keeps`: its operations that have a state; `feeds`: the streams that take what it makes."""

    name: str
    takes: str
    stages: tuple[str, ...]
    feeds: tuple[str, ...]
    keeps: tuple[str, ...]
    puts_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A program. `consumes`: event types from outside; `sources`: the subscriptions that it opens."""

    consumes: tuple[str, ...]
    emits: tuple[str, ...]
    sources: tuple[str, ...]
    streams: tuple[StreamExplained, ...]


def explained(program: Program) -> Explained:
    """What the program does."""
    streams = program.streams
    fed: dict[str, list[str]] = {}
    for stream in streams:
        for event_type in stream.inputs:
            fed.setdefault(event_type, []).append(stream.name)
    sources = (f"{s.event_type} from {s.connector} ({masked(s.params)})" for s in program.sources)
    return Explained(
        consumes=tuple(sorted(program.consumes)),
        emits=tuple(sorted(program.emits)),
        sources=tuple(sources),
        streams=tuple(
            StreamExplained(
                name=stream.name,
                takes=", ".join(stream.inputs),
                stages=tuple(_words(stage) for stage in stream.stages),
                feeds=tuple(fed.get(stream.name, ())),
                keeps=tuple(program.keeps(stream.name)),
                puts_out=tuple(_ways_out(program, stream)),
            )
            for stream in streams
        ),
    )


def _words(stage: Stage) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(stage).__name__).lower()


def _ways_out(program: Program, stream: StreamPlan) -> list[str]:
    ways: Counter[str] = Counter()
    for stage in stream.stages:
        if isinstance(stage, Emit):
            ways["emit"] += 1
        elif isinstance(stage, Deliver):
            sink = program.sinks[stage.sink]
            shown = masked({name: value for name, value in sink.params.items() if name != "connector"})
            ways[f"{sink.kind} {sink.connector or ''} {f'({shown})' if shown else ''}".strip()] += 1
    return [f"{way} x {count}" if count > 1 else way for way, count in ways.items()]
