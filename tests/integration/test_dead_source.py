"""A worker dies and its pipelines go on from their last checkpoint elsewhere: worker processes that are
killed (-9) and frozen, three coordinators, and both stores.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ROOT, environment
from tests.support.nats_server import NatsServer, die_with_parent
from tests.support.poll import until
from tests.unit.coordinator.three import Three, three

pytestmark = pytest.mark.processes

SUM = "stream Sum = In.partition_by(k).window(3).aggregate(total: sum(n)).emit(total: total)"


class Stage:
    """Coordinators in this process, workers in their own; a group `g` with one pipeline `p` on `w1`."""

    def __init__(
        self, coordinators: Three, server: NatsServer, directory: Path, settings: dict[str, str]
    ) -> None:
        self.coordinators = coordinators
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._server = server
        self._directory = directory
        self._settings = settings

    async def start(self, *names: str) -> None:
        """Start workers, and wait until the cluster knows them."""
        for name in names:
            self.children[name] = self._spawn(name)
        await self.known(*names)

    async def known(self, *names: str) -> None:
        """Wait until workers are members."""

        async def ready() -> bool:
            workers = (await self.coordinators.ask("GET", "/workers")).json()["workers"]
            return {each["id"] for each in workers if each["status"] == "ready"}.issuperset(names)

        await until(ready, what=f"{names} registered")

    def _spawn(self, name: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "cli.main", "worker", "--id", name, "--nats", self._server.url]
        with (self._directory / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, "--data-dir", str(self._directory / name)],
                cwd=ROOT,
                env=environment({f"VARPULIS_WORKER_{key}": value for key, value in self._settings.items()}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=die_with_parent(),
            )

    async def deploy(self) -> None:
        spec = {"name": "p", "source": SUM, "worker_affinity": "w1"}
        answer = await self.coordinators.ask("POST", "/pipeline-groups", {"name": "g", "pipelines": [spec]})
        assert answer.status_code == 201, answer.text
        assert (await self.placement())["reason"] is None, "it began from nothing, as a new one should"

    def signal(self, name: str, number: signal.Signals) -> None:
        self.children[name].send_signal(number)

    async def kill(self, name: str) -> None:
        """`kill -9`; returns when its pipeline runs elsewhere."""
        self.children[name].kill()
        self.children[name].wait(timeout=10)
        await self.elsewhere(name)

    async def elsewhere(self, name: str) -> None:
        async def placed() -> bool:
            placement = await self.placement()
            return bool(placement["status"] == "running" and placement["worker_id"] != name)

        await until(placed, what=f"it runs elsewhere than on {name}")

    async def placement(self) -> dict[str, Any]:
        return (await self.coordinators.placements())[0]

    async def inject(self, n: int) -> list[int]:
        """One event; the sums that come out."""
        body = {"event_type": "In", "fields": {"n": n, "k": "a"}}
        answer = await self.coordinators.ask("POST", "/pipeline-groups/g/inject", body)
        assert answer.status_code == 200, answer.text
        return [event["fields"]["total"] for event in answer.json()["worker_response"]["output_events"]]

    async def saved(self, n: int) -> None:
        """Inject, and wait until a checkpoint holds it."""
        assert await self.inject(n) == []
        await self.safe()

    async def safe(self) -> None:
        """Wait until a checkpoint holds everything."""
        address = (await self.placement())["worker_address"]

        async def saved() -> bool:
            health = (await self.coordinators.http.get(f"{address}/health")).json()
            return bool(health["checkpoints"]["loss_window_secs"] == 0)

        await until(saved, what="nothing would be lost")


@contextlib.asynccontextmanager
async def stage(
    server: NatsServer, tmp_path: Path, store: str, *names: str, **settings: str
) -> AsyncIterator[Stage]:
    where = {"dir": f"dir:{tmp_path / 'shared'}", "jetstream": "jetstream"}[store]
    given = {"CHECKPOINT_STORE": where, "CHECKPOINT_INTERVAL": "0.5", **settings}
    async with three(server.url, tmp_path) as coordinators:
        made = Stage(coordinators, server, tmp_path, given)
        try:
            await made.start(*names)
            await made.deploy()
            yield made
        finally:
            for child in made.children.values():
                child.kill()
                child.wait(timeout=10)


@pytest.fixture
def server() -> Any:
    with NatsServer(jetstream=True) as running:
        yield running


@pytest.mark.parametrize("store", ["dir", "jetstream"])
async def test_the_pipeline_of_a_killed_worker_counts_on_from_its_last_checkpoint(
    server: NatsServer, tmp_path: Path, store: str
) -> None:
    async with stage(server, tmp_path, store, "w1", "w2") as cluster:
        await cluster.saved(1)
        await cluster.saved(10)

        async def told() -> bool:
            group = (await cluster.coordinators.ask("GET", "/pipeline-groups/g")).json()
            return bool(group["loss_windows"] == {"p": 0})

        await until(told, what="REST tells that nothing would be lost")
        await cluster.kill("w1")
        assert "went on from a checkpoint" in (await cluster.placement())["reason"]
        assert await cluster.inject(100) == [111]


async def test_a_torn_newest_checkpoint_costs_the_events_since_the_one_before(
    server: NatsServer, tmp_path: Path
) -> None:
    async with stage(server, tmp_path, "dir", "w1", "w2") as cluster:
        await cluster.saved(1)
        await cluster.saved(10)
        chunks = [path for path in (tmp_path / "shared" / "g" / "p").iterdir() if path.suffix == ".0"]
        newest = max(chunks, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(newest, newest.stat().st_size - 1)
        await cluster.kill("w1")
        assert await cluster.inject(100) == []
        assert await cluster.inject(5) == [106], "1, 100 and 5: the 10 was in the torn one"
        assert b"trying the one before" in (tmp_path / "w2.log").read_bytes()


async def test_a_frozen_worker_that_thaws_cannot_write_over_what_came_after_it(
    server: NatsServer, tmp_path: Path
) -> None:
    """It is frozen with an event that no checkpoint holds, so it has something to write when it thaws."""
    async with stage(server, tmp_path, "dir", "w1", "w2", "w3") as cluster:
        await cluster.saved(1)
        assert await cluster.inject(1000) == []
        cluster.signal("w1", signal.SIGSTOP)
        await cluster.elsewhere("w1")
        second = (await cluster.placement())["worker_id"]
        assert "went on from a checkpoint" in (await cluster.placement())["reason"]
        cluster.signal("w1", signal.SIGCONT)
        await cluster.known("w1")
        out = await cluster.inject(10)
        assert out in ([], [1011]), "it went on from the checkpoint, or from one that was just taken"
        await cluster.safe()
        await cluster.kill(second)
        assert await cluster.inject(100) == ([] if out else [111])


@pytest.mark.parametrize("required", [True, False])
async def test_a_store_that_is_away_during_a_failover_holds_nothing_up_for_ever(
    server: NatsServer, tmp_path: Path, required: bool
) -> None:
    settings = {"CHECKPOINT_WAIT": "0.3", "CHECKPOINT_REQUIRED": str(required).lower()}
    async with stage(server, tmp_path, "dir", "w1", "w2", **settings) as cluster:
        await cluster.saved(1)
        shared, aside = tmp_path / "shared", tmp_path / "aside"
        shared.rename(aside)
        shared.write_text("no directory")
        cluster.children["w1"].kill()
        if not required:
            await cluster.elsewhere("w1")
            reason = (await cluster.placement())["reason"]
            assert "began without state" in reason and "mend the disk" in reason
            assert [await cluster.inject(n) for n in (10, 100)] == [[], []]
            return

        async def explained() -> bool:
            placement = await cluster.placement()
            return placement["worker_id"] == "w2" and "waits for its checkpoint" in (
                placement["reason"] or ""
            )

        await until(explained, what="the reason")
        shared.unlink()
        shutil.move(aside, shared)
        await cluster.elsewhere("w1")
        assert [await cluster.inject(n) for n in (10, 100)] == [[], [111]]
