"""Log entries, in the two forms they take.

On the bus and on disk an entry is typed: ``(kind, index, term, payload)``. PySyncObj keeps ``(bytes, index,
term)`` and reads those bytes with pickle: one byte of command type, then, for a command, a pickled ``(method
id, (payload,))``. `to_engine` builds these bytes here, from a constant frame of opcodes around the payload;
`from_engine` takes them apart by the same constants. So no byte from the bus or the disk is ever read as
pickle: a payload lies inside a BINBYTES opcode whose length this module wrote. There are two replicated
methods, `execute` for commands and `seal` for the end of a generation; their ids are 0 and 1.
"""

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

NOOP = 1
COMMAND = 0
SEAL = 2

NOOP_BYTES = b"\x01"
# PROTO 3, BININT1 (method id), BINBYTES + u32 length | payload | TUPLE1, TUPLE2, STOP
_OPENING = b"\x00\x80\x03K\x00B"
_SEAL_OPENING = b"\x00\x80\x03K\x01B"
_CLOSING = b"\x85\x86."
_LENGTH = struct.Struct("<I")
_PAYLOAD_AT = len(_OPENING) + _LENGTH.size

EngineEntry = tuple[bytes, int, int]


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A typed entry: `kind` is `NOOP`, `COMMAND` or `SEAL`, `payload` the bytes of the last two."""

    kind: Annotated[int, Meta(ge=0, le=2)]
    index: Annotated[int, Meta(ge=0, le=2**62)]
    term: Annotated[int, Meta(ge=0, le=2**62)]
    payload: bytes


def command_bytes(payload: bytes) -> bytes:
    """A command in the engine's form."""
    return _OPENING + _LENGTH.pack(len(payload)) + payload + _CLOSING


def seal_bytes(payload: bytes) -> bytes:
    """A seal in the engine's form."""
    return _SEAL_OPENING + _LENGTH.pack(len(payload)) + payload + _CLOSING


def to_engine(entry: Entry) -> EngineEntry:
    """The engine's form of a typed entry."""
    if entry.kind == COMMAND:
        return command_bytes(entry.payload), entry.index, entry.term
    data = seal_bytes(entry.payload) if entry.kind == SEAL else NOOP_BYTES
    return data, entry.index, entry.term


def from_engine(entry: EngineEntry) -> Entry:
    """The typed form of an entry that this module built, or of the engine's own no-op."""
    data, index, term = entry
    if data == NOOP_BYTES:
        return Entry(NOOP, index, term, b"")
    opening, payload = data[: len(_OPENING)], data[_PAYLOAD_AT : -len(_CLOSING)]
    if opening == _OPENING:
        return Entry(COMMAND, index, term, payload)
    if opening == _SEAL_OPENING:
        return Entry(SEAL, index, term, payload)
    raise ValueError(f"entry {index} of term {term} was not built here. Only what is may enter the log")
