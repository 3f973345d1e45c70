"""Machines that run real cores over real files, and the step in which a core works.

A step is what `raft.driver` does: inputs, `tick`, `early`, publish, `flush`, publish. **Between `early` and
`flush` the world may go on**: frames come in, and the power may fail when the appends have left and nothing
of the leader's own is on disk. So a step has two halves, with any inputs between them; while its disk syncs,
or while the process stands still, nothing is read, and what comes in waits in a bounded inbox until it is
taken in one step.

`Cluster` knows machines, steps and rules. Who moves frames and time decides when: `tests.simulation.weather`
at random (`tests.simulation.simulation`), a script by hand (`tests.simulation.kit`).
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from raft.compaction import Background, Inline
from raft.config import RaftConfig
from raft.errors import RaftError
from raft.outbox import Outgoing
from raft.succession import Succession
from tests.simulation.clock import MachineClock, engine_in_virtual_time
from tests.simulation.disk import FlakyDisk, PowerCut
from tests.simulation.ledger import Broken, entries_of
from tests.simulation.miniature import in_miniature
from tests.simulation.rules import Rules, Violation
from tests.simulation.store import Store
from tests.simulation.trace import Trace, entries_in_short
from tests.simulation.weather import Weather

Input = Callable[[Succession], object]
"""What reaches a core; when it returns False, it calls for no step."""
LATEST_WALL_NS = 100_000
REPORT_LINES = 60
_ROLES = ("follower", "candidate", "leader")


@dataclass
class Machine:
    """One computer: its disk and its clock outlive its process."""

    name: str
    directory: Path
    disk: FlakyDisk
    clock: MachineClock
    members: tuple[str, ...]
    """Of the cluster when the machine was built."""
    process: int = 0
    """Counts its starts."""
    core: Succession | None = None
    store: Store | None = None
    inbox: list[Input] = field(default_factory=list)
    asleep: bool = False
    """The process does not read its inbox: it waits for its disk, or stands still."""
    steps: int = 0
    will_tell: Succession | None = None
    """The core that is going to tell news."""
    half: bool = False
    """`early` has been called, and `flush` not yet."""
    wakes_at: float = 0.0
    wall_ns: int = LATEST_WALL_NS
    """What its wall clock says; nobody sets it."""
    told: tuple[object, ...] = ()


class Cluster:
    """Machines, their steps and the rules. Subclasses carry frames (`post`) and time (`now`)."""

    def __init__(self, seed: int, directory: Path, weather: Weather, *, keep_trace: bool = False) -> None:
        self.seed, self.directory, self.weather, self.now = seed, directory, weather, 0.0
        self.rng = random.Random(seed)
        self.names = tuple(f"n{number}" for number in range(1, weather.nodes + 1))
        self.rules, self.trace = Rules(self.names), Trace(keep_all=keep_trace)
        self.machines: dict[str, Machine] = {}
        self._working: Machine | None = None

    def post(self, source: Machine, core: Succession, frame: Outgoing, delay: float) -> None:
        """A frame leaves `source`, `delay` from now."""
        raise NotImplementedError

    def after_step(self, machine: Machine, core: Succession) -> None:
        """The machine has finished a step."""

    def wall_ns(self, machine: Machine) -> int:
        """What the machine's wall clock says when a process starts."""
        return machine.wall_ns

    def background(self, machine: Machine) -> Background:
        """Who writes the machine's snapshots."""
        return Inline()

    # -- life --------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """Machines exist in here. A rule that breaks, and an error of the product, becomes a `Violation`."""
        sizes = in_miniature() if self.weather.miniature else nullcontext()
        with engine_in_virtual_time(self._engine_clock, self.seed), sizes:
            try:
                for machine in [self.build(name, self.names) for name in self.names]:
                    self.start(machine)
                yield
            except (Broken, RaftError) as error:
                raise Violation(self.report(str(error))) from error
            finally:
                for machine in self.machines.values():
                    self.end_process(machine)

    def _engine_clock(self) -> float:
        return self.now if self._working is None else self._working.clock()

    def build(self, name: str, members: tuple[str, ...]) -> Machine:
        """A new machine, off. When it is none of the members it waits to be invited by them."""
        spread = self.weather.clock_spread
        clock = MachineClock(lambda: self.now, 1 + self.rng.uniform(-spread, spread))
        path = self.directory / f"{len(list(self.directory.iterdir()))}-{name}"
        path.mkdir()
        machine = self.machines[name] = Machine(name, path, FlakyDisk(self.rng), clock, members)
        return machine

    def start(self, machine: Machine, fuse: int | None = None) -> None:
        """Start a process; the power fails at the `fuse`-th verb of the disk from now."""
        machine.disk.power_on()
        machine.disk.fuse = fuse
        machine.store = Store(self.rules.applications)
        machine.inbox.clear()
        machine.asleep = machine.half = False
        machine.told = ()
        machine.process += 1
        machine.steps = 0
        machine.wall_ns = self.wall_ns(machine)
        try:
            with self.power(machine):
                self._open(machine, machine.store)
        except OSError as error:
            if not machine.disk.full:
                raise
            self.note(machine.name, f"cannot start: {error}")
            self.kill(machine)

    def _open(self, machine: Machine, store: Store) -> None:
        core = Succession(
            self.config(machine),
            store,
            clock=machine.clock,
            wall_ns=lambda: machine.wall_ns,
            disk=machine.disk,
            background=self.background(machine),
        )
        machine.core = core
        core.connection_changed(True, patient=False)
        self.note(machine.name, f"starts with {self.disk_of(machine)}")
        self.rules.started(machine.name, core)

    def config(self, machine: Machine) -> RaftConfig:
        """The settings of a machine's node."""
        weather = self.weather
        return RaftConfig(
            node_id=machine.name,
            members=machine.members,
            cluster_id="sim",
            join=machine.name not in machine.members,
            data_dir=machine.directory,
            heartbeat_interval=weather.heartbeat,
            election_timeout_min=weather.election_min,
            election_timeout_max=weather.election_min + weather.election_spread,
            leader_fallback=weather.leader_fallback,
            snapshot_every_entries=weather.snapshot_every,
            retained_entries=weather.retained,
        )

    def lose_power(self, machine: Machine) -> None:
        """The machine is off: what was not synced is gone, or torn."""
        machine.disk.power_off()
        machine.core = None
        self.note(machine.name, "LOSES POWER")

    def kill(self, machine: Machine) -> None:
        """The process is gone, the system lives."""
        self.note(machine.name, "is killed")
        self.end_process(machine)

    def end_process(self, machine: Machine) -> None:
        """Without a word in the trace."""
        machine.disk.end_process()
        machine.core = None

    # -- the step ----------------------------------------------

    def first_half(self, machine: Machine, *inputs: Input) -> bool:
        """Inputs, the engine, and what may leave before the sync; returns whether anything did."""
        core, early = machine.core, False
        if core is None:
            return early
        with self.power(machine):
            calls_for_step = [one(core) is not False for one in inputs]
            if inputs and not any(calls_for_step):
                return early
            machine.steps += 1
            answers = core.acknowledge()
            if answers:
                self.rules.answered(machine.name, core)
            for frame in answers:
                self.post(machine, core, frame, machine.disk.spent)
            core.tick()
            self.rules.before_sync(machine.name, core)
            machine.half = True
            for frame in core.early():
                early = True
                self.post(machine, core, frame, 0.0)
        return early

    def second_half(self, machine: Machine) -> float:
        """Sync, and what leaves after it; returns how long the disk took."""
        core, spent, machine.half = machine.core, 0.0, False
        if core is None:
            return spent
        with self.power(machine):
            frames = core.flush(keep_news=True)
            spent = machine.disk.take_spent()
            self._note_changes(machine, core)
            assert machine.store is not None
            self.rules.after_step(machine.name, core, machine.store)
            for frame in frames:
                self.post(machine, core, frame, spent)
            self.after_step(machine, core)
        return spent

    def late_input(self, machine: Machine, one: Input) -> None:
        """An input between the halves of a step: it is handled, and waits for the next tick."""
        if machine.core is not None:
            with self.power(machine):
                one(machine.core)

    @contextmanager
    def power(self, machine: Machine) -> Iterator[None]:
        """What runs inside is the machine's; it ends when the power does."""
        before, self._working = self._working, machine
        try:
            yield
        except PowerCut:
            machine.disk.off = True
        finally:
            self._working = before
        if machine.disk.off:
            self.lose_power(machine)

    # -- words -------------------------------------------------

    def note(self, who: str, what: str, frame: bytes | None = None) -> None:
        """Add a line to the trace."""
        self.trace.add(self.now, who, what, frame)

    def _note_changes(self, machine: Machine, core: Succession) -> None:
        told = (core.is_leader, core.generation.number, core.term, core.commit_index, core.failure)
        if told != machine.told:
            machine.told = told
            self.note(machine.name, f"is {self.words_for(machine)}")

    def words_for(self, machine: Machine) -> str:
        """Role, term, commit, log and disk of a machine."""
        core = machine.core
        if core is None:
            return "off"
        if core.failure is not None:
            return core.failure
        journal = core.journal
        tail = [(index, term) for _, index, term in entries_of(journal)[-12:]]
        return (
            f"{_ROLES[core.state]} of term {core.generation.number}:{core.term}, commit {core.commit_index}, "
            f"applied {core.applied_index}, log {journal.first_index}.. {entries_in_short(tail)}, "
            f"{self.disk_of(machine)}"
        )

    def disk_of(self, machine: Machine) -> str:
        """What is durable: the last index, term and vote."""
        if machine.core is None:
            return "off"
        journal = machine.core.journal
        vote = journal.getVotedForNodeId() or "nobody"
        return f"synced to {journal.synced_index}, vote {journal.getCurrentTerm()}:{vote}"

    def report(self, rule: str) -> str:
        """Everything a reader wants: the rule, how to replay it, the last lines, the machines."""
        machines = [f"  {name}: {self.words_for(machine)}" for name, machine in self.machines.items()]
        return "\n".join(
            [
                rule,
                f"replay: {self.replay()}",
                f"the last {REPORT_LINES} events of {self.trace.count}:",
                *self.trace.lines(REPORT_LINES),
                f"machines at {self.now:.4f}, committed to {self.rules.newest.end}:",
                *machines,
            ]
        )

    def replay(self) -> str:
        """The command that plays this run again."""
        return f"python -m tests.simulation --seed {self.seed} --weather {self.weather.name}"
