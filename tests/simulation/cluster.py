"""A cluster in virtual time: real cores, real files, a bus and machines that fail by a seeded plan.

One heap of events: ticks, frames, commands, barriers, faults. A frame may be lost, doubled or delayed past
later ones; links are cut one way or both; machines lose power at random, or in the middle of a write, and
come back. After each step of a node the safety rules are checked, and at the end that everything acknowledged
is there, once, in the same place on every node. The same seed gives the same run.
"""

import hashlib
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raft.config import RaftConfig
from raft.core import Outgoing, RaftCore
from raft.outcomes import Committed, Outcome
from tests.simulation.disk import FlakyDisk, PowerCut

TICK = 0.02


@dataclass(frozen=True)
class Weather:
    """What the world does. Rates are per frame, `faults` and `commands` per second, sizes in bytes, outages
    in s.
    """

    nodes: int = 3
    loss: float = 0.02
    double: float = 0.02
    late: float = 0.01
    faults: float = 2.0
    commands: float = 60.0
    largest_command: int = 40
    snapshot_every: int = 40
    retained: int = 5
    longest_outage: float = 1.5
    election_spread: float = 0.16


class Violation(AssertionError):
    """A safety rule broke."""


@dataclass
class Ledger:
    """What the outside world has seen."""

    at: dict[int, tuple[bytes, bytes]] = field(
        default_factory=dict
    )  # index -> (command, digest of all so far)
    leaders: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[bytes, int] = field(default_factory=dict)
    barriers: int = 0


class ChainMachine:
    """A state machine whose state is the digest of all it applied."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.digest = b""
        self.last = 0

    def apply(self, index: int, command: bytes) -> bytes:
        if index <= self.last:
            raise Violation(f"index {index} applied after {self.last}")
        self.last = index
        self.digest = hashlib.blake2b(self.digest + command, digest_size=8).digest()
        if self._ledger.at.setdefault(index, (command, self.digest)) != (command, self.digest):
            raise Violation(f"two nodes applied different histories at index {index}")
        return self.digest

    def snapshot(self) -> bytes:
        return self.last.to_bytes(8, "big") + self.digest

    def restore(self, data: bytes) -> None:
        self.last, self.digest = int.from_bytes(data[:8], "big"), data[8:]
        if self.last and self._ledger.at[self.last][1] != self.digest:
            raise Violation(f"a snapshot holds another history at index {self.last}")


@dataclass
class Machine:
    """One computer: its disk outlives its process."""

    name: str
    directory: Path
    disk: FlakyDisk
    core: RaftCore | None = None
    state: ChainMachine | None = None
    commit_index: int = 0


class Simulation:
    """`run` plays a seed and raises `Violation` when a rule breaks."""

    def __init__(
        self, seed: int, directory: Path, weather: Weather, set_clock: Callable[[Callable[[], float]], None]
    ) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)  # the engine draws its election timeouts here
        self.weather, self.now = weather, 0.0
        set_clock(self.clock)
        self.ledger = Ledger()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._cut: list[tuple[str, str]] = []
        self._names = tuple(f"n{number}" for number in range(weather.nodes))
        self._commands = itertools.count(1)
        self.machines = {name: Machine(name, directory / name, FlakyDisk(self.rng)) for name in self._names}
        for machine in self.machines.values():
            machine.directory.mkdir()
            self._start(machine)

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    def run(self, seconds: float, calm: float = 6.0) -> None:
        """`seconds` of weather, then `calm` seconds in which all must come together."""
        for what, rate in (
            (self._fault, self.weather.faults),
            (self._command, self.weather.commands),
            (self._barrier, 5.0),
        ):
            for _ in range(int(seconds * rate)):
                self._at(self.rng.uniform(0.3, seconds), what)
        self._play(seconds)
        self._cut.clear()
        for machine in self.machines.values():
            machine.disk.fuse = None
            if machine.core is None:
                self._start(machine)
        quiet = Weather(nodes=self.weather.nodes, loss=0, double=0, late=0)
        self.weather = quiet
        self._play(seconds + calm / 2)
        self._command()
        self._play(seconds + calm)
        self._check_end()

    # -- events ------------------------------------------------

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), event))

    def _play(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def _start(self, machine: Machine) -> None:
        weather = self.weather
        config = RaftConfig(
            node_id=machine.name,
            members=self._names,
            cluster_id="sim",
            data_dir=machine.directory,
            heartbeat_interval=0.04,
            election_timeout_min=0.16,
            election_timeout_max=0.16 + weather.election_spread,
            leader_fallback=0.4,
            snapshot_every_entries=weather.snapshot_every,
            retained_entries=weather.retained,
        )
        machine.disk.power_on()
        machine.state = ChainMachine(self.ledger)
        machine.core = RaftCore(
            config,
            machine.state,
            clock=self.clock,
            wall_ms=lambda: 1_000 + int(self.now * 1_000),
            disk=machine.disk,
        )
        machine.commit_index = 0
        machine.core.connection_changed(True, patient=False)
        core = machine.core
        self._at(self.now + self.rng.uniform(0, TICK), lambda: self._tick(machine, core))

    def _tick(self, machine: Machine, core: RaftCore) -> None:
        if machine.core is core:
            self._step(machine, lambda core: None)
            self._at(self.now + TICK, lambda: self._tick(machine, core))

    def _step(self, machine: Machine, work: Callable[[RaftCore], None]) -> None:
        core = machine.core
        if core is None:
            return
        frames: list[Outgoing] = []
        try:
            work(core)
            core.tick()
            frames = core.flush()
        except PowerCut:
            machine.disk.off = True
        if machine.disk.off:
            self._crash(machine)
            return
        self._check(machine, core)
        for frame in frames:
            self._post(machine.name, core, frame)

    def _post(self, source: str, core: RaftCore, frame: Outgoing) -> None:
        if self.rng.random() < self.weather.loss:
            return
        target, deliver = self._route(source, core, frame)
        for _ in range(2 if self.rng.random() < self.weather.double else 1):
            delay = 0.0005 + self.rng.expovariate(1 / 0.003)
            if self.rng.random() < self.weather.late:
                delay += self.rng.uniform(0, 0.3)
            self._at(self.now + delay, lambda: self._arrive(source, target, deliver, core, frame.token))

    def _route(self, source: str, core: RaftCore, frame: Outgoing) -> tuple[str, Callable[[RaftCore], None]]:
        """A request goes to the node in its subject; an answer to the process that asked, if it still
        lives.
        """
        if frame.subject.startswith("varpulis"):
            inbox = f"{source} {core.letters.incarnation}" if frame.token else ""
            return frame.subject.split(".")[-2], lambda other: other.receive(frame.data, inbox)
        target, _, incarnation = frame.subject.partition(" ")

        def answer(other: RaftCore) -> None:
            if str(other.letters.incarnation) == incarnation:
                other.receive_reply(frame.data)

        return target, answer

    def _arrive(
        self, source: str, target: str, deliver: Callable[[RaftCore], None], asker: RaftCore, token: str
    ) -> None:
        if (source, target) in self._cut:
            return
        if self.machines[target].core is not None:
            self._step(self.machines[target], deliver)
        elif token and self.machines[source].core is asker:
            number = int(token.rpartition(".")[2])
            self._step(self.machines[source], lambda core: core.nobody_there(number))

    def _command(self) -> None:
        machine = self.machines[self.rng.choice(self._names)]
        size = self.rng.randint(8, self.weather.largest_command)
        command = f"{next(self._commands)}.".encode().ljust(size, b"x")

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Committed):
                self.ledger.acknowledged[command] = outcome.index

        self._step(machine, lambda core: core.propose(command, done))

    def _barrier(self) -> None:
        machine = self.machines[self.rng.choice(self._names)]
        seen = max(self.ledger.acknowledged.values(), default=0)

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, Committed):
                self.ledger.barriers += 1
                if outcome.index <= seen:
                    raise Violation(f"a barrier at {outcome.index} does not see acknowledged entry {seen}")

        self._step(machine, lambda core: core.read(done))

    def _fault(self) -> None:
        machine = self.machines[self.rng.choice(self._names)]
        kind = self.rng.random()
        if kind < 0.25:
            self._crash(machine)
        elif kind < 0.5 or len(self._names) == 1:
            machine.disk.fuse = self.rng.randint(1, 30)
        else:
            group = self.rng.sample(self._names, self.rng.randint(1, len(self._names) - 1))
            cut = [(one, other) for one in group for other in self._names if other not in group]
            if self.rng.random() < 0.7:
                cut += [(other, one) for one, other in cut]
            self._cut += cut
            outage = self.rng.uniform(0.002, self.weather.longest_outage)
            self._at(self.now + outage, lambda: self._heal(cut))

    def _heal(self, cut: list[tuple[str, str]]) -> None:
        for link in cut:
            if link in self._cut:
                self._cut.remove(link)

    def _crash(self, machine: Machine) -> None:
        if machine.core is None:
            return
        machine.disk.power_off()
        machine.core = None
        outage = self.rng.uniform(0.002, self.weather.longest_outage)
        self._at(self.now + outage, lambda: self._revive(machine))

    def _revive(self, machine: Machine) -> None:
        if machine.core is None:
            self._start(machine)

    # -- rules -------------------------------------------------

    def _check(self, machine: Machine, core: RaftCore) -> None:
        if core.failure is not None:
            raise Violation(f"{machine.name} withdrew: {core.failure}")
        if core.journal.dirty:
            raise Violation(f"{machine.name} let frames out before its journal was synced")
        if core.is_leader and self.ledger.leaders.setdefault(core.term, machine.name) != machine.name:
            raise Violation(f"two leaders in term {core.term}")
        if core.commit_index < machine.commit_index:
            raise Violation(f"the commit index of {machine.name} went back to {core.commit_index}")
        machine.commit_index = core.commit_index

    def _check_end(self) -> None:
        for command, index in self.ledger.acknowledged.items():
            if self.ledger.at.get(index, (b"",))[0] != command:
                raise Violation(f"the command acknowledged at index {index} is lost")
        history = [command for command, _ in self.ledger.at.values()]
        if len(set(history)) != len(history):
            raise Violation("a command was applied twice")
        cores = [machine.core for machine in self.machines.values() if machine.core is not None]
        ends = {core.applied_index for core in cores}
        if len(ends) != 1 or len(cores) != len(self._names) or not any(core.is_leader for core in cores):
            raise Violation(f"the nodes did not come together: applied {ends}")
        if max(self.ledger.at, default=0) > max(ends):
            raise Violation("an applied entry is lost")
        digests = {machine.state.digest for machine in self.machines.values() if machine.state is not None}
        if len(digests) != 1:
            raise Violation("the nodes' states differ")
        for core in cores:
            core.close()
