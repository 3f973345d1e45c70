"""One Raft node as a process, for `benchmarks.raft_commit`: a node, a machine that counts, a load generator.

It answers on ``{prefix}.bench.{node_id}``: ``{"op": "status"}``, and ``{"op": "load", "clients", "seconds",
"size"}``, which proposes from inside this process and answers with rate and latencies (milliseconds).
"""

import argparse
import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec

from raft import RaftConfig, RaftNode
from transport.config import NatsConfig
from transport.loop import run
from transport.nats import Message, NatsTransport

PROPOSAL_SECONDS = 5.0


class Order(msgspec.Struct):
    """What the benchmark asks of a node."""

    op: str
    clients: int = 1
    seconds: float = 1.0
    size: int = 200


class CountingMachine:
    """The smallest state machine: it counts commands."""

    def __init__(self) -> None:
        self.count = 0

    def apply(self, index: int, command: bytes) -> bytes:
        self.count += 1
        return b""

    def snapshot(self) -> bytes:
        return self.count.to_bytes(8, "big")

    def restore(self, data: bytes) -> None:
        self.count = int.from_bytes(data, "big")


async def load(node: RaftNode, order: Order) -> dict[str, float]:
    """Propose with `clients` callers, each waiting for its answer before the next."""
    latencies: list[float] = []
    command = os.urandom(order.size)
    ends = time.perf_counter() + order.seconds

    async def client() -> None:
        while (began := time.perf_counter()) < ends:
            await node.propose(command, timeout=PROPOSAL_SECONDS)
            latencies.append(time.perf_counter() - began)

    began, cpu_began = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as clients:
        for _ in range(order.clients):
            clients.create_task(client())
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    return {
        "per_second": round(len(latencies) / elapsed),
        **milliseconds(latencies),
        "leader_cpu_ms_per_commit": round(cpu / len(latencies) * 1e3, 3),
    }


def milliseconds(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in ms."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return {"p50_ms": round(p50 * 1e3, 3), "p99_ms": round(p99 * 1e3, 3)}


async def serve(node_id: str, members: tuple[str, ...], url: str, data_dir: Path) -> int:
    """Run the node until SIGTERM."""
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name=node_id), wait=10.0)
    config = RaftConfig(node_id, members, "bench", data_dir)
    node = RaftNode(config, bus, CountingMachine())
    await node.start()
    running: set[asyncio.Task[None]] = set()

    async def obey(message: Message) -> None:
        order = msgspec.json.decode(message.data, type=Order)
        if order.op == "load":
            answer = msgspec.json.encode(await load(node, order))
        else:
            answer = msgspec.json.encode(node.status())
        await bus.publish(message.reply, answer)

    async def take_order(message: Message) -> None:
        task = asyncio.create_task(obey(message))
        running.add(task)
        task.add_done_callback(running.discard)

    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await bus.subscribe(f"{config.prefix}.bench.{node_id}", take_order)
    await stopped.wait()
    await node.stop()
    await bus.close()
    return 0


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.raft_node")
    parser.add_argument("--node-id", required=True)
    parser.add_argument("--members", required=True, help="comma-separated ids, this one included")
    parser.add_argument("--nats", required=True, help="nats://host:port")
    parser.add_argument("--data-dir", required=True, type=Path)
    arguments = parser.parse_args()
    members = tuple(arguments.members.split(","))
    run(serve(arguments.node_id, members, arguments.nats, arguments.data_dir))


if __name__ == "__main__":
    main()
