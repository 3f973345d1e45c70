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
ANSWER_SECONDS: Final = 10.0


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
        return asyncio.run(_measure([client for client, _ in ports.values()], seconds, clients, size))


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


async def _measure(ports: list[int], seconds: float, clients: int, size: int) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as http:
        leader = await _leader(http, ports)
    return {
        "one_client": await _load(leader, seconds, 1, size),
        f"{clients}_clients": await _load(leader, seconds, clients, size),
    }


async def _leader(http: httpx.AsyncClient, ports: list[int]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for port in ports:
            try:
                status = (await http.post(f"http://127.0.0.1:{port}/v3/maintenance/status", json={})).json()
            except (httpx.HTTPError, ValueError):
                continue
            if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                return port
        await asyncio.sleep(0.1)
    raise TimeoutError(f"etcd had no leader within {START_SECONDS:.0f} s. Is another etcd on its ports?")


async def _load(port: int, seconds: float, clients: int, size: int) -> dict[str, float]:
    """Keep-alive connections with prebuilt requests: an HTTP library would cost more than etcd itself."""
    latencies: list[float] = []
    value = base64.b64encode(os.urandom(size)).decode()
    began = time.perf_counter()

    async def client(number: int) -> None:
        body = f'{{"key": "{base64.b64encode(b"key %d" % number).decode()}", "value": "{value}"}}'
        request = (
            f"POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (sent := time.perf_counter()) < began + seconds:
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_SECONDS)
            status, _, fields = head.partition(b"\r\n")
            if b" 200 " not in status:
                raise RuntimeError(f"etcd answered {status!r}. See its log")
            length = int(fields.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await asyncio.wait_for(reader.readexactly(length), ANSWER_SECONDS)
            latencies.append(time.perf_counter() - sent)
        writer.close()
        await writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    return {"per_second": round(len(latencies) / (time.perf_counter() - began)), **milliseconds(latencies)}
