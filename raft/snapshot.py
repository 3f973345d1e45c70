"""The snapshot: the state machine's bytes and the two entries they end with, in one file.

``magic | header length | header | machine bytes | CRC-32C over all before it``. The header names cluster and
generation and holds the last entry the state contains and the one before it (the engine wants both). The file
appears under its name whole and durable (temporary file, sync, rename, sync of the directory), so one that
does not check out was damaged later: that is an error, never skipped. The digit at the end of the magic is
the version of this format: a later one is refused, and the file left as it is. The same bytes travel to a
follower that is too far behind.

It is written piece by piece (`SnapshotWriter`), synced every `SYNC_BYTES`: with more of it in the system's
memory, the journal's next sync on the same file system would wait for all of that. Two may be written at a
time: one by a thread, of this node's state, and one that a leader sends. **The newer one stays**: a file
takes the name only if it ends no earlier than the one that has it, and none does any more once the store is
closed. That is decided under a lock, which is held for a rename and nothing longer. A closed store touches no
name at all, the temporary one included, for its directory may be the next process's.
"""

import os
import struct
import threading
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import google_crc32c
import msgspec

from raft.disk import Disk
from raft.entries import Entry
from raft.errors import FormatTooNew, SnapshotCorrupt, WrongCluster

FORMAT = 1
_FAMILY = b"RAFTSNP"
MAGIC = _FAMILY + b"%d" % FORMAT
SYNC_BYTES = 256 * 1024
WRITTEN, RECEIVED = "snapshot.tmp", "snapshot-received.tmp"
_AT_ONCE = 2**30
"""Bytes read in one piece: more than the system gives at once would have to be joined, and that is a copy."""
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


class SnapshotWriter:
    """A snapshot file under its temporary name. `crc` and `size` are of what was appended; raises OSError.

    It is synced every `sync_bytes`.
    """

    def __init__(self, disk: Disk, path: Path, sync_bytes: int = SYNC_BYTES) -> None:
        self.path, self.crc, self.size = path, 0, 0
        self._disk, self._sync_bytes, self._unsynced = disk, sync_bytes, 0
        self._descriptor: int | None = disk.create(path)

    def append(self, data: bytes) -> None:
        """Add `data`."""
        assert self._descriptor is not None
        self._disk.write(self._descriptor, data)
        self.crc = google_crc32c.extend(self.crc, data)
        self.size += len(data)
        self._unsynced += len(data)
        if self._unsynced >= self._sync_bytes:
            self._disk.sync(self._descriptor)
            self._unsynced = 0

    def finish(self) -> None:
        """Make what was appended durable; the name is not yet."""
        assert self._descriptor is not None
        self._disk.sync(self._descriptor)
        self.close()

    def discard(self) -> None:
        """Give the space back."""
        self.close()
        self._disk.remove(self.path)

    def close(self) -> None:
        """Let the file go; safe to call twice."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)


class SnapshotFile:
    """A snapshot file that is open: readable to its end when a newer one has taken its name meanwhile.

    Opening checks the header; `crc`, over the whole file, is what it must be if the file is undamaged: it
    follows from the checksum at its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self.size = os.fstat(self._descriptor).st_size
        start = len(MAGIC) + _LENGTH.size
        head = _check_magic(self.path, self.read(0, start))
        self.machine_at = start + _LENGTH.unpack_from(head, len(MAGIC))[0]
        if self.machine_at + _CRC.size > self.size:
            raise SnapshotCorrupt(self.path, f"it ends after {self.size} bytes, within its header")
        self.header = _decode_header(self.path, self.read(start, self.machine_at - start))
        trailer = self.read(self.size - _CRC.size, _CRC.size)
        self.crc: int = google_crc32c.extend(_CRC.unpack(trailer)[0], trailer)

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`."""
        return os.pread(self._descriptor, count, offset)

    def machine(self) -> bytes:
        """The state machine's bytes, once all is checked; raises `SnapshotCorrupt`."""
        end = self.size - _CRC.size
        pieces = [self.read(at, min(_AT_ONCE, end - at)) for at in range(self.machine_at, end, _AT_ONCE)]
        machine = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        crc = google_crc32c.extend(google_crc32c.value(self.read(0, self.machine_at)), machine)
        if google_crc32c.extend(crc, self.read(end, _CRC.size)) != self.crc:
            raise SnapshotCorrupt(self.path, "its checksum does not match")
        return machine


class SnapshotStore:
    """The one snapshot file of a node, `directory/snapshot`."""

    def __init__(
        self, directory: Path, cluster: str, generation: int, disk: Disk, *, sync_bytes: int = SYNC_BYTES
    ) -> None:
        self._path = directory / "snapshot"
        self._cluster, self._generation, self._disk = cluster, generation, disk
        self._sync_bytes = sync_bytes
        self._naming = threading.Lock()
        self._newest = 0
        self._closed = threading.Event()
        self._at_start: Snapshot | None = None
        self._received: SnapshotWriter | None = None

    @property
    def path(self) -> str:
        return str(self._path)

    @property
    def exists(self) -> bool:
        return self._path.exists()

    def remove_unfinished(self) -> None:
        """Give back the space of what a former process has begun; to be called before anything is written."""
        for name in (WRITTEN, RECEIVED):
            if (path := self._path.with_name(name)).exists():
                self._disk.remove(path)

    def save(self, snapshot: Snapshot) -> bool:
        """`write`, for a state that is at hand as a whole."""
        return self.write(snapshot.last, snapshot.previous, [snapshot.machine])

    def write(self, last: Entry, previous: Entry, parts: Iterable[bytes]) -> bool:
        """Make a state the durable snapshot; from any thread. Whether it is: a newer one may be there, or the
        store closed. Raises OSError, and what `parts` raises.
        """
        header = msgspec.msgpack.encode(_Header(self._cluster, self._generation, last, previous))
        with self._naming:
            if self._closed.is_set():
                return False
            writer = SnapshotWriter(self._disk, self._path.with_name(WRITTEN), self._sync_bytes)
        try:
            writer.append(MAGIC + _LENGTH.pack(len(header)) + header)
            for part in parts:
                if self._closed.is_set():
                    writer.close()
                    return False
                writer.append(part)
            writer.append(_CRC.pack(writer.crc))
            writer.finish()
        except Exception:
            self._drop(writer)
            raise
        return self._take_name(writer, last.index)

    def receive(self) -> SnapshotWriter:
        """Where the file of another node is collected, for `adopt`; one that was begun before is given up."""
        self._give_up_received()
        self._received = SnapshotWriter(self._disk, self._path.with_name(RECEIVED))
        return self._received

    def adopt(self, received: SnapshotWriter, last_index: int, last_term: int) -> None:
        """Make a file received from another node, which must end with that entry, the durable snapshot.

        Raises `SnapshotCorrupt`, `FormatTooNew`, `WrongCluster`, OSError.
        """
        received.finish()
        self._received = None
        file = self._open(received.path)
        if received.crc != file.crc:
            raise SnapshotCorrupt(file.path, "its checksum does not match")
        last = file.header.last
        if (last.index, last.term) != (last_index, last_term):
            cause = f"it ends with entry {last.index} of term {last.term}, not {last_index} of {last_term}"
            raise SnapshotCorrupt(file.path, cause)
        self._take_name(received, last.index)

    def _take_name(self, writer: SnapshotWriter, last_index: int) -> bool:
        with self._naming:
            newest = not self._closed.is_set() and last_index >= self._newest
            if newest:
                self._disk.rename(writer.path, self._path)
                self._newest, self._at_start = last_index, None
        if newest:
            self._disk.sync_directory(self._path.parent)
        else:
            self._drop(writer)
        return newest

    def _drop(self, writer: SnapshotWriter) -> None:
        writer.close()
        with self._naming:
            if not self._closed.is_set():
                self._disk.remove(writer.path)

    def close(self) -> None:
        """From now on no file takes the name; what is being written ends by itself."""
        self._give_up_received()
        with self._naming:
            self._closed.set()

    def _give_up_received(self) -> None:
        received, self._received = self._received, None
        if received is not None:
            received.discard()

    def open(self) -> SnapshotFile:
        """The durable snapshot, to be sent; raises `SnapshotCorrupt`, `FormatTooNew`, `WrongCluster`,
        OSError.
        """
        return self._open(self._path)

    def load(self) -> Snapshot:
        """The durable snapshot; raises `SnapshotCorrupt`, `FormatTooNew`, `WrongCluster`, OSError."""
        snapshot, self._at_start = self._at_start, None
        return snapshot or self._read()

    def check_beside(self, first_index: int | None) -> None:
        """The journal, which begins at `first_index`, must go on where the snapshot ends, or overlap it.

        An empty journal (None) beside a snapshot has lost term and vote. What was read is what the next
        `load` gives. Raises `SnapshotCorrupt`, `FormatTooNew`, `WrongCluster`, OSError.
        """
        self._at_start = self._read() if self.exists else None
        end = self._at_start.last.index if self._at_start is not None else 0
        if end and first_index is None:
            raise SnapshotCorrupt(self.path, "the journal beside it is missing, and with it the vote")
        if first_index is not None and first_index > end + 1:
            cause = f"the journal begins at entry {first_index}, but the snapshot ends at {end}"
            raise SnapshotCorrupt(self.path, cause)

    def _read(self) -> Snapshot:
        file = SnapshotFile(self._path)
        machine = file.machine()
        header = self._check_owner(file.path, file.header)
        return Snapshot(header.last, header.previous, machine)

    def _open(self, path: Path) -> SnapshotFile:
        file = SnapshotFile(path)
        self._check_owner(file.path, file.header)
        return file

    def _check_owner(self, where: str, header: _Header) -> _Header:
        for what, found, expected in (
            ("cluster", header.cluster, self._cluster),
            ("generation", str(header.generation), str(self._generation)),
        ):
            if found != expected:
                raise WrongCluster(where, what, found, expected)
        return header


def _check_magic(where: str, head: bytes) -> bytes:
    version = head[len(_FAMILY) : len(MAGIC)]
    if head.startswith(_FAMILY) and version.isdigit() and int(version) > FORMAT:
        raise FormatTooNew(where, int(version), FORMAT)
    if head[: len(MAGIC)] != MAGIC or len(head) < len(MAGIC) + _LENGTH.size:
        raise SnapshotCorrupt(where, f"it begins with {head[:8]!r}, not with {MAGIC!r}")
    return head


def _decode_header(where: str, data: bytes) -> _Header:
    try:
        return msgspec.msgpack.decode(data, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotCorrupt(where, f"its header cannot be read ({error})") from error
