"""A disk that knows, after each of its verbs, everything that a loss of power could leave behind.

It works on real files and keeps a model beside them, of what POSIX promises and no more:

- Bytes are durable after `sync` of their file. Of those written since, any prefix may be there, or zeros in
  their place (the file has grown, its data has not arrived).
- Names are durable after `sync_directory`. Of the creations, renames and removals since, each one may have
  happened or not, by itself.
- A `sync` that fails leaves the bytes readable until the power goes, and lost then: a later sync of the same
  file writes only what was written after the failure.

A `Moment` is the model after one verb. `left_by_power_cut` gives the directories that a power cut at that
moment could leave; `CrashDisk.after_kill` goes on from what a killed process leaves to the next one.
"""

import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from raft.disk import Disk

Files = dict[str, bytes]


@dataclass(frozen=True)
class Inode:
    """A file without its name: what the platter holds, what a reader sees, and how much of that the system
    believes to be written.
    """

    durable: bytes = b""
    seen: bytes = b""
    believed: int = 0

    def synced(self) -> "Inode":
        lost = bytes(self.believed - len(self.durable))
        new = self.seen[self.believed :]
        return replace(
            self, durable=self.durable + lost + new if new else self.durable, believed=len(self.seen)
        )

    def contents(self, *, every_cut: bool) -> Iterator[bytes]:
        """What a power cut may leave: cut at every byte, or nothing and all of what was not synced."""
        yield self.durable
        lost, new = bytes(self.believed - len(self.durable)), self.seen[self.believed :]
        if new and every_cut:
            yield self.durable + bytes(len(lost) + len(new))
        for end in range(1, len(new) + 1) if every_cut else {len(new)} - {0}:
            yield self.durable + lost + new[:end]


Change = tuple[str, str, int, str]
"""What happened to a name and is not yet durable: ("put" or "drop", name, inode, the name it had before)."""


@dataclass(frozen=True)
class Moment:
    """The model after one verb."""

    verb: str
    inodes: dict[int, Inode]
    durable_names: dict[str, int]
    changes: tuple[Change, ...]
    names: dict[str, int]

    def left_by_power_cut(self, *, every_cut: bool) -> Iterator[Files]:
        for happened in itertools.product((True, False), repeat=len(self.changes)):
            names = dict(self.durable_names)
            for change, real in zip(self.changes, happened, strict=True):
                if real:
                    _change(names, change)
            kinds = [
                list(self.inodes[inode].contents(every_cut=every_cut and not name.endswith(".tmp")))
                for name, inode in names.items()
            ]
            for contents in itertools.product(*kinds):
                yield dict(zip(names, contents, strict=True))

    @property
    def settled(self) -> bool:
        """Whether all that is seen is durable: a power cut leaves what a kill leaves."""
        return not self.changes and all(inode.durable == inode.seen for inode in self.inodes.values())

    def left_by_kill(self) -> Files:
        return {name: self.inodes[inode].seen for name, inode in self.names.items()}


def _change(names: dict[str, int], change: Change) -> None:
    kind, name, inode, before = change
    if kind == "drop":
        names.pop(name, None)
        return
    names[name] = inode
    if before:
        names.pop(before, None)


def lay_out(directory: Path, files: Files) -> Path:
    """Make the directory hold these files and no others."""
    directory.mkdir(exist_ok=True)
    for path in directory.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        path = directory / name
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    return directory


class QuietDisk(Disk):
    """Real files, no waiting for the platter."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


class CrashDisk(QuietDisk):
    """Tells each `Moment` to `watch`. `fails(verb)` makes a verb raise, a write after half of its bytes."""

    def __init__(self, watch: Callable[[Moment], None]) -> None:
        self.watch = watch
        self.fails: Callable[[str], bool] = lambda verb: False
        self._inodes: dict[int, Inode] = {}
        self._numbers = itertools.count()
        self._durable_names: dict[str, int] = {}
        self._changes: list[Change] = []
        self._names: dict[str, int] = {}
        self._open: dict[int, int] = {}

    @classmethod
    def holding(cls, files: Files, watch: Callable[[Moment], None]) -> "CrashDisk":
        """A disk on which these files are durable; lay them out for it."""
        disk = cls(watch)
        for inode, (name, data) in enumerate(files.items()):
            disk._inodes[inode] = Inode(data, data, len(data))
            disk._durable_names[name] = disk._names[name] = next(disk._numbers)
        return disk

    @classmethod
    def after_kill(cls, moment: Moment, watch: Callable[[Moment], None]) -> "CrashDisk":
        """The same disk, used by the next process; lay out `moment.left_by_kill()` for it."""
        disk = cls(watch)
        disk._inodes, disk._numbers = dict(moment.inodes), itertools.count(len(moment.inodes))
        disk._durable_names, disk._names = dict(moment.durable_names), dict(moment.names)
        disk._changes = list(moment.changes)
        return disk

    def note(self, verb: str) -> None:
        """Tell the moment as it is."""
        names, changes = dict(self._durable_names), tuple(self._changes)
        self.watch(Moment(verb, dict(self._inodes), names, changes, dict(self._names)))

    def _may(self, verb: str) -> None:
        if self.fails(verb):
            raise OSError(errno.EIO, f"Input/output error at {verb}")

    def _name(self, change: Change) -> None:
        self._changes.append(change)
        _change(self._names, change)

    def open_append(self, path: Path) -> int:
        self._may("open")
        descriptor = super().open_append(path)
        self._open[descriptor] = self._names[path.name]
        return descriptor

    def create(self, path: Path) -> int:
        self._may("create")
        descriptor = super().create(path)
        inode = self._open[descriptor] = next(self._numbers)
        self._inodes[inode] = Inode()
        self._name(("put", path.name, inode, ""))
        self.note(f"create {path.name}")
        return descriptor

    def write(self, descriptor: int, data: bytes) -> None:
        try:
            self._may("write")
        except OSError:
            self._append(descriptor, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device") from None
        middle = len(data) // 2
        self._append(descriptor, data[:middle])
        self.note(f"write half of {len(data)} bytes")
        self._append(descriptor, data[middle:])
        self.note(f"write {len(data)} bytes")

    def _append(self, descriptor: int, data: bytes) -> None:
        super().write(descriptor, data)
        old = self._inodes[self._open[descriptor]]
        self._inodes[self._open[descriptor]] = replace(old, seen=old.seen + data)

    def sync(self, descriptor: int) -> None:
        old = self._inodes[self._open[descriptor]]
        try:
            self._may("sync")
        except OSError:
            self._inodes[self._open[descriptor]] = replace(old, believed=len(old.seen))
            raise
        self._inodes[self._open[descriptor]] = old.synced()
        self.note("sync")

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        del self._open[descriptor]

    def sync_directory(self, path: Path) -> None:
        self._may("sync_directory")
        self._durable_names = dict(self._names)
        self._changes.clear()
        self.note("sync directory")

    def rename(self, source: Path, target: Path) -> None:
        self._may("rename")
        super().rename(source, target)
        self._name(("put", target.name, self._names[source.name], source.name))
        self.note(f"rename {source.name} to {target.name}")

    def remove(self, path: Path) -> None:
        self._may("remove")
        super().remove(path)
        if path.name in self._names:
            self._name(("drop", path.name, self._names[path.name], ""))
            self.note(f"remove {path.name}")
