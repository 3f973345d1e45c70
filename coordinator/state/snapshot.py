"""The state as bytes, in small parts.

Format 2: the magic ``CLUSTATE``, then frames: four bytes of length (little-endian) and a msgpack array. The
first frame is the header: the format, the two counters, and how many items follow of each kind. The others
hold slices of the state's dictionaries and of the audit trail, in the order in which the state holds them:
the same state gives the same bytes. A frame ends at `FRAME_ITEMS` items or `FRAME_BYTES` bytes, whichever
comes first, so that making one takes a moment.

`frames` copies the dictionaries, and only them, when it is called: their values are frozen, and `placements`
is copied in both its levels. The frames are made when they are asked for, by any thread, from those copies.

Format 1, one msgpack map of everything, is still read.
"""

import struct
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import msgspec

from coordinator.state.model import ApiKey, Event, Group, Placement, Remembered, State, Stray, Worker

FORMAT: Final = 2
FRAME_ITEMS: Final = 200
FRAME_BYTES: Final = 128 * 1024
_MAGIC: Final = b"CLUSTATE"
_LENGTH: Final = struct.Struct("<I")
_FIRST_BYTE_OF_FORMAT_1: Final = 0x82
_KINDS: Final = ("coordinators", "workers", "groups", "placements", "strays", "keys", "remembered", "audit")


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


_AnyFrame = _Coordinators | _Workers | _Groups | _Placements | _Strays | _Remembered | _Audit | _Keys
_encode: Final = msgspec.msgpack.Encoder().encode
_format_1: "Final[msgspec.msgpack.Decoder[_Format1]]" = msgspec.msgpack.Decoder(_Format1)
_versions: "Final[msgspec.msgpack.Decoder[_Version]]" = msgspec.msgpack.Decoder(_Version)
_headers: "Final[msgspec.msgpack.Decoder[_Header]]" = msgspec.msgpack.Decoder(_Header)
_frames: "Final[msgspec.msgpack.Decoder[_AnyFrame]]" = msgspec.msgpack.Decoder(_AnyFrame)


def frames(state: State) -> Iterator[bytes]:
    """The state as it is now, in frames."""
    kept: dict[str, Any] = {kind: getattr(state, kind).copy() for kind in _KINDS}
    kept["placements"] = {group: placed.copy() for group, placed in state.placements.items()}
    counts = {kind: len(items) for kind, items in kept.items()}
    header = _framed(_Header(FORMAT, state.epochs, state.sessions, counts))
    return chain([_MAGIC + header], chain.from_iterable(_slices(kind, kept[kind]) for kind in _KINDS))


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
        if data[:1] == bytes([_FIRST_BYTE_OF_FORMAT_1]):
            return _read_format_1(data)
        return _read_frames(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(_damaged(str(error))) from None


def _read_format_1(data: bytes) -> State:
    whole = _format_1.decode(data)
    if whole.format != 1:
        raise ValueError(_other_format(whole.format))
    return whole.state


def _read_frames(data: bytes) -> State:
    if not data.startswith(_MAGIC):
        raise ValueError(_damaged(f"it begins with {data[:8]!r}"))
    bodies = _bodies(memoryview(data)[len(_MAGIC) :])
    first = next(bodies, memoryview(b""))
    if (version := _versions.decode(first).format) != FORMAT:
        raise ValueError(_other_format(version))
    header = _headers.decode(first)
    state = State(epochs=header.epochs, sessions=header.sessions)
    for body in bodies:
        _add(state, _frames.decode(body))
    counts = {kind: len(getattr(state, kind)) for kind in _KINDS}
    if counts != dict.fromkeys(_KINDS, 0) | header.counts:  # an older version knew fewer kinds
        raise ValueError(_damaged(f"it holds {counts}, and should hold {header.counts}"))
    return state


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
    held: dict[str, Any] = getattr(state, str(kind))
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
