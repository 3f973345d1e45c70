"""How long the event loop stands still while a copy becomes the state: each part, and the commit that swaps.

Time is CPU time of the thread that applies, as on every coordinator, so that neighbours on the machine do not
count; the wall clock is beside it. `same`: every group of the copy runs already, and all programs are
compared; `other`: none does, and all that runs is displaced. `read_at_once_ms` is what the commit would take
besides if the parts were not read as they come. Nothing may take longer than the shortest election timeout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import google_crc32c

from coordinator.machine import ClusterMachine
from coordinator.state.commands import BeginRestore, Command, CommitRestore, PutPart, encode_command
from coordinator.state.model import State
from coordinator.state.records import Phase, Placement, Worker
from coordinator.state.restore import PART_BYTES, parts_of
from coordinator.state.results import Done, Remembered
from coordinator.state.snapshot import frames, read
from coordinator.state.versions import Group
from proto_schemas.rest.groups import GroupSpec, PipelineSpec

TARGET_MS = 300
WORKERS = 100
PER_GROUP = 4
SOURCE_BYTES = 2_000
REMEMBERED = 10_000


def run(groups: int = 5_000, repeats: int = 3) -> dict[str, Any]:
    """Milliseconds for each part and for the commit of a copy of `groups` groups; medians of `repeats`."""
    copy = b"".join(frames(_state(groups, "copy")))
    with _measured() as at_once:
        read(copy)
    figures = {
        name: _median([_restored(_state(groups, running), copy) for _ in range(repeats)])
        for name, running in (("same", "copy"), ("other", "running"))
    }
    return {
        "megabytes": round(len(copy) / 1e6, 1),
        "pipelines": groups * PER_GROUP,
        "parts": parts_of(len(copy)),
        "read_at_once_ms": at_once[0],
        **figures,
    }


def _restored(running: State, copy: bytes) -> dict[str, float]:
    machine, longest = ClusterMachine(), [0.0, 0.0]
    machine.state = running
    crc = google_crc32c.value(copy)
    begin = BeginRestore(
        by="b", upload="u", size=len(copy), crc=crc, cluster="b", taken_at=1, last_index=1, key="k"
    )
    _apply(machine, begin)
    for number in range(parts_of(len(copy))):
        data = copy[number * PART_BYTES : (number + 1) * PART_BYTES]
        taken = _apply(machine, PutPart(by="b", upload="u", number=number, data=data))
        longest = [max(pair) for pair in zip(longest, taken, strict=True)]
    commit = _apply(machine, CommitRestore(by="b", upload="u", request_id="k"))
    return {
        "longest_part_ms": longest[0],
        "longest_part_wall_ms": longest[1],
        "commit_ms": commit[0],
        "commit_wall_ms": commit[1],
    }


def _apply(machine: ClusterMachine, command: Command) -> list[float]:
    data = encode_command(command)
    with _measured() as taken:
        machine.apply(1, data)
    return taken


@contextmanager
def _measured() -> Iterator[list[float]]:
    """CPU and wall-clock milliseconds of the block, once it has ended."""
    taken: list[float] = []
    cpu, wall = thread_time(), perf_counter()
    yield taken
    taken += [round((thread_time() - cpu) * 1e3, 1), round((perf_counter() - wall) * 1e3, 1)]


def _median(rounds: list[dict[str, float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {name: median(each[name] for each in rounds) for name in rounds[0]}
    met = max(figures["longest_part_ms"], figures["commit_ms"]) <= TARGET_MS
    return {**figures, "target_ms": TARGET_MS, "met": met}


def _state(groups: int, tag: str) -> State:
    state = State(sessions=WORKERS, epochs=groups * PER_GROUP)
    for number in range(WORKERS):
        name = f"w{number}"
        state.workers[name] = Worker(
            id=name,
            session=number + 1,
            incarnation="i",
            address="a",
            cpu_cores=1,
            max_pipelines=1_000,
            registered_at=1,
        )
    for number in range(groups):
        name = f"g{number}"
        names = [f"p{each}" for each in range(PER_GROUP)]
        source = f"# {tag} {number} ".ljust(SOURCE_BYTES, "x")
        spec = GroupSpec(name=name, pipelines=[PipelineSpec(name=each, source=source) for each in names])
        state.groups[name] = Group(spec=spec, consumes={each: ["In"] for each in names}, created_at=1)
        state.placements[name] = {
            each: Placement(
                phase=Phase.RUNNING,
                epoch=(epoch := number * PER_GROUP + at + 1),
                worker_id=f"w{epoch % WORKERS}",
                pipeline_id=f"{each}-{epoch}",
            )
            for at, each in enumerate(names)
        }
    state.remembered = {
        f"key:{tag}-{number}": Remembered("x", Done(), number) for number in range(REMEMBERED)
    }
    return state
