"""The state of a pipeline as plain data: taken between two events, put back, written down.

The form is `{"v": 1, "pipeline", "source_sha256", "taken_at", "positions", "counters", "vars",
"watermarks", "state"}`, and, when it was handed over, `"held"`: the events that were not handled. A
checkpoint up to `INLINE_LIMIT` travels in the answer itself. A larger one, and each that is to outlive its
worker, goes into a store (`worker.store`) as **lines**, gzipped: the object first, in which each long list of
the state (windows, events of a join, runs of a sequence, whatever a stage keeps) is empty, then `[stream,
operation, name of the list, rows]`, `ROWS` of them or fewer. So it is written and read a little at a time,
and neither a worker's memory nor its event loop meets all of it at once; gzip carries a CRC-32 and the
length.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from proto_schemas.codec import encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.base import Count, Message
from proto_schemas.messages.moves import HeldEvent
from vpl import Engine, VplStateError
from worker.store.base import Damaged

VERSION: Final = 1
INLINE_LIMIT: Final = 512 * 1024
"""Bytes of JSON; above it an answer carries a reference instead."""
MAX_BYTES: Final = 1024 * 1024 * 1024
"""Bytes of JSON a stored checkpoint may unpack to."""
ROWS: Final = 256
"""Windows in a line; a list that is not longer stays in the first line."""
MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line."""
LONG_LINE: Final = 4 * 1024 * 1024
"""Bytes above which the rows of a line are shared out over two, where there are two."""
_LEVEL: Final = 1
_GZIP: Final = 16 + zlib.MAX_WBITS
_UNPACK: Final = 1024 * 1024


class At(NamedTuple):
    """Where in its stream a pipeline was: `positions` by stream, and by subject of its marks; `watermarks`:
    the time it had come to, and the closings after its last input."""

    positions: Mapping[str, int] = {}
    watermarks: Mapping[str, int] = {}


NOWHERE: Final = At()


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


def take(
    engine: Engine, pipeline: str, now_ms: int, held: Sequence[HeldEvent] = (), at: At = NOWHERE
) -> bytes:
    """The checkpoint of `engine` as JSON; every key is there, also an empty one, but for `held`."""
    return encode(_whole(engine, pipeline, now_ms, held, at))


def lines(
    engine: Engine, pipeline: str, now_ms: int, held: Sequence[HeldEvent] = (), at: At = NOWHERE
) -> Iterator[bytes]:
    """The same as lines. The state is that of the moment in which the first line is asked for."""
    whole = _whole(engine, pipeline, now_ms, held, at)
    tables: list[tuple[str, str, str, list[Any]]] = []
    for stream, operations in whole["state"].items():
        for operation, data in operations.items():
            for name, rows in data.items():
                if rows.__class__ is list and len(rows) > ROWS:
                    tables.append((stream, operation, name, rows))
                    data[name] = []
    yield encode(whole) + b"\n"
    for *place, rows in tables:
        for first in range(0, len(rows), ROWS):
            yield from _line(place, rows[first : first + ROWS])


def _line(place: list[str], rows: list[Any]) -> Iterator[bytes]:
    line = encode([*place, rows]) + b"\n"
    if len(line) <= LONG_LINE or len(rows) == 1:
        yield line
    else:
        half = len(rows) // 2
        yield from _line(place, rows[:half])
        yield from _line(place, rows[half:])


def packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes of `pieces`, gzipped."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    for piece in pieces:
        if data := packer.compress(piece):
            yield data
    yield packer.flush()


async def unpacked(chunks: AsyncIterator[bytes]) -> Checkpoint:
    """The checkpoint in gzipped lines; other work has its turn between them.

    Raises:
        Damaged: they are not whole, or not what they should be.
    """
    reader = _Reader()
    try:
        async for chunk in chunks:
            reader.feed(chunk)
            while reader.step():
                await asyncio.sleep(0)
        return reader.checkpoint()
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Damaged(f"it cannot be read: {error}") from None


class _Reader:
    """Lines out of gzipped bytes, at most a few at a time."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(_GZIP)
        self._packed = b""
        self._text = b""
        self._size = 0
        self._head: dict[str, Any] | None = None

    def feed(self, data: bytes) -> None:
        self._packed += data

    def step(self) -> bool:
        """Read on; whether there is more to read before the next bytes."""
        data = self._unpacker.decompress(self._packed, _UNPACK)
        self._packed = self._unpacker.unconsumed_tail
        self._size += len(data)
        *whole, self._text = (self._text + data).split(b"\n")
        for line in whole:
            self._take(line)
        if self._size > MAX_BYTES or len(self._text) > MAX_LINE:
            raise Damaged(f"it unpacks to more than {MAX_BYTES} bytes, or has a line of more than {MAX_LINE}")
        return bool(self._packed) or len(data) == _UNPACK

    def _take(self, line: bytes) -> None:
        data = msgspec.json.decode(line)
        if self._head is None:
            self._head = data if isinstance(data, dict) else {}
            return
        try:
            stream, operation, name, rows = data
            self._head["state"][stream][operation][name].extend(rows)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise Damaged("a line holds no rows of the state") from None

    def checkpoint(self) -> Checkpoint:
        """All of it; raises `Damaged` when something is missing."""
        if not self._unpacker.eof or self._text or self._head is None:
            raise Damaged("its end is missing")
        return msgspec.convert(self._head, Checkpoint)


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


def _whole(engine: Engine, pipeline: str, now_ms: int, held: Sequence[HeldEvent], at: At) -> dict[str, Any]:
    snapshot = engine.snapshot()
    return {
        "v": VERSION,
        "pipeline": pipeline,
        "source_sha256": engine.program.source_sha256,
        "taken_at": now_ms,
        "positions": dict(at.positions),
        "counters": snapshot["counters"],
        "vars": snapshot["vars"],
        "watermarks": dict(at.watermarks),
        "state": snapshot["state"],
        **({"held": held} if held else {}),
    }
