"""The drills, each with what it may cost: objectives that a user would notice when they are missed.

Times are those that a user sees, with default settings: the client's pauses between tries are part of them.
They are some three times what an idle machine of two cores shows, so that a slower machine meets them and a
cluster that has become much slower does not. Events go over core NATS, at most once, so what is lost while a
pipeline runs nowhere is no objective, where that cannot be avoided; that nothing is doubled always is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cli.drills import scenarios as do
from cli.drills.bed import Bed, Shape
from cli.drills.exactly_once import exactly_once
from cli.drills.figures import Objective, Round, lost_and_doubled
from cli.drills.load import Load, load

Inject = Callable[[Bed, Load], dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. `inject` breaks something and returns times; its docstring says what it does. `alone`: it
    brings its own load. `upgrades`: it begins with the release before.
    """

    name: str
    inject: Inject
    objectives: tuple[Objective, ...]
    shape: Shape = field(default_factory=Shape)
    alone: bool = False
    upgrades: bool = False

    @property
    def summary(self) -> str:
        """What it does, in a line."""
        return (self.inject.__doc__ or "").strip().partition(".")[0]


@dataclass(frozen=True, slots=True)
class Played:
    """One round: its figures, and what the load saw; `fault` is when the injection began."""

    figures: Round
    seen: Load
    fault: float


def play(drill: Drill, bed: Bed) -> Played:
    """One round on a cluster that is whole; it is whole again afterwards."""
    if drill.alone:
        fault = time.monotonic()
        alone = drill.inject(bed, Load())
        bed.complete()
        return Played(alone, Load(), fault)
    with load(bed) as running:
        time.sleep(BEFORE_S)
        fault = time.monotonic()
        figures = drill.inject(bed, running)
    lost, doubled = lost_and_doubled(running.sent, [number for number, _ in running.received])
    bed.complete()
    counted = {"events_lost": lost, "events_doubled": doubled, "requests_failed": running.failed}
    return Played({**figures, **counted}, running, fault)


BEFORE_S: Final = 1.0
"""How long the load runs undisturbed, to compare with."""


def _at_most(**figures: float) -> tuple[Objective, ...]:
    return tuple(Objective(name, most) for name, most in figures.items())


_NOTHING_DOUBLED: Final = _at_most(events_doubled=0)
_NOTHING_FAILED: Final = _NOTHING_DOUBLED + _at_most(requests_failed=0)
_NOTHING_LOST: Final = _at_most(events_lost=0) + _NOTHING_FAILED
_LEADER_GONE: Final = _at_most(election_s=1.5, first_write_s=5.0, pipelines_s=0.5) + _NOTHING_LOST
_LINKS, _IMPAIRED = Shape(links=True), Shape(impaired=True)

DRILLS: Final = {
    drill.name: drill
    for drill in (
        Drill("leader-kill", do.leader_kill, _LEADER_GONE),
        Drill("leader-freeze", do.leader_freeze, _LEADER_GONE),
        Drill(
            "follower-kill", do.follower_kill, _at_most(first_write_s=1.0, pipelines_s=0.5) + _NOTHING_LOST
        ),
        Drill("minority", do.minority, _LEADER_GONE + _at_most(longest_write_s=5.0)),
        Drill(
            "majority-lost-and-back",
            do.majority_lost,
            _at_most(writes_without_majority=0, recovery_s=15.0, pipelines_s=0.5) + _NOTHING_DOUBLED,
        ),
        Drill(
            "all-coordinators-kill",
            do.all_coordinators_kill,
            _at_most(first_write_s=15.0, pipelines_s=15.0) + _NOTHING_DOUBLED,
        ),
        Drill("worker-kill", do.worker_kill, _at_most(first_write_s=0.5, pipelines_s=10.0) + _NOTHING_FAILED),
        Drill(
            "worker-freeze", do.worker_freeze, _at_most(first_write_s=0.5, pipelines_s=20.0) + _NOTHING_FAILED
        ),
        Drill("worker-drain", do.worker_drain, _at_most(drained_s=5.0, pipelines_s=1.0) + _NOTHING_LOST),
        Drill("nats-kill", do.nats_kill, _at_most(first_write_s=5.0, pipelines_s=5.0) + _NOTHING_FAILED),
        Drill("nats-freeze", do.nats_freeze, _at_most(first_write_s=5.0, pipelines_s=5.0) + _NOTHING_FAILED),
        Drill(
            "nats-cluster-node-loss",
            do.nats_cluster_node_loss,
            _at_most(first_write_s=5.0, pipelines_s=5.0) + _NOTHING_FAILED,
            Shape(nats_cluster=True),
        ),
        Drill("partition", do.partition, _LEADER_GONE, _LINKS),
        Drill("partition-mute", do.partition_mute, _LEADER_GONE, _LINKS),
        Drill("partition-deaf", do.partition_deaf, _LEADER_GONE, _LINKS),
        Drill(
            "slow-disk",
            do.slow_disk,
            _at_most(longest_write_s=5.0, pipelines_s=0.5) + _NOTHING_LOST,
            _IMPAIRED,
        ),
        Drill("full-disk", do.full_disk, _LEADER_GONE, _IMPAIRED),
        Drill(
            "clock-jump",
            do.clock_jump,
            _at_most(leader_changes=0, first_write_s=1.0, pipelines_s=0.5) + _NOTHING_LOST,
            _IMPAIRED,
        ),
        Drill("rolling-restart", do.rolling_restart, _at_most(longest_write_s=5.0) + _NOTHING_LOST),
        Drill(
            "rolling-upgrade",
            do.rolling_upgrade,
            _at_most(longest_write_s=5.0) + _NOTHING_LOST,
            upgrades=True,
        ),
        Drill(
            "exactly-once",
            exactly_once,
            _at_most(outputs_lost=0, outputs_doubled=0, out_of_order=0, took_s=120.0),
            alone=True,
        ),
    )
}
"""By name, in the order in which they are shown."""
