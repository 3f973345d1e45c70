"""Coordinators as processes that are started one by one, as on several machines; and a client that writes to
them all the while and keeps count.

`async with Coordinators(nats_url, tmp_path) as group:` gives an empty group; whatever was started is killed
at the end, by pid.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import httpx

from proto_schemas.rest.base import API_BASE
from tests.support.cluster import environment, varpulis
from tests.support.poll import until
from tests.support.ports import free_port

_PATIENCE = {
    "VARPULIS_COORDINATOR_ELECTION_TIMEOUT_MIN": "0.6",
    "VARPULIS_COORDINATOR_ELECTION_TIMEOUT_MAX": "1.2",
}
"""Slower elections: a busy machine that pauses is not to look like a fault."""
_START = 60.0


class Coordinators:
    """The processes by id, and requests to them."""

    def __init__(self, nats_url: str, directory: Path, *, cluster_id: str = "op") -> None:
        self.nats_url, self.directory, self.cluster_id = nats_url, directory, cluster_id
        self.http = httpx.AsyncClient(timeout=20, trust_env=False, verify=False)
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.http.aclose()
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def url(self, node_id: str) -> str:
        return f"http://127.0.0.1:{self.ports[node_id]}"

    def data_dir(self, node_id: str) -> Path:
        return self.directory / node_id

    def log(self, node_id: str) -> str:
        """What a process has said, for the text of a failed assertion."""
        path = self.directory / f"{node_id}.log"
        return f"== {node_id}\n{path.read_text(errors='replace')[-3000:]}" if path.exists() else ""

    async def launch(self, node_id: str, members: str, *flags: str) -> None:
        """Start a process; it is not ready yet."""
        self.ports.setdefault(node_id, free_port())
        command = [sys.executable, "-m", "cli.main", "coordinator", "--id", node_id, "--members", members]
        command += ["--cluster-id", self.cluster_id, "--nats", self.nats_url]
        command += [
            "--data-dir",
            str(self.data_dir(node_id)),
            "--http-port",
            str(self.ports[node_id]),
            *flags,
        ]
        with (self.directory / f"{node_id}.log").open("ab") as log:
            self.processes[node_id] = await asyncio.create_subprocess_exec(
                *command,
                cwd=self.directory,
                env=environment(_PATIENCE),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self, *node_ids: str) -> None:
        """Wait until they take part; and one of all that run leads and is known by URL everywhere."""

        async def all_of_them() -> bool:
            for node_id in node_ids:
                if (await self.probe(node_id, "/readyz"))[0] != 200:
                    return False
                view = await self.raft(node_id)
                if not any(node["id"] == view["leader_id"] and node["url"] for node in view["nodes"]):
                    return False
            return True

        try:
            await until(all_of_them, timeout=_START, what=f"{node_ids} ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{''.join(map(self.log, self.processes))}") from None

    async def start(self, *node_ids: str) -> None:
        """Start a group and wait until it is ready."""
        for node_id in node_ids:
            await self.launch(node_id, ",".join(node_ids))
        await self.ready(*node_ids)

    async def kill(self, *node_ids: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal that ends them, and wait until they are gone."""
        for node_id in node_ids:
            self.processes[node_id].send_signal(number)
        for node_id in node_ids:
            async with asyncio.timeout(20):
                await self.processes.pop(node_id).wait()

    async def probe(self, node_id: str, path: str) -> tuple[int, str]:
        """Status and text of a path outside the API; 0 when nobody listens."""
        try:
            answer = await self.http.get(self.url(node_id) + path)
        except httpx.HTTPError as error:
            return 0, str(error)
        return answer.status_code, answer.text

    async def raft(self, node_id: str) -> dict[str, Any]:
        """`GET /raft` of one."""
        view: dict[str, Any] = (await self.http.get(self.url(node_id) + API_BASE + "/raft")).json()
        return view

    async def leader(self) -> str:
        """Who leads, once somebody does."""
        found: list[str] = []

        async def somebody() -> bool:
            for node_id in self.processes:
                if (await self.probe(node_id, "/readyz?leader=true"))[0] == 200:
                    found.append(node_id)
                    return True
            return False

        await until(somebody, timeout=_START, what="a leader")
        return found[-1]

    async def varpulis(self, *arguments: str, exit_code: int = 0) -> Any:
        """The JSON document of one `varpulis` command; those that ask a cluster ask all that run."""
        urls = {"VARPULIS_URL": ",".join(map(self.url, self.processes))} if self.processes else {}
        command = [*arguments, "-o", "json"]
        done = await asyncio.to_thread(varpulis, *command, cwd=self.directory, env=urls)
        said = f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == exit_code, f"{said}\n{''.join(map(self.log, self.processes))}"
        return json.loads(done.stdout)

    async def workers(self, node_id: str) -> dict[str, str]:
        """Address by id of all workers, read through one node, linearizable."""
        found: dict[str, str] = {}
        while True:
            query = {"limit": "1000", "offset": str(len(found))}
            answer = await self.http.get(self.url(node_id) + API_BASE + "/workers", params=query)
            assert answer.status_code == 200, f"{node_id}: {answer.text}"
            page = answer.json()
            found |= {worker["id"]: worker["address"] for worker in page["workers"]}
            if not page["pagination"]["has_more"]:
                return found


class Writer:
    """Registers one paper worker after the other, through any node of `through`, each until acknowledged.

    Attributes:
        acknowledged: address by id of all that were.
        failed: the text of each answer that was none, in order.
    """

    def __init__(self, group: Coordinators) -> None:
        self.group = group
        self.through: list[str] = list(group.processes)
        self.acknowledged: dict[str, str] = {}
        self.failed: list[str] = []

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Self]:
        """Write all the while; something was acknowledged when it begins and again before it ends."""
        task = asyncio.create_task(self._write())
        try:
            await self.goes_on()
            yield self
            await self.goes_on()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def goes_on(self) -> None:
        """Some more writes are acknowledged from here on."""
        enough = len(self.acknowledged) + 5
        await until(lambda: len(self.acknowledged) >= enough, timeout=30, what=f"writes; {self.failed[-3:]}")

    async def _write(self) -> None:
        run = secrets.token_hex(2)
        for number in itertools.count():
            name, address, key = f"w-{run}-{number}", f"http://{number}", secrets.token_hex(8)
            while not await self._registered(name, address, key):
                await asyncio.sleep(0.05)
            self.acknowledged[name] = address
            await asyncio.sleep(0.01)

    async def _registered(self, name: str, address: str, key: str) -> bool:
        body = {
            "worker_id": name,
            "address": address,
            "api_key": "",
            "capacity": {"cpu_cores": 1, "pipelines_running": 0, "max_pipelines": 0},
            "incarnation": key,
        }
        node_id = random.choice(self.through)
        url = self.group.url(node_id) + API_BASE + "/workers/register"
        try:
            answer = await self.group.http.post(url, json=body, headers={"idempotency-key": key})
        except httpx.HTTPError as error:
            self.failed.append(f"{node_id}: {type(error).__name__} {error}")
            return False
        if answer.status_code >= 300:
            self.failed.append(f"{node_id}: {answer.status_code} {answer.text}")
        return answer.status_code < 300


def alive(process: asyncio.subprocess.Process) -> bool:
    """Whether it still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, 0)
        return process.returncode is None
    return False
