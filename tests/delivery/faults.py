"""Faults, one after another, each on the process that matters now: the worker that runs a pipeline of the
group, or the coordinator that leads.

    kill worker      SIGKILL, and started again a moment later
    freeze worker    SIGSTOP until its pipelines run elsewhere, then SIGCONT: it goes on where it was
    move             a migration of a pipeline to another worker
    kill leader      SIGKILL, and started again
    restart server   nats-server, with SIGKILL
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from cli.drills.proof import GROUP
from proto_schemas.rest.base import API_BASE
from tests.chaos.fleet import Fleet
from tests.support.linked import Cluster
from tests.support.poll import until

DOWN: Final = 0.5
"""Seconds until what was killed is started again."""
SETTLED_WITHIN: Final = 60.0


class Placed(NamedTuple):
    """A pipeline by the state."""

    worker: str
    status: str
    copy: str


class Faults:
    """Args:
        instances: of the group, each of which may be hit.

    Attributes:
        done: what was done, in order.
    """

    def __init__(
        self,
        cluster: Cluster,
        fleet: Fleet,
        instances: Sequence[str],
        rng: random.Random,
        tell: Callable[[str], None],
    ) -> None:
        self._instances = instances
        self._cluster, self._fleet, self._rng, self._tell = cluster, fleet, rng, tell
        self.done: list[str] = []

    def order(self) -> Iterator[str]:
        """The kinds without end: each of them in each round, in an order of the seed."""
        while True:
            yield from self._rng.sample(list(_KINDS), len(_KINDS))

    async def bring(self, kind: str) -> None:
        """Bring it about; returns when all of the group runs again."""
        pipeline = self._rng.choice(self._instances)
        self._tell(f"{kind} ({pipeline})")
        await _KINDS[kind](self, pipeline)
        self.done.append(kind)
        await self.all_run()

    async def all_run(self) -> None:
        """Wait until the state says that all of the group runs."""
        await until(self._runs, timeout=SETTLED_WITHIN, what=f"all that runs, after {self.done[-1:]}")

    async def _runs(self) -> bool:
        placed = await self.placed()
        return len(placed) == len(self._instances) and all(
            each.status == "running" for each in placed.values()
        )

    async def placed(self) -> dict[str, Placed]:
        """Where each pipeline is, by the state; empty when nobody answers."""
        for node in self._cluster.nodes:
            answer = await self._cluster.ask(node, "GET", f"{API_BASE}/pipeline-groups/{GROUP}")
            if answer is not None and answer.status == 200:
                view: Any = msgspec.json.decode(answer.content)
                return {
                    each["pipeline_name"]: Placed(each["worker_id"], each["status"], each["pipeline_id"])
                    for each in view["placements"]
                }
        return {}

    async def _where(self, pipeline: str) -> Placed:
        await self.all_run()
        return (await self.placed())[pipeline]

    async def _replaced(self, pipeline: str, old: Placed) -> bool:
        """Another copy runs."""
        now = (await self.placed()).get(pipeline)
        return now is not None and now.status == "running" and now.copy != old.copy

    async def _kill_worker(self, pipeline: str) -> None:
        old = await self._where(pipeline)
        node = self._fleet.workers[old.worker].node
        node.kill()
        await asyncio.sleep(DOWN)
        node.restart()
        await until(partial(self._replaced, pipeline, old), timeout=SETTLED_WITHIN, what="another copy")

    async def _freeze_worker(self, pipeline: str) -> None:
        old = await self._where(pipeline)
        node = self._fleet.workers[old.worker].node
        node.pause()
        try:
            await until(partial(self._replaced, pipeline, old), timeout=SETTLED_WITHIN, what="another copy")
        finally:
            node.resume()

    async def _move(self, pipeline: str) -> None:
        old = await self._where(pipeline)
        path = f"{API_BASE}/pipelines/{GROUP}/{pipeline}/migrate"

        async def moved() -> bool:
            if await self._replaced(pipeline, old):
                return True
            await self._cluster.ask(self._rng.choice(self._cluster.nodes), "POST", path, b"{}", timeout=5.0)
            return False

        await until(moved, timeout=SETTLED_WITHIN, what=f"{pipeline} was moved")

    async def _kill_leader(self, _: str) -> None:
        node = await self._cluster.leader()
        if node is not None:
            node.kill()
            await asyncio.sleep(DOWN)
            node.restart()

    async def _restart_server(self, _: str) -> None:
        await asyncio.to_thread(self._cluster.nats.restart)


_KINDS: Final[dict[str, Callable[[Faults, str], Coroutine[Any, Any, None]]]] = {
    "kill worker": Faults._kill_worker,
    "freeze worker": Faults._freeze_worker,
    "move": Faults._move,
    "kill leader": Faults._kill_leader,
    "restart server": Faults._restart_server,
}
