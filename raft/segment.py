"""One file of the journal: its records, and what may be wrong with them.

A segment is 8 bytes of magic, then records: ``length | ~length | CRC-32C of the body | body``, body = one
byte of type and the payload; little-endian. The first record is the header (cluster, node, generation,
number, whether it stands alone, members), the second the vote; segments appear under their names whole, by
rename, with both. After that the file only grows. The digit at the end of the magic is the version of this
format: one that is not known is refused before anything else is believed.

What a reader may meet at the end of the *last* segment, and nowhere else, is a torn tail: a record of which a
proper prefix was written, or nothing but zero bytes. It was never synced, so never acknowledged, and is cut.
Everything else that does not check out is corruption and stops the reader: also a complete last record with a
wrong checksum, for it may have been acknowledged. The complement of the length tells a damaged length, which
would look like a tail, from a tail. One damage looks like a tail all the same: the end of the newest segment
cut off, or zeroed, exactly from where a record begins. Nothing in the file tells it from a write that never
reached the disk.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import google_crc32c
import msgspec

from raft.entries import COMMAND, NOOP, SEAL, Entry
from raft.errors import FormatTooNew, JournalCorrupt

FORMAT = 1
_FAMILY = b"RAFTLOG"
MAGIC = _FAMILY + b"%d" % FORMAT
_NAME = re.compile(r"journal-(\d{10})\.log")
_HEADER_BYTES = 64 * 1024
"""More than any header has."""
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
    previous_bytes: int | None = None
    """Size of the segment before this one, if it goes on from there and its release recorded that."""


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


def segment_path(directory: Path, number: int) -> Path:
    """The file of a segment."""
    return directory / f"journal-{number:010d}.log"


def segment_numbers(directory: Path) -> list[int]:
    """The numbers of the segments in `directory`, oldest first."""
    names = (_NAME.fullmatch(path.name) for path in directory.iterdir())
    return sorted(int(name[1]) for name in names if name)


def read_header(path: Path) -> Header:
    """The header of a segment, without the rest; raises `JournalCorrupt`, `FormatTooNew`, OSError."""
    with path.open("rb") as file:
        reader = SegmentReader(path, file.read(_HEADER_BYTES), is_last=True)
    return reader.header()


class SegmentReader:
    """The records of one segment, in order: `header` first, then by iteration. `at` is the offset of the
    record given last and, when all are read, the end of what checks out.

    Raises `JournalCorrupt` and `FormatTooNew`.
    """

    def __init__(self, path: Path, data: bytes, *, is_last: bool) -> None:
        self.path, self.data, self.at = path, data, 0
        self._is_last = is_last
        self._records = self._read()

    def corrupt(self, cause: str) -> JournalCorrupt:
        """The error that the record given last calls for."""
        return JournalCorrupt(str(self.path), self.at, cause)

    def header(self) -> Header:
        """The first record."""
        header = next(self._records, None)
        if not isinstance(header, Header):
            raise self.corrupt("it has no header")
        return header

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def _read(self) -> Iterator[Record]:
        self._check_magic()
        at = len(MAGIC)
        while (body := self._body_at(at)) is not None:
            self.at = at
            try:
                record = _decode(body)
            except (ValueError, IndexError, struct.error, msgspec.MsgspecError) as error:
                raise self.corrupt(f"a record cannot be read ({error})") from error
            yield record
            at += _FRAME.size + len(body)
        self.at = at
        if at < len(self.data) and not self._is_last:
            raise self.corrupt("an older segment ends inside a record")

    def _check_magic(self) -> None:
        magic = self.data[: len(MAGIC)]
        version = magic[len(_FAMILY) :]
        if magic.startswith(_FAMILY) and version.isdigit() and int(version) > FORMAT:
            raise FormatTooNew(str(self.path), int(version), FORMAT)
        if magic != MAGIC:
            raise self.corrupt(f"it begins with {magic!r}, not with {MAGIC!r}")

    def _body_at(self, at: int) -> bytes | None:
        """The body of the record at `at`; None where the records end, or the last one is torn."""
        data, body_at = self.data, at + _FRAME.size
        if body_at > len(data):
            return None
        self.at = at
        length, complement, crc = _FRAME.unpack_from(data, at)
        if length ^ complement != _ALL_ONES:
            if not data[at:].strip(b"\x00"):
                return None
            raise self.corrupt("the length of a record is damaged")
        if body_at + length > len(data):
            return None
        body = data[body_at : body_at + length]
        if google_crc32c.value(body) != crc:
            raise self.corrupt("the checksum of a record does not match")
        return body


def _decode(body: bytes) -> Record:
    kind = RecordType(body[0])
    if kind is RecordType.ENTRY:
        _, entry_kind, index, term = _ENTRY.unpack_from(body)
        if entry_kind not in (COMMAND, NOOP, SEAL):
            raise ValueError(f"unknown kind of entry {entry_kind}")
        return Entry(entry_kind, index, term, body[_ENTRY.size :])
    if kind is RecordType.TRUNCATE:
        _, index = _TRUNCATE.unpack(body)
        return Truncate(index)
    if kind is RecordType.VOTE:
        return msgspec.msgpack.decode(body[1:], type=VoteState)
    return msgspec.msgpack.decode(body[1:], type=Header)
