"""Clients in virtual time: one operation after the other, at any machine, and a history of what they saw.

A write or compare-and-swap goes through the log, a read through `core.read` and then the state of the machine
that was asked, once it has applied the read's index. What ends in `NotLeader`, `Unavailable` or a refused
connection has surely had no effect, and the rules hold the product to that. What ends in `OutcomeUnknown`, or
is not answered within `PATIENCE`, may take effect at any time; the client goes on as another process.
"""

from typing import TYPE_CHECKING

import msgspec

from raft.errors import ApplyFailed, CommandTooLarge, NotLeader, OutcomeUnknown, Unavailable
from raft.outcomes import Committed, Outcome
from raft.succession import Succession
from tests.linearizability.history import Operation
from tests.simulation.cluster import Machine
from tests.simulation.store import Command, encode

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

PATIENCE = 1.0
_SURELY_NOT = (NotLeader, Unavailable, CommandTooLarge)


class Client:
    """One client and its operation in flight."""

    def __init__(self, world: "Simulation", process: int) -> None:
        self._world, self._process = world, process
        self._attempt = 0

    def begin(self) -> None:
        """Think, then start the next operation, as long as the weather lasts."""
        delay = self._world.rng.expovariate(1 / self._world.weather.think)
        self._world.at(self._world.now + delay, self._next)

    def _next(self) -> None:
        world = self._world
        if world.now > world.until:
            return
        machine = world.rng.choice([m for m in world.machines.values() if m.core or m.name in world.names])
        self._attempt += 1
        key = f"k{world.rng.randrange(world.weather.keys)}"
        if world.rng.random() < 0.4:
            _Read(self, world, machine, key).begin()
        else:
            _Write(self, world, machine, key).begin()

    @property
    def process(self) -> int:
        return self._process

    def ended(self, *, unknown: bool) -> None:
        """The operation is over for this client."""
        if unknown:
            self._process = self._world.new_process()
        self.begin()


class _Call:
    """One operation, from its invocation to its outcome or the client's patience, whichever is first."""

    def __init__(self, client: Client, world: "Simulation", machine: Machine, key: str) -> None:
        self.client, self.world, self.machine, self.key = client, world, machine, key
        self.process, self.invoked, self.over = client.process, world.now, False

    def begin(self) -> None:
        core = self.machine.core
        if core is None:
            self.refused()
            return
        self.world.at(self.world.now + PATIENCE, self.give_up)
        self.world.calls(self.machine, self.give_up)
        self.world.take(self.machine, self.submit)

    def submit(self, core: Succession) -> None:
        raise NotImplementedError

    def refused(self) -> None:
        """It surely has no effect."""

    def lost(self) -> None:
        """Nobody knows whether it has an effect."""

    def give_up(self) -> None:
        if not self.over:
            self.over = True
            self.lost()
            self.client.ended(unknown=True)

    def end(self, kind: str, value: object, expected: object = None) -> None:
        self.world.history.append(
            Operation(
                self.process,
                self.key,
                kind,
                value,
                expected=expected,
                invoked=self.invoked,
                returned=self.world.now,
            )
        )
        self.over = True
        self.client.ended(unknown=False)


class _Read(_Call):
    def submit(self, core: Succession) -> None:
        core.read(self.done)

    def done(self, outcome: Outcome) -> None:
        if self.over:
            return
        if isinstance(outcome, Committed):
            self.world.when_applied(self.machine, outcome.index, self.look)
        else:
            self.over = True
            self.client.ended(unknown=isinstance(outcome, OutcomeUnknown))

    def look(self) -> None:
        if not self.over and self.machine.store is not None:
            self.world.reads += 1
            self.end("read", self.machine.store.registers.get(self.key))


class _Write(_Call):
    def __init__(self, client: Client, world: "Simulation", machine: Machine, key: str) -> None:
        super().__init__(client, world, machine, key)
        number, rng = world.new_value(), world.rng
        kind, expected = "write", None
        if rng.random() < world.weather.defects:
            kind = "defect"
        elif rng.random() < 0.3:
            kind, expected = "cas", world.recent_value(key)
        padding = bytes(rng.randrange(world.weather.largest_command)) if rng.random() < 0.5 else b""
        self.command = Command(number, kind, key, number, expected, padding)
        self.data = encode(self.command)

    def submit(self, core: Succession) -> None:
        core.propose(self.data, self.done)

    def refused(self) -> None:
        self.world.rules.refuse(self.data, "no process")
        self.over = True
        self.client.ended(unknown=False)

    def lost(self) -> None:
        kind, command = self.command.kind, self.command
        if kind != "defect":
            self.world.history.append(
                Operation(
                    self.process,
                    self.key,
                    kind,
                    command.value,
                    expected=command.expected,
                    invoked=self.invoked,
                    returned=None,
                )
            )

    def done(self, outcome: Outcome) -> None:
        late = self.over
        if isinstance(outcome, Committed):
            self.world.rules.acknowledge(self.data, outcome.index)
        elif isinstance(outcome, ApplyFailed):
            self.world.rules.acknowledge(self.data, None)
        elif isinstance(outcome, _SURELY_NOT):
            self.world.rules.refuse(self.data, outcome)
        if late:
            return
        if isinstance(outcome, Committed):
            self._answered(msgspec.msgpack.decode(outcome.result))
        elif isinstance(outcome, (*_SURELY_NOT, ApplyFailed)):
            self.over = True
            self.client.ended(unknown=False)
        else:
            self.give_up()

    def _answered(self, before: object) -> None:
        command = self.command
        if command.kind == "cas" and before != command.expected:
            self.end("read", before)  # a swap that fails has read another value
            return
        self.world.saw(self.key, command.value)
        self.end(command.kind, command.value, command.expected)
