"""The state as bytes, in small parts.

Format 3: the magic ``CLUSTATE``, then frames: four bytes of length (little-endian) and a msgpack array. The
first frame is the header: the format, the two counters, and how many items follow of each kind. The others
hold slices of the state's dictionaries and of the audit trail, in the order in which the state holds them:
the same state gives the same bytes. A frame ends at `FRAME_ITEMS` items or `FRAME_BYTES` bytes, whichever
comes first, so that making one takes a moment.

`frames` copies the dictionaries, and only them, when it is called: their values are frozen, and `placements`
is copied in both its levels. The frames are made when they are asked for, by any thread, from those copies.

`read` keeps the garbage collector away: what it makes refers to nothing that refers back, and each look at
all of it, of which a large state sets off several, would stop the event loop once more.

A kind that came later is not counted while it is empty, so a reader that does not know it is right; it comes
before the trail, which alone is a list: a frame of it that is there twice is found by the counts at the end.

Format 2, which knew no uploads, and format 1, one msgpack map of everything, are still read. `read_on` takes
the bytes in pieces, as they come. Events of a trail from before they were numbered get their numbers when
they are read.
"""

import gc
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import msgspec

from coordinator.state.model import State, Unpacked
from coordinator.state.records import (
    ApiKey,
    Connector,
    Drain,
    Event,
    Migration,
    Placement,
    Stray,
    Upload,
    Worker,
)
from coordinator.state.results import Remembered
from coordinator.state.trail import number_all
from coordinator.state.versions import Group

FORMAT: Final = 3
FRAME_ITEMS: Final = 200
FRAME_BYTES: Final = 128 * 1024
LARGEST_FRAME: Final = 32 * 1024 * 1024
"""Bytes of a frame that `read_on` waits for; the largest group gives a few MiB."""
_MAGIC: Final = b"CLUSTATE"
_LENGTH: Final = struct.Struct("<I")
_FIRST_BYTE_OF_FORMAT_1: Final = 0x82
_FIRST_KINDS: Final = ("coordinators", "workers", "groups", "placements", "strays", "remembered", "audit")
_KINDS: Final = (
    "coordinators",
    "workers",
    "groups",
    "placements",
    "strays",
    "keys",
    "connectors",
    "migrations",
    "ended_migrations",
    "drains",
    "ended_drains",
    "remembered",
    "uploads",
    "parts",
    "audit",
)


class _Format1(msgspec.Struct, frozen=True):
    format: int
    state: State


class _Version(msgspec.Struct, frozen=True, array_like=True):
    """The field that the headers of all formats begin with."""

    format: int


class _Header(msgspec.Struct, frozen=True, array_like=True):
    format: int
    epochs: int
    sessions: int
    counts: dict[str, int]


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """Base of the slices; the tag is the name of the field of `State`."""


class _Coordinators(_Frame, frozen=True, tag="coordinators"):
    items: dict[str, str]


class _Workers(_Frame, frozen=True, tag="workers"):
    items: dict[str, Worker]


class _Groups(_Frame, frozen=True, tag="groups"):
    items: dict[str, Group]


class _Placements(_Frame, frozen=True, tag="placements"):
    items: dict[str, dict[str, Placement]]


class _Strays(_Frame, frozen=True, tag="strays"):
    items: dict[str, Stray]


class _Remembered(_Frame, frozen=True, tag="remembered"):
    items: dict[str, Remembered]


class _Audit(_Frame, frozen=True, tag="audit"):
    items: list[Event]


class _Keys(_Frame, frozen=True, tag="keys"):
    items: dict[str, ApiKey]


class _Uploads(_Frame, frozen=True, tag="uploads"):
    items: dict[str, Upload]


class _Parts(_Frame, frozen=True, tag="parts"):
    items: dict[int, bytes]


class _Connectors(_Frame, frozen=True, tag="connectors"):
    items: dict[str, Connector]


class _Migrations(_Frame, frozen=True, tag="migrations"):
    items: dict[str, Migration]


class _EndedMigrations(_Frame, frozen=True, tag="ended_migrations"):
    items: dict[str, Migration]


class _Drains(_Frame, frozen=True, tag="drains"):
    items: dict[str, Drain]


class _EndedDrains(_Frame, frozen=True, tag="ended_drains"):
    items: dict[str, Drain]


_AnyFrame = (
    _Coordinators
    | _Workers
    | _Groups
    | _Placements
    | _Strays
    | _Keys
    | _Connectors
    | _Migrations
    | _EndedMigrations
    | _Drains
    | _EndedDrains
    | _Remembered
    | _Uploads
    | _Parts
    | _Audit
)
_encode: Final = msgspec.msgpack.Encoder().encode
_format_1: "Final[msgspec.msgpack.Decoder[_Format1]]" = msgspec.msgpack.Decoder(_Format1)
_versions: "Final[msgspec.msgpack.Decoder[_Version]]" = msgspec.msgpack.Decoder(_Version)
_headers: "Final[msgspec.msgpack.Decoder[_Header]]" = msgspec.msgpack.Decoder(_Header)
_frames: "Final[msgspec.msgpack.Decoder[_AnyFrame]]" = msgspec.msgpack.Decoder(_AnyFrame)


def frames(state: State) -> Iterator[bytes]:
    """The state as it is now, in frames."""
    kept: dict[str, Any] = {kind: getattr(state, kind).copy() for kind in _KINDS}
    kept["placements"] = {group: placed.copy() for group, placed in state.placements.items()}
    counts = _counted({kind: len(items) for kind, items in kept.items()})
    header = _framed(_Header(FORMAT, state.epochs, state.sessions, counts))
    return chain([_MAGIC + header], chain.from_iterable(_slices(kind, kept[kind]) for kind in _KINDS))


def _counted(counts: dict[str, int]) -> dict[str, int]:
    return {kind: count for kind, count in counts.items() if count or kind in _FIRST_KINDS}


def _slices(kind: str, items: dict[str, Any] | list[Any]) -> Iterator[bytes]:
    """A list is cut as a dictionary is: by what its values take."""
    part: dict[Any, msgspec.Raw] = {}
    size, last = 0, len(items)
    pairs = items.items() if isinstance(items, dict) else enumerate(items)
    for number, (key, value) in enumerate(pairs, start=1):
        raw = msgspec.Raw(_encode(value))
        part[key], size = raw, size + len(raw)
        if len(part) >= FRAME_ITEMS or size >= FRAME_BYTES or number == last:
            yield _framed((kind, part if isinstance(items, dict) else list(part.values())))
            part, size = {}, 0


def _framed(value: object) -> bytes:
    body = _encode(value)
    return _LENGTH.pack(len(body)) + body


def read(data: bytes) -> State:
    """The state in the joined frames, or in format 1.

    Raises:
        ValueError: they are damaged, or of a format this version does not know.
    """
    try:
        with _collector_away():
            if data[:1] == bytes([_FIRST_BYTE_OF_FORMAT_1]):
                return _read_format_1(data)
            return _read_frames(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_damaged(str(error))) from None


@contextmanager
def _collector_away() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_format_1(data: bytes) -> State:
    whole = _format_1.decode(data)
    if whole.format != 1:
        raise ValueError(_other_format(whole.format))
    number_all(whole.state.audit)
    return whole.state


def _read_frames(data: bytes) -> State:
    if not data.startswith(_MAGIC):
        raise ValueError(_damaged(f"it begins with {data[:8]!r}"))
    bodies = _bodies(memoryview(data)[len(_MAGIC) :])
    header = _read_header(next(bodies, memoryview(b"")))
    state = State(epochs=header.epochs, sessions=header.sessions)
    for body in bodies:
        _add(state, _frames.decode(body))
    number_all(state.audit)
    check_counts(state, header.counts)
    return state


def read_on(so_far: Unpacked, data: bytes) -> None:
    """Take in the next bytes of joined frames; the first ones hold the header whole. `check_counts` tells in
    the end whether all came.

    Raises:
        ValueError: they are damaged, or of a format that is not read in pieces.
    """
    view = memoryview(so_far.rest + data if so_far.rest else data)
    try:
        if so_far.counts is None:
            _check_magic(view)
            view = view[len(_MAGIC) :]
            end = _end_of_frame(view, 0) or 0
            header = _read_header(view[_LENGTH.size : end])
            so_far.state.epochs, so_far.state.sessions = header.epochs, header.sessions
            so_far.counts, view = header.counts, view[end:]
        at = 0
        while (end := _end_of_frame(view, at) or 0) > 0:
            _add(so_far.state, _frames.decode(view[at + _LENGTH.size : end]))
            at = end
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_damaged(str(error))) from None
    so_far.rest = bytes(view[at:])


def as_newest(data: memoryview) -> memoryview:
    """The same state in a format that `read_on` reads; `data` itself if it is.

    Raises:
        ValueError: it is damaged at its beginning, or of a format this version does not know.
    """
    if data[:1] == bytes([_FIRST_BYTE_OF_FORMAT_1]):
        return memoryview(b"".join(frames(read(bytes(data)))))
    _check_magic(data)
    beginning = data[: len(_MAGIC) + FRAME_BYTES]
    end = _end_of_frame(beginning, len(_MAGIC))
    read_on(Unpacked(state=State()), bytes(beginning[:end]))
    return data


def check_counts(state: State, counts: dict[str, int]) -> None:
    """Whether as much came as the header said; raises ValueError."""
    found = {kind: len(getattr(state, kind)) for kind in _KINDS}
    if found != dict.fromkeys(_KINDS, 0) | counts:
        raise ValueError(_damaged(f"it holds {found}, and should hold {counts}"))


def _check_magic(data: memoryview) -> None:
    if (beginning := bytes(data[: len(_MAGIC)])) != _MAGIC:
        raise ValueError(_damaged(f"it begins with {beginning!r}"))


def _read_header(body: memoryview) -> _Header:
    if (version := _versions.decode(body).format) not in (2, FORMAT):
        raise ValueError(_other_format(version))
    return _headers.decode(body)


def _end_of_frame(data: memoryview, at: int) -> int | None:
    """Where the frame that begins at `at` ends; None while it is not here whole."""
    if at + _LENGTH.size > len(data):
        return None
    length = _LENGTH.unpack_from(data, at)[0]
    if length > LARGEST_FRAME:
        raise ValueError(_damaged(f"a frame of {length} bytes"))
    end: int = at + _LENGTH.size + length
    return end if end <= len(data) else None


def _bodies(data: memoryview) -> Iterator[memoryview]:
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            raise ValueError(_damaged(f"its last frame, at byte {at}, has no length"))
        end = at + _LENGTH.size + _LENGTH.unpack_from(data, at)[0]
        if end > len(data):
            raise ValueError(_damaged(f"the frame at byte {at} ends at byte {end} of {len(data)}"))
        yield data[at + _LENGTH.size : end]
        at = end


def _add(state: State, frame: _AnyFrame) -> None:
    if isinstance(frame, _Audit):
        state.audit.extend(frame.items)
        return
    kind = type(frame).__struct_config__.tag
    held: dict[Any, Any] = getattr(state, str(kind))
    held.update(frame.items)


def _damaged(cause: str) -> str:
    return (
        f"the snapshot of the coordinators' state cannot be read: {cause}. It is of no format this version "
        f"knows (1 to {FORMAT}), or damaged: check which version wrote it, and the disk"
    )


def _other_format(found: int) -> str:
    return (
        f"the snapshot of the coordinators' state has format {found}, and this version reads formats 1 to "
        f"{FORMAT}: run the version that wrote it, or a newer one"
    )
