"""The state of a pipeline as plain data: taken between two events, put back, kept on disk when large.

The form is `{"v": 1, "pipeline", "source_sha256", "taken_at", "positions", "counters", "vars",
"watermarks", "state"}`, and, when it was handed over, `"held"`: the events that were not handled. A
checkpoint up to `INLINE_LIMIT` travels in the answer itself. A larger one is a file
`<data_dir>/checkpoints/<ref>.json.gz` (gzip carries a CRC-32 and the length), written beside and renamed
after `fsync`, so a reader sees the old one or the new one, whole. A reference is a plain id, checked before
it becomes part of a path, so it leads nowhere else; it is known to the worker that wrote it (or to those
that share its directory).
"""

import asyncio
import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from proto_schemas.codec import decode, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages import Count, HeldEvent, Message
from vpl import Engine, VplStateError

VERSION: Final = 1
INLINE_LIMIT: Final = 512 * 1024
"""Bytes of JSON; above it an answer carries a reference instead."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Bytes of JSON a file may unpack to."""

_REF: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Checkpoint(Message, frozen=True, kw_only=True):
    """A pipeline's state; see the module."""

    v: Count
    source_sha256: str
    pipeline: str = ""
    taken_at: int = 0
    positions: dict[str, Any] = msgspec.field(default_factory=dict)
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    vars: dict[str, Any] = msgspec.field(default_factory=dict)
    watermarks: dict[str, Any] = msgspec.field(default_factory=dict)
    state: dict[str, Any] = msgspec.field(default_factory=dict)
    held: list[HeldEvent] = []


def take(engine: Engine, pipeline: str, now_ms: int, held: Sequence[HeldEvent] = ()) -> bytes:
    """The checkpoint of `engine` as JSON; every key is there, also an empty one, but for `held`."""
    snapshot = engine.snapshot()
    return encode(
        {
            "v": VERSION,
            "pipeline": pipeline,
            "source_sha256": engine.program.source_sha256,
            "taken_at": now_ms,
            "positions": {},
            "counters": snapshot["counters"],
            "vars": snapshot["vars"],
            "watermarks": {},
            "state": snapshot["state"],
            **({"held": held} if held else {}),
        }
    )


def put_back(engine: Engine, checkpoint: Checkpoint) -> None:
    """Make `engine` go on from `checkpoint`.

    Raises:
        WireError: `conflict`: of another program, of a newer version, or not what it should be; the engine
        is as it was.
    """
    if checkpoint.v > VERSION:
        raise WireError(
            ErrorCode.CONFLICT,
            f"the checkpoint has version {checkpoint.v}, this worker reads up to {VERSION}: "
            "restore it on a newer worker",
        )
    data = {
        "v": checkpoint.v,
        "source_sha256": checkpoint.source_sha256,
        "counters": checkpoint.counters,
        "vars": checkpoint.vars,
        "state": checkpoint.state,
    }
    try:
        engine.restore(data)
    except VplStateError as error:
        raise WireError(ErrorCode.CONFLICT, str(error)) from None


def from_object(data: dict[str, Any]) -> Checkpoint:
    """Check a checkpoint that came in a message.

    Raises:
        WireError: `bad_request`, naming the path of what is wrong.
    """
    try:
        return msgspec.convert(data, Checkpoint)
    except (msgspec.ValidationError, RecursionError) as error:
        raise WireError(ErrorCode.BAD_REQUEST, f"checkpoint: {error}") from None


class CheckpointStore:
    """Checkpoints in a directory, which is made at the first write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def write(self, ref: str, data: bytes) -> None:
        """Keep `data` under `ref`, in place of an older one; on disk when this returns.

        Raises:
            OSError: the disk refuses.
        """
        await asyncio.to_thread(_write, self._path(ref), data)

    async def read(self, ref: str) -> Checkpoint:
        """The checkpoint under `ref`.

        Raises:
            WireError: `bad_request` (no reference, or not readable), `not_found`.
        """
        try:
            path = self._path(ref)
        except ValueError as error:
            raise WireError(ErrorCode.BAD_REQUEST, str(error)) from None
        try:
            return await asyncio.to_thread(_read, path)
        except FileNotFoundError:
            raise WireError(
                ErrorCode.NOT_FOUND,
                f"checkpoint {ref} is not on this worker: "
                "restore it where it was taken, or send the checkpoint itself",
            ) from None
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise WireError(
                ErrorCode.BAD_REQUEST, f"checkpoint {ref} is damaged ({error}): take another one"
            ) from None

    def _path(self, ref: str) -> Path:
        if _REF.fullmatch(ref) is None:
            raise ValueError(f"checkpoint_ref {ref[:80]!r} is none: give one that a checkpoint answered")
        return self._directory / f"{ref}.json.gz"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    with draft.open("wb") as file:
        file.write(gzip.compress(data, compresslevel=1, mtime=0))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> Checkpoint:
    with gzip.GzipFile(fileobj=io.BytesIO(path.read_bytes())) as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it unpacks to more than {MAX_BYTES} bytes")
    return decode(data, Checkpoint, limit=MAX_BYTES)
