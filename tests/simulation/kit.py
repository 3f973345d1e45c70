"""A cluster for scripts: nothing happens at random, links are cut or held by hand, and the rules watch.

Frames take one millisecond. `cut` loses what a link carries, `hold` keeps it until `release`. `lead` brings
one machine to the lead by letting its clock run ahead, for only a node that waits longest campaigns. A member
that is not started can be played by the script (`play_as`): its frames are the script's own.

    kit = Kit(directory)
    with kit.running():
        kit.lead("n1")
        kit.cut("n1", "n2")
        call = kit.write("n1", 7)
        kit.run(0.1)
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from raft import codec
from raft.change import Result
from raft.codec import AnyRequest, Frame, PreVote, PreVoteReply, Vote, VoteReply
from raft.compaction import Background, Inline, Job
from raft.outbox import Outgoing
from raft.outcomes import Committed, Outcome
from raft.succession import Succession
from tests.simulation.bus import route, short
from tests.simulation.cluster import Machine
from tests.simulation.later import LaterJob
from tests.simulation.ledger import entries_of
from tests.simulation.simulation import Simulation
from tests.simulation.store import Command, decode, encode
from tests.simulation.trace import decode as decode_frame
from tests.simulation.weather import CALM

EVERYTHING = 10**9
"""What a played member holds, for the rules: what it says is the script's responsibility."""
HOP = 0.001
"""Seconds that a frame takes."""
SCRIPT = replace(
    CALM, name="script", miniature=False, snapshot_every=10_000, retained=5, election_min=0.2,
    election_spread=5.0,
)  # fmt: skip
"""Election timeouts are wide apart, so that who campaigns is the script's choice."""


@dataclass
class Call:
    """A command of the script and how it ended."""

    data: bytes
    outcome: Outcome | None = None

    @property
    def committed(self) -> bool:
        return isinstance(self.outcome, Committed)


@dataclass
class Played:
    """A member whose frames the script writes: requests it was sent, answers it got."""

    kit: "Kit"
    name: str
    incarnation: int = 7
    heard: list[tuple[str, AnyRequest]] = field(default_factory=list)
    seq: int = 0

    def stamp(self, term: int) -> tuple[str, int, str, int, int, int]:
        """The common fields of its next frame."""
        self.seq += 1
        return ("sim", 1, self.name, self.incarnation, term, self.seq)

    def ask(self, target: str, kind: type, term: int, *fields: object) -> Frame | None:
        """Send a request to a machine; returns the answer of its step, if it gave one."""
        kit, machine = self.kit, self.kit.machines[target]
        data = codec.encode(kind(*self.stamp(term), *fields))
        kit.answers.clear()
        kit.take(machine, lambda core: core.receive(data, f"{self.name} script"))
        kit.run(HOP / 2)
        return decode_frame(kit.answers[-1]) if kit.answers else None

    def answer(self, target: str, kind: type, *fields: object, request: AnyRequest | None = None) -> None:
        """Answer a request of that machine, in its term; the last one unless told."""
        asked = request or next(asked for sender, asked in reversed(self.heard) if sender == target)
        stamp = self.stamp(asked.term)
        data = codec.encode(kind(*stamp, asked.incarnation, asked.seq, *fields))
        self.kit.take(self.kit.machines[target], lambda core: core.receive_reply(data))

    def last(self, sender: str, kind: type) -> AnyRequest | None:
        """The last request of a kind that `sender` sent it."""
        found = [request for who, request in self.heard if who == sender and isinstance(request, kind)]
        return found[-1] if found else None


class Kit(Simulation):
    """`running` as a context, and the verbs below inside."""

    def __init__(
        self, directory: Path, *, nodes: int = 3, down: Iterable[str] = (), **settings: object
    ) -> None:
        super().__init__(1, directory, replace(SCRIPT, nodes=nodes, **settings), keep_trace=True)  # type: ignore[arg-type]
        self.played = {name: Played(self, name) for name in down}
        self.answers: list[bytes] = []
        self.sent: list[tuple[str, str, Frame]] = []
        """All frames that left a machine: from, to, frame."""
        self.jitter: dict[tuple[str, str], float] = {}
        """Links whose frames take up to so much longer, and so overtake each other."""
        self.snapshots_at_once = False
        """Whether snapshots are written within the step that begins them."""
        self._snapshots: dict[str, list[Callable[[], None]]] = {}
        for name in self.played:
            self.rules.newest.match[name] = EVERYTHING
        self._cut: set[tuple[str, str]] = set()
        self._held: dict[tuple[str, str], list[tuple[Machine, Succession, Outgoing]]] = {}
        self._numbers = 0

    # -- time --------------------------------------------------

    def run(self, seconds: float = 0.1) -> None:
        """Let time pass."""
        self._play(self.now + seconds)

    def lead(self, name: str, within: float = 3.0) -> Succession:
        """Let that machine win an election."""
        machine, end = self.machines[name], self.now + within
        while self.now < end:
            core = machine.core
            assert core is not None
            if core.is_leader and core.leads_applied:
                return core
            if not core.is_leader:
                machine.clock.jump(6.0)
            self.run(0.05)
        raise AssertionError(self.report(f"{name} does not lead after {within} s"))

    def campaign(self, name: str, granting: Iterable[str]) -> None:
        """Let a machine whose peers are played ask for votes."""
        for _ in range(20):
            self.machines[name].clock.jump(6.0)
            self.run(0.05)
            for peer in granting:
                asked = self.played[peer].last(name, Vote)
                if asked is not None and asked.term == self.core(name).term:
                    return
                question = self.played[peer].last(name, PreVote)
                if question is not None:
                    self.played[peer].answer(name, PreVoteReply, True, request=question)
            self.run(0.005)
        raise AssertionError(self.report(f"{name} does not campaign"))

    def win(self, name: str, granting: Iterable[str]) -> Succession:
        """Let it win by the votes of played members."""
        granting, core = tuple(granting), self.core(name)
        self.campaign(name, granting)
        for peer in granting:
            self.played[peer].answer(name, VoteReply, True, request=self.played[peer].last(name, Vote))
        self.run(0.01)
        assert core.is_leader, self.report(f"{name} was not elected")
        return core

    # -- links -------------------------------------------------

    def cut(self, *names: str) -> None:
        """Cut these machines off from all others, in both directions."""
        for name in names:
            for other in self.names:
                if other not in names:
                    self._cut |= {(name, other), (other, name)}

    def cut_link(self, source: str, target: str) -> None:
        """Lose what goes from one to the other."""
        self._cut.add((source, target))

    def heal(self) -> None:
        """All links work again."""
        self._cut.clear()

    def hold(self, source: str, target: str) -> None:
        """Keep what goes from one to the other."""
        self._held[source, target] = []

    def release(self, source: str, target: str, *, backwards: bool = False) -> int:
        """Let go what was kept, and keep nothing any more; returns how much it was."""
        frames = self._held.pop((source, target))
        for at, (machine, core, frame) in enumerate(reversed(frames) if backwards else frames):
            self._fly(machine, core, frame, HOP * (at + 1))
        return len(frames)

    def post(self, source: Machine, core: Succession, frame: Outgoing, delay: float) -> None:
        target, _ = route(source, core, frame)
        self.note(source.name, f"-> {short(frame.subject)}:", frame.data)
        if frame.subject.endswith(" script"):
            self.answers.append(frame.data)
            return
        link = (source.name, target)
        self.sent.append((*link, decode_frame(frame.data)))
        if link in self._held:
            self._held[link].append((source, core, frame))
        elif link not in self._cut:
            late = self.rng.uniform(0, self.jitter.get(link, 0.0))
            self._fly(source, core, frame, delay + HOP + late)

    def _fly(self, source: Machine, core: Succession, frame: Outgoing, delay: float) -> None:
        target, deliver = route(source, core, frame)

        def arrive() -> None:
            if target in self.played:
                self.played[target].heard.append((source.name, codec.decode_request(frame.data)))
            elif self.machines[target].core is not None:
                self.take(self.machines[target], deliver)
            elif frame.token and source.core is core:
                number = int(frame.token.rpartition(".")[2])
                self.take(source, lambda core: core.nobody_there(number))

        self.at(self.now + delay, arrive)

    # -- machines ----------------------------------------------

    def start(self, machine: Machine, fuse: int | None = None) -> None:
        if machine.name not in self.played:
            super().start(machine, fuse)

    def lose_power(self, machine: Machine) -> None:
        """The machine stays off until `restart`; of its snapshots none is held back any more."""
        self._snapshots.pop(machine.name, None)
        machine.disk.power_off()
        machine.core = None
        self.note(machine.name, "LOSES POWER")

    def crash(self, *names: str) -> None:
        """Cut the power of machines."""
        for name in names:
            self.lose_power(self.machines[name])

    def restart(self, *names: str, fuse: int | None = None) -> None:
        """Start machines that are off."""
        for name in names:
            for played in self.played.values():
                played.heard = [(sender, asked) for sender, asked in played.heard if sender != name]
            self.start(self.machines[name], fuse)

    def wall_ns(self, machine: Machine) -> int:
        return machine.wall_ns

    def background(self, machine: Machine) -> Background:
        writer = Inline() if self.snapshots_at_once else super().background(machine)
        return _HeldBack(writer, self._snapshots, machine.name)

    def hold_snapshots(self, machine: Machine) -> None:
        """Write none of the machine's snapshots, and no base, until told."""
        self._snapshots[machine.name] = []

    def write_held_snapshots(self, machine: Machine) -> None:
        """Write what was held back, now, and nothing is held back any more."""
        for write in self._snapshots.pop(machine.name):
            with self.power(machine):
                write()

    def lose_disk(self, name: str) -> None:
        """The machine gets an empty disk, and stays off until `restart`."""
        machine = self.machines[name]
        self.end_process(machine)
        shutil.rmtree(machine.directory)
        machine.directory.mkdir()
        self.rules.forget(name)

    def after_step(self, machine: Machine, core: Succession) -> None:
        """A node that has withdrawn for good is left to the script."""
        if core.failure is None or not any(words in core.failure for words in ("was removed", "was empty")):
            super().after_step(machine, core)

    def core(self, name: str) -> Succession:
        """The running core of a machine."""
        core = self.machines[name].core
        assert core is not None, f"{name} is off"
        return core

    def log(self, name: str) -> list[tuple[int, int]]:
        """(index, term) of each entry a machine holds."""
        return [(index, term) for _, index, term in entries_of(self.core(name).journal)]

    def applied(self, name: str) -> list[int]:
        """The values of all commands that the machine's state contains, in their order."""
        store = self.machines[name].store
        assert store is not None
        history = self.rules.applications.at
        return [number_of(history[index][0]) for index in sorted(history) if index <= store.last]

    # -- calls -------------------------------------------------

    def write(self, name: str, value: int | None = None, *, size: int = 0, kind: str = "write") -> Call:
        """Propose a write at a machine; the outcome comes with time."""
        self._numbers += 1
        command = Command(
            self._numbers, kind, "k", self._numbers if value is None else value, None, bytes(size)
        )
        call = Call(encode(command))

        def done(outcome: Outcome) -> None:
            call.outcome = outcome
            if isinstance(outcome, Committed):
                self.rules.acknowledge(call.data, outcome.index)

        self.take(self.machines[name], lambda core: core.propose(call.data, done))
        return call

    def writes(self, name: str, count: int, *, size: int = 0) -> list[Call]:
        """Propose several writes in one step of the machine."""
        with self.one_step(name):
            return [self.write(name, size=size) for _ in range(count)]

    @contextmanager
    def one_step(self, name: str) -> Iterator[None]:
        """What reaches the machine in here is taken in one step."""
        machine = self.machines[name]
        machine.asleep = True
        yield
        machine.asleep = False
        inputs, machine.inbox = machine.inbox, []
        self._work(machine, *inputs)

    # -- members -----------------------------------------------

    def change(self, name: str, *, add: str | None = None, remove: str | None = None) -> list[Result]:
        """Begin a change of members at that machine; its end will be the one element of the list."""
        ended: list[Result] = []
        self.core(name).change(add, remove, 5.0, ended.append)
        return ended

    def seal(self, name: str, *, add: str | None = None, remove: str | None = None) -> None:
        """Propose the end of the generation at that machine, ready or not."""

        def propose(core: Succession) -> None:
            core.core.propose_seal(core.generation.succeeded_by(add=add, remove=remove), lambda outcome: None)

        self.take(self.machines[name], propose)

    def read(self, name: str) -> Call:
        """Ask a machine for a linearizable read."""
        call = Call(b"")

        def done(outcome: Outcome) -> None:
            call.outcome = outcome

        self.take(self.machines[name], lambda core: core.read(done))
        return call


class _HeldBack:
    """The background of a machine, whose work may wait for the script."""

    def __init__(self, background: Background, held: dict[str, list[Callable[[], None]]], name: str) -> None:
        self._background, self._held, self._name = background, held, name

    def start(self, work: Callable[[], object]) -> Job:
        if self._name not in self._held:
            return self._background.start(work)
        job = LaterJob()

        def run() -> None:
            work()
            job.done = True

        self._held[self._name].append(run)
        return job


def number_of(data: bytes) -> int:
    """The number of the operation in a log entry."""
    return decode(data).number
