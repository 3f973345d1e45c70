"""The drills: each injects one fault under load and mends it, and says what that may cost.

Times of objectives are those a user sees, on an idle machine with default settings: the client's pauses
between tries are part of them.
"""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cli.drills.bed import Bed
from cli.drills.figures import Objective, Round, lost_and_doubled
from cli.drills.load import Load, load
from cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill. `inject` breaks something, waits until it is of use again, and returns times."""

    name: str
    summary: str
    inject: Callable[[Bed, Load], dict[str, float | None]]
    objectives: tuple[Objective, ...]


def play(drill: Drill, bed: Bed) -> Round:
    """One round on a cluster that is whole; it is whole again afterwards."""
    with load(bed) as running:
        figures = drill.inject(bed, running)
    received = [number for number, _ in running.received]
    lost, doubled = lost_and_doubled(running.sent, received)
    bed.complete()
    return {**figures, "events_lost": lost, "events_doubled": doubled, "requests_failed": running.failed}


def _leader_kill(bed: Bed, load: Load) -> dict[str, float | None]:
    leader = _leader(bed)
    fault = time.monotonic()
    bed.send(leader, signal.SIGKILL)
    return _leader_gone(bed, load, leader, fault)


def _leader_freeze(bed: Bed, load: Load) -> dict[str, float | None]:
    leader = _leader(bed)
    fault = time.monotonic()
    bed.send(leader, signal.SIGSTOP)
    try:
        return _leader_gone(bed, load, leader, fault)
    finally:
        bed.send(leader, signal.SIGCONT)


def _follower_kill(bed: Bed, load: Load) -> dict[str, float | None]:
    leader = _leader(bed)
    follower = next(name for name in bed.urls if name != leader)
    fault = time.monotonic()
    bed.send(follower, signal.SIGKILL)
    return _through(load, fault)


def _worker_kill(bed: Bed, load: Load) -> dict[str, float | None]:
    worker = bed.host()
    fault = time.monotonic()
    bed.send(worker, signal.SIGKILL)
    return _through(load, fault)


def _leader_gone(bed: Bed, load: Load, leader: str, fault: float) -> dict[str, float | None]:
    elected = bed.leader(other_than=leader)
    election = None if elected is None else time.monotonic() - fault
    return {"election_s": election, **_through(load, fault)}


def _through(load: Load, fault: float) -> dict[str, float | None]:
    return {"first_write_s": load.first_write(fault), "pipelines_s": load.first_output(fault)}


def _leader(bed: Bed) -> str:
    leader = bed.leader()
    if leader is None:
        raise CliError(f"nobody leads before the fault: see {bed.request.logs}")
    return leader


_NOTHING_LOST: Final = (
    Objective("events_lost", 0),
    Objective("events_doubled", 0),
    Objective("requests_failed", 0),
)
_LEADER_GONE: Final = (
    Objective("election_s", 1.5),
    Objective("first_write_s", 3.0),
    Objective("pipelines_s", 0.5),
    *_NOTHING_LOST,
)
DRILLS: Final = {
    drill.name: drill
    for drill in (
        Drill("leader-kill", "kill -9 the leading coordinator", _leader_kill, _LEADER_GONE),
        Drill("leader-freeze", "stop the leading coordinator (SIGSTOP)", _leader_freeze, _LEADER_GONE),
        Drill(
            "follower-kill",
            "kill -9 a coordinator that follows",
            _follower_kill,
            (Objective("first_write_s", 1.0), Objective("pipelines_s", 0.5), *_NOTHING_LOST),
        ),
        Drill(
            "worker-kill",
            "kill -9 the worker that runs the pipeline",
            _worker_kill,
            (
                Objective("first_write_s", 0.5),
                Objective("pipelines_s", 10.0),
                Objective("events_doubled", 0),
                Objective("requests_failed", 0),
            ),
        ),
    )
}
