"""A store in a directory, which workers may share: a local disk for those of one machine, else NFS.

    <root>/<group>/<pipeline>/manifest-<revision>     newest revision counts
    <root>/<group>/<pipeline>/<epoch>-<seq>.<number>  chunks

A manifest is written beside, synced, and then *linked* to its name: `link` fails when the name is there, so
of two that publish over the same revision one loses, without a lock that a frozen process could hold. It
begins with its own SHA-256: one that a crash has torn does not count, and the one before it does. A process
that slept while others published and tidied up may still link an old name; readers take the highest, so it
has changed nothing, and it finds that out when it looks again.

The disk is used from threads of its own, each call within `DEADLINE`: a disk that hangs (NFS) holds those
threads, and nothing else. The directory is made at the first write.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from worker.store.base import (
    Conflict,
    Damaged,
    Manifest,
    Place,
    Stored,
    StoreDown,
    decode_manifest,
    encode_manifest,
    epoch_of,
)

DEADLINE: Final = 5.0
"""Seconds one call may take: a synced write of a chunk takes milliseconds."""
THREADS: Final = 4
_MANIFEST: Final = "manifest-"
_DIGITS: Final = 20

T = TypeVar("T")


class DirectoryStore:
    """See the module; `Store` says what each method does."""

    def __init__(self, root: Path, *, deadline: float = DEADLINE) -> None:
        self._root = root
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="checkpoints")

    @property
    def name(self) -> str:
        return f"directory {self._root}"

    async def manifest(self, place: Place) -> tuple[Manifest | None, int]:
        return await self._in_thread(lambda: _newest(self._directory(place)))

    async def publish(self, place: Place, manifest: Manifest, revision: int) -> int:
        return await self._in_thread(lambda: _publish(self._directory(place), manifest, revision))

    async def put(self, place: Place, name: str, number: int, data: bytes) -> None:
        def write() -> None:
            directory = self._directory(place)
            directory.mkdir(parents=True, exist_ok=True)
            _write(directory / f"{name}.{number}", data)

        await self._in_thread(write)

    async def read(self, place: Place, stored: Stored) -> AsyncIterator[bytes]:
        for number, chunk in enumerate(stored.chunks):
            path = self._directory(place) / f"{stored.name}.{number}"
            data = await self._in_thread(partial(_read, path, chunk.size))
            if data is None:
                raise Damaged(f"{path.name} is missing")
            yield data

    async def tidy(self, place: Place, kept: Collection[str], epoch: int) -> None:
        def unlink() -> None:
            for entry in list(os.scandir(self._directory(place))):
                name, dot, _ = entry.name.partition(".")
                if dot and name not in kept and epoch_of(name) <= epoch:
                    Path(entry).unlink(missing_ok=True)

        await self._in_thread(unlink)

    async def forget(self, place: Place) -> None:
        def delete() -> None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(self._directory(place))

        await self._in_thread(delete)

    def _directory(self, place: Place) -> Path:
        return self._root / place.group / place.pipeline

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except TimeoutError:
            raise StoreDown(
                f"{self.name} did not answer within {self._deadline:g} s: is the disk there?"
            ) from None
        except OSError as error:
            raise StoreDown(f"{self.name}: {error}: make room, or mend the disk") from None


def _revisions(directory: Path) -> list[int]:
    """Of the manifests that are there, newest first."""
    try:
        names = [entry.name for entry in os.scandir(directory)]
    except FileNotFoundError:
        return []
    numbers = [name.removeprefix(_MANIFEST) for name in names if name.startswith(_MANIFEST)]
    return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)


def _path(directory: Path, revision: int) -> Path:
    return directory / f"{_MANIFEST}{revision:0{_DIGITS}d}"


def _newest(directory: Path) -> tuple[Manifest | None, int]:
    revisions = _revisions(directory)
    for revision in revisions:
        with contextlib.suppress(Damaged, FileNotFoundError):
            digest, _, data = _path(directory, revision).read_bytes().partition(b"\n")
            if digest == hashlib.sha256(data).hexdigest().encode():
                return decode_manifest(data), revisions[0]
    return None, revisions[0] if revisions else 0


def _publish(directory: Path, manifest: Manifest, revision: int) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    if (_revisions(directory) or [0])[0] != revision:
        raise Conflict
    data = encode_manifest(manifest)
    draft = directory / f".new-{secrets.token_hex(8)}"
    try:
        _write(draft, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
        os.link(draft, _path(directory, revision + 1))
    except FileExistsError:
        raise Conflict from None
    finally:
        draft.unlink(missing_ok=True)
    _sync(directory)
    revisions = _revisions(directory)
    if revisions[0] != revision + 1:
        raise Conflict  # others went on while we slept: what we linked counts for nobody
    for old in revisions[2:]:
        _path(directory, old).unlink(missing_ok=True)
    return revision + 1


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, size: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(size + 1)
    except FileNotFoundError:
        return None


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
