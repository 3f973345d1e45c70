"""Whether our load does etcd justice: its own `etcdctl check perf` beside our gRPC load of the same shape.

`check perf --load=l` writes 1,024 bytes from 500 clients for a minute, held at 8,000 writes a second. Not
part of a run unless asked for (`parts=crosscheck`), as it takes that minute.
"""

import asyncio
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.raft import etcd

CLIENTS: Final = 500
SIZE: Final = 1024
WAIT_SECONDS: Final = 120.0


async def measure(*, seconds: float) -> dict[str, Any]:
    """Writes a second of both, and of ours also the latencies."""
    etcdctl = shutil.which("etcdctl")
    if etcdctl is None or not etcd.installed():
        return {
            "missing": {"etcd": "etcd or etcdctl is not installed: apt-get install etcd-server etcd-client"}
        }
    with tempfile.TemporaryDirectory(prefix="varpulis-bench-") as directory:
        async with etcd.etcd(Path(directory)) as cluster:
            port = cluster.ports[await cluster.leader()]
            ours = await etcd.load_grpc(port, CLIENTS, seconds, SIZE)
            said = await _check_perf(etcdctl, port)
    throughput = re.search(r"(?:Throughput too low: |Throughput is )(\d+) writes/s", said)
    slowest = re.search(r"Slowest request took(?: too long:)? ([\d.]+)s", said)
    return {
        "our_grpc_load": ours,
        "etcdctl_check_perf": {
            "per_second": int(throughput[1]) if throughput else None,
            "slowest_s": float(slowest[1]) if slowest else None,
            "verdict": said.rpartition("\r")[2].strip().splitlines()[-4:],
        },
    }


async def _check_perf(etcdctl: str, port: int) -> str:
    process = await asyncio.create_subprocess_exec(
        *(etcdctl, "--endpoints", f"127.0.0.1:{port}", "check", "perf", "--load=l"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "ETCDCTL_API": "3"},
    )
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said.decode(errors="replace")
