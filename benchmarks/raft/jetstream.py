"""JetStream's key-value store beside us: three nats-servers in a cluster, a bucket with three replicas.

Measured twice, because its default is another promise than ours: with `sync_interval: always` it syncs each
write to the disk before it acknowledges, as we and etcd do; by default it syncs every two minutes, and a
majority of machines that lose power together lose what they had acknowledged.

A put is one request to the key's subject, which is what nats-py's `KeyValue.put` sends; it goes through the
same client as our own writes (`transport.nats`), to the server that leads the bucket, and counts once the
acknowledgement names a sequence number.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import nats
from nats.js.api import KeyValueConfig, StorageType

from benchmarks.raft.figures import Figures
from benchmarks.raft.load import ANSWER_SECONDS, buses, closed_loop
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

SERVERS: Final = ("j1", "j2", "j3")
BUCKET: Final = "bench"
READY_SECONDS: Final = 60.0
SYNC_ALWAYS: Final = "always"
SYNC_DEFAULT: Final = "2m"


@asynccontextmanager
async def jetstream(directory: Path, sync_interval: str) -> AsyncIterator[str]:
    """The URL of the server that leads the bucket of a cluster that is ready; gone with the block."""
    async with AsyncExitStack() as stack:
        routes = {name: free_port() for name in SERVERS}
        servers = {}
        for name in SERVERS:
            server = NatsServer(extra=configuration(name, routes, directory / name, sync_interval))
            servers[name] = stack.enter_context(server)
        yield servers[await _bucket([server.url for server in servers.values()])].url


def configuration(name: str, routes: dict[str, int], store: Path, sync_interval: str) -> str:
    """What makes a server a member of the cluster."""
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes.values())
    return (
        f"server_name: {name}\n"
        f'jetstream: {{ store_dir: "{store}", sync_interval: "{sync_interval}" }}\n'
        f"cluster: {{ name: bench, listen: 127.0.0.1:{routes[name]}, routes: [{urls}] }}"
    )


async def load(url: str, clients: int, seconds: float, size: int) -> Figures:
    """Puts, each client its own key."""
    value = os.urandom(size)
    async with buses(url, clients, size) as opened:

        async def put(number: int) -> None:
            bus = opened[number % len(opened)]
            answer = await bus.request(f"$KV.{BUCKET}.key-{number}", value, timeout=ANSWER_SECONDS)
            if b'"seq"' not in answer:
                raise RuntimeError(f"JetStream answered {answer.decode(errors='replace')}")

        return await closed_loop(put, clients, seconds)


async def _bucket(urls: list[str]) -> str:
    """Make the bucket, as soon as the cluster can; the name of the server that leads it."""
    client = await nats.connect(urls)
    try:
        context = client.jetstream(timeout=2.0)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                wanted = KeyValueConfig(
                    bucket=BUCKET, history=1, storage=StorageType.FILE, replicas=len(SERVERS)
                )
                await context.create_key_value(wanted)
                answer = await client.request(f"$JS.API.STREAM.INFO.KV_{BUCKET}", b"", timeout=2.0)
                leader = json.loads(answer.data)["cluster"]["leader"]
                return str(leader)
            except (nats.errors.Error, KeyError):
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.2)
    finally:
        await client.close()
