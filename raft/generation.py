"""Generations: which set of members this is, how one is sealed, and where its files are.

The members of a generation never change. Generation g ends with a **seal**, an entry of its log that names
the members of g+1. Whatever follows the seal in g has no effect, so the state at the seal is one value that a
majority of the old members agrees on: the **base** of g+1.

- `retired` holds every id that ever was a member and is none any more. It only grows, and such an id is never
  a member again: a machine that comes back after a year cannot be taken for its successor.
- The files of generation 1 lie in the data directory itself, those of g in ``generation-%010d`` inside. Such
  a directory appears whole, by one rename, so the highest one is the one to run. Its file ``generation``
  says whose it is, which generation, and whether this node is only a learner in it. A directory whose members
  do not hold this node says that it was removed.
- Generation 0 is no set of members: it is what a node has that waits to be invited.
- Older directories are never opened again once there is a newer one that holds this node. They are removed
  when the newer generation has committed an entry: until then an operator may want to look.
"""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import google_crc32c
import msgspec
from msgspec import Meta

from raft.disk import Disk
from raft.errors import JournalCorrupt, WrongCluster
from raft.segment import read_header, segment_numbers, segment_path

MAGIC = b"RAFTGEN1"
MOST_RETIRED = 1_000
"""Ids that may be retired in the life of one cluster; they travel in each seal."""
_NAME = re.compile(r"generation-(\d{10})")
_CRC_BYTES = 4

_Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
_Number = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Generation(msgspec.Struct, frozen=True):
    """One set of members. `members` and `retired` are sorted."""

    number: _Number
    members: Annotated[tuple[_Id, ...], Meta(min_length=1, max_length=9)]
    retired: Annotated[tuple[_Id, ...], Meta(max_length=MOST_RETIRED)] = ()

    def succeeded_by(self, *, add: str | None, remove: str | None) -> "Generation":
        """The next generation: one member more, or less, or both."""
        members = {*self.members, *({add} if add else ())} - {remove}
        retired = {*self.retired, *({remove} if remove in self.members else ())}
        return Generation(self.number + 1, _sorted(members), _sorted(retired))

    def comes_after(self, former: "Generation") -> bool:
        """Whether this may be a later generation of the same cluster: it knows of all that were members."""
        known = {*self.members, *self.retired}
        newer = self.number > former.number
        return newer and known.issuperset(former.members) and set(self.retired).issuperset(former.retired)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A generation has ended with the entry at `index`, of `term`; `successor` comes after it."""

    index: int
    term: int
    successor: Generation


class _Record(msgspec.Struct, frozen=True, array_like=True):
    cluster: str
    node: str
    generation: Generation
    learner: bool


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one generation at one node; a learner is not among the members."""

    directory: Path
    generation: Generation
    learner: bool


_encode = msgspec.msgpack.Encoder().encode
_seal = msgspec.msgpack.Decoder(Generation)
_record = msgspec.msgpack.Decoder(_Record)


def _sorted(names: "set[str | None] | set[str]") -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name))


def encode_seal(successor: Generation) -> bytes:
    """The payload of a seal."""
    return bytes(_encode(successor))


def decode_seal(payload: bytes) -> Generation | None:
    """The generation that a seal names; None when it is none, on every node alike."""
    try:
        return _seal.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


class Shelf:
    """The generations in one node's data directory. Raises `WrongCluster`, `JournalCorrupt`, OSError."""

    def __init__(
        self, data_dir: Path, cluster: str, node: str, disk: Disk, *, members: tuple[str, ...] = ()
    ) -> None:
        """`members`: those that the node was told, for a journal from before they were recorded."""
        self._data_dir, self._cluster, self._node, self._disk = data_dir, cluster, node, disk
        self._members = _sorted(set(members)) or (node,)

    def newest(self, *, below: int = 2**31) -> Files | None:
        """The newest generation here whose number is less than `below`."""
        names = (_NAME.fullmatch(path.name) for path in self._data_dir.iterdir())
        numbers = [int(name[1]) for name in names if name and int(name[1]) < below]
        if numbers:
            return self._read(self._path(max(numbers)))
        segments = segment_numbers(self._data_dir) if below > 1 else []
        if not segments:
            return None
        header = read_header(segment_path(self._data_dir, segments[-1]))
        return Files(self._data_dir, Generation(1, header.members or self._members), False)

    def create(
        self, generation: Generation, *, learner: bool, fill: Callable[[Path], None] | None = None
    ) -> Files:
        """Make the directory of a generation durable as a whole; `fill` writes what else is in it."""
        directory = self.begin(generation)
        if fill is not None:
            fill(directory)
        return self.finish(generation, learner=learner)

    def begin(self, generation: Generation) -> Path:
        """An empty directory for what is in a generation, which counts for nothing before `finish`."""
        temporary = self._temporary(generation)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        return temporary

    def finish(self, generation: Generation, *, learner: bool) -> Files:
        """What is in the directory of `begin` is durable: make it that of the generation."""
        temporary, final = self._temporary(generation), self._path(generation.number)
        body = MAGIC + _encode(_Record(self._cluster, self._node, generation, learner))
        self._disk.replace(temporary / "generation", body + _crc(body))
        self._disk.rename(temporary, final)
        self._disk.sync_directory(self._data_dir)
        return Files(final, generation, learner)

    def remove_older(self, number: int) -> None:
        """Give back what generations before `number` have left."""
        for path in sorted(self._data_dir.iterdir()):
            name = _NAME.fullmatch(path.name)
            if name and int(name[1]) < number:
                doomed = path.with_name(path.name + ".tmp")
                shutil.rmtree(doomed, ignore_errors=True)
                self._disk.rename(path, doomed)
                shutil.rmtree(doomed)
            elif number > 1 and path.name.startswith(("journal-", "snapshot", "engine.dump")):
                self._disk.remove(path)

    def _temporary(self, generation: Generation) -> Path:
        final = self._path(generation.number)
        return final.with_name(final.name + ".tmp")

    def _path(self, number: int) -> Path:
        return self._data_dir / f"generation-{number:010d}"

    def _read(self, directory: Path) -> Files:
        path = directory / "generation"
        data = path.read_bytes() if path.exists() else b""
        body, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
        if not body.startswith(MAGIC) or _crc(body) != crc:
            raise JournalCorrupt(str(path), 0, "it does not say which generation the directory is of")
        record = _record.decode(body[len(MAGIC) :])
        for what, found, expected in (
            ("cluster", record.cluster, self._cluster),
            ("node", record.node, self._node),
        ):
            if found != expected:
                raise WrongCluster(str(path), what, found, expected)
        return Files(directory, record.generation, record.learner)


def _crc(body: bytes) -> bytes:
    return int(google_crc32c.value(body)).to_bytes(_CRC_BYTES, "little")
