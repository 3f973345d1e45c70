"""One acknowledged write: latency and rate, ours beside etcd's, JetStream's and the floor, in one run.

A round visits every system in turn, and each round begins with another one, so a minute in which the machine
is busy with something else hits all of them; figures are medians of the rounds. A visit starts the system
afresh on empty directories and ends it again: only the system under test is running, and it owns the disk's
cache, which is written back between visits. Within a visit all sizes and numbers of clients take a slice.

What is compared is not quite alike, and this is how it differs:

- All store three copies, and all but `jetstream_default_sync` sync each write to disk on a majority first.
- `ours` has no client hop: its load runs inside the leader's process, as it does in a coordinator, and its
  machine only counts, where etcd and JetStream also index and store a value. `ours_via_nats` pays the hop.
- All others are loaded from one process outside, over loopback, at the member that leads.
- `etcd` is loaded by gRPC, as its own client does; `etcd_json` is its JSON gateway, for the smallest size.
- Everything shares the cores of one machine, load generators included: with few cores a rate tells how much
  CPU a write costs altogether, not what three machines would do.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.raft import etcd, floor, jetstream, ours
from benchmarks.raft.figures import Figures, at_least, at_most, of_rounds, times
from benchmarks.raft.load import Load

ABOUT: Final = {
    "ours": "proposals from within the leader's process (no client hop), synced",
    "ours_via_nats": "the same, each write one more NATS request from a process outside, synced",
    "etcd": "puts by gRPC at the leader, from a process outside, synced",
    "etcd_json": "the same through etcd's JSON gateway; smallest size only",
    "jetstream": "KV puts, 3 replicas, sync_interval always, from a process outside, synced",
    "jetstream_default_sync": "the same with the default sync_interval of 2 min: acknowledged before synced",
    "floor": "one bare nats-py request to another process and one fdatasync of the record; one client",
}
SMALLEST_ONLY: Final = ("etcd_json",)
WARM_UP_SECONDS: Final = 0.3
WARM_UP_CLIENTS: Final = 8
P50_OF_FLOOR: Final = 2.5
RATE_OF_ETCD: Final = 1.5

Doors = dict[str, Load]
Cells = dict[str, dict[int, dict[int, list[Figures]]]]


@asynccontextmanager
async def _ours(directory: Path) -> AsyncIterator[Doors]:
    async with ours.nodes(directory) as cluster:
        leader = await cluster.leader()
        yield {
            "ours": partial(ours.load_inside, cluster, leader),
            "ours_via_nats": partial(ours.load_via_nats, cluster, leader),
        }


@asynccontextmanager
async def _etcd(directory: Path) -> AsyncIterator[Doors]:
    async with etcd.etcd(directory) as cluster:
        port = cluster.ports[await cluster.leader()]
        yield {"etcd": partial(etcd.load_grpc, port), "etcd_json": partial(etcd.load_json, port)}


@asynccontextmanager
async def _jetstream(name: str, sync_interval: str, directory: Path) -> AsyncIterator[Doors]:
    async with jetstream.jetstream(directory, sync_interval) as url:
        yield {name: partial(jetstream.load, url)}


SYSTEMS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Doors]]]] = {
    "ours": _ours,
    "etcd": _etcd,
    "jetstream": partial(_jetstream, "jetstream", jetstream.SYNC_ALWAYS),
    "jetstream_default_sync": partial(_jetstream, "jetstream_default_sync", jetstream.SYNC_DEFAULT),
}


async def measure(
    *, seconds: float, rounds: int, sizes: Sequence[int], clients: Sequence[int]
) -> dict[str, Any]:
    """All systems; each figure comes from `seconds` of load, spread over `rounds`."""
    cells: Cells = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    floors: dict[int, list[Figures]] = defaultdict(list)
    failures: dict[str, list[str]] = defaultdict(list)
    piece = seconds / rounds
    systems = [name for name in SYSTEMS if name != "etcd" or etcd.installed()]
    for number in range(rounds):
        with _directory() as directory:
            for size, figures in (await floor.measure(Path(directory), list(sizes), piece)).items():
                floors[size].append(figures)
        turn = number % len(systems)
        for name in systems[turn:] + systems[:turn]:
            try:
                with _directory() as directory:
                    await _visit(SYSTEMS[name], Path(directory), cells, piece, sizes, clients)
            except Exception as error:  # one system's failure must not cost the others' figures
                failures[name].append(f"round {number}: {type(error).__name__}: {error}")
            os.sync()
    result = {
        "rounds": rounds,
        "seconds_per_round": round(piece, 3),
        "about": ABOUT,
        "systems": _medians(cells),
        "floor": {str(size): of_rounds(each) for size, each in floors.items()},
        "failures": dict(failures),
        "missing": {} if etcd.installed() else {"etcd": etcd.MISSING},
    }
    return {**result, "targets": targets(result, size=sizes[0], few=clients[0], many=clients[-1])}


async def _visit(
    start: Callable[[Path], AbstractAsyncContextManager[Doors]],
    directory: Path,
    cells: Cells,
    seconds: float,
    sizes: Sequence[int],
    clients: Sequence[int],
) -> None:
    async with start(directory) as doors:
        for load in doors.values():
            await load(WARM_UP_CLIENTS, WARM_UP_SECONDS, sizes[0])
        for size in sizes:
            for count in clients:
                for name, load in doors.items():
                    if size == sizes[0] or name not in SMALLEST_ONLY:
                        cells[name][size][count].append(await load(count, seconds, size))


def targets(result: dict[str, Any], *, size: int, few: int, many: int) -> dict[str, Any]:
    """What `ours` has to reach, judged against etcd and the floor of the same run."""
    p50 = _figure(result, "ours", size, few, "p50_ms")
    rate = _figure(result, "ours", size, many, "per_second")
    etcd_p50 = _figure(result, "etcd", size, few, "p50_ms")
    etcd_rate = _figure(result, "etcd", size, many, "per_second")
    floor_p50 = result["floor"].get(str(size), {}).get("p50_ms")
    what = f"{size} B, {few} client: p50 in ms"
    return {
        "p50_beside_etcd": at_most(p50, etcd_p50, f"{what}, at most etcd's"),
        "p50_beside_floor": at_most(
            p50, times(P50_OF_FLOOR, floor_p50), f"{what}, at most {P50_OF_FLOOR} times the floor"
        ),
        "rate_beside_etcd": at_least(
            rate,
            times(RATE_OF_ETCD, etcd_rate),
            f"{size} B, {many} clients: writes a second, at least {RATE_OF_ETCD} times etcd's",
        ),
    }


def _figure(result: dict[str, Any], name: str, size: int, clients: int, figure: str) -> float | None:
    value: float | None = result["systems"].get(name, {}).get(str(size), {}).get(str(clients), {}).get(figure)
    return value


def _medians(cells: Cells) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        name: {
            str(size): {str(count): of_rounds(rounds) for count, rounds in by_count.items()}
            for size, by_count in by_size.items()
        }
        for name, by_size in cells.items()
    }


def _directory() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="varpulis-bench-", ignore_cleanup_errors=True)
