"""The cluster that is asked: three coordinators with keys, two workers, and a little of everything in it."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coordinator.security.keys import new_key, parse_key
from coordinator.state.records import KeyRole
from proto_schemas.rest.base import API_BASE
from tests.fuzz.driver import Care
from tests.support.cluster import environment
from tests.support.coordinators import Coordinators
from tests.support.poll import until

NODES: Final = ("c0", "c1", "c2")
WORKERS: Final = ("w1", "w2")
GROUP: Final = {
    "name": "demo",
    "pipelines": [
        {"name": "pass", "source": "stream Out = In.where(x > 0).emit(x: x)"},
        {"name": "count", "source": "stream Big = Out.where(x > 10).emit(x: x)", "replicas": 2},
    ],
    "routes": [
        {"from_pipeline": "_external", "to_pipeline": "pass", "event_types": ["In"]},
        {"from_pipeline": "pass", "to_pipeline": "count", "event_types": ["Out"]},
    ],
}
CONNECTOR: Final = {"name": "bus", "connector_type": "nats", "params": {"servers": "nats://127.0.0.1:1"}}


@dataclass(frozen=True)
class Stage:
    """`keys`: one of each role."""

    group: Coordinators
    keys: dict[KeyRole, str]

    @property
    def care(self) -> Care:
        """What a run must spare."""
        ids = [key.id for key in map(parse_key, self.keys.values()) if key is not None]
        return Care(members=frozenset(NODES), keys=frozenset(ids), cluster_id=self.group.cluster_id)

    async def ask(self, method: str, path: str, body: Any = None, node: str = "c0") -> Any:
        """The JSON of an answer that is no refusal."""
        answer = await self.group.http.request(method, self.group.url(node) + API_BASE + path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def follower(self) -> str:
        """A node that passes requests on."""
        leader = await self.group.leader()
        return next(node for node in NODES if node != leader)

    async def is_well(self) -> None:
        """Nothing has died, everybody is ready, and a write through each node is carried out."""
        assert all(process.returncode is None for process in self.group.processes.values())
        await self.group.ready(*NODES)
        for node in NODES:
            made = await self.ask("POST", "/keys", {"role": "viewer"}, node)
            assert await self.ask("DELETE", f"/keys/{made['id']}", node=node) == {"revoked": True}

    def defects(self) -> list[str]:
        """Lines of the logs that tell of what nobody foresaw."""
        logs = [(node, self.group.directory / f"{node}.log") for node in self.group.processes]
        return [
            f"{node}: {line}"
            for node, log in logs
            for line in log.read_text(errors="replace").splitlines()
            if "request_failed" in line or "Traceback" in line or "Exception in ASGI" in line
        ]


@contextlib.asynccontextmanager
async def a_cluster(nats_url: str, directory: Path) -> AsyncIterator[Stage]:
    """Up and filled; gone at the end."""
    admin, worker = new_key(), new_key()
    for name, key in (("admin", admin), ("worker", worker)):
        (directory / name).write_text(key.text + "\n")
    flags = ["--admin-key-file", str(directory / "admin"), "--worker-key-file", str(directory / "worker")]
    async with Coordinators(nats_url, directory, cluster_id="fuzz") as group:
        group.http.headers["x-api-key"] = admin.text
        for node in NODES:
            await group.launch(node, ",".join(NODES), *flags)
        for name in WORKERS:
            await _launch_worker(group, name)
        await _key_counts(group)
        await group.ready(*NODES)
        stage = Stage(group, {KeyRole.ADMIN: admin.text, KeyRole.WORKER: worker.text})
        await _fill(stage)
        yield stage


async def _key_counts(group: Coordinators) -> None:
    """The key of the file has come into the state; asked seldom, because each refusal counts."""

    async def everywhere() -> bool:
        for node in NODES:
            if (await group.probe(node, "/readyz"))[0] != 200:
                return False
        await asyncio.sleep(0.2)
        statuses = [(await group.probe(node, API_BASE + "/raft"))[0] for node in NODES]
        return statuses == [200] * len(NODES)

    await until(everywhere, timeout=60, what="the admin's key counts")


async def _launch_worker(group: Coordinators, name: str) -> None:
    command = [sys.executable, "-m", "cli.main", "worker", "--id", name, "--nats", group.nats_url]
    command += ["--data-dir", str(group.directory / name), "--leave-timeout", "0"]
    command += ["--api-key-file", str(group.directory / "worker")]
    with (group.directory / f"{name}.log").open("ab") as log:
        group.processes[name] = await asyncio.create_subprocess_exec(
            *command,
            cwd=group.directory,
            env=environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


async def _fill(stage: Stage) -> None:
    async def all_there() -> bool:
        workers = (await stage.ask("GET", "/workers"))["workers"]
        return {worker["id"] for worker in workers if worker["status"] == "ready"} == set(WORKERS)

    await until(all_there, timeout=30, what="the workers are there")
    created = await stage.ask("POST", "/pipeline-groups", GROUP)
    assert created["status"] == "running", created
    await stage.ask("POST", "/connectors", CONNECTOR)
    for role in (KeyRole.VIEWER, KeyRole.OPERATOR):
        stage.keys[role] = (await stage.ask("POST", "/keys", {"role": role.value}))["key"]
    await stage.ask("POST", "/pipelines/demo/pass/migrate", {})
    await stage.ask("POST", "/workers/w2/drain", {})
