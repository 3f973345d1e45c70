"""Snapshot files, and their way to a follower."""

from pathlib import Path

import pytest

from raft.codec import CHUNK_BYTES, SnapshotChunk
from raft.disk import Disk
from raft.entries import COMMAND, NOOP, Entry
from raft.errors import SnapshotCorrupt, WrongCluster
from raft.snapshot import Snapshot, SnapshotStore
from raft.transfer import IncomingSnapshot, OutgoingSnapshot

SNAPSHOT = Snapshot(Entry(COMMAND, 9, 2, b"last"), Entry(NOOP, 8, 2, b""), b"state of the machine")


def store_in(directory: Path, cluster: str = "cluster", generation: int = 1) -> SnapshotStore:
    return SnapshotStore(directory, cluster, generation, Disk())


def test_a_snapshot_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    existed = store.exists
    store.save(SNAPSHOT)
    assert (existed, store.exists) == (False, True)
    assert store_in(tmp_path).load() == SNAPSHOT


def test_every_damaged_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.save(SNAPSHOT)
    data = store.read_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x10
        for damaged in (bytes(flipped), data[:at]):
            with pytest.raises(SnapshotCorrupt, match="replace the node under a new id"):
                store.parse(damaged)


@pytest.mark.parametrize(
    ("cluster", "generation", "what"), [("other", 1, "cluster"), ("cluster", 2, "generation")]
)
def test_a_snapshot_of_somebody_else_is_refused(
    tmp_path: Path, cluster: str, generation: int, what: str
) -> None:
    store_in(tmp_path, cluster, generation).save(SNAPSHOT)
    with pytest.raises(WrongCluster, match=what):
        store_in(tmp_path).load()


def outgoing(data: bytes) -> OutgoingSnapshot:
    return OutgoingSnapshot(data, 9, 2, patience=0.1, max_patience=0.3)


def chunk(transfer: OutgoingSnapshot, number: int, data: bytes | None = None) -> SnapshotChunk:
    at = number * CHUNK_BYTES
    part = transfer.data[at : at + CHUNK_BYTES] if data is None else data
    size, crc = len(transfer.data), transfer.crc
    return SnapshotChunk("cluster", 1, "n1", 5, 3, number + 1, 9, 2, number, transfer.count, size, crc, part)


def incoming(transfer: OutgoingSnapshot) -> IncomingSnapshot:
    return IncomingSnapshot(IncomingSnapshot.key_of(chunk(transfer, 0)))


def test_one_chunk_is_in_flight_until_it_is_answered_and_is_repeated_with_backoff() -> None:
    transfer = outgoing(bytes(3 * CHUNK_BYTES))
    assert transfer.due(0.0) == 0
    transfer.sent(0.0)
    assert transfer.due(0.05) is None
    assert transfer.due(0.1) == 0
    transfer.sent(0.1)
    assert transfer.due(0.25) is None, "the second repetition waits twice as long"
    assert transfer.due(0.31) == 0
    transfer.answered(1)
    assert transfer.due(0.31) == 1


def test_a_receiver_that_started_anew_gets_the_whole_again() -> None:
    transfer = outgoing(bytes(3 * CHUNK_BYTES))
    for number in (1, 2):
        transfer.sent(0.0)
        transfer.answered(number)
    transfer.answered(0)
    assert transfer.due(0.0) == 0


def test_chunks_out_of_turn_and_twice_do_not_disturb_the_whole() -> None:
    transfer = outgoing(bytes(range(256)) * 2_500)
    receiver = incoming(transfer)
    assert receiver.take(chunk(transfer, 1)) is None
    assert receiver.take(chunk(transfer, 0)) is None
    assert receiver.take(chunk(transfer, 0)) is None
    assert receiver.take(chunk(transfer, 1)) is None
    assert receiver.take(chunk(transfer, 2)) == transfer.data


def test_a_whole_that_does_not_hold_its_checksum_is_forgotten() -> None:
    transfer = outgoing(b"x" * 100)
    receiver = incoming(transfer)
    with pytest.raises(ValueError, match="checksum"):
        receiver.take(chunk(transfer, 0, b"y" * 100))
    assert receiver.take(chunk(transfer, 0)) == transfer.data
