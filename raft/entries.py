"""Log entries, in the two forms they take.

On the bus and on disk an entry is typed: ``(kind, index, term, payload)``. PySyncObj keeps ``(bytes, index,
term)`` and reads those bytes with pickle: one byte of command type, then, for a command, a pickled ``(method
id, (payload,))``. `to_engine` builds these bytes here, from a constant frame of opcodes around the payload;
`from_engine` takes them apart by the same constants. So no byte from the bus or the disk is ever read as
pickle: a payload lies inside a BINBYTES opcode whose length this module wrote. There is exactly one
replicated method, so its id is 0.
"""

import struct
from typing import Annotated

import msgspec
from msgspec import Meta

NOOP = 1
COMMAND = 0

NOOP_BYTES = b"\x01"
# PROTO 3, BININT1 0 (method id), BINBYTES + u32 length | payload | TUPLE1, TUPLE2, STOP
_OPENING = b"\x00\x80\x03K\x00B"
_CLOSING = b"\x85\x86."
_LENGTH = struct.Struct("<I")
_PAYLOAD_AT = len(_OPENING) + _LENGTH.size

EngineEntry = tuple[bytes, int, int]


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A typed entry: `kind` is `NOOP` or `COMMAND`, `payload` the command's bytes (empty for a no-op)."""

    kind: Annotated[int, Meta(ge=0, le=1)]
    index: Annotated[int, Meta(ge=0, le=2**62)]
    term: Annotated[int, Meta(ge=0, le=2**62)]
    payload: bytes


def command_bytes(payload: bytes) -> bytes:
    """A command in the engine's form."""
    return _OPENING + _LENGTH.pack(len(payload)) + payload + _CLOSING


def to_engine(entry: Entry) -> EngineEntry:
    """The engine's form of a typed entry."""
    data = command_bytes(entry.payload) if entry.kind == COMMAND else NOOP_BYTES
    return data, entry.index, entry.term


def from_engine(entry: EngineEntry) -> Entry:
    """The typed form of an entry that `to_engine` or `command_bytes` built, or the engine's own no-op."""
    data, index, term = entry
    if data == NOOP_BYTES:
        return Entry(NOOP, index, term, b"")
    if not data.startswith(_OPENING):
        raise ValueError(
            f"entry {index} of term {term} was not built here. Only commands and no-ops may enter the log"
        )
    return Entry(COMMAND, index, term, data[_PAYLOAD_AT : -len(_CLOSING)])
