"""A core with a clock and a disk of the test's own."""

import pytest

from raft.config import RaftConfig
from raft.core import RaftCore
from tests.unit.raft.machine import Recorder
from tests.unit.raft.peer import Clock, Open, WatchedDisk


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def disk() -> WatchedDisk:
    return WatchedDisk()


@pytest.fixture
def open_core(clock: Clock, disk: WatchedDisk) -> Open:
    def opened(config: RaftConfig) -> RaftCore:
        config.data_dir.mkdir(exist_ok=True)
        core = RaftCore(config, Recorder(), clock=clock, disk=disk)
        core.connection_changed(True, patient=False)
        return core

    return opened
