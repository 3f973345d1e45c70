"""A store in memory, for tests: ours, and those of who builds on it. Faults are switched on by attribute.

Attributes of `MemoryStore`: `down`: every call fails with this text; `hangs`: every call waits until it is
set again, as a server that is frozen; `calls`: what was asked, in order.
"""

import asyncio
from collections.abc import AsyncIterator, Collection

from worker.store.base import Conflict, Damaged, Manifest, Place, Stored, StoreDown, epoch_of


class MemoryStore:
    """See the module; `Store` says what each method does."""

    name = "memory"

    def __init__(self) -> None:
        self.manifests: dict[Place, tuple[Manifest, int]] = {}
        self.chunks: dict[tuple[Place, str], dict[int, bytes]] = {}
        self.down = ""
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.calls: list[str] = []

    async def manifest(self, place: Place) -> tuple[Manifest | None, int]:
        await self._asked("manifest")
        return self.manifests.get(place, (None, 0))

    async def publish(self, place: Place, manifest: Manifest, revision: int) -> int:
        await self._asked("publish")
        if self.manifests.get(place, (None, 0))[1] != revision:
            raise Conflict
        self.manifests[place] = manifest, revision + 1
        return revision + 1

    async def put(self, place: Place, name: str, number: int, data: bytes) -> None:
        await self._asked("put")
        self.chunks.setdefault((place, name), {})[number] = data

    async def read(self, place: Place, stored: Stored) -> AsyncIterator[bytes]:
        await self._asked("read")
        chunks = self.chunks.get((place, stored.name), {})
        for number in range(len(stored.chunks)):
            if number not in chunks:
                raise Damaged(f"chunk {number} is missing")
            yield chunks[number]

    async def tidy(self, place: Place, kept: Collection[str], epoch: int) -> None:
        await self._asked("tidy")
        for where, name in list(self.chunks):
            if where == place and name not in kept and epoch_of(name) <= epoch:
                del self.chunks[where, name]

    async def forget(self, place: Place) -> None:
        await self._asked("forget")
        self.manifests.pop(place, None)
        self.chunks = {key: chunks for key, chunks in self.chunks.items() if key[0] != place}

    async def _asked(self, what: str) -> None:
        self.calls.append(what)
        await self.hangs.wait()
        if self.down:
            raise StoreDown(self.down)
