"""A disk that is full, or fails, at the n-th of its verbs, for all n: what was acknowledged stays.

The journal is tried verb by verb on the life of `story`; the whole node as a cluster of one, with snapshots
and new segments. After the fault the process ends. Then the next one starts where it ended, or the power goes
first: a sync that failed leaves bytes that can be read until then, and are lost after it.
"""

from itertools import count
from pathlib import Path

import pytest

from raft.config import RaftConfig
from raft.core import RaftCore
from raft.disk import Disk
from raft.errors import ApplyFailed
from raft.journal import Journal
from raft.outcomes import Committed, Outcome
from tests.unit.raft.crash import CrashDisk, Moment, QuietDisk, lay_out
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock
from tests.unit.raft.story import Examination, Marked, Telling, append_at_start

COMMANDS = 40
VERBS = ["create", "write", "sync", "rename", "sync_directory", "open", "remove"]


class Fault:
    """The `number`-th verb of its kind fails, and perhaps all of that kind after it."""

    def __init__(self, number: int, verb: str, *, for_good: bool) -> None:
        self._number, self._verb, self._for_good = number, verb, for_good
        self._seen = 0

    @property
    def struck(self) -> bool:
        return self._seen >= self._number

    def __call__(self, verb: str) -> bool:
        if verb != self._verb:
            return False
        self._seen += 1
        return self._seen >= self._number if self._for_good else self._seen == self._number


def told_until_the_fault(directory: Path, verb: str, number: int) -> Marked | None:
    """The moment after the fault; None when the story ends before it."""
    telling = Telling(directory)
    telling.disk.fails = Fault(number, verb, for_good=True)
    try:
        telling.tell()
    except OSError:
        telling.disk.note("fault")
        return telling.moments[-1]
    return None


@pytest.mark.parametrize("verb", VERBS)
def test_a_journal_whose_disk_fails_keeps_what_it_acknowledged(tmp_path: Path, verb: str) -> None:
    examination = Examination(tmp_path)
    for number in count(1):
        fault = told_until_the_fault(tmp_path / f"{number}", verb, number)
        if fault is None:
            break
        examination.power_cut(fault, every_cut=False)
        for marked in Telling(tmp_path / f"{number}-next", fault).go_on().moments:
            if marked.acknowledged > fault.issued:
                examination.power_cut(marked, every_cut=False)
    assert number > 5 and examination.count > 5


def test_a_sync_that_failed_is_not_made_good_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could read was not on the platter, and syncing the same file again would not bring it there."""
    append_at_start(monkeypatch)
    with pytest.raises(AssertionError):
        test_a_journal_whose_disk_fails_keeps_what_it_acknowledged(tmp_path, "sync")


class Node:
    """A cluster of one on a disk that may fail; remembers what was acknowledged."""

    def __init__(self, directory: Path, clock: Clock, disk: Disk) -> None:
        config = RaftConfig(
            "n1",
            ("n1",),
            "cluster",
            directory,
            election_timeout_min=0.2,
            election_timeout_max=0.21,
            snapshot_every_entries=10,
            retained_entries=0,
        )
        self.machine, self._clock = Recorder(), clock
        self.acknowledged: list[bytes] = []
        self.core = RaftCore(config, self.machine, clock=clock, disk=disk, wall_ns=lambda: 0)
        self.core.connection_changed(True, patient=False)

    def campaign(self) -> bool:
        self._clock.now += 1.0
        self._step(3)
        return self.core.leads_applied

    def _step(self, times: int) -> None:
        for _ in range(times):
            self._clock.now += 0.01
            self.core.tick()
            self.core.flush()

    def propose(self, command: bytes) -> None:
        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Committed):
                self.acknowledged.append(command)
            else:
                assert not isinstance(outcome, ApplyFailed)

        self.core.propose(command, done)
        self._step(2)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = Journal.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "segment_bytes", 300)


def lived_until_the_fault(
    directory: Path, clock: Clock, fault: Fault
) -> tuple[list[bytes], Moment, str | None]:
    """Acknowledged commands, the last moment of the disk, and why the node withdrew if it did."""
    moments: list[Moment] = []
    disk = CrashDisk(moments.append)
    disk.fails = fault
    acknowledged: list[bytes] = []
    failure: str | None = "it did not start"
    try:
        node = Node(lay_out(directory, {}), clock, disk)
    except OSError:
        pass
    else:
        node.campaign()
        for number in range(COMMANDS):
            node.propose(b"command %d" % number)
        assert node.core.failure is not None or len(node.acknowledged) == COMMANDS
        acknowledged, failure = node.acknowledged, node.core.failure
        node.core.close()
    disk.note("the process is gone")
    return acknowledged, moments[-1], failure


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("for_good", [True, False], ids=["for good", "once"])
@pytest.mark.parametrize("verb", ["write", "sync", "rename", "sync_directory"])
def test_a_node_whose_disk_fails_withdraws_or_goes_on_and_all_it_acknowledged_is_there_after_a_start(
    tmp_path: Path, clock: Clock, verb: str, for_good: bool
) -> None:
    """It goes on when only a snapshot could not be written."""
    withdrew = 0
    for number in count(1):
        fault = Fault(number, verb, for_good=for_good)
        acknowledged, moment, failure = lived_until_the_fault(tmp_path / f"{number}", clock, fault)
        if not fault.struck:
            break
        withdrew += failure is not None
        left = [moment.left_by_kill(), *moment.left_by_power_cut(every_cut=False)]
        for at, files in enumerate(left):
            node = Node(lay_out(tmp_path / f"{number}-{at}", files), clock, QuietDisk())
            assert node.campaign()
            commands = node.machine.commands
            node.core.close()
            assert [command for command in commands if command in acknowledged] == acknowledged
            assert len(commands) == len(set(commands))
    assert withdrew > 5
