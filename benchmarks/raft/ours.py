"""Our cluster under test: three Raft node processes over one real nats-server, journals on a real disk.

Two ways in, measured apart: `load_inside` proposes from within the leader's process, as a coordinator does,
so there is no client hop; `load_via_nats` sends each write as one more NATS request to the leader's process,
as a client of etcd or JetStream has to.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.raft.figures import Figures
from benchmarks.raft.load import ANSWER_SECONDS, buses, closed_loop
from benchmarks.raft.node import PREFIX
from benchmarks.raft.process import Process
from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.nats import NatsTransport

MEMBERS: Final = ("n1", "n2", "n3")
READY_SECONDS: Final = 20.0
STATUS_SECONDS: Final = 1.0


class OrderFailed(Exception):
    """A node could not do what it was told; the text is its own."""


class Nodes:
    """Three running nodes, and a connection to the server they talk over."""

    def __init__(self, bus: NatsTransport, url: str, directory: Path, arguments: Sequence[str] = ()) -> None:
        self.bus, self.url = bus, url
        self._directory, self._arguments = directory, arguments
        self.processes = {member: self.process(member) for member in MEMBERS}

    def process(self, member: str, *more: str) -> Process:
        """A node's process, not started, with `more` arguments."""
        command = [sys.executable, "-m", "benchmarks.raft.node", "--node-id", member]
        command += ["--members", ",".join(MEMBERS), "--nats", self.url]
        command += ["--data-dir", str(self._directory / member), *self._arguments, *more]
        return Process(command, self._directory / f"{member}.log")

    async def order(self, member: str, timeout: float, **order: Any) -> dict[str, Any]:
        """Have a node obey an `Order`. Raises `OrderFailed` and `NatsTransportError`."""
        data = await self.bus.request(f"{PREFIX}.bench.{member}", msgspec.json.encode(order), timeout=timeout)
        answer: dict[str, Any] = msgspec.json.decode(data)
        if "error" in answer:
            raise OrderFailed(f"{member}: {answer['error']}")
        return answer

    async def leader(self) -> str:
        """The leader, once all nodes are ready and agree on one."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                told = [await self.order(member, STATUS_SECONDS, op="status") for member in MEMBERS]
            except (NatsTransportError, OrderFailed):
                told = []
            leaders = {status["leader_id"] for status in told if status["ready"]}
            if len(told) == len(MEMBERS) and len(leaders) == 1 and None not in leaders:
                return str(leaders.pop())
            await asyncio.sleep(0.05)
        logs = "\n".join(f"{member}: {process.log}" for member, process in self.processes.items())
        raise TimeoutError(f"not ready within {READY_SECONDS:.0f} s:\n{logs}")


@asynccontextmanager
async def nodes(directory: Path, *arguments: str) -> AsyncIterator[Nodes]:
    """A cluster that is ready, with its data under `directory`; gone with the block. `arguments` are for each
    node's process.
    """
    async with AsyncExitStack() as stack:
        server = stack.enter_context(NatsServer())
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,), name="benchmark"), wait=10.0)
        stack.push_async_callback(bus.close)
        cluster = Nodes(bus, server.url, directory, arguments)
        for process in cluster.processes.values():
            stack.enter_context(process)
        await cluster.leader()
        yield cluster


async def load_inside(cluster: Nodes, leader: str, clients: int, seconds: float, size: int) -> Figures:
    """The loop inside the leader's process."""
    return await cluster.order(
        leader, seconds + 2 * ANSWER_SECONDS, op="load", clients=clients, seconds=seconds, size=size
    )


async def load_via_nats(cluster: Nodes, leader: str, clients: int, seconds: float, size: int) -> Figures:
    """The loop in this process, one NATS request for each write."""
    command = os.urandom(size)
    async with buses(cluster.url, clients, size) as opened:

        async def through_leader(number: int) -> None:
            await put(opened[number % len(opened)], leader, command, ANSWER_SECONDS)

        return await closed_loop(through_leader, clients, seconds)


async def put(bus: NatsTransport, member: str, command: bytes, timeout: float) -> None:
    """Commit a command through a node, from outside. Raises `OrderFailed` and `NatsTransportError`."""
    answer = await bus.request(f"{PREFIX}.bench.{member}.put", command, timeout=timeout)
    if answer:
        raise OrderFailed(f"{member}: {answer.decode()}")
