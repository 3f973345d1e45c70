"""Carries the actions of a round out: faults are held, and lifted when they are over or a calm begins;
operations become writes. Operations on one group, and on one worker, go one after the other, so that what
the acknowledged ones add up to does not depend on who was faster.
"""

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from cli.drills.link import Direction
from tests.chaos.fleet import Fleet, Worker
from tests.chaos.plan import Action, Round
from tests.chaos.writes import Answer, Write, Writes
from tests.support.faults import FAULTS
from tests.support.linked import Cluster

_AT_ONCE: Final = {"wait": 0}
"""Writes are acknowledged when they are decided; that all runs is what the calm waits for."""


@dataclass
class Stage:
    """See the module. `timeline`: what was done, with seconds since the trial began."""

    cluster: Cluster
    fleet: Fleet
    writes: Writes
    rng: random.Random
    tell: Callable[[str], None]
    done: list[Action] = field(default_factory=list)
    _calm: asyncio.Event = field(default_factory=asyncio.Event)
    _faults: "set[asyncio.Task[None]]" = field(default_factory=set)
    _operations: "set[asyncio.Task[None]]" = field(default_factory=set)
    _locks: "defaultdict[str, asyncio.Lock]" = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _keys: int = 0
    _restart: bool = True

    async def play(self, this: Round) -> None:
        """Begin all actions of a round, each when it is due."""
        self._calm.clear()
        began = time.monotonic()
        for action in this.actions:
            await asyncio.sleep(began + action.at - time.monotonic())
            self.tell(str(action))
            self.done.append(action)
            self._begin(action)
        await asyncio.sleep(began + this.seconds - time.monotonic())

    async def lift(self, *, restart: bool) -> None:
        """End all faults; what was killed among the workers stays so unless `restart`."""
        self._restart = restart
        self._calm.set()
        if self._faults:
            await asyncio.wait(self._faults)
        self.cluster.heal()
        self.fleet.heal(restart=restart)

    @property
    def busy(self) -> list[str]:
        """Operations under way."""
        return [task.get_name() for task in self._operations if not task.done()]

    async def close(self) -> None:
        """Drop what is under way."""
        for task in self._faults | self._operations:
            task.cancel()
        await asyncio.gather(*self._faults, *self._operations, return_exceptions=True)

    def _begin(self, action: Action) -> None:
        if action.kind in _OPERATIONS:
            self._run(self._operations, action, _OPERATIONS[action.kind](self, action))
        elif action.kind in _ON_WORKER:
            self._run(self._faults, action, self._harm_worker(action))
        else:
            self._run(self._faults, action, self._harm_cluster(action))

    def _run(self, tasks: "set[asyncio.Task[None]]", action: Action, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=str(action))
        tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._faults.discard(task)
        self._operations.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.writes.complaints.append(f"{task.get_name()}: {type(error).__name__}: {error}")

    async def _hold(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._calm.wait()

    # -- faults

    async def _harm_cluster(self, action: Action) -> None:
        async with FAULTS[action.kind](self.cluster, self.rng) as hit:
            self.tell(f"  {action.kind}: {hit}")
            await self._hold(action.hold)

    async def _harm_worker(self, action: Action) -> None:
        worker, (begin, end) = self.fleet.workers[action.target], _ON_WORKER[action.kind]
        begin(worker)
        await self._hold(action.hold)
        if not (self._calm.is_set() and action.kind == "kill worker" and not self._restart):
            end(worker)

    # -- operations

    async def _send(self, method: str, path: str, body: Any, action: Action, *, kind: str = "") -> Answer:
        """`kind`: of the write, where it is not the action's."""
        self._keys += 1
        what = f"{kind} of {action}" if kind else str(action)
        return await self.writes.send(Write(method, path, body, f"chaos-{self._keys}", what))

    async def _deploy(self, action: Action) -> None:
        async with self._locks[action.target]:
            if (await self._send("POST", "/pipeline-groups?wait=0", action.spec, action)).acknowledged:
                self.writes.desired.created(action.target, action.spec)

    async def _update(self, action: Action) -> None:
        async with self._locks[action.target]:
            path = f"/pipeline-groups/{action.target}?wait=0"
            if (await self._send("PUT", path, action.spec, action)).acknowledged:
                self.writes.unchanged["update"] += self.writes.desired.may_be(action.target, action.spec)
                self.writes.desired.updated(action.target, action.spec)

    async def _teardown(self, action: Action) -> None:
        async with self._locks[action.target]:
            path = f"/pipeline-groups/{action.target}?wait=0"
            if (await self._send("DELETE", path, None, action)).acknowledged:
                self.writes.desired.groups.pop(action.target, None)

    async def _migrate(self, action: Action) -> None:
        await self._send("POST", f"/pipelines/{action.target}/migrate", action.more, action)

    async def _rebalance(self, action: Action) -> None:
        await self._send("POST", "/rebalance", None, action)

    async def _transfer(self, action: Action) -> None:
        await self._send("POST", "/raft/transfer?wait=2", {"to": None}, action)

    async def _drain(self, action: Action) -> None:
        async with self._locks[action.target]:
            path = f"/workers/{action.target}/drain"
            body = {"timeout_secs": action.more["timeout_secs"]}
            if not (await self._send("POST", path, body, action)).acknowledged:
                return
            await self._hold(action.hold)
            if action.more["cancel"]:
                await self._send("DELETE", path, None, action, kind="cancel")
            await self._uncordon(action)

    async def _cordon(self, action: Action) -> None:
        async with self._locks[action.target]:
            if (await self._send("POST", f"/workers/{action.target}/cordon", None, action)).acknowledged:
                await self._hold(action.hold)
                await self._uncordon(action)

    async def _uncordon(self, action: Action) -> None:
        """Once it is not drained any more, which its timeout brings about."""
        path = f"/workers/{action.target}/uncordon"
        while (await self._send("POST", path, None, action, kind="uncordon")).status == 409:
            await asyncio.sleep(0.5)

    async def _join(self, action: Action) -> None:
        await self.fleet.join(action.target)

    async def _leave(self, action: Action) -> None:
        """Leave in order; then its name is removed, unless it still holds pipelines or is not there."""
        await self.fleet.leave(action.target)
        async with self._locks[action.target]:
            await self._send("DELETE", f"/workers/{action.target}", None, action)


_ON_WORKER: Final[dict[str, tuple[Callable[[Worker], None], Callable[[Worker], None]]]] = {
    "kill worker": (lambda worker: worker.node.kill(), lambda worker: worker.node.restart()),
    "freeze worker": (lambda worker: worker.node.pause(), lambda worker: worker.node.resume()),
    "cut worker": (Worker.cut, Worker.heal),
    "deafen worker": (lambda worker: worker.freeze(Direction.FROM_NATS), Worker.heal),
    "mute worker": (lambda worker: worker.freeze(Direction.TO_NATS), Worker.heal),
}
_OPERATIONS: Final[dict[str, Callable[[Stage, Action], Coroutine[Any, Any, None]]]] = {
    "deploy": Stage._deploy,
    "update": Stage._update,
    "teardown": Stage._teardown,
    "migrate": Stage._migrate,
    "rebalance": Stage._rebalance,
    "transfer": Stage._transfer,
    "drain": Stage._drain,
    "cordon": Stage._cordon,
    "join": Stage._join,
    "leave": Stage._leave,
}
