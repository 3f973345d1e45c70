"""What goes wrong, when, and how it is mended.

Each kind of fault comes at its own rate. What broke is mended after a random outage: power returns, links
heal, an operator makes room on a disk and starts the node that withdrew. `heal_everything` mends all at once.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from raft.errors import ChangeRefused, NotLeader, TransferRefused
from raft.succession import Succession
from tests.simulation.cluster import Machine
from tests.simulation.ledger import Broken

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

SHORTEST_OUTAGE = 0.002
LONGEST_FUSE = 30
"""Verbs of the disk until the power fails."""
LONGEST_JUMP = 2.0
FEWEST_MEMBERS, MOST_MEMBERS = 3, 5
RETURNS = 0.1
"""Share of additions that name an id which was removed, on a machine with an empty disk."""
CHANGE_SECONDS = 2.0
MEANWHILE = 0.4
"""Share of files written for long in which something befalls the machine before they are."""
FUSE_AT_START = 0.2
"""Share of starts in which the power fails again while the files are opened."""


class Faults:
    """The faults of one run."""

    def __init__(self, world: "Simulation") -> None:
        self._world = world
        self._healed = False
        self._mending: dict[str, Succession] = {}
        self.retired: list[str] = []
        """Machines that were removed, in their order."""

    def plan(self, seconds: float) -> None:
        """Put all faults of `seconds` of weather on the calendar."""
        weather, rng = self._world.weather, self._world.rng
        for what, rate in (
            (self._cut_power, weather.power_cuts),
            (self._light_fuse, weather.torn_writes),
            (self._kill, weather.kills),
            (self._pause, weather.pauses),
            (self._jump, weather.jumps),
            (self._fill_disk, weather.full_disks),
            (self._slow_disk, weather.slow_disks),
            (self._cut_links, weather.cuts),
            (self._transfer, weather.transfers),
            (self._change, weather.changes),
        ):
            expected = seconds * rate
            for _ in range(int(expected) + (rng.random() < expected % 1)):
                self._world.at(rng.uniform(0.3, seconds), self._on_someone(what))

    def heal_everything(self) -> None:
        """The weather is over."""
        world, self._healed = self._world, True
        world.weather = world.weather.calmed()
        world.note("----", "everything is healed")
        world.bus.heal_all()
        for machine in world.machines.values():
            machine.disk.fuse, machine.disk.full, machine.disk.slowest_sync = None, False, 0.0
            if machine.core is not None and machine.core.failure is not None:
                world.kill(machine)
            if machine.core is None and machine.name in world.names:
                world.start(machine)

    def meanwhile(self, machine: Machine, seconds: float) -> None:
        """The machine is busy writing for so long: it may die, or be asked for another change."""
        world, rng = self._world, self._world.rng
        if self._healed or rng.random() > MEANWHILE:
            return
        fault = rng.choice((self._cut_power, self._light_fuse, self._kill, self._change))

        def happen() -> None:
            if not self._healed:
                fault(machine)

        world.at(world.now + rng.uniform(0, seconds), happen)

    # -- what comes back ---------------------------------------

    def will_return(self, machine: Machine) -> None:
        """Start the machine again after a while."""
        rng = self._world.rng

        def start() -> None:
            if machine.core is None and machine.name in self._world.names:
                burns = not self._healed and rng.random() < FUSE_AT_START
                self._world.start(machine, rng.randint(1, 8) if burns else None)

        self._world.at(self._world.now + self._outage(), start)

    def withdrawn(self, machine: Machine, failure: str) -> None:
        """A node has withdrawn: by a full disk it may, and an operator will see to it."""
        if "was removed from the cluster" in failure:
            self._retire(machine)
            return
        if "No space left" not in failure:
            raise Broken(f"{machine.name} withdrew: {failure}")
        core = machine.core
        if core is None or self._mending.get(machine.name) is core:
            return
        self._mending[machine.name] = core

        def mend() -> None:
            if machine.core is core:
                machine.disk.full = False
                self._world.kill(machine)

        self._world.at(self._world.now + self._outage(), mend)

    def _retire(self, machine: Machine) -> None:
        """Its operator starts a removed machine once more, in vain, and then takes it away."""
        world = self._world
        if machine.core is not None and machine.name in machine.core.generation.members:
            raise Broken(f"{machine.name} is a member and says that it was removed")
        if machine.name in self.retired:
            return
        self.retired.append(machine.name)
        world.names = tuple(name for name in world.names if name != machine.name)

        def again() -> None:
            if world.machines[machine.name] is machine:
                world.end_process(machine)
                world.start(machine)
                world.at(world.now + self._outage(), take_away)

        def take_away() -> None:
            if world.machines[machine.name] is machine and machine.core is not None:
                world.kill(machine)

        world.at(world.now + self._outage(), again)

    def _outage(self) -> float:
        return self._world.rng.uniform(SHORTEST_OUTAGE, self._world.weather.longest_outage)

    def _on_someone(self, what: Callable[[Machine], None]) -> Callable[[], None]:
        def happen() -> None:
            what(self._world.machines[self._world.rng.choice(self._world.names)])

        return happen

    # -- faults ------------------------------------------------

    def _cut_power(self, machine: Machine) -> None:
        if machine.core is not None:
            self._world.lose_power(machine)

    def _light_fuse(self, machine: Machine) -> None:
        machine.disk.fuse = self._world.rng.randint(1, LONGEST_FUSE)

    def _kill(self, machine: Machine) -> None:
        if machine.core is not None:
            self._world.kill(machine)

    def _pause(self, machine: Machine) -> None:
        if machine.core is not None:
            seconds = self._outage()
            self._world.note(machine.name, f"stands still for {seconds:.3f} s")
            self._world.sleep(machine, seconds)

    def _jump(self, machine: Machine) -> None:
        seconds = self._world.rng.uniform(0, LONGEST_JUMP)
        self._world.note(machine.name, f"has its clock jump by {seconds:.3f} s")
        machine.clock.jump(seconds)

    def _fill_disk(self, machine: Machine) -> None:
        self._world.note(machine.name, "has a full disk")
        machine.disk.full = True

        def make_room() -> None:
            machine.disk.full = False

        self._world.at(self._world.now + self._outage(), make_room)

    def _slow_disk(self, machine: Machine) -> None:
        self._world.note(machine.name, "has a slow disk")
        machine.disk.slowest_sync = self._world.weather.slowest_sync

        def speed_up() -> None:
            machine.disk.slowest_sync = 0.0

        self._world.at(self._world.now + self._outage(), speed_up)

    def _cut_links(self, machine: Machine) -> None:
        world, rng = self._world, self._world.rng
        group = rng.sample(world.names, rng.randint(1, len(world.names) - 1))
        links = [(one, other) for one in group for other in world.names if other not in group]
        both_ways = rng.random() < 0.7
        if both_ways:
            links += [(other, one) for one, other in links]
        world.note("----", f"{'and'.join(group)} cut off{'' if both_ways else ' outwards'}")
        world.bus.cut(links)
        world.at(world.now + self._outage(), lambda: world.bus.heal(links))

    def _transfer(self, machine: Machine) -> None:
        leader = next((m for m in self._world.machines.values() if m.core and m.core.is_leader), None)
        if leader is None:
            return
        target = machine.name if machine is not leader else None
        self._world.note(leader.name, f"is to hand over to {target or 'anybody'}")

        def hand_over(core: Succession) -> None:
            with suppress(NotLeader, TransferRefused):
                core.transfer(target)

        self._world.take(leader, hand_over)

    def _change(self, machine: Machine) -> None:
        """Add a machine, remove one, or replace one; at whoever leads."""
        world, rng = self._world, self._world.rng
        leader = next((m for m in world.machines.values() if m.core and m.core.is_leader), None)
        if leader is None or leader.core is None:
            return
        members = leader.core.generation.members
        add = remove = None
        if len(members) < FEWEST_MEMBERS or (len(members) < MOST_MEMBERS and rng.random() < 0.6):
            gone = [name for name in self.retired if name not in members]  # a slow leader knows no better
            back = rng.choice(gone) if gone and rng.random() < RETURNS else None
            add = world.newcomer(members, back)
        if len(members) > FEWEST_MEMBERS - (add is not None) and rng.random() < 0.6:
            remove = rng.choice(members)
        if add is None and remove is None:
            return
        world.note(leader.name, f"is to change the members: add {add}, remove {remove}")

        def done(result: object) -> None:
            world.note(leader.name, f"ends the change of members with {result!r}")

        def change(core: Succession) -> None:
            with suppress(NotLeader, ChangeRefused):
                core.change(add, remove, CHANGE_SECONDS, done)

        world.take(leader, change)
