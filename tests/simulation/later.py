"""Snapshots written in the background, in virtual time: later, on the machine's disk, if its power lasts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.cluster import Machine

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

LONGEST_WORK = 0.25
"""Virtual seconds until a snapshot is written."""
AT_ONCE = 0.2
"""Share of snapshots that are written within the step."""


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
            if machine.process != process or machine.core is None:
                return
            with world.power(machine):
                try:
                    work()
                except Exception as error:
                    job.error = error
                machine.disk.take_spent()
            world.note(machine.name, f"has written a snapshot ({job.error or 'durable'})")
            job.done = True

        if world.rng.random() < AT_ONCE:
            run()
        else:
            world.at(world.now + world.rng.uniform(0, LONGEST_WORK), run)
        return job
