"""Commits while snapshots are written: three node processes, each with the coordinators' own state machine.

The state of each is filled to `megabytes` before it starts: thousands of workers, groups, placements and
remembered requests. The leader's process commits small commands without a pause, and every `every` entries
each node writes a snapshot of the whole state, all onto one disk. A commit is one **during** a snapshot
if it lay, even in part, between some node's call of `StateMachine.snapshot` and that node's cut of its
journal; else it is one **apart** from them. Both are of the same run, so a busy machine shows in both.
`longest_stall_ms` is what the longest commit during a snapshot took beyond the median of those apart.

`python -m benchmarks.raft.compaction node ...` is one of the processes; it runs until SIGTERM.
"""

import argparse
import asyncio
import gc
import signal
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.stage import nats_server, process
from coordinator.machine import ClusterMachine
from coordinator.state.commands import Announce, encode_command
from coordinator.state.model import Done, Group, Phase, Placement, Remembered, State, Worker
from proto_schemas.rest import GroupSpec, PipelineSpec
from raft import RaftConfig, RaftNode
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.loop import run as run_loop
from transport.nats import Message, NatsTransport

MEMBERS: Final = ("n1", "n2", "n3")
SUBJECT: Final = "compaction"
READY_SECONDS: Final = 60.0
PROPOSAL_SECONDS: Final = 10.0
RECORDS: Final = 10_000
TARGET_STALL_MS: Final = 50.0

Span = tuple[float, float]
"""From, to; in seconds of the machine's monotonic clock, which is the same in all processes."""


class Order(msgspec.Struct, frozen=True):
    """What a node is asked: `role`, `load` (commit, and put the spans of all commits into `path`), or `spans`
    (of its snapshots).
    """

    do: str
    clients: int = 1
    seconds: float = 1.0
    path: str = ""


class WatchedMachine(ClusterMachine):
    """Notes when each snapshot was asked for."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self.state = filled(megabytes)
        self.asked: list[float] = []

    def snapshot(self) -> Iterable[bytes]:
        self.asked.append(time.monotonic())
        return super().snapshot()


def filled(megabytes: int) -> State:
    """A state whose snapshot has about that size: `RECORDS` of each kind, the rest in programs' sources."""
    state = State()
    source = "x" * max(10, megabytes * 1_000_000 // RECORDS - 300)
    for number in range(RECORDS):
        name = f"{number:05d}"
        spec = GroupSpec(name=f"g{name}", pipelines=[PipelineSpec(name="p", source=source)])
        state.groups[spec.name] = Group(spec=spec, consumes={"p": ["In"]}, created_at=number)
        running = Placement(phase=Phase.RUNNING, epoch=number, worker_id=f"w{name}", pipeline_id=f"p{name}")
        state.placements[spec.name] = {"p": running}
        state.workers[f"w{name}"] = Worker(
            id=f"w{name}",
            session=number,
            address=f"10.0.0.1:{number}",
            cpu_cores=4,
            max_pipelines=10,
            registered_at=number,
        )
        state.remembered[f"request-{name}"] = Remembered(f"CreateGroup g{name}", Done(), number)
    return state


def measure(
    megabytes: int = 50, seconds: float = 20.0, clients: int = 4, every: int = 5_000
) -> dict[str, Any]:
    """Longest and 99th-percentile commits during snapshots of `megabytes` and apart from them, in ms."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raft-compaction-")))
        url = stack.enter_context(nats_server())
        for member in MEMBERS:
            arguments = ("node", member, url, str(directory / member), str(megabytes), str(every))
            stack.enter_context(process("benchmarks.raft.compaction", *arguments))
        order = Order("load", clients, seconds, str(directory / "commits"))
        snapshots = asyncio.run(_drive(url, order))
        commits = msgspec.msgpack.decode(Path(order.path).read_bytes(), type=list[Span])
        size = max((directory / member / "snapshot").stat().st_size for member in MEMBERS)
    return {"snapshot_mb": round(size / 1e6, 1), **summary(commits, snapshots)}


def summary(commits: list[Span], snapshots: list[Span]) -> dict[str, Any]:
    """The figures of a run."""
    during: list[float] = []
    apart: list[float] = []
    for began, ended in commits:
        beside = any(start < ended and began < end for start, end in snapshots)
        (during if beside else apart).append((ended - began) * 1e3)
    if not during or not apart:
        raise ValueError("no commit lay beside a snapshot, or all did: raise `seconds`, or change `every`")
    during.sort()
    apart.sort()
    stall = during[-1] - apart[len(apart) // 2]
    return {
        "snapshots": len(snapshots),
        "snapshot_seconds": [round(end - start, 2) for start, end in snapshots],
        "during": _spread(during),
        "apart": _spread(apart),
        "longest_stall_ms": round(stall, 1),
        "target_ms": TARGET_STALL_MS,
        "met": stall <= TARGET_STALL_MS,
    }


def _spread(ordered: list[float]) -> dict[str, float]:
    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)

    return {"commits": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "longest_ms": at(1.0)}


async def _drive(url: str, order: Order) -> list[Span]:
    """Have the leader commit; the spans of all nodes' snapshots meanwhile."""
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name="benchmark"), wait=10.0)
    try:
        leader, spans = await _leader(bus), []
        await _ask(bus, leader, order, order.seconds + 30)
        for member in MEMBERS:
            data = await _ask(bus, member, Order("spans"), 10.0)
            spans += msgspec.json.decode(data, type=list[Span])
        return sorted(spans)
    finally:
        await bus.close()


async def _leader(bus: NatsTransport) -> str:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        for member in MEMBERS:
            try:
                if await _ask(bus, member, Order("role"), 1.0) == b"leader":
                    return member
            except NatsTransportError:
                continue
        await asyncio.sleep(0.1)
    raise TimeoutError(f"no leader within {READY_SECONDS:.0f} s; see what the nodes wrote to stderr")


async def _ask(bus: NatsTransport, member: str, order: Order, timeout: float) -> bytes:
    return await bus.request(f"{SUBJECT}.{member}", msgspec.json.encode(order), timeout=timeout)


class Process:
    """One node and what it is asked."""

    def __init__(self, bus: NatsTransport, config: RaftConfig, megabytes: int) -> None:
        self._bus, self._machine = bus, WatchedMachine(megabytes)
        gc.collect()  # of what filling has left: that a state grows is not what is measured
        self.node = RaftNode(config, bus, self._machine)
        self._spans: list[Span] = []
        self._running: set[asyncio.Task[None]] = set()
        self.node.on_applied(self._note_snapshot)

    def _note_snapshot(self, _: int) -> None:
        if self.node.counters.snapshots > len(self._spans):
            self._spans.append((self._machine.asked[len(self._spans)], time.monotonic()))

    async def take_order(self, message: Message) -> None:
        task = asyncio.create_task(self._obey(message))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _obey(self, message: Message) -> None:
        order, answer = msgspec.json.decode(message.data, type=Order), b""
        if order.do == "load":
            await self._load(order)
        elif order.do == "spans":
            answer = msgspec.json.encode(self._spans)
        elif self.node.is_leader:
            answer = b"leader"
        await self._bus.publish(message.reply, answer)

    async def _load(self, order: Order) -> None:
        commits: list[Span] = []
        command = encode_command(Announce(at=1, by="benchmark", node_id="c1", url="u" * 150))
        ends = time.monotonic() + order.seconds

        async def client() -> None:
            while (began := time.monotonic()) < ends:
                await self.node.propose(command, timeout=PROPOSAL_SECONDS)
                commits.append((began, time.monotonic()))

        async with asyncio.TaskGroup() as group:
            for _ in range(order.clients):
                group.create_task(client())
        await asyncio.to_thread(Path(order.path).write_bytes, msgspec.msgpack.encode(commits))


async def serve(member: str, url: str, data_dir: Path, megabytes: int, every: int) -> int:
    """Run a node until SIGTERM."""
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name=member), wait=10.0)
    config = RaftConfig(
        member, MEMBERS, "bench", data_dir, snapshot_every_entries=every, retained_entries=every // 10
    )
    asked = Process(bus, config, megabytes)
    await asked.node.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await bus.subscribe(f"{SUBJECT}.{member}", asked.take_order)
    await stopped.wait()
    await asked.node.stop()
    await bus.close()
    return 0


def main() -> None:
    """Read the command line of a node, and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raft.compaction")
    parser.add_argument("what", choices=["node"])
    parser.add_argument("member")
    parser.add_argument("url")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("megabytes", type=int)
    parser.add_argument("every", type=int)
    given = parser.parse_args()
    run_loop(serve(given.member, given.url, given.data_dir, given.megabytes, given.every))


if __name__ == "__main__":
    main()
