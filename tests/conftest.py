"""Fixtures shared by all tests, and the order in which they run.

Longest first: a minute's test that begins last would run alone, with all other cores idle. Within a room the
order stays as written, so that tests which share a module's cluster stay together.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

from tests.support.nats_server import NatsServer

ROOMS: Final = (
    "jepsen",
    "chaos",
    "delivery",
    "deploy",
    "integration",
    "simulation",
    "linearizability",
    "unit",
    "support",
)
"""Under `tests`, those first whose single tests run longest."""
MEMORY: Final = Path("/dev/shm")
MEMORY_NEEDED: Final = 2**30
"""Bytes; a run takes a tenth of that."""


def temporary_files_in_memory() -> None:
    """Put all temporary directories, our processes' too, where nobody waits for a platter; unless TMPDIR says
    where. What is lost with the power is the affair of models of a disk (`tests.unit.raft.crash`,
    `tests.simulation.disk`), never of the disk of this machine: a killed process loses nothing of a file.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    programs_run = not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC  # some tests write one and start it
    if not programs_run or shutil.disk_usage(MEMORY).free < MEMORY_NEEDED:
        return
    os.environ["TMPDIR"] = str(MEMORY)
    tempfile.tempdir = None


temporary_files_in_memory()
# How long an example took says nothing on a busy machine: what hangs is found by the timeout of its test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# What the user of this machine has configured is nobody's business here: neither read nor changed.
os.environ["XDG_CONFIG_HOME"] = str(Path(tempfile.gettempdir()) / "varpulis-tests-no-configuration")
# Without compiled files each of the hundreds of processes that we start compiles all it imports: 0.1 s each.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what goes on in the background
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # our processes inherit it; some tests press Ctrl-C


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ROOMS.index(item.nodeid.split("/")[1]))


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A nats-server of the test's own, without authentication."""
    with NatsServer() as server:
        yield server
