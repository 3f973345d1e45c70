"""etcd beside us: three members on loopback with their default settings, which sync before they acknowledge.

Two ways in, both to the leader and from outside its process: `load_grpc`, the protocol of etcd's own client
(`benchmarks.raft.grpc`), and `load_json`, the JSON gateway, which is what a program without a gRPC library
would use and costs etcd more. Without an `etcd` on PATH there are no figures, and the reason is told.
"""

import asyncio
import base64
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from benchmarks.raft.figures import Figures
from benchmarks.raft.grpc import GrpcConnection, field_bytes, request_headers
from benchmarks.raft.load import ANSWER_SECONDS, closed_loop, connections
from benchmarks.raft.process import Process
from tests.support.ports import free_port

MEMBERS: Final = ("e1", "e2", "e3")
READY_SECONDS: Final = 20.0
MISSING: Final = "etcd is not installed: apt-get install etcd-server"
DEFAULT_TIMES: Final = ()
OUR_TIMES: Final = ("--heartbeat-interval", "50", "--election-timeout", "300")
"""Milliseconds: the heartbeat and the shortest election timeout of `raft.config`."""


class Etcd:
    """Three members; `ports` are those that clients use."""

    def __init__(self, binary: str, directory: Path, times: tuple[str, ...]) -> None:
        self.ports = {member: free_port() for member in MEMBERS}
        peers = {member: free_port() for member in MEMBERS}
        cluster = ",".join(f"{member}=http://127.0.0.1:{port}" for member, port in peers.items())
        self.processes = {}
        for member in MEMBERS:
            client, peer = (f"http://127.0.0.1:{ports[member]}" for ports in (self.ports, peers))
            command = [binary, "--name", member, "--data-dir", str(directory / member)]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", cluster, "--log-level", "error", *times]
            self.processes[member] = Process(command, directory / f"{member}.log")

    async def leader(self) -> str:
        """The leader, once all members answer and agree on one."""
        deadline = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(timeout=1.0, trust_env=False) as http:
            while time.monotonic() < deadline:
                try:
                    told = {member: await _status(http, port) for member, port in self.ports.items()}
                except (httpx.HTTPError, ValueError, KeyError):
                    told = {}
                leaders = {leader for _, leader in told.values()}
                for member, (own_id, leader) in told.items():
                    if leaders == {own_id} and leader == own_id:
                        return member
                await asyncio.sleep(0.05)
        logs = "\n".join(f"{member}: {process.log}" for member, process in self.processes.items())
        raise TimeoutError(f"etcd had no leader within {READY_SECONDS:.0f} s:\n{logs}")


async def _status(http: httpx.AsyncClient, port: int) -> tuple[str, str]:
    """(its own id, the leader's id) of a member; raises KeyError while it knows none."""
    status = (await http.post(f"http://127.0.0.1:{port}/v3/maintenance/status", json={})).json()
    return status["header"]["member_id"], status["leader"]


@asynccontextmanager
async def etcd(directory: Path, times: tuple[str, ...] = DEFAULT_TIMES) -> AsyncIterator[Etcd]:
    """A cluster that is ready, with its data under `directory`; gone with the block. `installed` first."""
    binary = shutil.which("etcd")
    if binary is None:
        raise FileNotFoundError(MISSING)
    async with AsyncExitStack() as stack:
        cluster = Etcd(binary, directory, times)
        for process in cluster.processes.values():
            stack.enter_context(process)
        await cluster.leader()
        yield cluster


def installed() -> bool:
    """Whether there is an etcd to measure."""
    return shutil.which("etcd") is not None


async def load_grpc(port: int, clients: int, seconds: float, size: int) -> Figures:
    """Puts through gRPC."""
    value = field_bytes(2, os.urandom(size))
    messages = [field_bytes(1, b"key %d" % number) + value for number in range(clients)]
    headers = request_headers("/etcdserverpb.KV/Put", f"127.0.0.1:{port}")
    opened = [await GrpcConnection.open("127.0.0.1", port) for _ in range(connections(clients, size))]

    async def put(number: int) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            await opened[number % len(opened)].call(headers, messages[number])

    try:
        return await closed_loop(put, clients, seconds)
    finally:
        for connection in opened:
            connection.close()


async def load_json(port: int, clients: int, seconds: float, size: int) -> Figures:
    """Puts through the JSON gateway, over kept connections with requests built before: an HTTP library would
    cost more than etcd itself.
    """
    value = base64.b64encode(os.urandom(size)).decode()
    requests = [put_request(number, value) for number in range(clients)]
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(clients)]

    async def put(number: int) -> None:
        reader, writer = streams[number]
        writer.write(requests[number])
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            status, _, fields = head.partition(b"\r\n")
            length = int(fields.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        if b" 200 " not in status:
            raise RuntimeError(f"etcd answered {status!r}: see its log")

    try:
        return await closed_loop(put, clients, seconds)
    finally:
        for _, writer in streams:
            writer.close()


def put_request(number: int, value: str) -> bytes:
    """`POST /v3/kv/put` of an encoded value, as bytes."""
    body = f'{{"key": "{base64.b64encode(b"key %d" % number).decode()}", "value": "{value}"}}'
    head = f"POST /v3/kv/put HTTP/1.1\r\nHost: etcd\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()
