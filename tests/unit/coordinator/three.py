"""Three real coordinators in this process, on a real nats-server; and how to ask them."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from coordinator.app import Coordinator
from coordinator.config import CoordinatorConfig
from proto_schemas.rest.base import API_BASE
from tests.support.poll import until
from transport.config import NatsConfig

NODES = ("c0", "c1", "c2")
PASS = "stream Out = In.where(x > 0).emit(x: x)"


def config(node_id: str, nats_url: str, data_dir: Path, **changes: Any) -> CoordinatorConfig:
    """Short times: a heartbeat every 0.1 s, dead after 1.5 s."""
    return CoordinatorConfig(
        node_id=node_id,
        cluster_id="test",
        data_dir=data_dir / node_id,
        http_port=0,
        **{
            "nats": NatsConfig(servers=(nats_url,)),
            "members": NODES,
            "heartbeat_interval": 0.1,
            "heartbeat_timeout": 1.5,
            **changes,
        },
    )


def group(name: str = "g", *pipelines: str, **more: Any) -> dict[str, Any]:
    """The body of a group whose pipelines pass events on."""
    specs = [{"name": pipeline, "source": PASS} for pipeline in pipelines or ("p",)]
    return {"name": name, "pipelines": specs, **more}


class Three:
    """The coordinators by id, and requests to them; `copy` is for a copy of their state."""

    def __init__(self, nats_url: str, directory: Path, key: str = "", verify: Any = False) -> None:
        self.nats_url = nats_url
        self.directory = directory
        self.nodes: dict[str, Coordinator] = {}
        self.copy = b""
        self.http = httpx.AsyncClient(timeout=30, trust_env=False, verify=verify)
        if key:
            self.http.headers["x-api-key"] = key

    async def start(self, node_id: str, **changes: Any) -> Coordinator:
        node = Coordinator(config(node_id, self.nats_url, self.directory, **changes))
        await node.start()
        self.nodes[node_id] = node
        return node

    async def stop(self, node_id: str) -> None:
        await self.nodes.pop(node_id).stop()

    @property
    def leader(self) -> Coordinator:
        """The leader; any node while there is none."""
        nodes = list(self.nodes.values())
        return next((node for node in nodes if node.is_leader), nodes[0])

    @property
    def follower(self) -> Coordinator:
        return next(node for node in self.nodes.values() if not node.is_leader)

    def layers(self, node: Coordinator | None = None) -> list[Any]:
        """What a request to a node, by default the leader, passes: from the outermost to the application."""
        server = (node or self.leader)._server
        assert server is not None
        layers: list[Any] = [server._config.app]
        while hasattr(layers[-1], "_app"):
            layers.append(layers[-1]._app)
        return layers

    async def has_leader(self) -> None:
        async def one() -> bool:
            if sum(node.is_leader for node in self.nodes.values()) != 1:
                return False
            if "x-api-key" in self.http.headers and not self._keys_known():
                return False  # the key of the file is on its way into the state; each refusal would count
            answer = await self.http.get(self.leader.url + API_BASE + "/raft")
            known = [peer["url"] for peer in answer.json()["nodes"] if peer["id"] in self.nodes]
            return all(known)

        await until(one, timeout=15, what="one leader, and every URL announced")

    def _keys_known(self) -> bool:
        loops = [node._loop for node in self.nodes.values()]
        return all(loop is not None and loop._ledger.state.keys for loop in loops)

    async def ask(
        self, method: str, path: str, body: Any = None, *, node: Coordinator | None = None, **options: Any
    ) -> httpx.Response:
        """One request to a node, by default the leader; while a leader is being elected, asked again."""
        options.setdefault("headers", {}).setdefault("idempotency-key", secrets.token_hex(8))
        if body is not None:
            options["json"] = body
        deadline = time.monotonic() + 10
        while True:
            base = (node or self.leader).url
            url = base + path[1:] if path.startswith("//") else base + API_BASE + path
            answer = await self.http.request(method, url, **options)
            if not _electing(answer) or time.monotonic() > deadline:
                return answer

    async def placements(self, name: str = "g") -> list[dict[str, Any]]:
        answer = await self.ask("GET", f"/pipeline-groups/{name}")
        placements: list[dict[str, Any]] = answer.json()["placements"]
        return placements

    async def runs(self, name: str = "g") -> None:
        async def running() -> bool:
            answer = await self.ask("GET", f"/pipeline-groups/{name}")
            assert answer.status_code == 200, answer.text
            return bool(answer.json()["status"] == "running")

        await until(running, timeout=15, what=f"group {name} runs")


def _electing(answer: httpx.Response) -> bool:
    """Whether it says that nobody leads, or somebody else. (A field with the leader is in every refusal.)"""
    return answer.status_code == 503 and "lead" in answer.json()["error"]


@contextlib.asynccontextmanager
async def three(
    nats_url: str, directory: Path, *, key: str = "", verify: Any = False, **changes: Any
) -> AsyncIterator[Three]:
    """Started, with a leader; stopped at the end. `key` and `verify`: what our requests show and trust (over
    plain HTTP nothing is verified, and to read the authorities takes longer than many a test).
    """
    stage = Three(nats_url, directory / secrets.token_hex(4), key, verify)
    try:
        await asyncio.gather(*(stage.start(node_id, **changes) for node_id in NODES))
        await stage.has_leader()
        yield stage
    finally:
        await stage.http.aclose()
        await asyncio.gather(*(node.stop(hand_over=False) for node in stage.nodes.values()))
