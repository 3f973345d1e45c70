"""What a cluster costs that does nothing: three coordinators, one worker, no pipelines.

The share of one core is CPU time over elapsed time of each process, from the system's own accounting, so
what else the machine does hardly matters. Three idle etcd members stand beside them for the same time.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.raft import etcd
from benchmarks.raft.figures import at_most
from tests.support.cluster import Cluster

SETTLE_SECONDS: Final = 5.0
TARGET_PERCENT: Final = 1.0


async def measure(*, seconds: float) -> dict[str, Any]:
    """CPU in percent of a core and resident memory in MB, of each process."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="varpulis-bench-")))
        cluster = Cluster(directory, workers=1)
        stack.push_async_callback(asyncio.to_thread, cluster.remove)
        await asyncio.to_thread(cluster.up)
        leader = await asyncio.to_thread(cluster.leader)
        pids = {_role(name, leader, cluster): cluster.pid(name) for name in cluster.processes}
        if etcd.installed():
            beside = await stack.enter_async_context(etcd.etcd(directory))
            first = await beside.leader()
            for member, process in beside.processes.items():
                pids[f"etcd {'leader' if member == first else 'follower'} {member}"] = process.pid
        await asyncio.sleep(SETTLE_SECONDS)
        processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        before = {name: _cpu_seconds(process) for name, process in processes.items()}
        began = time.monotonic()
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - began
        result: dict[str, Any] = {
            name: {
                "cpu_percent": round((_cpu_seconds(process) - before[name]) / elapsed * 100, 2),
                "rss_mb": round(process.memory_info().rss / 1e6, 1),
            }
            for name, process in processes.items()
        }
        still = await asyncio.to_thread(cluster.leader)
    busiest = max(each["cpu_percent"] for name, each in result.items() if name.startswith("coordinator"))
    return {
        "seconds": round(elapsed, 1),
        "processes": result,
        "leader_changed": still != leader,
        "targets": {
            "cpu": at_most(busiest, TARGET_PERCENT, "busiest idle coordinator, percent of a core, at most")
        },
    }


def _role(name: str, leader: str, cluster: Cluster) -> str:
    if name not in cluster.coordinators:
        return name
    return f"coordinator {'leader' if name == leader else 'follower'} {name}"


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
