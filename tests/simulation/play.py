"""Play seeds: one and return its run, or many with several processes."""

import tempfile
from pathlib import Path

from tests.simulation.simulation import Simulation
from tests.simulation.weather import Weather


def disks_in_memory() -> str | None:
    """A place for the machines' files that needs no disk, if there is one: runs are bound by system calls."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def play(seed: int, weather: Weather, *, seconds: float = 8.0, keep_trace: bool = False) -> Simulation:
    """One run; raises `Violation`."""
    with tempfile.TemporaryDirectory(prefix="raft-sim-", dir=disks_in_memory()) as directory:
        simulation = Simulation(seed, Path(directory), weather, keep_trace=keep_trace)
        simulation.run(seconds)
        return simulation
