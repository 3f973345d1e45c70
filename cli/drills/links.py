"""The ways of processes to NATS that a drill can cut: proxies, run by an event loop in a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Final, Self

from cli.drills.link import Direction, Link

_PATIENCE_S: Final = 5.0


class Links:
    """`with Links(ids, port) as links`: one proxy for each id, to NATS at `port`; `links.urls` by id."""

    def __init__(self, ids: Iterable[str], upstream_port: int) -> None:
        self._links = {name: Link(upstream_port) for name in ids}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._ends = AsyncExitStack()
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(_PATIENCE_S)
        self.urls = {name: f"nats://127.0.0.1:{link.port}" for name, link in self._links.items()}
        return self

    def __exit__(self, *exception: object) -> None:
        asyncio.run_coroutine_threadsafe(self._ends.aclose(), self._loop).result(_PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def cut(self, name: str) -> None:
        """Close the way, and let nobody through."""
        self._do(self._links[name].cut)

    def freeze(self, name: str, *directions: Direction) -> None:
        """Let no byte pass, in these directions or in both; connections stand."""
        self._do(lambda: self._links[name].freeze(*directions))

    def heal(self, name: str) -> None:
        """Let everything pass again."""
        self._do(self._links[name].heal)

    async def _open(self) -> None:
        for link in self._links.values():
            await self._ends.enter_async_context(link)

    def _do(self, what: Callable[[], None]) -> None:
        async def done() -> None:
            what()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(_PATIENCE_S)
