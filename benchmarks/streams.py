"""What a client of `/stream` costs a follower: memory and processor at rest, processor for each event sent.

Real processes: three coordinators, no worker. Clients are plain sockets that read all they get. Events are
registrations of paper workers, at a steady rate through the leader; what the follower spends on those alone
is measured first, without clients, and taken off.
"""

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from benchmarks.failover import REGISTER, registration
from proto_schemas.rest.base import API_BASE
from tests.support.cluster import Cluster

_SETTLE_S: Final = 1.0
_GET: Final = f"GET {API_BASE}/stream HTTP/1.1\r\nhost: x\r\n\r\n".encode()


def run(clients: int = 150, rate: int = 50, seconds: int = 10) -> dict[str, Any]:
    """Figures per client, over `seconds` each, with `rate` events a second. At most 200 clients."""
    with (
        tempfile.TemporaryDirectory(prefix="varpulis-bench-") as directory,
        Cluster(Path(directory), workers=0) as cluster,
    ):
        leader = cluster.leader()
        follower = next(name for name in cluster.coordinators if name != leader)
        process = psutil.Process(cluster.pid(follower))
        return asyncio.run(_measure(cluster, leader, follower, process, clients, rate, seconds))


async def _measure(
    cluster: Cluster,
    leader: str,
    follower: str,
    process: psutil.Process,
    clients: int,
    rate: int,
    seconds: int,
) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as http:
        url = cluster.url(leader) + REGISTER
        await _write(http, url, rate, 2)  # warm
        alone_idle = await _cpu(process, asyncio.sleep(seconds))
        alone_busy = await _cpu(process, _write(http, url, rate, seconds))
        before = process.memory_info().rss
        got = [0]
        readers = [asyncio.create_task(_read(cluster.url(follower), got)) for _ in range(clients)]
        await asyncio.sleep(_SETTLE_S)
        rss = process.memory_info().rss - before
        idle = await _cpu(process, asyncio.sleep(seconds))
        got[0] = 0
        busy = await _cpu(process, _write(http, url, rate, seconds))
        await asyncio.sleep(_SETTLE_S)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return {
        "clients": clients,
        "memory_kib_per_client": round(rss / 1024 / clients, 1),
        "idle_cpu_percent_of_a_core": round(100 * (idle - alone_idle) / seconds, 2),
        "events_sent": got[0],
        "expected": rate * seconds * clients,
        "cpu_us_per_event_and_client": round(1e6 * (busy - alone_busy) / max(got[0], 1), 1),
        "without_clients_cpu_percent": round(100 * alone_busy / seconds, 1),
        "with_clients_cpu_percent": round(100 * busy / seconds, 1),
    }


async def _cpu(process: psutil.Process, work: Any) -> float:
    """Seconds of processor that `process` took meanwhile."""
    before = process.cpu_times()
    await work
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


async def _write(http: httpx.AsyncClient, url: str, rate: int, seconds: int) -> None:
    began = time.monotonic()
    for number in range(rate * seconds):
        (await http.post(url, json=registration())).raise_for_status()
        await asyncio.sleep(max(began + (number + 1) / rate - time.monotonic(), 0))


async def _read(url: str, got: list[int]) -> None:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(_GET)
    try:
        while block := await reader.read(65536):
            got[0] += block.count(b"event: change")
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
