"""A cluster in random weather, in virtual time: one heap of events, one seed, one run.

Ticks, frames, clients and faults are events. After `seconds` of weather everything is healed: links, disks,
clocks, processes. From then on a leader must come within `LEADERLESS` seconds, and after some more the
cluster must have come together: same state on each machine, everything acknowledged in the log once, and the
clients' history linearizable. The same seed gives the same run, to the last frame.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from raft.compaction import Background
from raft.driver import NEWS_SECONDS
from raft.outbox import Outgoing
from raft.succession import Succession
from tests.linearizability.checker import check
from tests.linearizability.history import Operation
from tests.simulation.bus import Bus
from tests.simulation.clients import Client
from tests.simulation.cluster import LATEST_WALL_NS, Cluster, Input, Machine
from tests.simulation.faults import Faults
from tests.simulation.later import Later
from tests.simulation.ledger import Broken
from tests.simulation.store import Command, encode
from tests.simulation.weather import Weather

"""Of a process's event loop."""
INBOX = 2_000
"""Frames that wait for a process that stands still; more are lost."""
LEADERLESS = 3.0
"""Virtual seconds in which a healed cluster must have a leader that can serve."""
CALM = 5.0


class Simulation(Cluster):
    """`run` plays the seed and raises `Violation` when a rule breaks."""

    def __init__(self, seed: int, directory: Path, weather: Weather, *, keep_trace: bool = False) -> None:
        super().__init__(seed, directory, weather, keep_trace=keep_trace)
        self.bus, self.faults = Bus(self), Faults(self)
        self.until = 0.0
        self.history: list[Operation] = []
        self.reads = 0
        self.leaderless: float | None = None
        """Virtual seconds from the healing to a leader that serves."""
        self._healed_at: float | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._processes, self._values = itertools.count(1), itertools.count(1)
        self._latest: dict[str, int] = {}
        self._at_healing: list[Callable[[], None]] = []
        self._connected: dict[str, list[Callable[[], None]]] = {}
        self._readers: dict[str, list[tuple[Succession, int, Callable[[], None]]]] = {}

    def run(self, seconds: float = 8.0) -> None:
        """`seconds` of weather, then `CALM` seconds in which all must come together."""
        with self.running():
            self.until = seconds
            self.faults.plan(seconds)
            for _ in range(self.weather.clients):
                Client(self, self.new_process()).begin()
            self._play(seconds)
            self.faults.heal_everything()
            self._healed_at = self.now
            for event in self._at_healing:
                event()
            self._play(seconds + CALM / 2)
            last = self._last_word()
            self._play(seconds + CALM)
            self._check_end(last)

    # -- events ------------------------------------------------

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Do `event` at virtual time `when`."""
        heapq.heappush(self._events, (when, next(self._order), event))

    def at_healing(self, event: Callable[[], None]) -> None:
        """Do `event` when the weather is over."""
        self._at_healing.append(event)

    def _play(self, until: float) -> None:
        events = self._events
        while events and events[0][0] <= until:
            self.now, _, event = heapq.heappop(events)
            event()
        self.now = until

    # -- machines ----------------------------------------------

    def start(self, machine: Machine, fuse: int | None = None) -> None:
        super().start(machine, fuse)
        core = machine.core
        if core is not None:
            self.at(self.now, lambda: self._tick(machine, core, 0))

    def newcomer(self, members: tuple[str, ...], name: str | None = None) -> str:
        """Build and start a machine with an empty disk, for these members to invite; under the name of a
        removed one, which must be in vain, or under a new one.
        """
        if name is None:
            name = f"n{len(self.machines) + 1}"
            self.names = (*self.names, name)
        else:
            self.end_process(self.machines[name])
            self._hang_up(self.machines[name])
            self.rules.forget(name)
        self.start(self.build(name, members))
        return name

    def lose_power(self, machine: Machine) -> None:
        super().lose_power(machine)
        self._hang_up(machine)
        self.faults.will_return(machine)

    def kill(self, machine: Machine) -> None:
        super().kill(machine)
        self._hang_up(machine)
        self.faults.will_return(machine)

    def wall_ns(self, machine: Machine) -> int:
        return self.rng.randint(1, LATEST_WALL_NS)  # nobody sets it, or it goes back

    def background(self, machine: Machine) -> Background:
        return Later(self, machine)

    def post(self, source: Machine, core: Succession, frame: Outgoing, delay: float) -> None:
        self.bus.post(source, core, frame, delay)

    def _tick(self, machine: Machine, core: Succession, steps: int) -> None:
        """The machine's timer, which each step sets anew."""
        if machine.core is core and machine.steps == steps and not machine.asleep and not machine.half:
            self._work(machine)

    def take(self, machine: Machine, one: Input) -> None:
        """An input reaches a machine: with this step, with the second half of the one that goes on, or when
        it wakes.
        """
        if machine.core is None:
            return
        if machine.asleep:
            if len(machine.inbox) < INBOX:
                machine.inbox.append(one)
        elif machine.half:
            self.late_input(machine, one)
        else:
            self._work(machine, one)

    def _work(self, machine: Machine, *inputs: Input) -> None:
        core = machine.core
        if self.first_half(machine, *inputs):
            self.at(self.now + self.rng.uniform(0, 0.002), lambda: self._go_on(machine, core))
        else:
            self._go_on(machine, core)

    def _go_on(self, machine: Machine, core: Succession | None) -> None:
        if core is None or machine.core is not core or machine.asleep or not machine.half:
            return
        steps, spent = machine.steps, self.second_half(machine)
        if spent:
            self.sleep(machine, spent)
        if machine.core is not core:
            return
        rest = 0.0 if core.wants_tick else machine.clock.world_seconds(core.rest())
        self.at(self.now + spent + rest, lambda: self._tick(machine, core, steps))
        if core.keeps_news and machine.will_tell is not core:
            machine.will_tell = core
            self.at(self.now + spent + NEWS_SECONDS, lambda: self._tell_news(machine, core))

    def _tell_news(self, machine: Machine, core: Succession) -> None:
        if machine.will_tell is core:
            machine.will_tell = None
        if machine.core is core and not machine.asleep and not machine.half:
            for frame in core.news():
                self.post(machine, core, frame, 0.0)

    def sleep(self, machine: Machine, seconds: float) -> None:
        """The process reads nothing for a while."""
        core = machine.core
        machine.asleep = True
        machine.wakes_at = max(machine.wakes_at, self.now + seconds)
        self.at(machine.wakes_at, lambda: self._wake(machine, core))

    def _wake(self, machine: Machine, core: Succession | None) -> None:
        if core is None or machine.core is not core or not machine.asleep or self.now < machine.wakes_at:
            return
        machine.asleep = False
        inputs, machine.inbox = machine.inbox, []
        if machine.half:
            for one in inputs:
                self.late_input(machine, one)
            self._go_on(machine, core)
        else:
            self._work(machine, *inputs, lambda core: None)  # its timer may have run out meanwhile

    def after_step(self, machine: Machine, core: Succession) -> None:
        if core.failure is not None:
            self.faults.withdrawn(machine, core.failure)
        if self._healed_at is not None and self.leaderless is None and self._serves(core):
            self.leaderless = self.now - self._healed_at
        readers = self._readers.get(machine.name)
        if readers:
            self._readers[machine.name] = [
                (asked, index, look)
                for asked, index, look in readers
                if asked is core and not self._look(core, index, look)
            ]

    def _serves(self, core: Succession) -> bool:
        newest = core.generation.number == self.rules.newest.number
        return newest and core.leads_applied and core.has_begun

    # -- clients -----------------------------------------------

    def new_process(self) -> int:
        return next(self._processes)

    def new_value(self) -> int:
        return next(self._values)

    def saw(self, key: str, value: int) -> None:
        """A client knows that this was the register's value."""
        self._latest[key] = value

    def recent_value(self, key: str) -> int | None:
        """What a client may expect in the register."""
        return self._latest.get(key)

    def calls(self, machine: Machine, hang_up: Callable[[], None]) -> None:
        """A client is connected to the machine; `hang_up` when its process ends."""
        self._connected.setdefault(machine.name, []).append(hang_up)

    def _hang_up(self, machine: Machine) -> None:
        for hang_up in self._connected.pop(machine.name, []):
            self.at(self.now + 0.001, hang_up)

    def when_applied(self, machine: Machine, index: int, look: Callable[[], None]) -> None:
        """Call `look` once the machine has applied `index`; never, if its process dies before."""
        core = machine.core
        if core is not None and not self._look(core, index, look):
            self._readers.setdefault(machine.name, []).append((core, index, look))

    def _look(self, core: Succession, index: int, look: Callable[[], None]) -> bool:
        if core.applied_index < index:
            return False
        look()
        return True

    # -- the end -----------------------------------------------

    def totals(self) -> Counter[str]:
        """What happened, in numbers that add up over runs."""
        return Counter(
            {
                "virtual seconds": round(self.now),
                "commands acknowledged": len(self.rules.acknowledged),
                "reads": self.reads,
                "terms with a leader": sum(len(past.leaders) for past in self.rules.histories.values()),
                "generations": len(self.rules.histories),
                "events": self.trace.count,
            }
        )

    def summary(self) -> str:
        """`totals` in words, and how long the healed cluster had no leader."""
        words = ", ".join(f"{count} {what}" for what, count in self.totals().items())
        return f"{words}, a leader {self.leaderless or 0:.2f} s after the healing"

    def _last_word(self) -> bytes:
        data = encode(Command(0, "write", "end", 0))
        leader = next((m for m in self.machines.values() if m.core is not None and m.core.is_leader), None)
        if leader is None:
            raise Broken(f"no leader {CALM / 2} s after everything was healed")

        def done(outcome: object) -> None:
            self.note(leader.name, f"ends the last word with {outcome!r}")

        self.take(leader, lambda core: core.propose(data, done))
        return data

    def _check_end(self, last: bytes) -> None:
        if self.leaderless is None or self.leaderless > LEADERLESS:
            raise Broken(f"a leader that serves came {self.leaderless} s after everything was healed")
        members = self.rules.newest.members
        cores = {name: self.machines[name].core for name in members}
        ends = {name: core and (core.generation.number, core.applied_index) for name, core in cores.items()}
        if len(set(ends.values())) != 1 or None in ends.values():
            raise Broken(f"the machines did not come together: generation and applied index {ends}")
        applied = self.rules.applications.at
        if applied[max(applied)][0] != last:
            raise Broken("the last word of a client was not applied everywhere")
        stores = [self.machines[name].store for name in members]
        if len({store.digest for store in stores if store is not None}) != 1:
            raise Broken("the states differ")
        self.rules.at_end()
        verdict = check(self.history)
        if verdict.ok is False:
            raise Broken(f"the history is not linearizable: {verdict.explanation}")
