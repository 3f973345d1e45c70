"""Which deaths end a start, and which it goes on without."""

import subprocess
import time
from pathlib import Path
from typing import cast

import pytest

from cli.errors import CliError
from cli.up.readiness import Children, Readiness


class Child:
    """A process that ended with `returncode`, or runs (None)."""

    def __init__(self, returncode: int | None) -> None:
        self.returncode = returncode

    def poll(self) -> int | None:
        return self.returncode


def children(**returncodes: int | None) -> Children:
    return {
        name.replace("_", "-"): cast("subprocess.Popen[bytes]", Child(code))
        for name, code in returncodes.items()
    }


def readiness(logs: Path, coordinators: int) -> Readiness:
    return Readiness(logs, time.monotonic(), lambda text: None, coordinators)


def test_a_dead_coordinator_is_noted_once_with_its_last_words_while_a_majority_is_left(
    tmp_path: Path,
) -> None:
    (tmp_path / "coordinator-1.log").write_text("starting\ndisk on fire\n\n")
    asked = readiness(tmp_path, 3)
    for _ in range(2):
        asked.check_alive(children(coordinator_0=None, coordinator_1=1))
    log = tmp_path / "coordinator-1.log"
    how = f"coordinator-1 ended (exit 1) during startup: disk on fire (log: {log})"
    assert asked.lost == {"coordinator-1": how}


@pytest.mark.parametrize(("coordinators", "bearable"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_a_start_ends_when_no_majority_is_left(tmp_path: Path, coordinators: int, bearable: int) -> None:
    dead = {f"coordinator_{number}": 1 for number in range(bearable)}
    readiness(tmp_path, coordinators).check_alive(children(**dead))
    with pytest.raises(CliError) as ended:
        readiness(tmp_path, coordinators).check_alive(children(**dead, coordinator_6=-9))
    for name in [*dead, "coordinator-6"]:
        assert name.replace("_", "-") in str(ended.value)


def test_a_dead_worker_ends_a_start(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"worker-0 ended \(signal 9\)"):
        readiness(tmp_path, 3).check_alive(children(coordinator_0=None, worker_0=-9))
