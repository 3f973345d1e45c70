"""One Raft node as a process: a node, a machine that counts, and whoever loads it from inside.

It answers orders on ``{prefix}.bench.{node_id}`` (see `Order`), each with JSON, which is ``{"error": text}``
when the order failed; and it commits whatever comes in on ``{prefix}.bench.{node_id}.put``, which is how a
client outside of it is served, with an empty answer, or the error's text.
"""

import argparse
import asyncio
import gc
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.raft.load import ANSWER_SECONDS, closed_loop
from benchmarks.raft.pulse import Pulse, WatchedDisk
from benchmarks.raft.state import filled, small_command
from coordinator.machine import ClusterMachine
from raft import NotLeader, OutcomeUnknown, RaftConfig, RaftError, RaftNode, Unavailable
from raft.disk import Disk
from raft.engine import StateMachine
from transport.config import NatsConfig
from transport.keyring import KeyRing
from transport.loop import run
from transport.nats import Message, NatsTransport
from transport.signing import Signatures, SignedFrames

PREFIX: Final = "varpulis.cluster"
RETRY_SECONDS: Final = 2.0
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.25
MOST_STANDSTILLS: Final = 2_000


class Order(msgspec.Struct):
    """What the benchmark asks of a node.

    `status`; `load` (a closed loop for `seconds`); `steady` (the same, retrying as the coordinators do, and
    telling when each commit was); `flood` (`count` proposals at once); `transfer`; `change` (`add` and
    `remove` a member). The last three have `deadline` seconds. `standstills` of the loop, if it is watched.
    `size`: bytes of a command; 0: one of the coordinators' own.
    """

    op: str
    clients: int = 1
    seconds: float = 1.0
    size: int = 200
    count: int = 0
    deadline: float = 5.0
    add: str | None = None
    remove: str | None = None


class CountingMachine:
    """The smallest state machine: it counts commands."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, index: int, command: bytes) -> bytes:
        self.count += 1
        return b""

    def snapshot(self) -> Iterable[bytes]:
        return [self.count.to_bytes(8, "big")]

    def restore(self, data: bytes) -> None:
        self.count = int.from_bytes(data, "big")


async def load(node: RaftNode, order: Order) -> dict[str, Any]:
    """Propose with `clients` callers inside this process: no client hop."""
    command = os.urandom(order.size)

    async def put(_: int) -> None:
        await node.propose(command, timeout=ANSWER_SECONDS)

    return dict(await closed_loop(put, order.clients, order.seconds))


async def steady(node: RaftNode, order: Order) -> dict[str, Any]:
    """A loop whose callers retry as `coordinator.ledger` does; `commits` are times of the monotonic clock."""
    command = os.urandom(order.size) if order.size else small_command()
    ends = time.monotonic() + order.seconds
    commits: list[float] = []
    counts: Counter[str] = Counter()
    heard: Counter[str] = Counter()

    async def once() -> bool:
        deadline, pause = time.monotonic() + RETRY_SECONDS, FIRST_PAUSE
        for tries in itertools.count(1):
            counts["most_tries"] = max(counts["most_tries"], tries)
            left = deadline - time.monotonic()
            try:
                await node.propose(command, timeout=max(left, 0.001))
                return True
            except (NotLeader, Unavailable, OutcomeUnknown) as error:
                heard[f"{type(error).__name__}: {error}"[:120]] += 1
                if left <= pause:
                    return False
            counts["retried"] += 1
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError("unreachable")

    async def client() -> None:
        while time.monotonic() < ends:
            if await once():
                commits.append(time.monotonic())
            else:
                counts["failed"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(order.clients):
            group.create_task(client())
    told = {name: counts[name] for name in ("retried", "failed", "most_tries")}
    return {"commits": commits, "heard": dict(heard), **told}


async def flood(node: RaftNode, order: Order) -> dict[str, Any]:
    """`count` proposals at once. They share one command, so what memory grows by is the node's, and that of
    the callers that wait.
    """
    command = os.urandom(order.size)
    outcomes: Counter[str] = Counter()
    began = time.monotonic()

    async def caller() -> None:
        try:
            await node.propose(command, timeout=order.deadline)
            outcomes["Committed"] += 1
        except RaftError as error:
            outcomes[type(error).__name__] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(order.count):
            group.create_task(caller())
    return {"outcomes": dict(outcomes), "slowest_s": round(time.monotonic() - began, 3)}


async def transfer(node: RaftNode, order: Order) -> dict[str, Any]:
    """Give leadership to another node."""
    return {"leader_id": await node.transfer(timeout=order.deadline)}


async def change(node: RaftNode, order: Order) -> dict[str, Any]:
    """Add a member, remove one, or both."""
    generation = await node.change_members(add=order.add, remove=order.remove, timeout=order.deadline)
    return {"members": generation.members}


async def status(node: RaftNode, _: Order) -> dict[str, Any]:
    """What this node knows."""
    known: dict[str, Any] = msgspec.to_builtins(node.status())
    return known


ORDERS: Final[dict[str, Callable[[RaftNode, Order], Awaitable[dict[str, Any]]]]] = {
    "status": status,
    "load": load,
    "steady": steady,
    "flood": flood,
    "transfer": transfer,
    "change": change,
}


class Desk:
    """Takes messages from the bus and answers them, each in a task of its own."""

    def __init__(self, node: RaftNode, bus: NatsTransport, pulse: Pulse) -> None:
        self._node, self._bus, self._pulse = node, bus, pulse
        self._running: set[asyncio.Task[None]] = set()

    async def order(self, message: Message) -> None:
        """An `Order`."""
        self._spawn(self._obey(message))

    def put(self, message: Message) -> None:
        """A command of a client outside."""
        self._spawn(self._commit(message))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _obey(self, message: Message) -> None:
        order = msgspec.json.decode(message.data, type=Order)
        try:
            if order.op == "standstills":
                answer = {"standstills": msgspec.to_builtins(self._pulse.standstills[-MOST_STANDSTILLS:])}
            else:
                answer = await ORDERS[order.op](self._node, order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        await self._bus.publish(message.reply, msgspec.json.encode(answer))

    async def _commit(self, message: Message) -> None:
        try:
            await self._node.propose(message.data, timeout=ANSWER_SECONDS)
            answer = b""
        except RaftError as error:
            answer = str(error).encode()
        await self._bus.publish(message.reply, answer)


async def serve(
    node_id: str,
    members: tuple[str, ...],
    url: str,
    data_dir: Path,
    *,
    join: bool,
    megabytes: int,
    key_file: Path | None,
) -> int:
    """Run the node until SIGTERM; with `megabytes` of the coordinators' state, its frames signed where there
    is a key file, and its loop watched."""
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name=node_id), wait=10.0)
    frames = bus if key_file is None else SignedFrames(bus, Signatures(KeyRing(key_file), "raft"))
    watched = WatchedDisk()
    disk = watched if megabytes else Disk()
    config = RaftConfig(node_id, members, "bench", data_dir, prefix=PREFIX, join=join)
    node, pulse = RaftNode(config, frames, _machine(megabytes), disk=disk), Pulse(watched)
    await node.start()
    gc.collect()
    gc.freeze()  # as a coordinator does once it has started
    if megabytes:
        pulse.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    desk = Desk(node, bus, pulse)
    await bus.subscribe(f"{PREFIX}.bench.{node_id}", desk.order)
    await bus.listen(f"{PREFIX}.bench.{node_id}.put", desk.put)
    await stopped.wait()
    await node.stop()
    await bus.close()
    return 0


def _machine(megabytes: int) -> StateMachine:
    if not megabytes:
        return CountingMachine()
    machine = ClusterMachine()
    machine.state = filled(megabytes)
    return machine


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raft.node")
    parser.add_argument("--node-id", required=True)
    parser.add_argument("--members", required=True, help="comma-separated ids, this one included")
    parser.add_argument("--nats", required=True, help="nats://host:port")
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--join", action="store_true")
    parser.add_argument("--megabytes", type=int, default=0, help="of the coordinators' state; 0: it counts")
    parser.add_argument("--cluster-key-file", type=Path)
    arguments = parser.parse_args()
    members = tuple(arguments.members.split(","))
    own = {
        "join": arguments.join,
        "megabytes": arguments.megabytes,
        "key_file": arguments.cluster_key_file,
    }
    run(serve(arguments.node_id, members, arguments.nats, arguments.data_dir, **own))


if __name__ == "__main__":
    main()
