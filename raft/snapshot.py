"""The snapshot: the state machine's bytes and the two entries they end with, in one file.

``magic | header length | header | machine bytes | CRC-32C over all before it``. The header names cluster and
generation and holds the last entry the state contains and the one before it (the engine wants both). The file
appears under its name whole and durable (temporary file, sync, rename, sync of the directory), so one that
does not check out was damaged later: that is an error, never skipped. The same bytes travel to a follower
that is too far behind.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from raft.disk import Disk
from raft.entries import Entry
from raft.errors import SnapshotCorrupt, WrongCluster

MAGIC = b"RAFTSNP1"
_LENGTH = struct.Struct("<I")
_CRC = struct.Struct("<I")


class _Header(msgspec.Struct, frozen=True, array_like=True):
    cluster: str
    generation: int
    last: Entry
    previous: Entry


class Snapshot(NamedTuple):
    """The state after `last` was applied; `previous` is the entry before it."""

    last: Entry
    previous: Entry
    machine: bytes


class SnapshotStore:
    """The one snapshot file of a node, `directory/snapshot`."""

    def __init__(self, directory: Path, cluster: str, generation: int, disk: Disk) -> None:
        self._path = directory / "snapshot"
        self._cluster, self._generation, self._disk = cluster, generation, disk

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def save(self, snapshot: Snapshot) -> None:
        """Make `snapshot` the durable one; raises OSError."""
        header = msgspec.msgpack.encode(
            _Header(self._cluster, self._generation, snapshot.last, snapshot.previous)
        )
        body = MAGIC + _LENGTH.pack(len(header)) + header + snapshot.machine
        self._disk.replace(self._path, body + _CRC.pack(google_crc32c.value(body)))

    def save_bytes(self, data: bytes) -> None:
        """Make a file received from another node, checked with `parse`, the durable one; raises OSError."""
        self._disk.replace(self._path, data)

    def read_bytes(self) -> bytes:
        """The file as it is, to be sent to another node."""
        return self._path.read_bytes()

    def load(self) -> Snapshot:
        """The durable snapshot; raises `SnapshotCorrupt` and `WrongCluster`."""
        return self.parse(self.read_bytes())

    def check_beside(self, first_index: int | None) -> None:
        """The journal, which begins at `first_index`, must go on where the snapshot ends, or overlap it.

        An empty journal (None) beside a snapshot has lost term and vote. Raises `SnapshotCorrupt`,
        `WrongCluster`.
        """
        end = self.load().last.index if self.exists else 0
        if end and first_index is None:
            raise SnapshotCorrupt(self.path, "the journal beside it is missing, and with it the vote")
        if first_index is not None and first_index > end + 1:
            cause = f"the journal begins at entry {first_index}, but the snapshot ends at {end}"
            raise SnapshotCorrupt(self.path, cause)

    def parse(self, data: bytes) -> Snapshot:
        """Check and take apart a snapshot file; raises `SnapshotCorrupt` and `WrongCluster`."""
        where = str(self._path)
        body, trailer = data[: -_CRC.size], data[-_CRC.size :]
        if data[: len(MAGIC)] != MAGIC or len(body) < len(MAGIC) + _LENGTH.size:
            raise SnapshotCorrupt(where, f"it begins with {data[:8]!r}, not with {MAGIC!r}")
        if google_crc32c.value(body) != _CRC.unpack(trailer)[0]:
            raise SnapshotCorrupt(where, "its checksum does not match")
        header_at = len(MAGIC) + _LENGTH.size
        machine_at = header_at + _LENGTH.unpack_from(body, len(MAGIC))[0]
        try:
            header = msgspec.msgpack.decode(body[header_at:machine_at], type=_Header)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise SnapshotCorrupt(where, f"its header cannot be read ({error})") from error
        for what, found, expected in (
            ("cluster", header.cluster, self._cluster),
            ("generation", str(header.generation), str(self._generation)),
        ):
            if found != expected:
                raise WrongCluster(where, what, found, expected)
        return Snapshot(header.last, header.previous, body[machine_at:])
