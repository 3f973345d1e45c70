"""One file of the journal: its records, and what may be wrong with them.

A segment is 8 bytes of magic, then records: ``length | ~length | CRC-32C of the body | body``, body = one
byte of type and the payload; little-endian. The first record is the header (cluster, node, generation,
number, whether it stands alone, members), the second the vote; segments appear under their names whole, by
rename, with both. After that the file only grows.

What a reader may meet at the end of the *last* segment, and nowhere else, is a torn tail: a record of which a
proper prefix was written, or nothing but zero bytes. It was never synced, so never acknowledged, and is cut.
Everything else that does not check out is corruption and stops the reader: also a complete last record with a
wrong checksum, for it may have been acknowledged. The complement of the length tells a damaged length, which
would look like a tail, from a tail.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import google_crc32c
import msgspec

from raft.entries import COMMAND, NOOP, Entry
from raft.errors import JournalCorrupt

MAGIC = b"RAFTLOG1"
_FRAME = struct.Struct("<III")
_ENTRY = struct.Struct("<BBQQ")
_TRUNCATE = struct.Struct("<BQ")
_ALL_ONES = 0xFFFFFFFF


class RecordType(IntEnum):
    """First byte of a record's body."""

    HEADER = 1
    VOTE = 2
    ENTRY = 3
    TRUNCATE = 4


class Header(msgspec.Struct, frozen=True, array_like=True):
    """First record of a segment. A segment that stands alone supersedes all before it."""

    cluster: str
    node: str
    generation: int
    number: int
    stands_alone: bool
    members: tuple[str, ...] = ()
    """Sorted; none in a segment of a release that did not record them."""


class VoteState(msgspec.Struct, frozen=True, array_like=True):
    """What Raft 5.2 wants on disk, and the count of this node's starts."""

    term: int = 0
    voted_for: str | None = None
    incarnation: int = 0


@dataclass(frozen=True, slots=True)
class Truncate:
    """Entries from `index` on are void."""

    index: int


Record = Header | VoteState | Entry | Truncate


@dataclass(frozen=True, slots=True)
class SegmentEnd:
    """Where reading ended: bytes that check out, and bytes in the file."""

    valid: int
    size: int


def encode_entry(entry: Entry) -> bytes:
    """The record of an entry."""
    return _framed(_ENTRY.pack(RecordType.ENTRY, entry.kind, entry.index, entry.term) + entry.payload)


def encode_truncate(index: int) -> bytes:
    """The record that voids the entries from `index` on."""
    return _framed(_TRUNCATE.pack(RecordType.TRUNCATE, index))


def encode_vote(vote: VoteState) -> bytes:
    """The record of term, vote and incarnation."""
    return _framed(bytes([RecordType.VOTE]) + msgspec.msgpack.encode(vote))


def encode_header(header: Header) -> bytes:
    """The magic and the header record."""
    return MAGIC + _framed(bytes([RecordType.HEADER]) + msgspec.msgpack.encode(header))


def _framed(body: bytes) -> bytes:
    return _FRAME.pack(len(body), len(body) ^ _ALL_ONES, google_crc32c.value(body)) + body


def read_records(path: Path, *, is_last: bool) -> Iterator[Record | SegmentEnd]:
    """All records of a segment, then one `SegmentEnd`; raises `JournalCorrupt`."""
    data = path.read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise JournalCorrupt(str(path), 0, f"it begins with {data[:8]!r}, not with {MAGIC!r}")
    at = len(MAGIC)
    while at < len(data):
        body_at = at + _FRAME.size
        if body_at > len(data):
            break
        length, complement, crc = _FRAME.unpack_from(data, at)
        if length ^ complement != _ALL_ONES:
            if not data[at:].strip(b"\x00"):
                break
            raise JournalCorrupt(str(path), at, "the length of a record is damaged")
        if body_at + length > len(data):
            break
        body = data[body_at : body_at + length]
        if google_crc32c.value(body) != crc:
            raise JournalCorrupt(str(path), at, "the checksum of a record does not match")
        try:
            yield _decode(body)
        except (ValueError, IndexError, struct.error, msgspec.MsgspecError) as error:
            raise JournalCorrupt(str(path), at, f"a record cannot be read ({error})") from error
        at = body_at + length
    if at < len(data) and not is_last:
        raise JournalCorrupt(str(path), at, "an older segment ends inside a record")
    yield SegmentEnd(at, len(data))


def _decode(body: bytes) -> Record:
    kind = RecordType(body[0])
    if kind is RecordType.ENTRY:
        _, entry_kind, index, term = _ENTRY.unpack_from(body)
        if entry_kind not in (COMMAND, NOOP):
            raise ValueError(f"unknown kind of entry {entry_kind}")
        return Entry(entry_kind, index, term, body[_ENTRY.size :])
    if kind is RecordType.TRUNCATE:
        return Truncate(_TRUNCATE.unpack(body)[1])
    if kind is RecordType.VOTE:
        return msgspec.msgpack.decode(body[1:], type=VoteState)
    return msgspec.msgpack.decode(body[1:], type=Header)
