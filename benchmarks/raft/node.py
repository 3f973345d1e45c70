"""One Raft node as a process: a node, a machine that counts, and whoever loads it from inside.

It answers orders on ``{prefix}.bench.{node_id}`` (see `Order`), each with JSON, which is ``{"error": text}``
when the order failed; and it commits whatever comes in on ``{prefix}.bench.{node_id}.put``, which is how a
client outside of it is served, with an empty answer, or the error's text.
"""

import argparse
import asyncio
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
from raft import NotLeader, OutcomeUnknown, RaftConfig, RaftError, RaftNode, Unavailable
from transport.config import NatsConfig
from transport.keyring import KeyRing
from transport.loop import run
from transport.nats import Message, NatsTransport
from transport.signing import Signatures, SignedFrames

PREFIX: Final = "varpulis.cluster"
RETRY_SECONDS: Final = 2.0
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 0.25


class Order(msgspec.Struct):
    """What the benchmark asks of a node.

    `status`; `load` (a closed loop for `seconds`); `steady` (the same, retrying as the coordinators do, and
    telling when each commit was); `flood` (`count` proposals at once); `transfer`. The last two have
    `deadline` seconds.
    """

    op: str
    clients: int = 1
    seconds: float = 1.0
    size: int = 200
    count: int = 0
    deadline: float = 5.0


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
    command = os.urandom(order.size)
    ends = time.monotonic() + order.seconds
    commits: list[float] = []
    counts: Counter[str] = Counter()

    async def once() -> bool:
        deadline, pause = time.monotonic() + RETRY_SECONDS, FIRST_PAUSE
        while True:
            left = deadline - time.monotonic()
            try:
                await node.propose(command, timeout=max(left, 0.001))
                return True
            except (NotLeader, Unavailable, OutcomeUnknown):
                if left <= pause:
                    return False
            counts["retried"] += 1
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def client() -> None:
        while time.monotonic() < ends:
            if await once():
                commits.append(time.monotonic())
            else:
                counts["failed"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(order.clients):
            group.create_task(client())
    return {"commits": commits, "retried": counts["retried"], "failed": counts["failed"]}


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
}


class Desk:
    """Takes messages from the bus and answers them, each in a task of its own."""

    def __init__(self, node: RaftNode, bus: NatsTransport) -> None:
        self._node, self._bus = node, bus
        self._running: set[asyncio.Task[None]] = set()

    async def order(self, message: Message) -> None:
        """An `Order`."""
        self._spawn(self._obey(message))

    async def put(self, message: Message) -> None:
        """A command of a client outside."""
        self._spawn(self._commit(message))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _obey(self, message: Message) -> None:
        order = msgspec.json.decode(message.data, type=Order)
        try:
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
    node_id: str, members: tuple[str, ...], url: str, data_dir: Path, key_file: Path | None = None
) -> int:
    """Run the node until SIGTERM, its frames signed where there is a key file."""
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name=node_id), wait=10.0)
    frames = bus if key_file is None else SignedFrames(bus, Signatures(KeyRing(key_file), "raft"))
    config = RaftConfig(node_id, members, "bench", data_dir, prefix=PREFIX)
    node = RaftNode(config, frames, CountingMachine())
    await node.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    desk = Desk(node, bus)
    await bus.subscribe(f"{PREFIX}.bench.{node_id}", desk.order)
    await bus.subscribe(f"{PREFIX}.bench.{node_id}.put", desk.put)
    await stopped.wait()
    await node.stop()
    await bus.close()
    return 0


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raft.node")
    parser.add_argument("--node-id", required=True)
    parser.add_argument("--members", required=True, help="comma-separated ids, this one included")
    parser.add_argument("--nats", required=True, help="nats://host:port")
    parser.add_argument("--data-dir", required=True, type=Path)
    parser.add_argument("--cluster-key-file", type=Path)
    arguments = parser.parse_args()
    members = tuple(arguments.members.split(","))
    key_file = arguments.cluster_key_file
    run(serve(arguments.node_id, members, arguments.nats, arguments.data_dir, key_file))


if __name__ == "__main__":
    main()
