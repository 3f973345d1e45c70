"""What placing costs: choices by each strategy, commands of the state, and the plan of a rebalance.

All of it is pure and in this process, so the figures are the processor's time alone. Each is the best of
`rounds`; `growth` runs the same with twice the workers and twice the pipelines, where n log n costs about 2.1
times as much and n squared 4.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from coordinator.state.apply import apply
from coordinator.state.commands import Command, CreateGroup, Place, RegisterWorker
from coordinator.state.constraints import Wants
from coordinator.state.model import State
from coordinator.state.rebalance import plan
from coordinator.state.records import Phase
from coordinator.state.results import Placed
from coordinator.state.room import Room
from proto_schemas.partition import Owners
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec

STRATEGIES: Final = ("least_loaded", "round_robin", "spread", "spread:zone", "binpack")
TARGET: Final = 5.0
"""Seconds for all choices: a killed worker's thousand pipelines are to run elsewhere within five."""
GROWTH: Final = 3.0
"""Times as long for twice as much: between n log n and n squared."""


def run(workers: int = 1_000, pipelines: int = 10_000, group: int = 100, rounds: int = 3) -> dict[str, Any]:
    """Seconds for choosing places for all `pipelines`, in groups of `group`, on empty workers.

    Args:
        workers: each takes a hundredth more than its part; a fifth of them is in each of five zones.
    """
    sizes = [(workers, pipelines), (2 * workers, 2 * pipelines)]

    def measured(what: Callable[..., float], *leading: Any) -> dict[str, Any]:
        one, two = (_best(rounds, partial(what, *leading, *size, group)) for size in sizes)
        return _figure(one, two, pipelines)

    return {
        "choices": {name: measured(_choose, name, False) for name in STRATEGIES},
        "choices_with_constraints": measured(_choose, "least_loaded", True),
        "place_commands": measured(_commands),
        "rebalance_plan": measured(_plan),
        "owner_of_a_key_us": {
            f"{count} instances": round(_best(rounds, partial(_owners, count)) * 1e6, 2)
            for count in (4, 16, 256)
        },
    }


def _figure(one: float, two: float, pipelines: int) -> dict[str, Any]:
    growth = two / one
    return {
        "seconds": {"value": round(one, 3), "target": f"<= {TARGET:g}", "met": one <= TARGET},
        "us_each": round(one / pipelines * 1e6, 1),
        "growth": {"value": round(growth, 2), "target": f"<= {GROWTH:g}", "met": growth <= GROWTH},
    }


def _best(rounds: int, measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(rounds))


def _state(workers: int, pipelines: int) -> State:
    state = State()
    for number in range(workers):
        _say(
            state,
            RegisterWorker(
                by="bench",
                worker_id=f"w-{number:05}",
                incarnation="i",
                address="-",
                cpu_cores=4,
                max_pipelines=-(-pipelines * 101 // (workers * 100)) + 1,
                labels={"zone": f"z-{number % 5}"},
            ),
        )
    return state


def _say(state: State, command: Command) -> Any:
    return apply(state, command).result


def _choose(strategy: str, zones: bool, workers: int, pipelines: int, group: int) -> float:
    state = _state(workers, pipelines)
    wants = [Wants()] * 5
    if zones:
        wants = [
            Wants(constraints=(Constraint(label="zone", op="=", value=f"z-{number}"),)) for number in range(5)
        ]
    started = time.process_time()
    room = Room(state, strategy=strategy)
    for number in range(pipelines):
        name = f"g-{number // group}"
        worker = room.choose(name, wants=wants[number % 5])
        if worker is None:
            raise RuntimeError(f"no place for pipeline {number}: {room.why_none()}")
        room.take(worker, name)
    return time.process_time() - started


def _placed(workers: int, pipelines: int, group: int, *, on: int) -> tuple[State, float]:
    """A state with everything placed on the first `on` workers in turn, and the seconds that took."""
    state = _state(workers, pipelines * workers // on)
    for number in range(pipelines // group):
        specs = [PipelineSpec(name=f"p-{each}", source="-") for each in range(group)]
        _say(state, CreateGroup(by="bench", spec=GroupSpec(name=f"g-{number}", pipelines=specs), consumes={}))
    started = time.process_time()
    for number in range(pipelines):
        answer = _say(
            state,
            Place(
                by="bench",
                group=f"g-{number // group}",
                pipeline=f"p-{number % group}",
                epoch=0,
                worker_id=f"w-{number % on:05}",
            ),
        )
        if not isinstance(answer, Placed):
            raise RuntimeError(f"pipeline {number} was not placed: {answer}")
    return state, time.process_time() - started


def _commands(workers: int, pipelines: int, group: int) -> float:
    return _placed(workers, pipelines, group, on=workers)[1]


def _plan(workers: int, pipelines: int, group: int) -> float:
    """Half of the workers have just joined."""
    state, _ = _placed(workers, pipelines, group, on=workers // 2)
    for placements in state.placements.values():
        for name, placement in placements.items():
            placements[name] = replace(placement, phase=Phase.RUNNING, pipeline_id="-")
    started = time.process_time()
    moves = plan(state, {})
    taken = time.process_time() - started
    if not moves:
        raise RuntimeError("a cluster half of which is empty has nothing to move")
    return taken


def _owners(count: int, keys: int = 5_000) -> float:
    """Seconds for one key that was not seen before."""
    table = Owners(count)
    started = time.process_time()
    for number in range(keys):
        table.of(f"customer-{number}")
    return (time.process_time() - started) / keys
