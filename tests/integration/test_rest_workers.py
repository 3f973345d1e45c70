"""Three coordinators, a worker on NATS and two that speak REST, all of them processes: what is killed, and
who goes on.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from proto_schemas.rest.base import API_BASE
from tests.support.cluster import environment
from tests.support.coordinators import Coordinators
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from tests.unit.coordinator.three import PASS

pytestmark = pytest.mark.processes

NODES = ("c0", "c1", "c2")


class Mixed(Coordinators):
    """The coordinators, and workers beside them."""

    def __init__(self, nats_url: str, directory: Path) -> None:
        super().__init__(nats_url, directory)
        self.workers_by_id: dict[str, asyncio.subprocess.Process] = {}

    async def work(self, worker_id: str, *flags: str) -> None:
        """Start a worker and wait until it is registered."""
        command = [sys.executable, "-m", "cli.main", "worker", "--id", worker_id]
        command += ["--data-dir", str(self.directory / worker_id), *flags]
        with (self.directory / f"{worker_id}.log").open("ab") as log:
            self.workers_by_id[worker_id] = await asyncio.create_subprocess_exec(
                *command, cwd=self.directory, env=environment(), stdout=log, stderr=log
            )

        async def known() -> bool:
            return (await self.view(worker_id)).get("status") == "ready"

        await until(known, timeout=60, what=f"{worker_id} ready\n{self.log(worker_id)}")

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request to any coordinator that runs and knows a leader."""
        while True:
            for node_id in list(self.processes):
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self.http.request(method, self.url(node_id) + API_BASE + path, json=body)
                    if answer.status_code != 503:
                        return answer
            await asyncio.sleep(0.1)

    async def view(self, worker_id: str) -> dict[str, Any]:
        view: dict[str, Any] = (await self.ask("GET", f"/workers/{worker_id}")).json()
        return view

    async def placed(self, group: str) -> dict[str, Any]:
        (placement,) = (await self.ask("GET", f"/pipeline-groups/{group}")).json()["placements"]
        found: dict[str, Any] = placement
        return found

    async def deploy(self, group: str, worker_id: str) -> dict[str, Any]:
        """A group of one pipeline that runs on this worker."""
        pipelines = [{"name": "p", "source": PASS, "worker_affinity": worker_id}]
        made = await self.ask("POST", "/pipeline-groups", {"name": group, "pipelines": pipelines})
        assert made.json()["status"] == "running", made.text
        placement = await self.placed(group)
        assert placement["worker_id"] == worker_id, placement
        return placement

    async def inject(self, group: str, x: int) -> Any:
        event = {"event_type": "In", "fields": {"x": x}}
        answer = await self.ask("POST", f"/pipeline-groups/{group}/inject", event)
        assert answer.status_code == 200, answer.text
        return answer.json()["worker_response"]["output_events"]


@pytest.fixture
async def mixed(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Mixed]:
    async with Mixed(nats_server.url, tmp_path) as group:
        try:
            await group.start(*NODES)
            await group.work("n0", "--nats", nats_server.url)
            urls = ",".join(map(group.url, NODES))
            for worker_id in ("r0", "r1"):
                port = str(free_port())
                await group.work(worker_id, "--coordinators", urls, "--http-port", port)
            yield group
        finally:
            for process in group.workers_by_id.values():
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


async def test_workers_of_both_carriers_take_pipelines_and_what_is_killed_is_replaced(mixed: Mixed) -> None:
    carriers = {name: (await mixed.view(name))["carrier"] for name in ("n0", "r0", "r1")}
    assert carriers == {"n0": "nats", "r0": "rest", "r1": "rest"}
    before = {name: await mixed.deploy(f"on-{name}", name) for name in carriers}
    for name in carriers:
        assert await mixed.inject(f"on-{name}", 2**60) == [{"event_type": "Out", "fields": {"x": 2**60}}]

    # Routes between pipelines need NATS: with both workers that lack it empty-handed, the third is chosen.
    chain = {
        "name": "chain",
        "pipelines": [{"name": "a", "source": PASS}, {"name": "b", "source": PASS}],
        "routes": [{"from_pipeline": "a", "to_pipeline": "b", "event_types": ["Out"]}],
    }
    made = (await mixed.ask("POST", "/pipeline-groups", chain)).json()
    assert {each["worker_id"] for each in made["placements"]} == {"n0"}, made

    # A REST worker is killed: its pipeline runs elsewhere, the others stay.
    mixed.workers_by_id["r0"].send_signal(signal.SIGKILL)
    await mixed.workers_by_id["r0"].wait()

    async def moved() -> bool:
        placement = await mixed.placed("on-r0")
        return bool(placement["status"] == "running" and placement["worker_id"] != "r0")

    await until(moved, timeout=30, what="on-r0 runs elsewhere")
    assert (await mixed.placed("on-r0"))["epoch"] > before["r0"]["epoch"]
    assert await mixed.inject("on-r0", 1) == [{"event_type": "Out", "fields": {"x": 1}}]
    assert await mixed.placed("on-r1") == before["r1"]


async def test_a_worker_goes_on_with_another_coordinator_and_sigterm_hands_its_pipelines_over(
    mixed: Mixed,
) -> None:
    before = await mixed.deploy("g", "r1")
    leader = await mixed.leader()
    await mixed.kill(leader)
    assert await mixed.leader() != leader
    # The new leader granted a full timeout, was told the key with a heartbeat, and moved nothing.
    second = await mixed.deploy("h", "r1")

    async def heard() -> bool:
        age = (await mixed.view("r1"))["last_heartbeat_age_ms"]
        return bool(age is not None and age < 2_500)

    await until(heard, what="heartbeats at the new leader")
    await asyncio.sleep(4.0)  # longer than the heartbeat timeout: had they stayed out, it would be over now
    view = await mixed.view("r1")
    assert view["status"] == "ready" and view["assigned_pipelines"] == ["g/p", "h/p"]
    assert (await mixed.placed("g"), await mixed.placed("h")) == (before, second)
    assert await mixed.inject("g", 7) == [{"event_type": "Out", "fields": {"x": 7}}]

    mixed.workers_by_id["r1"].send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await mixed.workers_by_id["r1"].wait() == 0, mixed.log("r1")
    assert not (mixed.directory / "r1" / "checkpoints").exists(), "nothing was left to save"
    assert (await mixed.view("r1"))["status"] == "draining", json.dumps(await mixed.view("r1"))
    placements = [await mixed.placed("g"), await mixed.placed("h")]
    assert all(each["status"] == "running" and each["worker_id"] != "r1" for each in placements), placements
    moves = (await mixed.ask("GET", "/migrations")).json()["migrations"]
    assert [(move["cause"], move["status"], move["reason"]) for move in moves] == [
        ("leave", "done", None)
    ] * 2


async def test_a_pipeline_moves_with_its_state_between_workers_of_either_carrier(mixed: Mixed) -> None:
    source = "stream Sum = In.window(3).aggregate(total: sum(x)).emit(total: total)"
    pipelines = [{"name": "p", "source": source, "worker_affinity": "r0"}]
    made = await mixed.ask("POST", "/pipeline-groups", {"name": "g", "pipelines": pipelines})
    assert made.json()["status"] == "running", made.text
    total, count = 0, 0

    async def next_event() -> None:
        nonlocal total, count
        count += 1
        total += count
        out = await mixed.inject("g", count)
        assert out == ([] if count % 3 else [{"event_type": "Sum", "fields": {"total": total}}]), count
        total = 0 if count % 3 == 0 else total

    for to in ("r1", "n0", "r0"):
        await next_event()
        await next_event()
        asked = await mixed.ask("POST", "/pipelines/g/p/migrate", {"to": to})
        assert asked.status_code == 202, asked.text
        path = f"/migrations/{asked.json()['migration_id']}"

        async def ended(path: str = path) -> bool:
            return bool((await mixed.ask("GET", path)).json()["ended_at"])

        await until(ended, timeout=20, what=f"the move to {to}")
        move = (await mixed.ask("GET", path)).json()
        assert (move["status"], move["reason"]) == ("done", None), move
        assert (await mixed.placed("g"))["worker_id"] == to
    await next_event()
    assert count == 7
