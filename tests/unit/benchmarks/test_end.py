"""What a benchmark has started is gone when it is told to stop."""

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import ROOT, environment, lives, poll


def coordinators(own: psutil.Process) -> int:
    """Those that have been started and live."""
    count = 0
    for each in own.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            count += "coordinator" in each.cmdline()
    return count


@pytest.mark.processes
def test_a_benchmark_that_is_told_to_stop_ends_the_cluster_that_it_measures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "control", "parts=heartbeats", "fleets=100"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment({"TMPDIR": str(tmp_path)}), stderr=subprocess.DEVNULL
    ) as running:
        try:
            own = psutil.Process(running.pid)

            poll(lambda: coordinators(own) == 3, timeout=60, what="its cluster")
            started = own.children(recursive=True)
            running.terminate()
            running.wait(60)
            poll(lambda: not any(map(lives, started)), timeout=15, what="all of it gone")
        finally:
            running.kill()
