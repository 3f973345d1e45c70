"""The bus between the machines: it loses, doubles and delays frames, and links between groups are cut.

Requests go to the machine in their subject; when no process is there, the asker hears that (NATS's "no
responders"). Answers go to the process that asked, if it still lives. A link that is cut loses what arrives
while it is cut.
"""

from functools import partial
from typing import TYPE_CHECKING

from raft.outbox import Outgoing
from raft.succession import Succession
from tests.simulation.awkward import awkward_append
from tests.simulation.cluster import Input, Machine

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

FASTEST = 0.0005
USUAL = 0.003
"""Mean of what is added to it, seconds."""

Link = tuple[str, str]


class Bus:
    """Frames on their way, and links that are cut."""

    def __init__(self, world: "Simulation") -> None:
        self._world = world
        self._cut: list[Link] = []

    # -- links -------------------------------------------------

    def cut(self, links: list[Link]) -> None:
        """Cut links, each (from, to); a link may be cut more than once."""
        self._cut += links

    def heal(self, links: list[Link]) -> None:
        """Take back one `cut`."""
        for link in links:
            if link in self._cut:
                self._cut.remove(link)

    def heal_all(self) -> None:
        self._cut.clear()

    # -- frames ------------------------------------------------

    def post(self, source: Machine, core: Succession, frame: Outgoing, delay: float) -> None:
        """`frame` leaves `delay` from now, if its process still lives then."""
        if delay:
            self._world.at(self._world.now + delay, lambda: self._depart(source, core, frame))
        else:
            self._depart(source, core, frame)

    def _depart(self, source: Machine, core: Succession, frame: Outgoing) -> None:
        if source.core is not core:
            return
        self._carry(source, core, frame)
        world = self._world
        if frame.subject.endswith(".append") and world.rng.random() < world.weather.awkward:
            odd = awkward_append(core, frame.subject.split(".")[-2], world.rng)
            if odd is not None:
                self._carry(source, core, odd)

    def _carry(self, source: Machine, core: Succession, frame: Outgoing) -> None:
        world, weather = self._world, self._world.weather
        if world.rng.random() < weather.loss:
            world.note(source.name, f"-> {short(frame.subject)} LOST:", frame.data)
            return
        target, deliver = route(source, core, frame)
        copies = 2 if world.rng.random() < weather.double else 1
        for _ in range(copies):
            delay = FASTEST + world.rng.expovariate(1 / USUAL)
            if world.rng.random() < weather.late:
                delay += world.rng.uniform(0, weather.latest)
            fate = f"in {delay * 1000:.1f} ms" + (" twice" if copies > 1 else "")
            world.note(source.name, f"-> {short(frame.subject)} {fate}:", frame.data)
            token = frame.token if copies == 1 else ""  # "no responders" speaks of the only copy
            world.at(world.now + delay, partial(self._arrive, source, target, deliver, core, token))

    def _arrive(self, source: Machine, target: str, deliver: Input, asker: Succession, token: str) -> None:
        world = self._world
        if (source.name, target) in self._cut:
            world.note(target, f"hears nothing of {source.name}: the link is cut")
            return
        machine = world.machines[target]
        if machine.core is not None:
            world.take(machine, deliver)
        elif token and source.core is asker:
            number = int(token.rpartition(".")[2])
            world.take(source, lambda core: core.nobody_there(number))


def short(subject: str) -> str:
    """`varpulis.cluster.raft.n2.append` as "n2 append"; an inbox as its owner."""
    parts = subject.split(".")
    return f"{parts[-2]} {parts[-1]}" if len(parts) > 2 else subject.split(" ")[0]


def route(source: Machine, core: Succession, frame: Outgoing) -> tuple[str, Input]:
    """The machine that a frame goes to, and what it does there."""
    if frame.subject.startswith("varpulis"):
        inbox = f"{source.name} {core.letters.incarnation}" if frame.token else ""
        return frame.subject.split(".")[-2], lambda other: other.receive(frame.data, inbox)
    target, _, incarnation = frame.subject.partition(" ")

    def answer(other: Succession) -> None:
        if str(other.letters.incarnation) == incarnation:
            other.receive_reply(frame.data)

    return target, answer
