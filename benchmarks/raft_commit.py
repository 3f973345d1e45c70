"""Commits through Raft: three node processes over a real nats-server, journals synced to a real disk.

`run()` measures from inside the leader's process: p50 and p99 at one client, commands a second at many. In
the same run it measures the floor, one bare NATS request and one `fdatasync` of an appended record, below
which no such commit can be (a commit is a request to a follower and a sync on each side of it), and etcd with
three members through its JSON gateway where `etcd` is installed.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.etcd_commit import run_etcd
from benchmarks.raft_node import milliseconds
from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport

MEMBERS: Final = ("n1", "n2", "n3")
FLOOR_ROUNDS: Final = 1_000
ELECTION_SECONDS: Final = 15.0
TARGET_P50_MS: Final = 1.0
TARGET_PER_SECOND: Final = 6_000


def run(seconds: float = 3.0, clients: int = 64, size: int = 200) -> dict[str, Any]:
    """Latency at one client and throughput at `clients`, each over `seconds`, with commands of `size`
    bytes.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raft-commit-")))
        server = stack.enter_context(NatsServer())
        for member in MEMBERS:
            stack.enter_context(_node(member, server.url, directory / member))
        result = asyncio.run(_measure(server.url, directory, seconds, clients, size))
    result["etcd"] = run_etcd(seconds, clients, size)
    return result


@contextmanager
def _node(member: str, url: str, data_dir: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.raft_node", "--node-id", member]
    command += ["--members", ",".join(MEMBERS), "--nats", url, "--data-dir", str(data_dir)]
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


async def _measure(url: str, directory: Path, seconds: float, clients: int, size: int) -> dict[str, Any]:
    bus = await NatsTransport.connect(NatsConfig(servers=(url,), name="benchmark"), wait=10.0)
    leader = await _leader(bus)
    await _order(bus, leader, 10.0, op="load", clients=8, seconds=0.5, size=size)
    floor = await _floor(bus, directory / "floor", size)
    one = await _order(bus, leader, seconds + 20, op="load", clients=1, seconds=seconds, size=size)
    many = await _order(bus, leader, seconds + 20, op="load", clients=clients, seconds=seconds, size=size)
    await bus.close()
    return {
        "one_client": {**one, "target_p50_ms": TARGET_P50_MS, "met": one["p50_ms"] <= TARGET_P50_MS},
        f"{clients}_clients": {
            **many,
            "target_per_second": TARGET_PER_SECOND,
            "met": many["per_second"] >= TARGET_PER_SECOND,
        },
        "floor": floor,
    }


async def _order(bus: NatsTransport, member: str, timeout: float, **order: Any) -> dict[str, Any]:
    data = await bus.request(f"varpulis.cluster.bench.{member}", msgspec.json.encode(order), timeout=timeout)
    answer: dict[str, Any] = msgspec.json.decode(data)
    return answer


async def _leader(bus: NatsTransport) -> str:
    deadline = time.monotonic() + ELECTION_SECONDS
    while time.monotonic() < deadline:
        for member in MEMBERS:
            try:
                status = await _order(bus, member, 1.0, op="status")
            except NatsTransportError:
                continue
            if status["leader_id"] == member:
                return member
        await asyncio.sleep(0.05)
    raise TimeoutError(f"no leader within {ELECTION_SECONDS:.0f} s; see what the nodes wrote to stderr")


async def _floor(bus: NatsTransport, path: Path, size: int) -> dict[str, Any]:
    async def echo(message: Message) -> None:
        await bus.publish(message.reply, message.data)

    await bus.subscribe("floor.echo", echo)
    payload = os.urandom(size)
    requests, syncs = [], []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(FLOOR_ROUNDS):
            began = time.perf_counter()
            await bus.request("floor.echo", payload, timeout=5.0)
            requests.append(time.perf_counter() - began)
            began = time.perf_counter()
            os.write(descriptor, payload)
            os.fdatasync(descriptor)
            syncs.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
    return {"request": milliseconds(requests), "fdatasync": milliseconds(syncs)}
