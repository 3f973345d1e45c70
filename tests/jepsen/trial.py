"""One trial: a cluster, clients and a nemesis for so many seconds; then the verdict.

The order at the end is a contract: the nemesis has healed everything, then the clients end, then all are
ready, then every key is read through every coordinator, then the copies are compared, and only then do the
processes end. What is left behind in the directory is the history and the logs.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.jepsen.client import Client
from tests.jepsen.nemesis import Harm, Nemesis
from tests.jepsen.workload import Notes, Settings, Workload
from tests.linearizability.checker import check
from tests.linearizability.history import save
from tests.support.linked import Cluster
from tests.support.poll import until
from tests.support.raft_watch import RaftWatch

_CHECK_SECONDS: Final = 30.0
_SETTLE_SECONDS: Final = 15.0


@dataclass(kw_only=True)
class Trial:
    """What a trial found; `complaints` is empty when all promises were kept."""

    seed: int
    directory: Path
    history: Path
    seconds: float = 0.0
    operations: int = 0
    terms: int = 0
    refused_starts: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    harms: list[Harm] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    linearizable: bool | None = None
    check_seconds: float = 0.0


async def run(
    directory: Path,
    *,
    seed: int,
    seconds: float,
    settings: Settings | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Trial:
    """Run one trial in `directory`; faults begin for `seconds` seconds.

    Raises:
        AssertionError: the cluster did not even start.
    """
    settings, notes = settings or Settings(), Notes()
    trial = Trial(seed=seed, directory=directory, history=directory / "history.jsonl")
    began = notes.clock()
    async with Cluster(directory) as cluster, Client() as client:
        workload = Workload(lambda: cluster.urls, client, notes, settings, seed)
        nemesis = Nemesis(cluster, seed, notes.last_acknowledged, progress, notes.clock)
        watch = RaftWatch(cluster)
        async with _beside(watch.run()):
            working = asyncio.create_task(workload.run())
            try:
                await nemesis.run(seconds)
            finally:
                workload.stop()
                await working
            trial.complaints += nemesis.complaints
            try:
                await _settle(cluster, client, workload)
            except AssertionError as error:
                trial.complaints.append(f"at the end: {error}")
        trial.harms, trial.terms = nemesis.harms, watch.terms
        trial.complaints += [*watch.complaints, *cluster.deaths, *client.surprises]
        trial.refused_starts = cluster.refused_starts
    trial.complaints += cluster.alarms
    trial.seconds = notes.clock() - began
    _judge(trial, notes)
    return trial


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` until the block ends; what it raised by then is raised."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _settle(cluster: Cluster, client: Client, workload: Workload) -> None:
    """All ready, every key read through each coordinator, the same in each; nobody writes any more.

    Raises:
        AssertionError: not in time.
    """
    await cluster.all_ready()
    for url in cluster.urls:
        await until(partial(workload.read_all, url), timeout=_SETTLE_SECONDS, what="all keys read")

    async def agree() -> bool:
        copies = [await client.read_all(url, consistency="stale") for url in cluster.urls]
        return all(isinstance(copy, dict) and copy == copies[0] for copy in copies)

    await until(agree, timeout=_SETTLE_SECONDS, what="all coordinators hold the same")


def _judge(trial: Trial, notes: Notes) -> None:
    operations = notes.recorder.history()
    save(operations, trial.history)
    trial.operations, trial.acknowledged = len(operations), notes.acknowledged
    for (what, outcome), count in sorted(notes.outcomes.items()):
        trial.outcomes.setdefault(what, {})[outcome] = count
    began = time.monotonic()
    verdict = check(operations, deadline_seconds=_CHECK_SECONDS + trial.seconds / 10)
    trial.check_seconds = time.monotonic() - began
    trial.linearizable = verdict.ok
    if not verdict.ok:
        word = "not linearizable" if verdict.ok is False else "not decided in time"
        trial.complaints.append(f"{word}: key {verdict.key}: {verdict.explanation}")
