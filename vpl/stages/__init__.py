"""The kinds of stages: for each class of plan who writes its code, and what it remembers.

`KINDS` is the one list of them. To add a stage: a class in `vpl.plan`, a module here with its `Kind`, a line
in `KINDS`, and an operation that makes it (`vpl.operations`).
"""

from collections.abc import Iterator, Mapping

from vpl.keeper import KeeperPlan
from vpl.plan import (
    Aggregate,
    Deliver,
    Distinct,
    Emit,
    Filter,
    Join,
    Limit,
    Plan,
    Project,
    Sequence,
    Stage,
    StreamPlan,
    Timer,
)
from vpl.stages import passing, sequence, sources, sparse, window
from vpl.stages.kind import Kind

KINDS: Mapping[type, Kind] = {
    Filter: passing.FILTER,
    Project: passing.PROJECT,
    Emit: passing.EMIT,
    Deliver: passing.DELIVER,
    Aggregate: window.KIND,
    Limit: sparse.LIMIT,
    Distinct: sparse.DISTINCT,
    Timer: sources.TIMER,
    Join: sources.JOIN,
    Sequence: sequence.KIND,
}


def kind_of(stage: Stage) -> Kind:
    return KINDS[type(stage)]


def keeper_plans(plan: Plan) -> list[KeeperPlan]:
    """Every stage of the program that has a state, by streams, in order."""
    return [found for stream in plan.streams for found in kept(stream)]


def kept(stream: StreamPlan) -> Iterator[KeeperPlan]:
    """The stages of a stream that have a state, in order."""
    seen: dict[str, int] = {}
    for stage in stream.stages:
        kind = kind_of(stage)
        if kind.keep is not None:
            seen[kind.operation] = seen.get(kind.operation, 0) + 1
            yield KeeperPlan(stream.name, kind.operation, seen[kind.operation], stage)


def entry(stream: StreamPlan, event_type: str) -> str:
    """The generated function that takes the events of this type for this stream."""
    if stream.stages and kind_of(stream.stages[0]).by_input:
        return f"on{stream.inputs.index(event_type) + 1}_{stream.name}"
    return f"on_{stream.name}"
