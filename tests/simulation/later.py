"""Snapshots and bases written in the background, in virtual time: later, on the machine's disk, if its power
lasts.

In some weathers a part of them takes seconds, as at tens of megabytes: leaders die meanwhile, members are to
be changed again, and the power fails before anything has its name. When the weather is over, what is still
being written ends soon.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.cluster import Machine

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

LONGEST_WORK = 0.25
"""Virtual seconds until most files are written."""
AT_ONCE = 0.2
"""Share of them that are written within the step."""


class LaterJob:
    """Work that waits for its time."""

    def __init__(self) -> None:
        self.done = False
        self.error: Exception | None = None


class Later:
    """The background of one machine."""

    def __init__(self, world: "Simulation", machine: Machine) -> None:
        self._world, self._machine = world, machine

    def start(self, work: Callable[[], object]) -> LaterJob:
        """Do the work after a random time; never, if the process is gone by then."""
        world, machine, job = self._world, self._machine, LaterJob()
        process = machine.process

        def run() -> None:
            if job.done or machine.process != process or machine.core is None:
                return
            with world.power(machine):
                try:
                    work()
                except Exception as error:
                    job.error = error
                machine.disk.take_spent()
            world.note(machine.name, f"has written a snapshot ({job.error or 'durable'})")
            job.done = True

        seconds = self._seconds()
        if seconds == 0.0:
            run()
            return job
        world.at(world.now + seconds, run)
        if seconds > LONGEST_WORK:
            world.faults.meanwhile(machine, seconds)
            world.at_healing(lambda: world.at(world.now + world.rng.uniform(0, LONGEST_WORK), run))
        return job

    def _seconds(self) -> float:
        weather, rng = self._world.weather, self._world.rng
        if weather.slow_files and rng.random() < weather.slow_files:
            return rng.uniform(LONGEST_WORK, weather.slowest_file)
        return 0.0 if rng.random() < AT_ONCE else rng.uniform(0, LONGEST_WORK)
