"""Directed scenarios: snapshots, compaction and power. Each fails with its treatment taken away."""

from pathlib import Path

import msgspec

from raft import codec
from raft.codec import SnapshotChunk
from raft.succession import Succession
from tests.simulation.kit import Kit

VERBS = 14
"""Of the disk, from the first one of a snapshot to the last one of the cut that follows it."""


def test_a_snapshot_chunk_commits_nothing_of_a_stale_log(disks: Path) -> None:
    """PySyncObj commits up to the leader's index on each chunk, obsolete entries of its own included."""
    kit = Kit(disks, snapshot_every=12, retained=0, miniature=True)
    with kit.running():
        kit.lead("n3")
        kit.run(0.1)
        kit.cut("n3")
        kit.writes("n3", 20)
        kit.run(0.01)
        kit.crash("n3")
        _compact(kit, "n1")
        kit.restart("n3")
        kit.hold("n1", "n3")
        kit.heal()
        kit.run(0.3)
        chunk = _last_chunk(kit)
        assert chunk.number == 0 and chunk.count > 1, "it does not end the snapshot"
        _again(kit, chunk)
        kit.run(0.01)
        assert kit.core("n3").commit_index < 5
        kit.release("n1", "n3")
        kit.run(0.5)
        assert kit.applied("n3") == kit.applied("n1")


def test_a_snapshot_behind_what_is_applied_changes_nothing(disks: Path) -> None:
    """A chunk that comes late must not take the state back."""
    kit = Kit(disks, snapshot_every=12, retained=0)
    with kit.running():
        kit.lead("n1")
        kit.run(0.1)
        kit.cut("n3")
        _compact(kit, "n1")
        kit.heal()
        kit.run(0.5)
        chunk = _last_chunk(kit)
        kit.writes("n1", 5)
        kit.run(0.3)
        before = kit.core("n3").applied_index
        assert before > chunk.last_index
        _again(kit, chunk)
        kit.run(0.3)
        assert kit.core("n3").applied_index >= before
        assert kit.applied("n3") == kit.applied("n1")


def test_a_damaged_snapshot_is_not_acknowledged(disks: Path) -> None:
    """PySyncObj acknowledges a snapshot that failed to load, and goes on with an empty state."""
    kit = Kit(disks, snapshot_every=12, retained=0)
    with kit.running():
        _held_chunks(kit)
        chunk = _last_chunk(kit)
        damaged = bytearray(chunk.data)
        damaged[-20] ^= 0x10
        _again(kit, chunk, data=bytes(damaged))
        kit.run(0.05)
        assert kit.core("n3").applied_index < chunk.last_index
        assert not any(getattr(frame, "installed", False) for *_, frame in kit.sent)
        kit.release("n1", "n3")
        kit.run(0.5)
        assert kit.applied("n3") == kit.applied("n1")


def test_a_chunk_that_is_sent_again_does_not_spoil_the_snapshot(disks: Path) -> None:
    """Chunks and answers are lost and repeated; PySyncObj puts together what arrives."""
    kit = Kit(disks, snapshot_every=12, retained=0, miniature=True)
    with kit.running():
        kit.lead("n1")
        kit.run(0.1)
        kit.cut("n3")
        _compact(kit, "n1")
        kit.heal()
        kit.hold("n3", "n1")  # no answer comes, so the first chunk is sent again
        kit.run(0.4)
        kit.release("n3", "n1")
        kit.run(1.0)
        chunks = [frame for *_, frame in kit.sent if isinstance(frame, SnapshotChunk)]
        assert chunks[-1].count > 1, "a snapshot of several chunks"
        assert kit.core("n3").counters.snapshots_refused == 0
        assert kit.applied("n3") == kit.applied("n1")


def test_an_installed_snapshot_acknowledges_no_more_than_it_holds(disks: Path) -> None:
    """What the leader has appended since is not on the follower."""
    kit = Kit(disks, snapshot_every=12, retained=0)
    with kit.running():
        leader = _held_chunks(kit)
        chunk = _last_chunk(kit)
        kit.cut("n2")
        before = leader.commit_index
        calls = kit.writes("n1", 5)
        kit.cut_link("n1", "n3")
        kit.release("n1", "n3")
        kit.run(0.02)
        assert kit.core("n3").applied_index == chunk.last_index
        assert leader.commit_index == before and not any(call.committed for call in calls)


def test_a_power_cut_at_any_verb_of_a_compaction_loses_nothing(disks: Path) -> None:
    """PySyncObj clears the journal and writes it again, also at a start after a crash between dump and cut:
    a power cut in between keeps 3 of 51 entries.
    """
    kit = Kit(disks, snapshot_every=12, retained=0, miniature=True)
    with kit.running():
        kit.lead("n1")
        kit.run(0.1)
        for verb in range(1, VERBS):
            machine = kit.machines["n2"]
            kit.hold_snapshots(machine)
            kit.writes("n1", 14)
            kit.run(0.05)
            kit.writes("n1", 3)
            kit.run(0.05)
            machine.disk.fuse = verb
            kit.write_held_snapshots(machine)
            kit.run(0.05)
            kit.crash("n2")
            kit.restart("n2")
            kit.run(0.3)
            assert kit.applied("n2") == kit.applied("n1"), f"power cut at verb {verb}"


def test_what_is_acknowledged_is_on_disk(disks: Path) -> None:
    """A majority loses power at the moment a client hears that its command is committed."""
    kit = Kit(disks)
    with kit.running():
        kit.lead("n1")
        for _ in range(5):
            calls = kit.writes("n1", 3)
            while not all(call.committed for call in calls):
                kit.run(0.001)
            kit.crash("n1", "n2", "n3")
            kit.restart("n1", "n2", "n3")
            kit.lead("n1")
        assert len(kit.applied("n1")) == 15


def _compact(kit: Kit, name: str) -> None:
    """Let a machine lead, commit and cut its journal."""
    kit.lead(name)
    for _ in range(4):
        kit.writes(name, 12)
        kit.run(0.3)
    assert kit.core(name).journal.first_index > 25, kit.report("the journal is not cut")


def _held_chunks(kit: Kit) -> Succession:
    """n1 leads, n3 needs a snapshot, and what n1 sends it is held."""
    kit.lead("n1")
    kit.run(0.1)
    kit.cut("n3")
    _compact(kit, "n1")
    kit.heal()
    kit.hold("n1", "n3")
    kit.run(0.2)
    return kit.core("n1")


def _last_chunk(kit: Kit) -> SnapshotChunk:
    chunks = [frame for *_, frame in kit.sent if isinstance(frame, SnapshotChunk)]
    assert chunks, kit.report("no snapshot was sent")
    return chunks[-1]


def _again(kit: Kit, frame: SnapshotChunk, **changes: object) -> None:
    """n1's frame arrives at n3, as a new one; n1 expects its answer, if it still waits for the old one's."""
    core = kit.core("n1")
    seq = core.letters.next_seq()
    asked = core.letters._asked.get(frame.seq)
    if asked is not None:
        core.letters.expect_reply(seq, asked)
    data = codec.encode(msgspec.structs.replace(frame, seq=seq, **changes))
    inbox = f"n1 {core.letters.incarnation}"
    kit.take(kit.machines["n3"], lambda core: core.receive(data, inbox))
