"""A leader lost to the next acknowledged write: ours beside etcd's, round by round in one run.

Time runs from just before the leader is lost to the first acknowledgement of a write that was sent after it.
A write is sent every 20 ms, at each member in turn, and none waits for another: a client that waits for its
answer would measure its own patience, as a member may swallow a request that it passed on to the dead leader.
The four clusters stand side by side all the time (they idle at a few percent of a core together) and take
turns, so a noisy minute hits all of them; a round begins when its cluster is well again.

- `ours_rest`: three coordinators as users run them, a registration through REST.
- `ours_nodes`: three bare Raft nodes, a command by NATS.
- `etcd`: its default times (heartbeat 100 ms, election 1,000 ms), a put through the JSON gateway.
- `etcd_our_times`: the same with our own (50 ms, 300 ms), which etcd's documentation allows on fast networks.

A killed process (`kill -9`) is noticed early by ours: the kernel closes its connection, and nats-server then
tells that nobody listens. A machine that loses power tells nobody. So under `frozen` the leader is stopped
(SIGSTOP) with all connections open, and only the time-out of an election can find it.
"""

import asyncio
import contextlib
import itertools
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from benchmarks import failover as rest
from benchmarks.raft import etcd, figures, ours
from benchmarks.raft.process import Process
from tests.support.cluster import Cluster, poll

MEDIAN_OF_ETCD: Final = 0.3
PROBE_SECONDS: Final = 0.02
GIVE_UP_SECONDS: Final = 30.0
MOST_PROBES: Final = int(GIVE_UP_SECONDS / PROBE_SECONDS)

Write = Callable[[str], Awaitable[None]]
"""One write at a member; raises when it is not acknowledged."""


class Subject(Protocol):
    """A cluster whose leader is lost again and again."""

    members: Sequence[str]

    async def leader(self) -> str:
        """The leader, once all members are well."""
        ...

    async def write(self, member: str) -> None: ...

    def lose(self, member: str, *, frozen: bool) -> None: ...

    async def restore(self, member: str, *, frozen: bool) -> None: ...


class Processes:
    """A cluster whose members are child processes."""

    def __init__(
        self, members: dict[str, Process], leader: Callable[[], Awaitable[str]], write: Write
    ) -> None:
        self.members: Sequence[str] = list(members)
        self._processes, self._leader, self._write = members, leader, write

    async def leader(self) -> str:
        return await self._leader()

    async def write(self, member: str) -> None:
        await self._write(member)

    def lose(self, member: str, *, frozen: bool) -> None:
        if frozen:
            self._processes[member].freeze()
        else:
            self._processes[member].kill()

    async def restore(self, member: str, *, frozen: bool) -> None:
        if frozen:
            self._processes[member].thaw()
        else:
            self._processes[member].start()


class Coordinators:
    """A cluster as `varpulis up` starts it."""

    def __init__(self, cluster: Cluster, http: httpx.AsyncClient) -> None:
        self.members: Sequence[str] = cluster.coordinators
        self._cluster, self._http = cluster, http

    async def leader(self) -> str:
        await asyncio.to_thread(rest.until_ready, self._cluster)
        return await asyncio.to_thread(self._cluster.leader)

    async def write(self, member: str) -> None:
        url = self._cluster.url(member) + rest.REGISTER
        (await self._http.post(url, json=rest.registration())).raise_for_status()

    def lose(self, member: str, *, frozen: bool) -> None:
        self._cluster.signal(member, signal.SIGSTOP if frozen else signal.SIGKILL)

    async def restore(self, member: str, *, frozen: bool) -> None:
        if frozen:
            self._cluster.signal(member, signal.SIGCONT)
            return
        pid = self._cluster.pid(member)
        await asyncio.to_thread(poll, lambda: pid not in self._cluster.alive(), what=f"{member} gone")
        await asyncio.to_thread(self._cluster.up)


async def measure(*, rounds: int) -> dict[str, Any]:
    """Gaps in seconds, `rounds` for each with a killed leader, and half as many with a frozen one."""
    async with AsyncExitStack() as stack:

        def directory() -> Path:
            return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="varpulis-bench-")))

        subjects = {
            "ours_rest": await stack.enter_async_context(_rest(directory())),
            "ours_nodes": await stack.enter_async_context(_nodes(directory())),
        }
        if etcd.installed():
            for name, times in (("etcd", etcd.DEFAULT_TIMES), ("etcd_our_times", etcd.OUR_TIMES)):
                subjects[name] = await stack.enter_async_context(_etcd(directory(), times))
        result = await _rounds(subjects, rounds, frozen=False)
        result["frozen"] = await _rounds(subjects, max(1, rounds // 2), frozen=True)
    limit = figures.times(MEDIAN_OF_ETCD, result["etcd"]["median_s"] if "etcd" in result else None)
    what = f"killed, through REST: median in s, at most {MEDIAN_OF_ETCD} times etcd's with its default times"
    result["missing"] = {} if etcd.installed() else {"etcd": etcd.MISSING}
    result["targets"] = {"median": figures.at_most(result["ours_rest"]["median_s"], limit, what)}
    return result


async def _rounds(subjects: dict[str, Subject], rounds: int, *, frozen: bool) -> dict[str, Any]:
    gaps: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, subject in subjects.items():
            gaps[name].append(await _gap(subject, frozen=frozen))
    return {name: figures.gaps(each) for name, each in gaps.items()}


async def _gap(subject: Subject, *, frozen: bool) -> float:
    leader = await subject.leader()
    await first_acknowledged(subject.write, subject.members)
    began = time.perf_counter()
    subject.lose(leader, frozen=frozen)
    await first_acknowledged(subject.write, subject.members)
    gap = time.perf_counter() - began
    await subject.restore(leader, frozen=frozen)
    return gap


async def first_acknowledged(write: Write, members: Sequence[str]) -> None:
    """Send a write every `PROBE_SECONDS`, at each member in turn, until any of them is acknowledged."""
    acknowledged = asyncio.Event()

    async def probe(member: str) -> None:
        with contextlib.suppress(Exception):  # whatever keeps a write from counting, the next one may
            await write(member)
            acknowledged.set()

    probes: list[asyncio.Task[None]] = []
    try:
        for member in itertools.islice(itertools.cycle(members), MOST_PROBES):
            probes.append(asyncio.create_task(probe(member)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await acknowledged.wait()
                    return
        raise TimeoutError(f"no write was acknowledged within {GIVE_UP_SECONDS:.0f} s: see the logs")
    finally:
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)


@asynccontextmanager
async def _rest(directory: Path) -> AsyncIterator[Subject]:
    cluster = Cluster(directory, workers=1)
    async with _http() as http:
        try:
            await asyncio.to_thread(cluster.up)
            yield Coordinators(cluster, http)
        finally:
            await asyncio.to_thread(cluster.remove)


@asynccontextmanager
async def _nodes(directory: Path) -> AsyncIterator[Subject]:
    async with ours.nodes(directory) as cluster:

        async def write(member: str) -> None:
            await ours.put(cluster.bus, member, b"x" * 200, GIVE_UP_SECONDS)

        yield Processes(cluster.processes, cluster.leader, write)


@asynccontextmanager
async def _etcd(directory: Path, times: tuple[str, ...]) -> AsyncIterator[Subject]:
    async with etcd.etcd(directory, times) as cluster, _http() as http:

        async def write(member: str) -> None:
            url = f"http://127.0.0.1:{cluster.ports[member]}/v3/kv/put"
            (await http.post(url, json={"key": "a2V5", "value": "eA=="})).raise_for_status()

        yield Processes(cluster.processes, cluster.leader, write)


def _http() -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=MOST_PROBES)
    return httpx.AsyncClient(trust_env=False, timeout=GIVE_UP_SECONDS, limits=limits)
