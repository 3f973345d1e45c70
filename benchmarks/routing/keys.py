"""A pipeline with a `partition_key` as two instances on two workers, beside one instance on one worker.

The program keeps a window for each key, and puts each event out. Whoever sends may know the instances, as
pipelines do and the coordinators do for what comes through REST, and send each event to the one that owns
its key (`sorted`); or send to the pipeline, and then every instance reads every event and keeps its own
(`broadcast`). The three take turns, a slice each.

How much faster two are depends on the cores: with fewer than `CORES` the load, the nats-server and the
workers share them, and the ratio of the rates says nothing about workers. It is not judged then. What is
printed beside it is the same ratio by processor time: how many events a core of workers takes, when the
busier of the two has a core to itself.
"""

import os
import statistics
from contextlib import ExitStack
from typing import Any, Final

from benchmarks import stage
from benchmarks.routing.load import Chunk, chunk, rate, verdict, wait_until_up
from proto_schemas.partition import Owners
from proto_schemas.subjects import EXTERNAL, Subjects

RATIO: Final = 1.7
CORES: Final = 6
"""Two workers, the nats-server (which takes more than one), the generator, the listener."""
SOURCE: Final = """
stream Each = Door.where(held_ms > 30000).emit(badge: badge, held_ms: held_ms)
stream Sums = Door.partition_by(badge).window(1h).aggregate(n: count(), most: max(held_ms)).select(n: n)
"""
_SUBJECTS: Final = Subjects()


def measure(events: int, rounds: int) -> dict[str, Any]:
    """`events` of a slice, `rounds` slices each."""
    rates: dict[str, list[float]] = {"one": [], "sorted": [], "broadcast": []}
    capacity: dict[str, list[float]] = {name: [] for name in rates}
    with ExitStack() as stack:
        url = stack.enter_context(stage.nats_server())
        workers = [stack.enter_context(stage.worker(url, name=f"w-{number}")) for number in range(3)]
        _deploy(url, "one", None, "w-0")
        for number in (0, 1):
            _deploy(url, "two", number, f"w-{number + 1}")
        ways = {
            "one": ("one", _to("one"), workers[:1]),
            "sorted": ("two", _sorted("two"), workers[1:]),
            "broadcast": ("two", _to("two"), workers[1:]),
        }
        for group, load, _ in ways.values():
            wait_until_up(url, load, f"bench.keys.{group}")
        for _ in range(rounds):
            for name, (group, load, processes) in ways.items():
                before = [sum(each.cpu_times()[:2]) for each in processes]
                rates[name].append(rate(url, load, f"bench.keys.{group}", events))
                used = [sum(each.cpu_times()[:2]) - was for each, was in zip(processes, before, strict=True)]
                capacity[name].append(events / max(used))
    cores = os.cpu_count() or 1
    return {
        "cores": cores,
        **{f"{name}_events_per_s": round(statistics.median(taken)) for name, taken in rates.items()},
        **{
            f"{name}_to_one": {
                "by_rate": _judged(_ratio(rates[name], rates["one"]), cores, name),
                "by_processor_time": _ratio(capacity[name], capacity["one"]),
            }
            for name in ("sorted", "broadcast")
        },
    }


def _judged(ratio: float, cores: int, name: str) -> dict[str, Any]:
    if name == "sorted" and cores >= CORES:
        return verdict(ratio, RATIO)
    return {"value": ratio, "judged": f"no: {cores} cores" if cores < CORES else "no"}


def _ratio(two: list[float], one: list[float]) -> float:
    return round(statistics.median(ours / theirs for ours, theirs in zip(two, one, strict=True)), 3)


def _to(group: str) -> Chunk:
    return chunk(_SUBJECTS.pipeline(group, EXTERNAL, "p"))


def _sorted(group: str) -> Chunk:
    owners = Owners(2)

    def subject_of(number: int) -> str:
        return _SUBJECTS.pipeline(group, EXTERNAL, f"p-{owners.of(f'b-{number}')}")

    return chunk(subject_of)


def _deploy(url: str, group: str, number: int | None, worker: str) -> None:
    route = {"from_pipeline": "p", "to_pipeline": "x", "event_types": ["Each"]}
    message: dict[str, Any] = {
        "name": "p" if number is None else f"p-{number}",
        "source": SOURCE,
        "group": group,
        "routes": [{**route, "nats_subject": f"bench.keys.{group}"}],
    }
    if number is not None:
        message["instance"] = {"of": "p", "number": number, "count": 2, "key": "badge"}
    stage.deploy(url, message, worker)
