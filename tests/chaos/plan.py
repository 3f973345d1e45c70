"""What is done to the cluster, and when: drawn from a seed, and from nothing that happens. Pure.

A round is `seconds` of actions with random gaps, then a last blow, and a calm afterwards. The plan keeps its
own book of which workers and groups there are, so it asks nobody. No zone is harmed so far that a pipeline
could not be placed: one worker of each is down at most, and `FEWEST`, two of each zone at least, stay.
Two faults on coordinators or NATS are on at once in `TWICE` of the cases.

Kinds of actions, with what they need: `deploy`, `update`, `teardown` (a spec, or a name); `migrate`; `drain`
(which ends by its timeout, by a cancel, or by itself) and the `uncordon` that follows it; `cordon`;
`rebalance`; `transfer`; `join` and `leave` of workers; faults on one worker; and those of `support.faults` on
coordinators and NATS.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos import groups

WORKERS: Final = 6
"""To begin with. Each third one speaks REST."""
FEWEST: Final = 5
MOST_GROUPS: Final = 10
TWICE: Final = 0.15
GAP: Final = (0.2, 1.2)
"""Seconds between two actions."""
ON_WORKER: Final = (
    "kill worker",
    "kill worker",
    "freeze worker",
    "freeze worker",
    "cut worker",
    "deafen worker",
    "mute worker",
)
ON_CLUSTER: Final = (
    "kill leader",
    "kill follower",
    "kill all",
    "terminate leader",
    "pause leader",
    "pause follower",
    "cut leader",
    "cut follower",
    "freeze leader",
    "mute leader",
    "kill nats",
    "bounce nats",
    "pause nats",
)
LONGEST: Final = {"pause nats": 4.0, "kill nats": 4.0, "bounce nats": 0.1, "kill all": 5.0}
"""Seconds these are held at most; others up to `HOLD`."""
HOLD: Final = (1.0, 15.0)
"""Seconds a fault is held: shorter than a lease, and much longer."""


@dataclass(frozen=True, slots=True)
class Action:
    """One fault or operation, `at` seconds after its round began; `hold`: seconds a fault lasts."""

    at: float
    kind: str
    target: str = ""
    hold: float = 0.0
    spec: groups.Spec = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        held = f" for {self.hold:.1f} s" if self.hold else ""
        more = f" {self.more}" if self.more else ""
        return f"{self.kind}{' ' if self.target else ''}{self.target}{held}{more}"


@dataclass(frozen=True, slots=True)
class Round:
    """Actions in their order; then a calm, in which killed workers are started, or `stay_dead`."""

    number: int
    seconds: float
    actions: tuple[Action, ...]
    stay_dead: bool


def zone_of(worker: str) -> str:
    """The label of a worker, by its number."""
    return groups.ZONES[int(worker[1:]) % len(groups.ZONES)]


def speaks_rest(worker: str) -> bool:
    """Which carrier it uses, by its number."""
    return int(worker[1:]) % 3 == 2


def rounds(seed: int, nats_url: str, *, seconds: float = 25.0) -> Iterator[Round]:
    """The same for the same seed, without end. `nats_url` stands in the programs."""
    book = _Book(random.Random(f"{seed}/plan"), nats_url)
    number = 0
    while True:
        yield Round(number, seconds, tuple(book.actions(seconds)), stay_dead=number % 2 == 0)
        number += 1


class _Book:
    """What there is, as far as the plan knows."""

    def __init__(self, rng: random.Random, nats_url: str) -> None:
        self._rng, self._url = rng, nats_url
        self._workers = [f"w{number}" for number in range(WORKERS)]
        self._ever = WORKERS
        self._groups: dict[str, groups.Spec] = {}
        self._gone: list[str] = []
        self._deployed = self._version = 0
        self._harmed: dict[str, float] = {}
        self._cluster_until = 0.0

    def actions(self, seconds: float) -> Iterator[Action]:
        """Those of one round. It begins with some groups where there are few, and all is whole again."""
        rng = self._rng
        self._harmed, self._cluster_until = {}, 0.0
        at = 0.0
        while len(self._groups) < MOST_GROUPS // 2:
            yield self._deploy(at)
            at += 0.1
        while (at := at + rng.uniform(*GAP)) < seconds:
            action = self._fault(at) if rng.random() < 0.45 else self._operation(at)
            if action is not None:
                yield action
        yield from self._last_blow(seconds)

    def _last_blow(self, at: float) -> Iterator[Action]:
        """Something is asked, a worker is harmed, and the coordinators or NATS, and all of it is on when the
        calm begins."""
        worker = self._free_worker(at)
        if worker is not None:
            yield Action(at, self._rng.choice(ON_WORKER), worker, HOLD[1])
        for operation in (self._update(at), self._deploy_if_room(at)):
            if operation is not None:
                yield operation
        if self._rng.random() < 0.75:
            yield Action(at, self._rng.choice(ON_CLUSTER), "", HOLD[1])

    # -- faults

    def _fault(self, at: float) -> Action | None:
        if self._rng.random() < 0.6:
            kind = self._rng.choice(ON_WORKER)
            worker = self._free_worker(at)
            hold = self._rng.uniform(*HOLD)
            if worker is None:
                return None
            self._harmed[worker] = at + hold + 1
            return Action(at, kind, worker, hold)
        kind = self._rng.choice(ON_CLUSTER)
        hold = self._rng.uniform(0.1, min(LONGEST.get(kind, 8.0), 8.0))
        if at < self._cluster_until and self._rng.random() > TWICE:
            return None
        self._cluster_until = max(self._cluster_until, at + hold + 2)
        return Action(at, kind, "", hold)

    def _free_worker(self, at: float) -> str | None:
        zones = {zone_of(worker) for worker, until in self._harmed.items() if until > at}
        free = [worker for worker in self._workers if zone_of(worker) not in zones]
        return self._rng.choice(free) if free else None

    # -- operations

    def _operation(self, at: float) -> Action | None:
        kinds = ["deploy"] * 3 + ["update"] * 3 + ["teardown"] * 2 + ["migrate"] * 3
        kinds += ["drain", "drain", "cordon", "rebalance", "transfer", "leave", "join"]
        kind = self._rng.choice(kinds)
        makers: dict[str, Callable[[float], Action | None]] = {
            "deploy": self._deploy_if_room,
            "update": self._update,
            "teardown": self._teardown,
            "migrate": self._migrate,
            "drain": self._drain,
            "cordon": self._cordon,
            "leave": self._leave,
            "join": self._join,
        }
        return makers[kind](at) if kind in makers else Action(at, kind)

    def _deploy_if_room(self, at: float) -> Action | None:
        return self._deploy(at) if len(self._groups) < MOST_GROUPS else None

    def _deploy(self, at: float) -> Action:
        """A new group; one in four takes the name of one that was torn down."""
        if self._gone and self._rng.random() < 0.25:
            name = self._gone.pop()
        else:
            name = f"g{self._deployed}"
            self._deployed += 1
        self._version += 1
        self._groups[name] = groups.shape(self._rng, self._url, name, self._version)
        return Action(at, "deploy", name, spec=self._groups[name])

    def _update(self, at: float) -> Action | None:
        if not self._groups:
            return None
        name = self._rng.choice(sorted(self._groups))
        self._version += 1
        self._groups[name] = groups.changed(self._rng, self._groups[name], self._url, self._version)
        return Action(at, "update", name, spec=self._groups[name])

    def _teardown(self, at: float) -> Action | None:
        if len(self._groups) < MOST_GROUPS // 2:
            return None
        name = self._rng.choice(sorted(self._groups))
        del self._groups[name]
        self._gone.append(name)
        return Action(at, "teardown", name)

    def _migrate(self, at: float) -> Action | None:
        if not self._groups:
            return None
        name = self._rng.choice(sorted(self._groups))
        pipeline = self._rng.choice(sorted(groups.instances(self._groups[name])))
        to = self._rng.choice([None, *self._workers])
        return Action(at, "migrate", f"{name}/{pipeline}", more={"to": to})

    def _drain(self, at: float) -> Action:
        """Of a healthy worker or of one that is down; cordoned until `hold` is over, then free again."""
        timeout = round(self._rng.uniform(2.0, 15.0), 1)
        cancel = self._rng.random() < 0.3
        hold = self._rng.uniform(2.0, 8.0)
        worker = self._rng.choice(self._workers)
        return Action(at, "drain", worker, hold, more={"timeout_secs": timeout, "cancel": cancel})

    def _cordon(self, at: float) -> Action:
        return Action(at, "cordon", self._rng.choice(self._workers), self._rng.uniform(1.0, 8.0))

    def _leave(self, at: float) -> Action | None:
        worker = self._free_worker(at)
        if worker is None or len(self._workers) <= FEWEST:
            return None
        if sum(zone_of(other) == zone_of(worker) for other in self._workers) <= 2:
            return None
        self._workers.remove(worker)
        return Action(at, "leave", worker)

    def _join(self, at: float) -> Action | None:
        if len(self._workers) >= WORKERS:
            return None
        worker = f"w{self._ever}"
        self._ever += 1
        self._workers.append(worker)
        return Action(at, "join", worker)
