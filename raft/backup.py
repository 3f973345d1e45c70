"""A copy of the whole state in one file, to be kept elsewhere and restored into new directories.

``magic | header length | header | the state machine's bytes | CRC-32C over all before it``; lengths and the
checksum are four bytes, little-endian. The header is a msgpack array: format, cluster, generation, members,
retired ids, last index and term that the state holds, when it was taken (milliseconds since the epoch), bytes
of the state.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from raft.errors import RecoveryRefused
from raft.generation import Generation

FORMAT = 1
_FAMILY = b"VARPBKP"
MAGIC = _FAMILY + b"%d" % FORMAT
_LENGTH = struct.Struct("<I")
_CRC = struct.Struct("<I")


class BackupInfo(msgspec.Struct, frozen=True):
    """What a copy holds; `ok` says that it is whole, `problem` why not."""

    format: int
    cluster: str
    generation: int
    members: tuple[str, ...]
    retired: tuple[str, ...]
    last_index: int
    last_term: int
    bytes: int
    taken_at_ms: int
    ok: bool
    problem: str | None


class _Header(msgspec.Struct, frozen=True, array_like=True):
    format: int
    cluster: str
    generation: int
    members: tuple[str, ...]
    retired: tuple[str, ...]
    last_index: int
    last_term: int
    taken_at_ms: int
    bytes: int


class Backup(NamedTuple):
    """A whole copy: what it says of itself, and the state machine's bytes."""

    info: BackupInfo
    machine: bytes


def pack(
    generation: Generation,
    parts: Iterable[bytes],
    *,
    cluster: str,
    last_index: int,
    last_term: int,
    taken_at_ms: int,
) -> bytes:
    """The bytes of a copy, from any thread. They are put together once: to copy a large state takes the
    interpreter from the event loop.
    """
    state = list(parts)
    header = msgspec.msgpack.encode(
        _Header(
            FORMAT,
            cluster,
            generation.number,
            generation.members,
            generation.retired,
            last_index,
            last_term,
            taken_at_ms,
            sum(map(len, state)),
        )
    )
    pieces, crc = [MAGIC + _LENGTH.pack(len(header)) + header, *state], 0
    for piece in pieces:
        crc = google_crc32c.extend(crc, piece)
    return b"".join((*pieces, _CRC.pack(crc)))


def inspect(path: Path) -> BackupInfo:
    """What the copy at `path` says of itself, and whether it is whole. Raises OSError."""
    return _read(path.read_bytes()).info


def load(path: Path) -> Backup:
    """The copy at `path`; raises `RecoveryRefused` when it is damaged, and OSError."""
    backup = _read(path.read_bytes())
    if not backup.info.ok:
        raise RecoveryRefused(
            f"{path} cannot be restored: {backup.info.problem}", "Take another copy, and inspect it first"
        )
    return backup


def _read(data: bytes) -> Backup:
    magic, header_at = data[: len(MAGIC)], len(MAGIC) + _LENGTH.size
    if not magic.startswith(_FAMILY):
        return _broken(f"it begins with {magic!r}, not with {MAGIC!r}")
    if magic != MAGIC:
        return _broken(f"its format {magic[len(_FAMILY) :].decode(errors='replace')} is not known")
    if len(data) < header_at + _CRC.size:
        return _broken(f"it ends after {len(data)} bytes")
    machine_at = header_at + _LENGTH.unpack_from(data, len(MAGIC))[0]
    try:
        header = msgspec.msgpack.decode(data[header_at:machine_at], type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _broken(f"its header cannot be read ({error})")
    body, problem = data[: -_CRC.size], None
    if len(body) - machine_at != header.bytes:
        problem = f"it should hold {header.bytes} bytes of state, and holds {len(body) - machine_at}"
    elif google_crc32c.value(body) != _CRC.unpack(data[-_CRC.size :])[0]:
        problem = "its checksum does not match"
    info = BackupInfo(
        header.format,
        header.cluster,
        header.generation,
        header.members,
        header.retired,
        header.last_index,
        header.last_term,
        header.bytes,
        header.taken_at_ms,
        problem is None,
        problem,
    )
    return Backup(info, body[machine_at:])


def _broken(problem: str) -> Backup:
    return Backup(BackupInfo(0, "", 0, (), (), 0, 0, 0, 0, False, problem), b"")
