"""Real coordinators, each behind a `Link` of its own, and one nats-server.

`async with Cluster(directory) as cluster:` gives one that is ready. Every process is a child of this one and
dies with it, however that ends. Members may be replaced; who was is killed, and kept for its log.
"""

import asyncio
import contextlib
import random
import sys
from pathlib import Path
from typing import Any, Final, Self

import httpcore
import msgspec

from cli.drills.link import Link
from proto_schemas.rest.base import API_BASE
from tests.support.nats_server import NatsServer
from tests.support.node import Node
from tests.support.poll import until

READY_TIMEOUT: Final = 45.0
LOST: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)
"""What may happen to a request after it was sent."""
CHANGE_TIMEOUT: Final = 45.0
"""Seconds for a change of members, with all its repetitions."""
SNAPSHOTS_OFTEN: Final = ("-m", "tests.jepsen.coordinator")
AS_SHIPPED: Final = ("-m", "cli.main", "coordinator")
"""Ways to run a coordinator."""
_ASK_TIMEOUT: Final = 1.0
_JSON: Final = [("content-type", "application/json")]
_REVIVE_EVERY: Final = 0.5
_NATS_LIMITS: Final = 'max_pending: 8MB\nwrite_deadline: "2s"\nno_fast_producer_stall: true\n'
"""As `varpulis up` gives them to its nats-server."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What of `GET /raft` matters here."""

    this_node_id: str
    leader_id: str | None
    generation: int = 1
    term: int
    applied_index: int

    @property
    def leads(self) -> bool:
        """By its own word."""
        return self.leader_id == self.this_node_id


class Cluster:
    """See the module.

    Args:
        directory: for data and logs.
        size: how many coordinators.
        program: how Python runs one.
        cluster_id: its name.
        jetstream: the nats-server has it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size: int = 3,
        program: tuple[str, ...] = SNAPSHOTS_OFTEN,
        cluster_id: str = "jepsen",
        jetstream: bool = False,
    ) -> None:
        self.nats = NatsServer(extra=_NATS_LIMITS, jetstream=jetstream)
        self.nodes: list[Node] = []
        """The members, each in its place; a new one takes the place of the one that it replaces."""
        self._all: list[Node] = []
        self._directory, self._size = directory, size
        self._program, self._cluster_id = program, cluster_id
        self._http = httpcore.AsyncConnectionPool(max_keepalive_connections=0)
        self._ends = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._ends.aclose()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._ends.aclose()

    async def _start(self) -> None:
        self._ends.enter_context(self.nats)
        await self._ends.enter_async_context(self._http)
        members = [f"c{number}" for number in range(self._size)]
        for _ in members:
            self.nodes.append(await self._add(members))
        for node in self.nodes:
            node.restart()
        reviving = asyncio.create_task(self._revive(), name="revive")
        self._ends.push_async_callback(_ended, reviving)
        await self.all_ready()

    @property
    def urls(self) -> list[str]:
        """Where the members are."""
        return [node.url for node in self.nodes]

    @property
    def deaths(self) -> list[str]:
        """Processes that ended though nobody ended them."""
        return [death for node in self._all for death in node.deaths]

    @property
    def alarms(self) -> list[str]:
        """What stands in the logs and should not."""
        return [alarm for node in self._all for alarm in node.alarms()]

    @property
    def refused_starts(self) -> int:
        """How often a coordinator refused to start while something was wrong."""
        return sum(node.refused_starts for node in self._all)

    def heal(self) -> None:
        """End every fault, whatever it was: all processes run, all links pass."""
        if not self.nats.running:
            self.nats.start()
        self.nats.resume()
        for node in self.nodes:
            node.link.heal()
            node.resume()
            node.restart()

    async def all_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until every coordinator says so, and one leads.

        Raises:
            AssertionError: not in time.
        """

        async def ready() -> bool:
            answers = await asyncio.gather(*(self._is_ready(node) for node in self.nodes))
            return all(answers) and await self.leader() is not None

        await until(ready, timeout=timeout, what=f"all ready; {self._ends_of_logs()}")

    async def leader(self) -> Node | None:
        """The coordinator that leads by its own word; of two, the one with the newer term."""
        views = await asyncio.gather(*(self.raft(node) for node in self.nodes))
        leading = [
            (view.generation, view.term, node.id, node)
            for view, node in zip(views, self.nodes, strict=True)
            if view is not None and view.leads
        ]
        return max(leading)[-1] if leading else None

    async def raft(self, node: Node) -> Standing | None:
        """`GET /raft` of a coordinator; None when it does not answer."""
        answer = await self.ask(node, "GET", f"{API_BASE}/raft")
        return _standings.decode(answer.content) if answer is not None and answer.status == 200 else None

    async def newcomer(self) -> Node:
        """A new coordinator that runs and waits to be added.

        Raises:
            AssertionError: it did not start in time.
        """
        node = await self._add([each.id for each in self.nodes], "--join")
        node.restart()

        async def waits() -> bool:
            answer = await self.ask(node, "GET", "/readyz")
            return answer is not None and b"waits to be added" in answer.content

        await until(waits, timeout=READY_TIMEOUT, what=f"{node.id} waits to be added\n{node.log_end()}")
        return node

    async def replace(self, old: Node, new: Node, rng: random.Random) -> None:
        """Have `new` take the place of `old`: ask anyone, until it is so. A repeated request does no harm.

        Raises:
            AssertionError: not in time.
        """
        body = msgspec.json.encode({"id": new.id, "replaces": old.id})
        said: list[str] = []

        async def replaced() -> bool:
            node, path = rng.choice(self.nodes), f"{API_BASE}/raft/members?wait=5"
            answer = await self.ask(node, "POST", path, body, timeout=8.0)
            said.append("no answer" if answer is None else f"{answer.status} {answer.content[:200]!r}")
            return answer is not None and answer.status == 200

        try:
            await until(replaced, timeout=CHANGE_TIMEOUT)
        except AssertionError:
            new.retire()
            raise AssertionError(
                f"{old.id} was not replaced within {CHANGE_TIMEOUT} s: {said[-5:]}"
            ) from None
        self.nodes[self.nodes.index(old)] = new
        old.retire()

    async def _add(self, members: list[str], *flags: str) -> Node:
        """A coordinator that is not started yet, and killed at the end."""
        link = await self._ends.enter_async_context(Link(self.nats.port))
        node = Node(f"c{len(self._all)}", self._directory, link)
        settings = {
            "--id": node.id,
            "--nats": f"nats://127.0.0.1:{node.link.port}",
            "--http-port": str(node.port),
            "--data-dir": str(node.data_dir),
            "--members": ",".join(members),
            "--cluster-id": self._cluster_id,
        }
        words = [word for pair in settings.items() for word in pair]
        node.command = [sys.executable, *self._program, *words, *flags]
        self._ends.callback(node.kill)
        self._all.append(node)
        return node

    async def _is_ready(self, node: Node) -> bool:
        answer = await self.ask(node, "GET", "/readyz")
        return answer is not None and answer.status == 200

    async def ask(
        self,
        node: Node,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        timeout: float = _ASK_TIMEOUT,
        key: str = "",
    ) -> httpcore.Response | None:
        """A request to a node, with `key` as its Idempotency-Key; None when it did not answer in time."""
        timeouts: dict[str, Any] = {"timeout": {"connect": _ASK_TIMEOUT, "pool": _ASK_TIMEOUT}}
        try:
            async with asyncio.timeout(timeout):
                headers = [*_JSON, ("idempotency-key", key)] if key else _JSON
                return await self._http.request(
                    method, node.url + path, headers=headers, content=body, extensions=timeouts
                )
        except (*LOST, TimeoutError):
            return None

    async def _revive(self) -> None:
        while True:
            for node in self._all:
                node.revive()
            await asyncio.sleep(_REVIVE_EVERY)

    def _ends_of_logs(self) -> str:
        return "\n".join(f"== {node.id}\n{node.log_end()[-1000:]}" for node in self.nodes)


_standings: "Final[msgspec.json.Decoder[Standing]]" = msgspec.json.Decoder(Standing)


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
