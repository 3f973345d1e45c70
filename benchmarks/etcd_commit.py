"""etcd beside us: three members on loopback, synced, put through the JSON gateway of the leader (`POST
/v3/kv/put`).

The figures of `benchmarks.raft_commit` mean more beside those of a store everybody knows, on the same disk in
the same run. Without an `etcd` on PATH there are none.
"""

import asyncio
import base64
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.raft_node import milliseconds
from tests.support.ports import free_port

MEMBERS: Final = ("e1", "e2", "e3")
START_SECONDS: Final = 15.0


def run_etcd(seconds: float, clients: int, size: int) -> dict[str, Any] | str:
    """p50 and p99 at one client, puts a second at `clients`; a hint when etcd is not there."""
    binary = shutil.which("etcd")
    if binary is None:
        return "not installed: apt-get install etcd-server"
    ports = {member: (free_port(), free_port()) for member in MEMBERS}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-commit-")))
        for member in MEMBERS:
            stack.enter_context(_member(binary, member, ports, directory))
        return asyncio.run(
            _measure([f"http://127.0.0.1:{client}" for client, _ in ports.values()], seconds, clients, size)
        )


@contextmanager
def _member(binary: str, name: str, ports: dict[str, tuple[int, int]], directory: Path) -> Iterator[None]:
    client, peer = (f"http://127.0.0.1:{port}" for port in ports[name])
    command = [binary, "--name", name, "--data-dir", str(directory / name), "--log-level", "error"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client]
    command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    cluster = ",".join(f"{member}=http://127.0.0.1:{port}" for member, (_, port) in ports.items())
    command += ["--initial-cluster", cluster, "--initial-cluster-state", "new"]
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)


async def _measure(urls: list[str], seconds: float, clients: int, size: int) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(limits=limits, timeout=10.0, trust_env=False) as http:
        leader = await _leader(http, urls)
        return {
            "one_client": await _load(http, leader, seconds, 1, size),
            f"{clients}_clients": await _load(http, leader, seconds, clients, size),
        }


async def _leader(http: httpx.AsyncClient, urls: list[str]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for url in urls:
            try:
                status = (await http.post(f"{url}/v3/maintenance/status", json={})).json()
            except (httpx.HTTPError, ValueError):
                continue
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return url
        await asyncio.sleep(0.1)
    raise TimeoutError(f"etcd had no leader within {START_SECONDS:.0f} s. Is another etcd on its ports?")


async def _load(
    http: httpx.AsyncClient, url: str, seconds: float, clients: int, size: int
) -> dict[str, float]:
    latencies: list[float] = []
    put = {"key": base64.b64encode(b"key").decode(), "value": base64.b64encode(os.urandom(size)).decode()}
    began = time.perf_counter()

    async def client() -> None:
        while (sent := time.perf_counter()) < began + seconds:
            (await http.post(f"{url}/v3/kv/put", json=put)).raise_for_status()
            latencies.append(time.perf_counter() - sent)

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return {"per_second": round(len(latencies) / (time.perf_counter() - began)), **milliseconds(latencies)}
