"""The load of all systems alike: a closed loop, in which a client waits for its answer before it asks again.

So a slower system gets fewer requests, and no queue grows in the load generator. The loop runs on uvloop in
one process. Clients outside of a system share its connections, as those of one program do, and share them
alike in all systems: one connection, or more where what may be in flight does not fit into one
(`transport.client` refuses what a socket does not take).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.raft.figures import Figures, milliseconds
from transport.config import NatsConfig
from transport.nats import NatsTransport

Put = Callable[[int], Awaitable[None]]
"""One write of the client with this number, acknowledged on return; raises when it is not."""
Load = Callable[[int, float, int], Awaitable[Figures]]
"""Figures of a closed loop: `load(clients, seconds, size)`."""

ANSWER_SECONDS: Final = 10.0
"""Within which any single write must be answered."""
PAUSE_AFTER_FAILURE: Final = 0.05
CONNECTION_BYTES: Final = 512 * 1024
"""What may be in flight on one connection."""


def connections(clients: int, size: int) -> int:
    """How many connections clients outside share when each writes `size` bytes at a time."""
    return max(1, clients * size // CONNECTION_BYTES)


@asynccontextmanager
async def buses(url: str, clients: int, size: int) -> AsyncIterator[list[NatsTransport]]:
    """The connections to a nats-server that so many clients share."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(connections(clients, size)):
            bus = await NatsTransport.connect(NatsConfig(servers=(url,), name="load"), wait=10.0)
            stack.push_async_callback(bus.close)
            opened.append(bus)
        yield opened


async def closed_loop(put: Put, clients: int, seconds: float) -> Figures:
    """p50 and p99 (ms) and writes a second; `failed` counts what was not acknowledged, if anything.

    Raises the last failure when nothing was acknowledged at all.
    """
    latencies: list[float] = []
    failures: list[Exception] = []
    began = time.perf_counter()
    ends = began + seconds

    async def client(number: int) -> None:
        while (asked := time.perf_counter()) < ends:
            try:
                await put(number)
            except Exception as error:
                failures.append(error)
                await asyncio.sleep(PAUSE_AFTER_FAILURE)
            else:
                latencies.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    elapsed = time.perf_counter() - began
    if not latencies:
        raise failures[-1] if failures else RuntimeError(f"nothing was written within {seconds:g} s")
    figures = {"per_second": round(len(latencies) / elapsed), **milliseconds(latencies)}
    if failures:
        figures["failed"] = len(failures)
    return figures
