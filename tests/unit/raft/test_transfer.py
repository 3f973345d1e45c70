"""A snapshot's way to a follower, chunk by chunk."""

from pathlib import Path

import pytest

from raft.codec import CHUNK_BYTES, SnapshotChunk
from raft.disk import Disk
from raft.errors import SnapshotCorrupt
from raft.snapshot import SnapshotStore
from raft.transfer import IncomingSnapshot, OutgoingSnapshot
from tests.unit.raft.peer import snapshot_file


@pytest.fixture
def transfer(tmp_path: Path) -> OutgoingSnapshot:
    """Of three chunks."""
    (tmp_path / "leader").mkdir()
    file = snapshot_file(tmp_path / "leader", 9, 2 * CHUNK_BYTES + 100)
    return OutgoingSnapshot(file, patience=0.1, max_patience=0.3)


@pytest.fixture
def follower(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path, "cluster", 1, Disk())


def chunk(transfer: OutgoingSnapshot, number: int, data: bytes | None = None) -> SnapshotChunk:
    part = transfer.chunk(number) if data is None else data
    end, size, crc = (transfer.last_index, transfer.last_term), transfer.file.size, transfer.file.crc
    return SnapshotChunk("cluster", 1, "n1", 5, 3, number + 1, *end, number, transfer.count, size, crc, part)


def test_one_chunk_is_in_flight_until_it_is_answered_and_is_repeated_with_backoff(
    transfer: OutgoingSnapshot,
) -> None:
    assert transfer.due(0.0) == 0
    transfer.sent(0.0)
    assert transfer.due(0.05) is None
    assert transfer.due(0.1) == 0
    transfer.sent(0.1)
    assert transfer.due(0.25) is None, "the second repetition waits twice as long"
    assert transfer.due(0.31) == 0
    transfer.answered(1)
    assert transfer.due(0.31) == 1


def test_a_receiver_that_started_anew_gets_the_whole_again(transfer: OutgoingSnapshot) -> None:
    for number in (1, 2):
        transfer.sent(0.0)
        transfer.answered(number)
    transfer.answered(0)
    assert transfer.due(0.0) == 0


def test_chunks_out_of_turn_and_twice_do_not_disturb_the_whole(
    transfer: OutgoingSnapshot, follower: SnapshotStore
) -> None:
    receiver = IncomingSnapshot(chunk(transfer, 0), follower.receive)
    took = [receiver.take(chunk(transfer, number)) for number in (1, 0, 0, 1, 1, 2)]
    assert took == [False, False, False, False, False, True]
    follower.adopt(receiver.file, 9, 1)
    assert Path(follower.path).read_bytes() == Path(transfer.file.path).read_bytes()


def test_a_whole_that_does_not_hold_its_checksum_does_not_count(
    transfer: OutgoingSnapshot, follower: SnapshotStore
) -> None:
    receiver = IncomingSnapshot(chunk(transfer, 0), follower.receive)
    receiver.take(chunk(transfer, 0))
    receiver.take(chunk(transfer, 1, bytes(CHUNK_BYTES - 1) + b"y"))
    with pytest.raises(ValueError, match="checksum"):
        receiver.take(chunk(transfer, 2))


def test_a_transfer_reads_the_file_it_began_with(transfer: OutgoingSnapshot, tmp_path: Path) -> None:
    before = Path(transfer.file.path).read_bytes()
    transfer.chunk(0)
    snapshot_file(tmp_path / "leader", 12, 3 * CHUNK_BYTES)
    assert b"".join(transfer.chunk(number) for number in range(3)) == before


def test_a_sender_finds_that_its_file_was_damaged(transfer: OutgoingSnapshot) -> None:
    with Path(transfer.file.path).open("r+b") as file:
        file.seek(CHUNK_BYTES + 7)
        file.write(b"!")
    transfer.chunk(0)
    transfer.chunk(0)
    transfer.chunk(1)
    with pytest.raises(SnapshotCorrupt, match="checksum"):
        transfer.chunk(2)
