"""What is done to a cluster, each as a context: entered, the fault begins; left, it is over and healed.

`FAULTS` maps each name to its context. Whom it hits is decided when it begins: "leader" is who leads then, by
his own word. A link that is *frozen* passes nothing, a *mute* node hears and is not heard, a *deaf* one is
heard and hears nothing.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from cli.drills.link import Direction
from proto_schemas.rest.base import API_BASE
from tests.support.linked import Cluster
from tests.support.node import Node

Fault = Callable[[Cluster, random.Random], AbstractAsyncContextManager[str]]
"""Yields whom it hit."""
_Choice = Callable[[Cluster, random.Random], Awaitable[list[Node]]]

SLOWEST: Final = 0.06
"""Seconds of delay, each way."""
_BOUNCES: Final = 3


async def _leader(cluster: Cluster, rng: random.Random) -> list[Node]:
    return [await cluster.leader() or rng.choice(cluster.nodes)]


async def _follower(cluster: Cluster, rng: random.Random) -> list[Node]:
    leader = await cluster.leader()
    return [rng.choice([node for node in cluster.nodes if node is not leader])]


async def _all(cluster: Cluster, rng: random.Random) -> list[Node]:
    return cluster.nodes


def _on(choose: _Choice, begin: Callable[[Node], Awaitable[None]], end: Callable[[Node], None]) -> Fault:
    @contextlib.asynccontextmanager
    async def fault(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
        nodes = await choose(cluster, rng)
        for node in nodes:
            await begin(node)
        yield " ".join(node.id for node in nodes)
        for node in nodes:
            end(node)

    return fault


async def _kill(node: Node) -> None:
    node.kill()


async def _pause(node: Node) -> None:
    node.pause()


async def _cut(node: Node) -> None:
    node.link.cut()


async def _freeze(node: Node) -> None:
    node.link.freeze()


async def _mute(node: Node) -> None:
    node.link.freeze(Direction.TO_NATS)


async def _deafen(node: Node) -> None:
    node.link.freeze(Direction.FROM_NATS)


def _heal(node: Node) -> None:
    node.link.heal()


@contextlib.asynccontextmanager
async def _transfer(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    """Leadership is asked to move, through any coordinator. It may be refused; what it may not is to last."""
    node = rng.choice(cluster.nodes)
    answer = await cluster.ask(node, "POST", f"{API_BASE}/raft/transfer?wait=2", b'{"to": null}', timeout=4.0)
    yield f"asked {node.id}: {'no answer' if answer is None else f'{answer.status} {_short(answer.content)}'}"


def _replace(choose: _Choice) -> Fault:
    @contextlib.asynccontextmanager
    async def fault(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
        new = await cluster.newcomer()
        (old,) = await choose(cluster, rng)
        replacing = asyncio.create_task(cluster.replace(old, new, rng))
        try:
            yield f"{old.id} by {new.id}"
            await replacing
        finally:
            replacing.cancel()
            await asyncio.gather(replacing, return_exceptions=True)

    return fault


def _short(text: bytes) -> str:
    return text[:100].decode(errors="replace")


@contextlib.asynccontextmanager
async def _slow_links(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    delays = [rng.uniform(0.0, SLOWEST) for _ in cluster.nodes]
    for node, delay in zip(cluster.nodes, delays, strict=True):
        node.link.slow(delay)
    yield " ".join(f"{delay * 1000:.0f}ms" for delay in delays)
    for node in cluster.nodes:
        node.link.heal()


@contextlib.asynccontextmanager
async def _kill_nats(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    cluster.nats.kill()
    yield "nats"
    cluster.nats.start()


@contextlib.asynccontextmanager
async def _pause_nats(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    cluster.nats.pause()
    yield "nats"
    cluster.nats.resume()


@contextlib.asynccontextmanager
async def _bounce_nats(cluster: Cluster, rng: random.Random) -> AsyncIterator[str]:
    for _ in range(_BOUNCES):
        cluster.nats.restart()
    yield "nats"


ON_NATS: Final[dict[str, Fault]] = {
    "kill nats": _kill_nats,
    "pause nats": _pause_nats,
    "bounce nats": _bounce_nats,
}
ON_COORDINATORS: Final[dict[str, Fault]] = {
    "kill leader": _on(_leader, _kill, Node.restart),
    "kill follower": _on(_follower, _kill, Node.restart),
    "kill all": _on(_all, _kill, Node.restart),
    "terminate leader": _on(_leader, Node.terminate, Node.restart),
    "transfer": _transfer,
    "pause leader": _on(_leader, _pause, Node.resume),
    "pause follower": _on(_follower, _pause, Node.resume),
    "cut leader": _on(_leader, _cut, _heal),
    "cut follower": _on(_follower, _cut, _heal),
    "freeze leader": _on(_leader, _freeze, _heal),
    "freeze follower": _on(_follower, _freeze, _heal),
    "mute leader": _on(_leader, _mute, _heal),
    "mute follower": _on(_follower, _mute, _heal),
    "deafen leader": _on(_leader, _deafen, _heal),
    "deafen follower": _on(_follower, _deafen, _heal),
    "slow links": _slow_links,
}
ON_MEMBERS: Final[dict[str, Fault]] = {
    "replace leader": _replace(_leader),
    "replace follower": _replace(_follower),
}
"""Not faults, but what faults meet: the change goes on while a second fault lasts, and must end after it."""
FAULTS: Final = {**ON_COORDINATORS, **ON_NATS, **ON_MEMBERS}
