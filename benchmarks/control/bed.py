"""What the control benchmarks stand on: a real nats-server, three real coordinators with their journals on
disk, a fleet of simulated workers, and meters of what each process spends.

CPU is what the operating system accounts to a process, so what else runs on the machine hardly matters to it;
a rate or a latency does share the cores with the nats-server, all coordinators and the load.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from benchmarks.control.fleet import Fleet, Simulated
from proto_schemas.rest.base import API_BASE
from tests.support.cluster import Cluster
from tests.support.pipelines import echo_program

TIMEOUT_INTERVALS: Final = 3
"""Heartbeat intervals of silence that count as death."""
PATIENCE: Final = 60.0
SETTLE: Final = 2.0
"""Seconds of rest before a measurement that takes time."""
GROUP: Final = 100
"""Pipelines of a group, where many are needed."""


@dataclass
class Meter:
    """CPU seconds and elapsed seconds of a block; `cpu` is by role: `leader`, `followers` (the mean of the
    two), `nats`, `load`."""

    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)

    def percent(self, role: str) -> float:
        """Of one core."""
        return round(100 * self.cpu[role] / self.seconds, 2)

    def us_each(self, role: str, count: int) -> float:
        """CPU in microseconds for each of `count` things."""
        return round(1e6 * self.cpu[role] / count, 1)

    def figures(self, count: int | None = None) -> dict[str, Any]:
        """All of it, for the output."""
        shares = {f"{role}_percent": self.percent(role) for role in self.cpu}
        if count is None:
            return shares
        return shares | {f"{role}_us_each": self.us_each(role, count) for role in self.cpu}


class Bed:
    """One cluster, its fleet, and requests to it."""

    def __init__(self, cluster: Cluster, fleet: Fleet, http: httpx.AsyncClient, leader: str) -> None:
        self.cluster, self.fleet, self._http, self.leader = cluster, fleet, http, leader
        self.followers = [name for name in cluster.coordinators if name != leader]
        self._term = 0
        self._processes = {
            "leader": [psutil.Process(cluster.pid(leader))],
            "followers": [psutil.Process(cluster.pid(name)) for name in self.followers],
            "nats": [psutil.Process(cluster.pid("nats"))],
            "load": [psutil.Process()],
        }

    def url(self, name: str, path: str) -> str:
        """Of a path of the API on one coordinator."""
        return self.cluster.url(name) + API_BASE + path

    @contextlib.contextmanager
    def meter(self) -> Any:
        """Measure a block; the meter is filled at its end."""
        meter = Meter()
        before = {role: self._cpu(role) for role in self._processes}
        began = time.perf_counter()
        yield meter
        meter.seconds = time.perf_counter() - began
        meter.cpu = {role: self._cpu(role) - before[role] for role in self._processes}

    def _cpu(self, role: str) -> float:
        processes = self._processes[role]
        return sum(map(cpu_seconds, processes)) / len(processes)

    def resident_mb(self) -> dict[str, float]:
        """Memory by role; of the followers, the mean."""
        return {
            role: round(sum(each.memory_info().rss for each in processes) / len(processes) / 1e6, 1)
            for role, processes in self._processes.items()
        }

    def disk_mb(self) -> float:
        """Bytes in the leader's data directory."""
        files = [path for path in (self.cluster.data_dir).rglob("*") if path.is_file()]
        return round(sum(path.stat().st_size for path in files if self.leader in str(path)) / 1e6, 2)

    async def leader_changed(self) -> bool:
        """Whether another node leads than at the begin: then the figures by role are not what they say."""
        return await asyncio.to_thread(self.cluster.leader) != self.leader or await self.term() != self._term

    async def term(self) -> int:
        """Of Raft, as the first leader knows it."""
        return int((await self.get("/raft"))["term"])

    async def begin(self) -> None:
        """Remember who leads."""
        self._term = await self.term()

    async def get(self, path: str, *, of: str = "", **query: Any) -> Any:
        """As one coordinator has applied it: the leader, or `of` that id."""
        answer = await self._http.get(
            self.url(of or self.leader, path), params={"consistency": "stale", **query}
        )
        answer.raise_for_status()
        return answer.json()

    async def post(self, path: str, body: Any, **query: Any) -> httpx.Response:
        """To the leader."""
        return await self._http.post(self.url(self.leader, path), json=body, params=query)

    async def running(self) -> int:
        """How many pipelines run."""
        return int((await self.get("/summary"))["pipelines"]["running"])

    async def until_running(self, count: int) -> None:
        """Wait until so many run."""
        deadline = time.monotonic() + PATIENCE
        while (now := await self.running()) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{now} of {count} pipelines run after {PATIENCE:g} s")
            await asyncio.sleep(0.02)

    def group(self, name: str, pipelines: int = GROUP) -> dict[str, Any]:
        """A group of so many programs, each another one."""
        return {
            "name": name,
            "pipelines": [
                {
                    "name": f"p-{number:03}",
                    "source": echo_program(self.cluster.nats_url, f"{name}-{number}"),
                }
                for number in range(pipelines)
            ],
        }

    async def deploy(self, name: str, pipelines: int = GROUP) -> float:
        """Create a group, and wait until all of it runs; the seconds from the request on."""
        body = self.group(name, pipelines)
        began = time.perf_counter()
        answer = await self.post("/pipeline-groups", body, wait=60)
        took = time.perf_counter() - began
        if answer.status_code != 201:
            raise RuntimeError(f"{name} does not run: {answer.status_code} {answer.text[:500]}")
        return took

    async def fill(self, prefix: str, pipelines: int) -> None:
        """Deploy so many in groups of `GROUP`."""
        for number in range(-(-pipelines // GROUP)):
            await self.deploy(f"{prefix}-{number}", min(GROUP, pipelines - number * GROUP))


def cpu_seconds(process: psutil.Process) -> float:
    """Of a process: on Linux to the nanosecond, of the threads that it has; elsewhere to a tick of 10 ms."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.exists():
        times = process.cpu_times()
        return float(times.user + times.system)
    total = 0
    for task in tasks.iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends now
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def workers(count: int, room: int, *, first: int = 0, seed: bool = False) -> list[Simulated]:
    """So many, each with `room` places."""
    return [Simulated(f"w-{number:05}", room, seed=seed) for number in range(first, first + count)]


@contextlib.asynccontextmanager
async def bed(*, interval: float = 1.0, joined: Iterable[Simulated] = ()) -> AsyncIterator[Bed]:
    """A fresh cluster whose workers beat every `interval` seconds; `joined` are members already."""
    settings = {
        "VARPULIS_COORDINATOR_HEARTBEAT_INTERVAL": str(interval),
        "VARPULIS_COORDINATOR_HEARTBEAT_TIMEOUT": str(interval * TIMEOUT_INTERVALS),
        "VARPULIS_COORDINATOR_REBALANCE": "false",  # simulated workers hand nothing over
    }
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="varpulis-bench-", ignore_cleanup_errors=True)
            )
        )
        cluster = Cluster(directory, workers=0, env=settings)
        stack.push_async_callback(asyncio.to_thread, cluster.remove)
        await asyncio.to_thread(cluster.up)
        leader = await asyncio.to_thread(cluster.leader)
        fleet = await stack.enter_async_context(Fleet(cluster.nats_url))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=PATIENCE + 30, trust_env=False))
        await fleet.join(joined)
        stage = Bed(cluster, fleet, http, leader)
        await stage.begin()
        yield stage
