"""Snapshot files: what is in them, what takes the name, and what does not."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.disk import Disk
from raft.entries import COMMAND, NOOP, Entry
from raft.errors import FormatTooNew, SnapshotCorrupt, WrongCluster
from raft.snapshot import SYNC_BYTES, Snapshot, SnapshotFile, SnapshotStore

SECONDS = 10.0
SNAPSHOT = Snapshot(Entry(COMMAND, 9, 2, b"last"), Entry(NOOP, 8, 2, b""), b"state of the machine")


def store_in(
    directory: Path, cluster: str = "cluster", generation: int = 1, disk: Disk | None = None
) -> SnapshotStore:
    return SnapshotStore(directory, cluster, generation, disk or Disk())


def ending_at(index: int, machine: bytes = b"state") -> Snapshot:
    return Snapshot(Entry(COMMAND, index, 2, b"last"), Entry(NOOP, index - 1, 2, b""), machine)


class FullDisk(Disk):
    """Has room for `writes` more; notes how many bytes lie between two syncs."""

    def __init__(self, writes: int = 2**40) -> None:
        self.writes, self.unsynced, self.most_unsynced = writes, 0, 0

    def write(self, descriptor: int, data: bytes) -> None:
        if not self.writes:
            raise OSError(28, "No space left on device")
        self.writes -= 1
        self.unsynced += len(data)
        self.most_unsynced = max(self.most_unsynced, self.unsynced)
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self.unsynced = 0


def test_a_snapshot_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    existed = store.exists
    store.save(SNAPSHOT)
    assert (existed, store.exists) == (False, True)
    assert store_in(tmp_path).load() == SNAPSHOT
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_parts_and_the_whole_make_the_same_file(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    whole = Path(store.path).read_bytes()
    store.write(SNAPSHOT.last, SNAPSHOT.previous, iter([b"state", b"", b" of the ", b"machine"]))
    assert Path(store.path).read_bytes() == whole


def test_every_damaged_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    data = Path(store.path).read_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        for damaged in (bytes(flipped), data[:at]):
            (tmp_path / "snapshot").write_bytes(damaged)
            with pytest.raises((SnapshotCorrupt, FormatTooNew), match="replace the node under a new id"):
                store.load()


def test_a_damaged_header_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    data = Path(store.path).read_bytes()
    for damaged in (
        b"",
        data[:11],
        b"RAFTSNP0" + data[8:],
        data[:30],
        data[:8] + b"\xff\xff\xff\x7f" + data[12:],
    ):
        (tmp_path / "snapshot").write_bytes(damaged)
        with pytest.raises(SnapshotCorrupt):
            store.open()


def test_what_a_start_has_checked_is_what_it_loads_and_is_read_once(tmp_path: Path) -> None:
    store_in(tmp_path).save(SNAPSHOT)
    store = store_in(tmp_path)
    store.check_beside(1)
    (tmp_path / "snapshot").unlink()
    assert store.load() == SNAPSHOT
    with pytest.raises(FileNotFoundError):
        store.load()


def test_a_later_format_is_refused_by_its_number_and_not_called_damage(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    (tmp_path / "snapshot").write_bytes(b"RAFTSNP3" + Path(store.path).read_bytes()[8:])
    for read in (store.open, store.load, lambda: store.check_beside(1)):
        with pytest.raises(FormatTooNew) as refused:
            read()
        assert (refused.value.found, refused.value.known) == (3, 1)


@pytest.mark.parametrize(
    ("cluster", "generation", "what"), [("other", 1, "cluster"), ("cluster", 2, "generation")]
)
def test_a_snapshot_of_somebody_else_is_refused(
    tmp_path: Path, cluster: str, generation: int, what: str
) -> None:
    store_in(tmp_path, cluster, generation).save(SNAPSHOT)
    for read in (store_in(tmp_path).load, store_in(tmp_path).open):
        with pytest.raises(WrongCluster, match=what):
            read()


def test_an_open_file_is_read_to_its_end_though_a_newer_one_took_its_name(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    old, file = Path(store.path).read_bytes(), store.open()
    store.save(ending_at(20, b"a newer and longer state of the machine"))
    assert file.read(0, 10_000) == old and (file.size, file.header.last.index) == (len(old), 9)


def test_a_file_that_is_not_needed_any_more_is_closed(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    file: SnapshotFile | None = store.open()
    held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    del file
    assert len(os.listdir("/proc/self/fd")) == held - 1  # noqa: PTH208


def test_an_older_snapshot_never_replaces_a_newer_one(tmp_path: Path) -> None:
    """A thread writes the state at 9; meanwhile a leader's snapshot that ends at 20 is adopted."""
    (tmp_path / "leader").mkdir()
    leader, store = store_in(tmp_path / "leader"), store_in(tmp_path)
    leader.save(ending_at(20))

    def parts() -> Iterator[bytes]:
        yield b"half of"
        received = store.receive()
        received.append(Path(leader.path).read_bytes())
        store.adopt(received, 20, 2)
        yield b" the state at 9"

    assert not store.write(SNAPSHOT.last, SNAPSHOT.previous, parts())
    assert store.load() == ending_at(20)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["snapshot"]
    assert store.save(ending_at(21)) and store.load().last.index == 21


def test_a_closed_store_gives_no_file_the_name(tmp_path: Path) -> None:
    """The next process on the directory must not find its snapshot replaced by this one's."""
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    received = store.receive()

    def parts() -> Iterator[bytes]:
        yield b"a part"
        store.close()
        yield b"another"
        raise AssertionError("a closed store goes on reading parts")

    assert not store.write(Entry(COMMAND, 30, 2, b""), Entry(NOOP, 29, 2, b""), parts())
    assert store.load() == SNAPSHOT and not received.path.exists()
    store_in(tmp_path).remove_unfinished()
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_closed_store_still_writes_is_not_in_the_way_of_the_next_process(
    tmp_path: Path, fails: bool
) -> None:
    """The thread of a node that was stopped may write on for a moment, under the same temporary name."""
    former, present, go = store_in(tmp_path), store_in(tmp_path), threading.Event()

    def of_the_former() -> Iterator[bytes]:
        yield b"a part"
        go.wait(SECONDS)
        if fails:
            raise OSError("a defect of the disk")
        yield b"another part"

    def write() -> None:
        with contextlib.suppress(OSError):
            former.write(Entry(COMMAND, 5, 2, b""), Entry(NOOP, 4, 2, b""), of_the_former())

    thread = threading.Thread(target=write)

    def of_the_present() -> Iterator[bytes]:
        yield SNAPSHOT.machine[:5]
        go.set()
        thread.join(SECONDS)
        yield SNAPSHOT.machine[5:]

    thread.start()
    former.close()
    assert present.write(SNAPSHOT.last, SNAPSHOT.previous, of_the_present())
    assert not thread.is_alive() and present.load() == SNAPSHOT
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_full_disk_keeps_the_old_snapshot_and_gets_its_space_back(tmp_path: Path, written: int) -> None:
    store_in(tmp_path).save(SNAPSHOT)
    store = store_in(tmp_path, disk=FullDisk(written))
    with pytest.raises(OSError, match="No space"):
        store.save(ending_at(20))
    assert store.load() == SNAPSHOT
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_a_machine_that_fails_within_its_parts_leaves_the_old_snapshot(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"a part"
        raise ValueError("a defect")

    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    with pytest.raises(ValueError, match="a defect"):
        store.write(Entry(COMMAND, 30, 2, b""), Entry(NOOP, 29, 2, b""), parts())
    assert store.load() == SNAPSHOT and [path.name for path in tmp_path.iterdir()] == ["snapshot"]


def test_little_more_than_a_part_waits_for_a_sync(tmp_path: Path) -> None:
    disk, part = FullDisk(), bytes(SYNC_BYTES // 4)
    store_in(tmp_path, disk=disk).write(SNAPSHOT.last, SNAPSHOT.previous, [part] * 40)
    assert SYNC_BYTES <= disk.most_unsynced <= SYNC_BYTES + len(part) and disk.unsynced == 0


def test_a_received_file_is_adopted_only_if_it_ends_as_announced(tmp_path: Path) -> None:
    (tmp_path / "leader").mkdir()
    leader, store = store_in(tmp_path / "leader"), store_in(tmp_path)
    leader.save(ending_at(20))
    received = store.receive()
    received.append(Path(leader.path).read_bytes())
    with pytest.raises(SnapshotCorrupt, match="entry 20 of term 2, not 21 of 2"):
        store.adopt(received, 21, 2)
    received = store.receive()
    received.append(Path(leader.path).read_bytes()[:-5] + b"\0" + Path(leader.path).read_bytes()[-4:])
    with pytest.raises(SnapshotCorrupt, match="checksum"):
        store.adopt(received, 20, 2)
    assert not store.exists
