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
_PIECE = 1024 * 1024


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
    return unpack(path.read_bytes())[0]


def load(path: Path) -> Backup:
    """The copy at `path`; raises `RecoveryRefused` when it is damaged, and OSError."""
    info, machine = unpack(path.read_bytes())
    if not info.ok:
        raise RecoveryRefused(
            f"{path} cannot be restored: {info.problem}", "Take another copy, and inspect it first"
        )
    return Backup(info, bytes(machine))


def unpack(data: bytes) -> tuple[BackupInfo, memoryview]:
    """What the copy in `data` says of itself, whole or not, and the state's bytes: a view of `data`."""
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
    body, problem = memoryview(data)[: -_CRC.size], None
    if len(body) - machine_at != header.bytes:
        problem = f"it should hold {header.bytes} bytes of state, and holds {len(body) - machine_at}"
    elif checksum(body) != _CRC.unpack(data[-_CRC.size :])[0]:
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
    return info, body[machine_at:]


def checksum(data: memoryview) -> int:
    """CRC-32C, a piece at a time: the library reads only `bytes`, and one copy of it all is enough."""
    crc = 0
    for at in range(0, len(data), _PIECE):
        crc = google_crc32c.extend(crc, bytes(data[at : at + _PIECE]))
    return crc


def _broken(problem: str) -> tuple[BackupInfo, memoryview]:
    return BackupInfo(0, "", 0, (), (), 0, 0, 0, 0, False, problem), memoryview(b"")
