"""The workers of a trial: processes that come and go, each with links of its own, and what they say they run.

A worker that speaks NATS has one link, to NATS; one that speaks REST has one to each coordinator.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from cli.drills.link import Direction, Link
from tests.chaos.plan import speaks_rest, zone_of
from tests.support.linked import Cluster
from tests.support.node import Node

_REFUSAL: Final = r"^varpulis worker \S+: (?!.*newer than this one)"
_LEAVES_WITHIN: Final = 20.0
_REVIVE_EVERY: Final = 0.3
SIGNING: Final = ("-m", "tests.chaos.worker")
AS_SHIPPED: Final = ("-m", "cli.main", "worker")
"""Ways to run a worker."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of an instance, as its worker tells it."""

    worker: str
    group: str
    instance: str
    epoch: int
    id: str
    state: str


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker: its process, and its ways to the coordinators."""

    node: Node
    links: tuple[Link, ...]

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def freeze(self, direction: Direction) -> None:
        for link in self.links:
            link.freeze(direction)

    def heal(self) -> None:
        for link in self.links:
            link.heal()


class Fleet:
    """See the module.

    Args:
        cluster: whose NATS and coordinators they use.
        directory: for data and logs.
        program: how Python runs one; `flags`: that all of them are given.
    """

    def __init__(
        self,
        cluster: Cluster,
        directory: Path,
        *,
        program: tuple[str, ...] = SIGNING,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.workers: dict[str, Worker] = {}
        """All there ever were, by id."""
        self._cluster, self._directory = cluster, directory
        self._program, self._flags = program, flags
        self._gone: set[str] = set()
        self._ends = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        reviving = asyncio.create_task(self._revive(), name="revive workers")
        self._ends.push_async_callback(_ended, reviving)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._ends.aclose()

    @property
    def members(self) -> list[Worker]:
        """Those that have not left."""
        return [worker for name, worker in self.workers.items() if name not in self._gone]

    @property
    def nodes(self) -> list[Node]:
        """The processes of all there ever were."""
        return [worker.node for worker in self.workers.values()]

    async def join(self, name: str) -> None:
        """Start a new one; it is registered some seconds later."""
        rest = speaks_rest(name)
        ends = [node.port for node in self._cluster.nodes] if rest else [self._cluster.nats.port]
        links = tuple([await self._ends.enter_async_context(Link(end)) for end in ends])
        node = Node(name, self._directory, links[0], refusal=_REFUSAL, stop_timeout=_LEAVES_WITHIN)
        words = ["--id", name, "--data-dir", str(node.data_dir), "--http-port", str(node.port)]
        words += ["--label", f"zone={zone_of(name)}"]
        if rest:
            words += ["--coordinators", ",".join(f"http://127.0.0.1:{link.port}" for link in links)]
        else:
            words += ["--nats", f"nats://127.0.0.1:{links[0].port}"]
        node.command = [sys.executable, *self._program, *words, *self._flags]
        self.workers[name] = Worker(node, links)
        self._ends.callback(node.kill)
        node.restart()

    async def leave(self, name: str) -> None:
        """SIGTERM, and wait for its end in order."""
        self._gone.add(name)
        await self.workers[name].node.leave()

    def heal(self, *, restart: bool) -> None:
        """End every fault on those that have not left; `restart`: also start what was killed."""
        for worker in self.members:
            worker.heal()
            worker.node.resume()
            if restart:
                worker.node.restart()

    async def health(self, node: Node) -> dict[str, Any] | None:
        """`GET /health` of one; None when it does not answer."""
        answer = await self._cluster.ask(node, "GET", "/health")
        return msgspec.json.decode(answer.content) if answer is not None and answer.status == 200 else None

    async def all_ready(self) -> bool:
        """All that run are registered and connected."""
        asked = [worker.node for worker in self.members if worker.node.runs]
        answers = await asyncio.gather(*map(self.health, asked))
        return all(health is not None and health["ready"] for health in answers)

    async def copies(self) -> list[Copy] | None:
        """What runs on all processes that live, by their own word; None when one does not answer."""
        asked = [node for node in self.nodes if node.runs]
        answers = await asyncio.gather(*map(self.health, asked))
        found = []
        for node, health in zip(asked, answers, strict=True):
            if health is None:
                return None
            found += [
                Copy(node.id, each["group"], each["name"], each["epoch"], each["pipeline_id"], each["state"])
                for each in health["pipelines"]
            ]
        return found

    @property
    def deaths(self) -> list[str]:
        """Processes that ended though nobody ended them, or not in order."""
        return [death for node in self.nodes for death in node.deaths]

    @property
    def alarms(self) -> list[str]:
        """What stands in the logs and should not."""
        return [alarm for node in self.nodes for alarm in node.alarms()]

    async def _revive(self) -> None:
        while True:
            for node in self.nodes:
                node.revive()
            await asyncio.sleep(_REVIVE_EVERY)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
