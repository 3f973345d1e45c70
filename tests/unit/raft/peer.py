"""The other side of a core under test: a peer played by the test, its clock, a disk that it breaks."""

from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pysyncobj.syncobj
import pytest

from raft import codec
from raft.codec import PreVoteReply, VoteReply
from raft.config import RaftConfig
from raft.core import RaftCore
from raft.disk import Disk
from raft.entries import COMMAND, Entry
from raft.outbox import Outgoing
from raft.snapshot import Snapshot, SnapshotFile, SnapshotStore
from tests.unit.raft.machine import Recorder

Open = Callable[[RaftConfig], RaftCore]


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(pysyncobj.syncobj, "monotonicTime", self)

    def __call__(self) -> float:
        return self.now


class WatchedDisk(Disk):
    """Counts syncs and fails on demand."""

    def __init__(self) -> None:
        self.syncs = 0
        self.broken = False

    def sync(self, descriptor: int) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")
        self.syncs += 1


def single(directory: Path) -> RaftConfig:
    return RaftConfig(
        "n1", ("n1",), "cluster", directory, election_timeout_min=0.2, election_timeout_max=0.21
    )


def member(directory: Path, **settings: int) -> RaftConfig:
    return RaftConfig("n1", ("n1", "n2", "n3"), "cluster", directory, **settings)  # type: ignore[arg-type]


class Peer:
    """Another member, played by the test."""

    def __init__(self, core: RaftCore, name: str = "n2") -> None:
        self._core, self._seq, self.name = core, 0, name

    def _stamp(self, term: int) -> tuple[str, int, str, int, int, int]:
        self._seq += 1
        return ("cluster", 1, self.name, 7, term, self._seq)

    def ask(self, kind: type, term: int, *fields: object) -> codec.AnyReply | None:
        """Send a request and read the answer of the step."""
        self._core.receive(codec.encode(kind(*self._stamp(term), *fields)), "inbox")
        self._core.tick()
        answers = [frame for frame in self._core.flush() if frame.subject == "inbox"]
        return codec.decode_reply(answers[-1].data) if answers else None

    def answer(self, frame: Outgoing, kind: type, term: int, *fields: object) -> None:
        """Answer a request of the core."""
        asked = codec.decode_request(frame.data)
        reply = kind(*self._stamp(term), asked.incarnation, asked.seq, *fields)
        self._core.receive_reply(codec.encode(reply))


def elected(core: RaftCore, clock: Clock) -> None:
    clock.now += 1.0
    for _ in range(3):
        core.tick()
        core.flush()
    assert core.leads_applied


def campaign(core: RaftCore, clock: Clock, *supporters: Peer) -> list[Outgoing]:
    """Let a second pass and the supporters grant pre-votes; returns the requests for votes that follow."""
    clock.now += 1.0
    core.tick()
    frames = core.flush()
    for supporter in supporters:
        for frame in frames:
            if frame.subject.endswith(f"{supporter.name}.prevote"):
                supporter.answer(frame, PreVoteReply, core.term, True)
    core.tick()
    return [frame for frame in core.flush() if frame.subject.endswith(".vote")]


def lead(core: RaftCore, clock: Clock) -> Peer:
    """Let n1 win an election by the vote of n2."""
    peer = Peer(core)
    for frame in campaign(core, clock, peer):
        if frame.subject.endswith("n2.vote"):
            peer.answer(frame, VoteReply, core.term, True)
    assert core.is_leader
    return peer


def commands(*indexes: int, term: int = 1) -> list[Entry]:
    return [Entry(COMMAND, index, term, b"%d" % index) for index in indexes]


def snapshot_file(directory: Path, last: int, size: int) -> SnapshotFile:
    """A snapshot file of `size` bytes that ends at `last`."""
    store = SnapshotStore(directory, "cluster", 1, Disk())
    (end,), (before,) = commands(last), commands(last - 1)
    store.save(Snapshot(end, before, b""))
    store.save(Snapshot(end, before, bytes(size - store.open().size)))
    return store.open()


def snapshot_chunk(directory: Path, last: int, term: int = 1) -> tuple[object, ...]:
    """The fields of a one-chunk snapshot that ends at `last`."""
    directory.mkdir()
    store = SnapshotStore(directory, "cluster", 1, Disk())
    machine = Recorder()
    machine.applied = [(last, b"%d" % last)]
    (end,), (before,) = commands(last, term=term), commands(last - 1, term=term)
    store.save(Snapshot(end, before, b"".join(machine.snapshot())))
    data = Path(store.path).read_bytes()
    return (last, term, 0, 1, len(data), google_crc32c.value(data), data)
