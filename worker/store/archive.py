"""The rules of checkpoints, over any store.

**Whole or not at all.** Chunks first, each with its digest; the manifest that names them last. What has no
manifest is not there. A checkpoint that cannot be read as it was written is skipped, counted and logged,
and the one before it taken.

**The newest epoch alone writes.** A copy claims its place before it reads or writes: it publishes the
manifest with its own epoch. Manifests are published over the revision that was read, so a copy of an older
epoch that was frozen, and thaws in the middle of a checkpoint, is refused by the store, reads the manifest
again, and finds that it is over (`Fenced`). So what it wrote is in no manifest, and nobody goes on from it.

**The last `KEPT` stay.** The manifest first forgets the oldest, then all chunks of this epoch and older
ones that it does not name are removed, also those that an interrupted write left behind.

**Bounded.** At most `AT_ONCE` writes and reads at a time, each chunk within the store's deadline and a
whole checkpoint within `PATIENCE`; what is read is limited before it is unpacked.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from worker.store.base import (
    MAX_CHUNKS,
    Chunk,
    Conflict,
    Damaged,
    Fenced,
    Manifest,
    Owner,
    Place,
    Ref,
    Store,
    Stored,
    StoreDown,
)

KEPT: Final = 3
AT_ONCE: Final = 4
CHUNK: Final = 256 * 1024
"""Bytes of a chunk at most: with base64 around it, it still fits a NATS payload."""
MAX_SIZE: Final = 256 * 1024 * 1024
"""Bytes of all chunks of a checkpoint."""
PATIENCE: Final = 60.0
"""Seconds one checkpoint may take to be written, or read."""
LEFT_OUT: Final = 100
TRIES: Final = 4
"""Times a manifest is published again because somebody was faster."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Archive:
    """Writes and reads checkpoints.

    Attributes:
        damaged: checkpoints that were skipped.
        bytes_written: of all that were written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.damaged = 0
        self.bytes_written = 0

    @property
    def name(self) -> str:
        """What people call the store."""
        return self._store.name

    async def claim(self, owner: Owner) -> Manifest:
        """Make the place `owner`'s: nobody with an older epoch writes there any more. Answers what lay there
        before; its epoch is 0 when nobody had claimed it.

        Raises:
            Fenced: it is a newer one's. StoreDown.
        """
        before, _ = await self._change(owner, lambda present: present)
        return before

    async def write(
        self, owner: Owner, pieces: AsyncIterable[bytes], *, taken_at: int, source_sha256: str
    ) -> Stored:
        """Keep what `pieces` give (of any size) as the newest checkpoint of `owner`.

        Raises:
            Fenced, StoreDown; ValueError: it is larger than `MAX_SIZE`; and what `pieces` raises. Nothing is
            to be found of it then.
        """
        async with self._turn():
            present = await self._claimed(owner)
            seq = max((taken_at, *(each.seq + 1 for each in present.checkpoints)))
            chunks, digest = await self._put_all(owner.place, f"{owner.epoch}-{seq}", pieces)
            stored = Stored(
                epoch=owner.epoch,
                seq=seq,
                taken_at=taken_at,
                source_sha256=source_sha256,
                size=sum(chunk.size for chunk in chunks),
                sha256=digest,
                chunks=chunks,
            )
            _, kept = await self._change(owner, lambda now: [stored, *now][:KEPT])
            await self._tidy(owner, kept)
        self.bytes_written += stored.size
        return stored

    async def leave_out(self, owner: Owner, sequence: int) -> None:
        """Have no later copy handle an input again; the last `LEFT_OUT` are known.

        Raises:
            Fenced, StoreDown.
        """
        await self._change(owner, lambda present: present, [sequence])

    async def newest(
        self,
        place: Place,
        manifest: Manifest,
        accept: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, T]],
    ) -> tuple[Stored, T] | None:
        """The newest checkpoint of `manifest` that is whole, with what `accept` made of its chunks.

        `accept` raises `Damaged` for what cannot be read.

        Raises:
            StoreDown; and what else `accept` raises.
        """
        for stored in manifest.checkpoints:
            try:
                async with self._turn():
                    return stored, await accept(self._checked(place, stored))
            except Damaged as error:
                self.damaged += 1
                log.error("checkpoint=%s/%s skipped: %s; trying the one before", place, stored.name, error)
        return None

    async def one(self, ref: Ref, accept: Callable[[AsyncIterator[bytes]], Coroutine[Any, Any, T]]) -> T:
        """What `accept` makes of the checkpoint that `ref` names.

        Raises:
            LookupError: there is none. Damaged, StoreDown.
        """
        manifest, _ = await self._store.manifest(ref.place)
        found = manifest.checkpoints if manifest is not None else []
        stored = next((each for each in found if ref.name in (None, each.name)), None)
        if stored is None:
            raise LookupError(f"checkpoint {ref} is not in {self.name}")
        async with self._turn():
            return await accept(self._checked(ref.place, stored))

    async def forget(self, owner: Owner) -> None:
        """The pipeline is gone for good; does nothing when the place is a newer one's.

        Raises:
            StoreDown.
        """
        manifest, _ = await self._store.manifest(owner.place)
        try:
            _as_seen_by(owner, manifest)
        except Fenced:
            return
        await self._store.forget(owner.place)

    # -- the manifest

    async def _claimed(self, owner: Owner) -> Manifest:
        manifest, _ = await self._store.manifest(owner.place)
        present = _as_seen_by(owner, manifest)
        return present if present.epoch == owner.epoch else await self.claim(owner)

    async def _change(
        self,
        owner: Owner,
        change: Callable[[list[Stored]], list[Stored]],
        left_out: Sequence[int] = (),
    ) -> tuple[Manifest, Manifest]:
        """Publish what `change` makes of the checkpoints that lie there, under the owner's epoch: the
        manifest before and after."""
        for _ in range(TRIES):
            found, revision = await self._store.manifest(owner.place)
            present = _as_seen_by(owner, found)
            wanted = Manifest(
                epoch=owner.epoch,
                life=owner.life,
                checkpoints=change(present.checkpoints),
                left_out=list(dict.fromkeys([*present.left_out, *left_out]))[-LEFT_OUT:],
            )
            if wanted == found:
                return present, wanted
            try:
                await self._store.publish(owner.place, wanted, revision)
            except Conflict:
                continue
            return present, wanted
        raise StoreDown(f"{self.name}: others publish checkpoints of {owner.place} all the time")

    async def _tidy(self, owner: Owner, manifest: Manifest) -> None:
        """Best effort: what is left costs room, and nothing else."""
        try:
            await self._store.tidy(owner.place, {each.name for each in manifest.checkpoints}, owner.epoch)
        except StoreDown as error:
            log.warning("checkpoints=%s older ones not removed: %s", owner.place, error)

    # -- chunks

    async def _put_all(
        self, place: Place, name: str, pieces: AsyncIterable[bytes]
    ) -> tuple[list[Chunk], str]:
        chunks: list[Chunk] = []
        whole = hashlib.sha256()
        async for data in _regrouped(pieces):
            if len(chunks) >= MAX_CHUNKS or len(chunks) * CHUNK + len(data) > MAX_SIZE:
                raise ValueError(f"the checkpoint is larger than {MAX_SIZE // 1024 // 1024} MiB")
            await self._store.put(place, name, len(chunks), data)
            whole.update(data)
            chunks.append(Chunk(len(data), _digest(data)))
        return chunks, whole.hexdigest()

    async def _checked(self, place: Place, stored: Stored) -> AsyncIterator[bytes]:
        number = 0
        async for data in self._store.read(place, stored):
            if number >= len(stored.chunks) or stored.chunks[number] != Chunk(len(data), _digest(data)):
                raise Damaged(f"chunk {number} is not what was written")
            number += 1
            yield data
        if number != len(stored.chunks):
            raise Damaged(f"{number} of {len(stored.chunks)} chunks are there")

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of those that are under way, within `PATIENCE`."""
        try:
            async with asyncio.timeout(PATIENCE), self._turns:
                yield
        except TimeoutError:
            raise StoreDown(f"{self.name}: not done within {PATIENCE:g} s: is it overloaded?") from None


def _as_seen_by(owner: Owner, manifest: Manifest | None) -> Manifest:
    """The manifest as it counts for `owner`: that of another life is empty, that of a newer copy not his."""
    if manifest is None:
        return Manifest()
    same = manifest.life == owner.life
    if owner.epoch < manifest.epoch and (same or owner.life < manifest.life):
        raise Fenced(owner.epoch, manifest.epoch)
    return manifest if same else Manifest()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


async def _regrouped(pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes, `CHUNK` at a time."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        while len(waiting) >= CHUNK:
            yield bytes(waiting[:CHUNK])
            del waiting[:CHUNK]
    if waiting:
        yield bytes(waiting)
