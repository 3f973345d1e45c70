"""Snapshots in the background: commits go on, the journal is cut late, the newer snapshot stays."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from raft import codec
from raft.codec import Append, AppendReply, SnapshotChunk
from raft.compaction import RETRY_SECONDS, Background, Compaction, Inline, Job, Progress, WorkerThread
from raft.config import RaftConfig
from raft.core import RaftCore
from raft.counters import Counters
from raft.disk import Disk
from raft.memory_bus import MemoryBus
from raft.node import RaftNode
from raft.outbox import Outgoing
from raft.snapshot import SnapshotStore
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock, Peer, WatchedDisk, commands, elected, lead, snapshot_chunk
from tests.unit.raft.test_node import SECONDS, Cluster, until


class LaterJob:
    """A job that the test runs when it likes."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.done = False
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
        self.done = True


class Later:
    """Keeps the jobs it was given."""

    def __init__(self) -> None:
        self.jobs: list[LaterJob] = []

    def start(self, work: Callable[[], object]) -> Job:
        self.jobs.append(LaterJob(work))
        return self.jobs[-1]


class Stubborn(Recorder):
    """Cannot give its state while `broken`."""

    broken = False

    def snapshot(self) -> Iterable[bytes]:
        if self.broken:
            raise RuntimeError("a defect")
        return super().snapshot()


Settings = int | float


class Single:
    """A node that commits alone, with snapshots every 20 entries, written when the test says."""

    def __init__(self, directory: Path, clock: Clock, **settings: Settings) -> None:
        self.directory, self.clock, self.settings = directory, clock, settings
        self.disk, self.later = WatchedDisk(), Later()
        self.open()

    def open(self) -> None:
        settings = {"snapshot_every_entries": 20, "retained_entries": 2, **self.settings}
        config = RaftConfig("n1", ("n1",), "cluster", self.directory, **settings)  # type: ignore[arg-type]
        self.machine = Stubborn()
        self.core = RaftCore(config, self.machine, clock=self.clock, disk=self.disk, background=self.later)
        elected(self.core, self.clock)

    def crash(self) -> None:
        """The process dies; what its thread would still have done is not done."""
        self.core.journal.close()
        self.later.jobs.clear()
        self.open()

    def step(self) -> None:
        for _ in range(3):
            self.core.tick()
            self.core.flush()

    def apply(self, *words: bytes) -> None:
        for word in words:
            self.core.propose(word, lambda outcome: None)
            self.step()
        assert self.machine.commands[-len(words) :] == list(words)

    def fill(self) -> list[bytes]:
        words = [b"%d" % number for number in range(25)]
        self.apply(*words)
        return words

    def saved(self) -> list[bytes]:
        """The commands in the durable snapshot."""
        store = SnapshotStore(self.directory, "cluster", 1, Disk())
        return [word.encode() for _, word in json.loads(store.load().machine)]


@pytest.fixture
def single(tmp_path: Path, clock: Clock) -> Iterator[Single]:
    node = Single(tmp_path, clock)
    yield node
    node.core.close()


def test_commands_commit_while_a_snapshot_is_written_and_the_journal_is_cut_after(single: Single) -> None:
    single.fill()
    [job] = single.later.jobs
    single.apply(b"during")
    assert single.core.journal.first_index == 1 and not (single.directory / "snapshot").exists()
    job.run()
    assert single.core.journal.first_index == 1, "not before a tick has seen it durable"
    single.step()
    assert single.core.journal.first_index > 10 and single.core.counters.snapshots == 1


def test_a_snapshot_holds_the_state_of_the_moment_it_was_begun(single: Single) -> None:
    single.fill()
    [job] = single.later.jobs
    at_the_call = list(single.machine.commands)
    single.apply(b"later")
    job.run()
    assert len(single.saved()) == 18 and single.saved() == at_the_call[:18]


def test_one_snapshot_is_written_at_a_time(single: Single) -> None:
    single.fill()
    single.fill()
    assert len(single.later.jobs) == 1
    single.later.jobs[0].run()
    single.step()
    single.fill()
    assert len(single.later.jobs) == 2


@pytest.mark.parametrize("written", [False, True])
def test_a_crash_before_the_journal_is_cut_loses_nothing(single: Single, written: bool) -> None:
    """With the snapshot under its name, or only a part of it in a temporary file."""
    words = single.fill()
    if written:
        single.later.jobs[0].run()
        assert single.saved() == words[:18]
    else:
        (single.directory / "snapshot.tmp").write_bytes(b"RAFTSNP1 and a part")
    single.crash()
    assert single.machine.commands == words
    single.apply(b"after")
    assert single.machine.commands == [*words, b"after"]


def test_a_crash_after_the_journal_was_cut_loses_nothing(single: Single) -> None:
    words = single.fill()
    single.later.jobs[0].run()
    single.step()
    assert single.core.journal.first_index > 10
    single.crash()
    assert single.machine.commands == words


def test_a_snapshot_that_fails_is_tried_again_after_a_while_and_commits_go_on(
    single: Single, clock: Clock
) -> None:
    single.fill()
    single.later.jobs[0].error = OSError(28, "No space left on device")
    single.later.jobs[0].done = True
    single.apply(b"one", b"two")
    assert single.core.counters.snapshots_failed == 1 and len(single.later.jobs) == 1
    assert single.core.journal.first_index == 1 and single.core.failure is None
    clock.now += RETRY_SECONDS
    single.step()
    assert len(single.later.jobs) == 2
    single.later.jobs[1].run()
    single.step()
    assert single.core.counters.snapshots == 1 and single.saved()[-2:] == [b"one", b"two"]


def test_a_machine_that_cannot_give_its_state_is_asked_again(single: Single, clock: Clock) -> None:
    single.machine.broken = True
    single.fill()
    assert single.core.counters.snapshots_failed == 1 and not single.later.jobs
    single.machine.broken = False
    clock.now += RETRY_SECONDS
    single.step()
    assert len(single.later.jobs) == 1


def test_after_a_snapshot_the_disk_rests_for_as_long_as_it_took(single: Single, clock: Clock) -> None:
    single.fill()
    clock.now += 4.0
    single.later.jobs[0].run()
    single.step()
    single.fill()
    clock.now += 3.9
    single.step()
    assert len(single.later.jobs) == 1
    clock.now += 0.2
    single.step()
    assert len(single.later.jobs) == 2


def test_a_closed_node_leaves_the_snapshot_to_the_next_process(tmp_path: Path, clock: Clock) -> None:
    """The thread of a node that was stopped may run on for a moment."""
    former = Single(tmp_path, clock)
    former.fill()
    job = former.later.jobs[0]
    former.core.close()
    present = Single(tmp_path, clock)
    present.fill()
    present.later.jobs[0].run()
    newer = present.saved()
    job.run()
    assert job.error is None and present.saved() == newer
    present.core.close()


def test_the_members_take_turns() -> None:
    members = ("n1", "n2", "n3")

    def due(name: str) -> list[int]:
        config = RaftConfig(name, members, "cluster", Path(), snapshot_every_entries=90, retained_entries=2)
        compaction = Compaction(config, Inline(), Counters(), lambda: 0.0)
        begun: list[int] = []
        for index in range(1, 271):
            compaction.applied(1)
            if compaction.poll() is Progress.IDLE and compaction.due(index):
                compaction.begin(index, list, list)
                begun.append(index)
        return begun

    assert {name: due(name) for name in members} == {
        "n1": [90, 180, 270],
        "n2": [120, 210],
        "n3": [150, 240],
    }


def test_a_backlog_that_is_not_committed_is_no_reason_for_a_snapshot(tmp_path: Path, clock: Clock) -> None:
    later = Later()
    core = follower(tmp_path / "n1", clock, later)
    Peer(core).ask(Append, 1, 1, 0, 5, commands(*range(2, 90)))
    assert core.applied_index == 5 and not later.jobs
    core.close()


def acknowledge(core: RaftCore, peer: Peer) -> list[Outgoing]:
    """n2 takes what it is sent, until it has all; the chunks that n3 is sent meanwhile."""
    chunks: list[Outgoing] = []
    for _ in range(4):
        core.tick()
        for frame in core.flush():
            sent = codec.decode_request(frame.data)
            if isinstance(sent, Append) and frame.subject.endswith("n2.append") and frame.token:
                peer.answer(frame, AppendReply, core.term, True, sent.prev_index + len(sent.entries) + 1)
            elif frame.subject.endswith("n3.append") and frame.token:
                Peer(core, "n3").answer(frame, AppendReply, core.term, False, 2)
            elif isinstance(sent, SnapshotChunk):
                chunks.append(frame)
    return chunks


def test_the_journal_is_not_cut_under_a_snapshot_on_its_way_but_not_without_bound(
    tmp_path: Path, clock: Clock
) -> None:
    """n3 takes its time for the first chunk."""
    later = Later()
    core = follower(tmp_path / "n1", clock, later)
    peer = lead(core, clock)
    chunks: list[Outgoing] = []
    while not chunks:
        core.propose(b"x", lambda outcome: None)
        chunks = acknowledge(core, peer)
        for job in later.jobs:
            job.run()
    cut, jobs = core.journal.first_index, len(later.jobs)
    while core.applied_index < cut + 19:
        core.propose(b"x", lambda outcome: None)
        acknowledge(core, peer)
    assert len(later.jobs) == jobs and core.journal.first_index == cut
    for _ in range(2):
        core.propose(b"x", lambda outcome: None)
        acknowledge(core, peer)
    assert len(later.jobs) == jobs + 1
    core.close()


async def test_a_snapshot_of_many_chunks_reaches_a_follower_while_commits_go_on(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, 3, snapshot_every_entries=30, retained_entries=2)
    for name in cluster.ids:
        await cluster.start(name)
    leader = await cluster.leader()
    away = cluster.name_of(cluster.followers()[0])
    await cluster.kill(away)
    for number in range(60):
        await leader.propose(b"%d" % number + b"x" * 20_000, timeout=SECONDS)
    await until(lambda: leader.counters.snapshots >= 1)
    node = await cluster.start(away)
    for number in range(60, 90):
        await leader.propose(b"%d" % number, timeout=SECONDS)
    await until(lambda: len(cluster.machines[away].commands) == 90)
    assert node.counters.snapshots_installed >= 1
    assert (tmp_path / away / "snapshot").stat().st_size > 3 * codec.CHUNK_BYTES
    assert cluster.machines[away].applied == cluster.machines[cluster.name_of(leader)].applied
    await cluster.close()


def large(number: int) -> bytes:
    return b"%d" % number + bytes(1_000)


def test_bytes_applied_are_a_reason_for_a_snapshot_and_bound_what_is_kept(
    tmp_path: Path, clock: Clock
) -> None:
    node = Single(
        tmp_path,
        clock,
        snapshot_every_entries=10_000,
        retained_entries=1_000,
        snapshot_every_bytes=20_000,
        retained_bytes=4_000,
    )
    most = 0
    for number in range(100):
        node.apply(large(number))
        for job in node.later.jobs:
            if not job.done:
                job.run()
        most = max(most, node.core.journal.bytes_held)
    assert len(node.later.jobs) == 5, "one for each 20 commands"
    assert 20_000 < most < 26_000
    node.crash()
    assert node.machine.commands == [large(number) for number in range(100)]
    node.core.close()


def follower(directory: Path, clock: Clock, background: Background) -> RaftCore:
    directory.mkdir()
    config = RaftConfig(
        "n1", ("n1", "n2", "n3"), "cluster", directory, snapshot_every_entries=10, retained_entries=0
    )
    core = RaftCore(config, Recorder(), clock=clock, disk=WatchedDisk(), background=background)
    core.connection_changed(True, patient=False)
    return core


def test_a_snapshot_of_this_node_never_replaces_a_newer_one_of_the_leader(
    tmp_path: Path, clock: Clock
) -> None:
    later = Later()
    core = follower(tmp_path / "n1", clock, later)
    peer = Peer(core)
    peer.ask(Append, 1, 1, 0, 16, commands(*range(2, 17)))
    assert core.applied_index == 16 and len(later.jobs) == 1
    reply = peer.ask(SnapshotChunk, 1, *snapshot_chunk(tmp_path / "leader", 50))
    assert isinstance(reply, codec.SnapshotReply) and reply.installed
    later.jobs[0].run()
    peer.ask(Append, 1, 50, 1, 51, commands(51))
    store = SnapshotStore(tmp_path / "n1", "cluster", 1, Disk())
    assert store.load().last.index == 50
    assert (core.applied_index, core.journal.first_index, core.failure) == (51, 49, None)
    core.close()
    core = follower_again(tmp_path / "n1", clock)
    assert core.applied_index == 50 and core.journal.last_index == 51
    core.close()


def follower_again(directory: Path, clock: Clock) -> RaftCore:
    config = RaftConfig("n1", ("n1", "n2", "n3"), "cluster", directory)
    return RaftCore(config, Recorder(), clock=clock, disk=WatchedDisk())


def test_a_thread_does_the_work_and_tells_what_it_raised() -> None:
    go = threading.Event()

    def work() -> None:
        go.wait(SECONDS)
        raise OSError(f"full, in {threading.current_thread().name}")

    job = WorkerThread("work").start(work)
    before = job.done
    go.set()
    for thread in threading.enumerate():
        if thread.name == "work":
            thread.join(SECONDS)
    assert (before, job.done, str(job.error)) == (False, True, "full, in work")


LONG_SECONDS = 60.0
"""Longer than all that is committed while a snapshot is held back may take on a busy machine."""


class Blocking(Recorder):
    """The test lets its snapshots go, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.permits = threading.Semaphore(0)
        self.asked = 0

    def snapshot(self) -> Iterable[bytes]:
        whole = b"".join(super().snapshot())
        self.asked += 1

        def parts() -> Iterator[bytes]:
            self.permits.acquire(timeout=LONG_SECONDS)
            yield whole

        return parts()


async def test_a_node_commits_while_its_thread_writes_and_stops_without_waiting_for_it(
    tmp_path: Path,
) -> None:
    machine, bus = Blocking(), MemoryBus()
    config = RaftConfig("n1", ("n1",), "cluster", tmp_path, snapshot_every_entries=20, retained_entries=2)
    node = RaftNode(config, bus.connect("n1"), machine)
    await node.start()
    await until(lambda: node.is_leader)
    for number in range(60):
        await node.propose(b"%d" % number, timeout=SECONDS)
    await until(lambda: (tmp_path / "snapshot.tmp").exists())
    assert node.counters.snapshots == 0
    machine.permits.release()
    await until(lambda: node.counters.snapshots == 1)
    written = (tmp_path / "snapshot").read_bytes()
    await node.stop()
    node = RaftNode(
        config, bus.connect("n1"), machine
    )  # one that has no rest to keep after its last snapshot
    await node.start()
    await until(lambda: node.is_leader)
    for number in range(20):
        await node.propose(b"more %d" % number, timeout=SECONDS)
    await until(lambda: machine.asked == 2 and (tmp_path / "snapshot.tmp").exists())
    await node.stop()
    machine.permits.release()
    await until(lambda: not any(thread.name == "raft-snapshot-n1" for thread in threading.enumerate()))
    assert (tmp_path / "snapshot").read_bytes() == written
    assert (tmp_path / "snapshot.tmp").exists()
    again = Recorder()
    node = RaftNode(config, bus.connect("n1"), again)
    await node.start()
    assert not (tmp_path / "snapshot.tmp").exists(), "a start gives back what was not finished"
    await until(lambda: again.commands == machine.commands)
    await node.stop()


async def test_a_follower_that_declines_a_snapshot_is_told_of_at_the_leader_and_the_others_commit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cluster = Cluster(tmp_path, 3, snapshot_every_entries=30, retained_entries=2, max_snapshot_bytes=1_024)
    for name in cluster.ids:
        await cluster.start(name)
    leader = await cluster.leader()
    away = cluster.name_of(cluster.followers()[0])
    await cluster.kill(away)
    for number in range(60):
        await leader.propose(b"%d" % number + bytes(100), timeout=SECONDS)
    await until(lambda: leader.counters.snapshots >= 1)
    node = await cluster.start(away)
    await until(lambda: leader.counters.snapshots_too_large >= 1)
    assert f"'{away}' takes no snapshot of more than 1024 bytes" in caplog.text
    await leader.propose(b"on", timeout=SECONDS)
    assert leader.counters.snapshots_too_large == 1, "it is not offered again and again"
    assert node.counters.elections == 0 and node.leader_id == leader.status().this_node_id
    await cluster.close()
