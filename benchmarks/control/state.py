"""What the replicated state costs, in this process and alone: bytes in memory, bytes of a snapshot, and CPU
of each command as `apply` does it, reading it and writing the answer included.

Three coordinators each do this. Beside it, a pass of the leader's control loop over workers that all run what
they should: what it costs to look when there is nothing to do. Its exponent is told and not judged: it does
the same for each worker, and from some thousands on their records no longer fit into the processor's caches.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, Final

from benchmarks.control.fit import doubled, exponent, grows, line
from coordinator.machine import ClusterMachine
from coordinator.state.commands import (
    Command,
    CreateGroup,
    Displace,
    MarkWorker,
    Place,
    RegisterWorker,
    ReportRunning,
    encode_command,
)
from coordinator.state.records import WorkerStatus
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.support.pipelines import echo_program
from tests.unit.coordinator.stage import Stage

AT: Final = 1_760_000_000_000
PER_GROUP: Final = 100
PASSES: Final = 20


def measure(*, largest: int) -> dict[str, Any]:
    """Up to so many workers, with a pipeline each."""
    points: dict[str, dict[int, float]] = {}
    last: dict[str, Any] = {}
    for size in doubled(largest // 8, largest):
        last = _one(size)
        for name, each in last["commands"].items():
            points.setdefault(name, {})[size] = each["us"] * size / 1e6
    growth = {
        f"apply_{name}": grows(costs, f"n times {name} applied to a state of n", "CPU s")
        for name, costs in points.items()
    }
    passes = {size: asyncio.run(_pass(size)) for size in doubled(largest // 8, largest)}
    beside = {
        "us_per_worker": round(1e6 * line(passes)[0], 3),
        "points": {str(size): round(cost, 5) for size, cost in passes.items()},
        "exponent": round(exponent(passes), 3),
    }
    return {"size": largest, **last, "passes": beside, "growth": growth}


async def _pass(size: int) -> float:
    """Of a leader, with nothing to do: each worker is heard, and runs its one pipeline."""
    stage = Stage()
    names = [f"w-{number:05}" for number in range(size)]
    await stage.join(*names)
    for number in range(size // PER_GROUP):
        await stage.create(f"g-{number}", *(f"p-{each}" for each in range(PER_GROUP)))
    await stage.settle(passes=10 * size)
    for name in names:
        stage.beat(name, *stage.truth(name))
    stage.loop.step()
    gc.collect()
    gc.freeze()  # as a coordinator does
    began = time.process_time()
    for _ in range(PASSES):
        stage.loop.step()
    taken = (time.process_time() - began) / PASSES
    gc.unfreeze()
    return taken


def _one(size: int) -> dict[str, Any]:
    """All commands at one size; memory and snapshot after each kind."""
    machine = ClusterMachine()
    index = 0

    def say(commands: Iterable[Command]) -> dict[str, float]:
        nonlocal index
        encoded = [encode_command(command) for command in commands]
        began = time.process_time()
        for command in encoded:
            index += 1
            machine.apply(index, command)
        spent = time.process_time() - began
        return {
            "us": round(1e6 * spent / size, 2),
            "bytes": round(sum(map(len, encoded)) / size),
        }

    tracemalloc.start()
    held: dict[str, float] = {}
    stored: dict[str, float] = {}
    result: dict[str, Any] = {}
    steps: dict[str, Callable[[], Iterable[Command]]] = {
        "register": lambda: _registrations(size),
        "create": lambda: _groups(size),
        "place": lambda: _places(size),
        "report_running": lambda: _reports(machine, size),
    }
    for name, commands in steps.items():
        ready = list(commands())
        memory, snapshot = tracemalloc.get_traced_memory()[0], _snapshot(machine)
        say(ready)
        held[name] = round((tracemalloc.get_traced_memory()[0] - memory) / size)
        stored[name] = round((_snapshot(machine) - snapshot) / size)
        del ready
    tracemalloc.stop()
    machine, index = ClusterMachine(), 0  # times without the tracing of memory
    for name, commands in steps.items():
        result[name] = say(list(commands()))
    result["displace"] = say(_displacements(machine, size))
    result["mark"] = say(_marks(machine, size))
    return {
        "commands": result,
        "memory_bytes": {
            "worker": held["register"],
            "pipeline": held["create"] + held["place"] + held["report_running"],
        },
        "snapshot_bytes": {
            "worker": stored["register"],
            "pipeline": stored["create"] + stored["place"] + stored["report_running"],
        },
        "snapshot_us_per_kb": _snapshot_cost(machine),
    }


def _snapshot(machine: ClusterMachine) -> int:
    return sum(map(len, machine.snapshot()))


def _snapshot_cost(machine: ClusterMachine) -> float:
    began = time.process_time()
    size = _snapshot(machine)
    return round(1e6 * (time.process_time() - began) / (size / 1000), 2)


def _registrations(size: int) -> Iterable[Command]:
    for number in range(size):
        yield RegisterWorker(
            by="register",
            at=AT,
            request_id=f"register:{number:032x}",
            worker_id=f"w-{number:05}",
            incarnation=f"{AT:012x}{number:08x}",
            address=f"http://10.0.0.1:9000/w-{number:05}",
            cpu_cores=4,
            max_pipelines=10,
            labels={"zone": f"z-{number % 3}"},
            version="0.1.0",
        )


def _groups(size: int) -> Iterable[Command]:
    for number in range(size // PER_GROUP):
        yield CreateGroup(
            by="api",
            at=AT,
            request_id=f"key:{number:032x}",
            spec=GroupSpec(
                name=f"g-{number}",
                pipelines=[
                    PipelineSpec(
                        name=f"p-{each:03}", source=echo_program("nats://127.0.0.1:4222", f"{number}-{each}")
                    )
                    for each in range(PER_GROUP)
                ],
            ),
            consumes={},
        )


def _names(size: int) -> Iterable[tuple[int, str, str]]:
    for number in range(size // PER_GROUP * PER_GROUP):
        yield number, f"g-{number // PER_GROUP}", f"p-{number % PER_GROUP:03}"


def _places(size: int) -> Iterable[Command]:
    for number, group, pipeline in _names(size):
        yield Place(
            by="placement",
            at=AT,
            group=group,
            pipeline=pipeline,
            epoch=0,
            worker_id=f"w-{number:05}",
            reason="least loaded (0 of 10)",
        )


def _reports(machine: ClusterMachine, size: int) -> Iterable[Command]:
    for number, group, pipeline in _names(size):
        worker = machine.state.workers[f"w-{number:05}"]
        yield ReportRunning(
            by="placement",
            at=AT,
            group=group,
            pipeline=pipeline,
            epoch=number + 1,
            worker_id=worker.id,
            session=worker.session,
            pipeline_id=f"{number:016x}",
        )


def _displacements(machine: ClusterMachine, size: int) -> Iterable[Command]:
    for number, group, pipeline in _names(size):
        yield Displace(
            by="placement",
            at=AT,
            group=group,
            pipeline=pipeline,
            epoch=number + 1,
            reason=f"worker w-{number:05} is unhealthy",
        )


def _marks(machine: ClusterMachine, size: int) -> Iterable[Command]:
    for number in range(size):
        worker = machine.state.workers[f"w-{number:05}"]
        yield MarkWorker(
            by="liveness",
            at=AT,
            worker_id=worker.id,
            session=worker.session,
            status=WorkerStatus.UNHEALTHY,
            reason="no heartbeat for 3 s",
        )
