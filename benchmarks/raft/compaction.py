"""Commits while snapshots are written: three node processes, each with the coordinators' own state machine.

The state of each is filled to `megabytes` before it starts: thousands of workers, groups, placements and
remembered requests. The leader's process commits small commands without a pause, and every `every` entries
each node writes a snapshot of the whole state, all onto one disk. A commit is one **during** a snapshot
if it lay, even in part, between some node's call of `StateMachine.snapshot` and that node's cut of its
journal; else it is one **apart** from them. Both are of the same run, so a busy machine shows in both.
`longest_pause_ms`, which is judged, is the longest time during a snapshot in which no commit ended;
`commits_in_it` were under way then. `standstills` says where each node's loop stood still, and on what
(`benchmarks.raft.pulse`): what was `queued` is the machine's, for there other processes had the processor.

`python -m benchmarks.raft.compaction node ...` is one of the processes; it runs until SIGTERM.
"""

import argparse
import asyncio
import gc
import itertools
import signal
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.raft.figures import at_most
from benchmarks.raft.pulse import Pulse, Standstill, WatchedDisk
from benchmarks.raft.state import filled, small_command
from benchmarks.stage import nats_server, process
from coordinator.machine import ClusterMachine
from raft import RaftConfig, RaftNode
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.loop import run as run_loop
from transport.nats import Message, NatsTransport

MEMBERS: Final = ("n1", "n2", "n3")
SUBJECT: Final = "compaction"
READY_SECONDS: Final = 60.0
PROPOSAL_SECONDS: Final = 10.0
TARGET_PAUSE_MS: Final = 50.0
MOST_STANDSTILLS: Final = 4_000
LONGEST_TOLD: Final = 5

Span = tuple[float, float]
"""From, to; in seconds of the machine's monotonic clock, which is the same in all processes."""


class Order(msgspec.Struct, frozen=True):
    """What a node is asked: `role`, `load` (commit, and put the spans of all commits into `path`), `spans`
    (of its snapshots), or `standstills` (of its loop).
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
        leader, snapshots, standstills = asyncio.run(_drive(url, order))
        commits = msgspec.msgpack.decode(Path(order.path).read_bytes(), type=list[Span])
        size = max((directory / member / "snapshot").stat().st_size for member in MEMBERS)
    figures = summary(commits, snapshots)
    of_nodes = {member: told(found, commits, snapshots) for member, found in standstills.items()}
    own = max(found["longest_own_ms"] for found in of_nodes.values())
    figures["targets"]["own"] = at_most(
        own, TARGET_PAUSE_MS, "longest standstill in ms of a loop, without the wait for a processor, at most"
    )
    return {
        "snapshot_mb": round(size / 1e6, 1),
        "clients": clients,
        "entries_between_snapshots": every,
        "leader": leader,
        **figures,
        "standstills": of_nodes,
    }


def summary(commits: list[Span], snapshots: list[Span]) -> dict[str, Any]:
    """The figures of a run."""
    during: list[float] = []
    apart: list[float] = []
    for commit in commits:
        (during if _beside(commit, snapshots) else apart).append((commit[1] - commit[0]) * 1e3)
    if not during or not apart:
        raise ValueError("no commit lay beside a snapshot, or all did: raise `seconds`, or change `every`")
    during.sort()
    apart.sort()
    pauses = list(itertools.pairwise(sorted(ended for _, ended in commits)))
    within = [pause for pause in pauses if _beside(pause, snapshots)]
    longest = max(within, key=_length)
    others = max((_length(pause) for pause in pauses if not _beside(pause, snapshots)), default=0.0)
    pause_ms = round(_length(longest) * 1e3, 1)
    return {
        "snapshots": len(snapshots),
        "snapshot_seconds": [round(end - start, 2) for start, end in snapshots],
        "during": _spread(during),
        "apart": _spread(apart),
        "longest_pause_ms": pause_ms,
        "commits_in_it": sum(began < longest[1] and ended > longest[0] for began, ended in commits),
        "pauses_over_target": sum(_length(pause) * 1e3 > TARGET_PAUSE_MS for pause in within),
        "longest_pause_apart_ms": round(others * 1e3, 1),
        "longest_stall_ms": round(during[-1] - apart[len(apart) // 2], 1),
        "targets": {
            "pause": at_most(pause_ms, TARGET_PAUSE_MS, "longest pause in ms between commits, at most"),
        },
    }


def told(standstills: list[Standstill], commits: list[Span], snapshots: list[Span]) -> dict[str, Any]:
    """Where one node's loop stood still while there was load: how often, the longest of them, and the longest
    beside a snapshot without what it was `queued`.
    """
    first, last = min(began for began, _ in commits), max(ended for _, ended in commits)
    within = [one for one in standstills if first < one.at < last]
    within.sort(key=lambda one: one.wall, reverse=True)
    longest = [
        {"during": _beside((one.at, one.at + one.wall), snapshots), **one.told()}
        for one in within[:LONGEST_TOLD]
    ]
    beside = [one.own for one in within if _beside((one.at, one.at + one.wall), snapshots)]
    return {
        "count": len(within),
        "longest_own_ms": round(max(beside, default=0.0) * 1e3, 1),
        "longest": longest,
    }


def _beside(span: Span, snapshots: list[Span]) -> bool:
    return any(start < span[1] and span[0] < end for start, end in snapshots)


def _length(span: Span) -> float:
    return span[1] - span[0]


def _spread(ordered: list[float]) -> dict[str, float]:
    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 2)

    return {"commits": len(ordered), "p50_ms": at(0.5), "p99_ms": at(0.99), "longest_ms": at(1.0)}


async def _drive(url: str, order: Order) -> tuple[str, list[Span], dict[str, list[Standstill]]]:
    """Have the leader commit; who that was, the spans of all nodes' snapshots meanwhile, and where each
    node's loop stood still.
    """
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name="benchmark"), wait=10.0)
    try:
        leader, spans = await _leader(bus), []
        standstills: dict[str, list[Standstill]] = {}
        await _ask(bus, leader, order, order.seconds + 30)
        for member in MEMBERS:
            data = await _ask(bus, member, Order("spans"), 10.0)
            spans += msgspec.json.decode(data, type=list[Span])
            data = await _ask(bus, member, Order("standstills"), 10.0)
            standstills[member] = msgspec.json.decode(data, type=list[Standstill])
        return leader, sorted(spans), standstills
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
        gc.freeze()  # as a coordinator does once it has started
        disk = WatchedDisk()
        self.node, self.pulse = RaftNode(config, bus, self._machine, disk=disk), Pulse(disk)
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
        elif order.do == "standstills":
            answer = msgspec.json.encode(self.pulse.standstills[-MOST_STANDSTILLS:])
        elif self.node.is_leader:
            answer = b"leader"
        await self._bus.publish(message.reply, answer)

    async def _load(self, order: Order) -> None:
        commits: list[Span] = []
        command = small_command()
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
    asked.pulse.start()
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
