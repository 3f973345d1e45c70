"""A coordinator as a process: what keeps it from starting is one line and exit code 1; it ends in order."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from pathlib import Path

import httpx
import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import closed_port, free_port

pytestmark = pytest.mark.processes

PROGRAM = """
import sys
from pathlib import Path
from coordinator.app import serve
from coordinator.config import CoordinatorConfig
from transport.config import NatsConfig
from transport.loop import run
node, nats, port, directory, cluster = sys.argv[1:]
sys.exit(run(serve(CoordinatorConfig(
    node_id=node, members=(node,), cluster_id=cluster, nats=NatsConfig(servers=(nats,)), nats_wait=0.2,
    http_port=int(port), data_dir=Path(directory),
))))
"""


async def launch(node: str, nats: str, port: int, directory: Path, cluster: str = "x") -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        node,
        nats,
        str(port),
        str(directory),
        cluster,
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


async def refused(process: Process) -> str:
    """The one line of a process that must not start."""
    try:
        async with asyncio.timeout(60):
            assert process.stderr is not None
            text = (await process.stderr.read()).decode()
            assert await process.wait() == 1, text
    finally:
        if process.returncode is None:
            process.kill()
    assert "Traceback" not in text
    (said,) = [each for each in text.splitlines() if "cannot start" in each]
    return said


async def ready(port: int) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/readyz?leader=true")).status_code == 200
        except httpx.HTTPError:
            return False


async def ended(process: Process) -> int:
    async with asyncio.timeout(20):
        assert process.stderr is not None
        await process.stderr.read()
        return await process.wait()


async def test_a_coordinator_starts_serves_and_ends_in_order_and_comes_back(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    port = free_port()
    for _ in range(2):
        process = await launch("c0", nats_server.url, port, tmp_path)
        try:
            await until(lambda: ready(port), timeout=40, what="ready and leading")
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_no_nats_server_is_one_line_with_url_and_remedy(tmp_path: Path) -> None:
    with closed_port() as port:
        said = await refused(await launch("c0", f"nats://127.0.0.1:{port}", 0, tmp_path))
    assert str(port) in said


async def test_a_port_in_use_is_one_line_with_the_flag_to_change(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = await refused(await launch("c0", nats_server.url, port, tmp_path))
    assert str(port) in said and "--http-port" in said


async def test_a_directory_of_another_cluster_and_an_id_in_use_are_one_line_each(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    port = free_port()
    process = await launch("c0", nats_server.url, port, tmp_path / "a")
    try:
        await until(lambda: ready(port), timeout=40, what="ready and leading")
        assert "in use" in await refused(await launch("c0", nats_server.url, 0, tmp_path / "b"))
        assert "in use" in await refused(await launch("c1", nats_server.url, 0, tmp_path / "a"))
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = await refused(await launch("c0", nats_server.url, 0, tmp_path / "a", cluster="y"))
    assert "'x'" in said and "'y'" in said
