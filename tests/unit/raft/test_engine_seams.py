"""The places where PySyncObj is held. An upgrade that moves one of them fails here, not in production."""

from pathlib import Path

import pysyncobj.pickle
import pysyncobj.syncobj
import pytest
from pysyncobj.node import Node
from pysyncobj.poller import PollPoller, SelectPoller

from raft.config import RaftConfig
from raft.core import RaftCore
from raft.entries import command_bytes
from raft.journal import Journal
from raft.transport import Member
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock, elected, single


def test_the_engine_works_on_our_journal(tmp_path: Path) -> None:
    core = RaftCore(single(tmp_path), Recorder())
    assert isinstance(core.engine._SyncObj__raftLog, Journal)
    core.close()


def test_the_engines_own_journals_and_pollers_come_back_after_construction(tmp_path: Path) -> None:
    before = pysyncobj.syncobj.createJournal, pysyncobj.syncobj.createPoller
    RaftCore(single(tmp_path), Recorder()).close()
    assert (pysyncobj.syncobj.createJournal, pysyncobj.syncobj.createPoller) == before


def test_a_tick_of_the_engine_asks_the_system_about_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object) -> None:
        pytest.fail("the engine polled the system")

    monkeypatch.setattr(PollPoller, "poll", ask)
    monkeypatch.setattr(SelectPoller, "poll", ask)
    core = RaftCore(single(tmp_path), Recorder())
    core.tick()
    assert core.failure is None
    core.close()


def test_the_engine_knows_a_member_by_its_text() -> None:
    """A target of a hand-over comes as text; its tables hold the members."""
    member = Member("n1")
    assert isinstance(member, Node)
    assert (member, hash(member), member.id, str(member)) == ("n1", hash("n1"), "n1", "n1")
    assert Member("n1") in {member}
    assert Member("n2") not in {member}


def test_the_replicated_methods_have_the_ids_that_entries_carry(tmp_path: Path) -> None:
    core = RaftCore(single(tmp_path), Recorder())
    assert [method.__name__ for method in core.engine._idToMethod.values()] == ["execute_v0", "seal_v0"]
    assert list(core.engine._idToMethod) == [0, 1]
    core.close()


def test_the_engine_unpickles_only_what_was_built_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Propose, restart, replay, snapshot, restart: every byte given to pickle equals what `command_bytes`
    builds.
    """
    allowed = {command_bytes(b"command %d" % number)[1:] for number in range(40)}
    original = pysyncobj.pickle.loads
    read: list[bytes] = []

    def guarded(data: bytes) -> object:
        if data not in allowed:
            pytest.fail(f"pickle was asked to read {data!r}")
        read.append(data)
        return original(data)

    monkeypatch.setattr(pysyncobj.pickle, "loads", guarded)
    monkeypatch.setattr(pysyncobj.pickle, "load", lambda file: pytest.fail("pickle was asked to read a file"))
    clock = Clock(monkeypatch)
    config = RaftConfig("n1", ("n1",), "cluster", tmp_path, snapshot_every_entries=20, retained_entries=2)
    for _ in range(2):
        machine = Recorder()
        core = RaftCore(config, machine, clock=clock)
        elected(core, clock)
        for number in range(40):
            core.propose(b"command %d" % number, lambda outcome: None)
        for _ in range(3):
            core.tick()
            core.flush()
        core.close()
    assert machine.commands == [b"command %d" % number for number in range(40)] * 2
    assert core.counters.snapshots > 0
    assert len(read) >= 80


def test_the_engine_takes_what_the_transport_does_not_carry_for_not_the_leader(tmp_path: Path) -> None:
    """Leadership lost between submit and tick: the engine forwards, the transport answers at once."""
    core = RaftCore(RaftConfig("n1", ("n1", "n2"), "cluster", tmp_path), Recorder())
    append = {
        "type": "append_entries",
        "term": 1,
        "commit_index": 1,
        "entries": [],
        "prevLogIdx": 1,
        "prevLogTerm": 0,
    }
    core._transport.deliver("n2", append)
    heard: list[int] = []
    core.engine.submit(command_bytes(b"late"), lambda result, reason: heard.append(reason))
    core.tick()
    assert heard == [pysyncobj.FAIL_REASON.NOT_LEADER]
    core.close()
