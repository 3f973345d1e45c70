"""What the drills do: each injects one fault under load, waits until the cluster is of use again, mends what
does not mend itself, and returns times. `cli.drills.catalog` names them, with what each may cost.
"""

import signal
import time
from typing import Any

from cli.drills import impaired
from cli.drills.bed import COORDINATORS, PIPELINE, WORKERS, Bed, until
from cli.drills.link import Direction
from cli.drills.load import PATIENCE_S, Load
from cli.errors import CliError

Figures = dict[str, float | None]

OUTAGE_S = 3.0
"""How long a fault lasts that is mended by us."""
REST_S = 2.0
"""How long we look on after a fault, for what comes late."""


def leader_kill(bed: Bed, load: Load) -> Figures:
    """kill -9 the leading coordinator."""
    leader = leading(bed)
    fault = time.monotonic()
    bed.kill(leader)
    return _leader_gone(bed, load, leader, fault)


def leader_freeze(bed: Bed, load: Load) -> Figures:
    """Stop the leading coordinator (SIGSTOP), and let it go on later."""
    leader = leading(bed)
    fault = time.monotonic()
    bed.send(leader, signal.SIGSTOP)
    try:
        return _leader_gone(bed, load, leader, fault)
    finally:
        bed.send(leader, signal.SIGCONT)


def follower_kill(bed: Bed, load: Load) -> Figures:
    """kill -9 a coordinator that follows."""
    fault = time.monotonic()
    bed.kill(_follower(bed))
    return _through(load, fault)


def minority(bed: Bed, load: Load) -> Figures:
    """Be without one coordinator for a while, the leader: two of three are a majority."""
    leader = leading(bed)
    fault = time.monotonic()
    bed.kill(leader)
    figures = _leader_gone(bed, load, leader, fault)
    time.sleep(OUTAGE_S)
    return {**figures, "longest_write_s": load.longest_write(fault)}


def majority_lost(bed: Bed, load: Load) -> Figures:
    """kill -9 two of three coordinators, and bring them back: nothing is decided meanwhile."""
    leader = leading(bed)
    fault = time.monotonic()
    bed.kill(leader, next(name for name in COORDINATORS if name != leader))
    figures: Figures = {"pipelines_s": load.first_output(fault)}
    time.sleep(OUTAGE_S)
    back = time.monotonic()
    figures["writes_without_majority"] = load.writes_within(fault + PATIENCE_BEFORE_S, back)
    bed.complete()
    return {**figures, "recovery_s": load.next_write(back)}


PATIENCE_BEFORE_S = 0.5
"""A write that was on its way when the fault came may still be answered."""


def all_coordinators_kill(bed: Bed, load: Load) -> Figures:
    """kill -9 all coordinators at once, and start them again."""
    fault = time.monotonic()
    bed.kill(*COORDINATORS)
    bed.complete()
    return {"first_write_s": load.next_write(fault), "pipelines_s": load.first_output(fault)}


def worker_kill(bed: Bed, load: Load) -> Figures:
    """kill -9 the worker that runs the pipeline."""
    worker = bed.host()
    fault = time.monotonic()
    bed.kill(worker)
    return _through(load, fault)


def worker_freeze(bed: Bed, load: Load) -> Figures:
    """Stop the worker that runs the pipeline (SIGSTOP) until another one does; then let it go on."""
    worker = bed.host()
    fault = time.monotonic()
    bed.send(worker, signal.SIGSTOP)
    try:
        return _through(load, fault)
    finally:
        bed.send(worker, signal.SIGCONT)
        time.sleep(REST_S)


def worker_drain(bed: Bed, load: Load) -> Figures:
    """Drain the worker that runs the pipeline, which moves live."""
    worker = bed.host()
    fault = time.monotonic()
    with bed.client() as client:
        client.post(f"/workers/{worker}/drain", {})
        done = until(lambda: client.get(f"/workers/{worker}/drain")["status"] == "done", PATIENCE_S)
        drained = time.monotonic() - fault if done else None
        figures: Figures = {"drained_s": drained, "pipelines_s": load.first_output(fault)}
        time.sleep(REST_S)
        client.post(f"/workers/{worker}/uncordon", {})
    return figures


def nats_kill(bed: Bed, load: Load) -> Figures:
    """kill -9 the nats-server, and start it again."""
    bed.kill("nats")
    bed.complete()
    return _through(load, time.monotonic())


def nats_freeze(bed: Bed, load: Load) -> Figures:
    """Stop the nats-server (SIGSTOP) for a while."""
    bed.send("nats", signal.SIGSTOP)
    time.sleep(OUTAGE_S)
    bed.send("nats", signal.SIGCONT)
    return _through(load, time.monotonic())


def nats_cluster_node_loss(bed: Bed, load: Load) -> Figures:
    """kill -9 one of three nats-servers, and then each of the others, one at a time."""
    assert bed.servers is not None
    worst: Figures = {}
    for number in range(3):
        fault = time.monotonic()
        bed.servers.kill(number)
        for name, value in _through(load, fault).items():
            known = worst.get(name, 0.0)
            worst[name] = None if value is None or known is None else max(value, known)
        bed.servers.complete()
        time.sleep(REST_S)
    return worst


def partition(bed: Bed, load: Load) -> Figures:
    """Cut the leading coordinator off from NATS, both ways."""
    return _cut_off(bed, load)


def partition_mute(bed: Bed, load: Load) -> Figures:
    """Cut one way: the leading coordinator hears everybody, and nobody hears it."""
    return _cut_off(bed, load, Direction.TO_NATS)


def partition_deaf(bed: Bed, load: Load) -> Figures:
    """Cut the other way: the leading coordinator is heard, and hears nobody."""
    return _cut_off(bed, load, Direction.FROM_NATS)


def slow_disk(bed: Bed, load: Load) -> Figures:
    """Each sync of the leading coordinator's journal takes 200 ms longer, for a while."""
    with _impaired(bed, leading(bed), impaired.SLOW, 200):
        fault = time.monotonic()
        time.sleep(OUTAGE_S)
        return {**_through(load, fault), "longest_write_s": load.longest_write(fault)}


def full_disk(bed: Bed, load: Load) -> Figures:
    """The disk of the leading coordinator is full: it withdraws, says why, and is started again with room."""
    leader = leading(bed)
    fault = time.monotonic()
    with _impaired(bed, leader, impaired.FULL, 1):
        figures = _leader_gone(bed, load, leader, fault)
    bed.kill(leader)
    return figures


def clock_jump(bed: Bed, load: Load) -> Figures:
    """The wall clocks of the leading coordinator and of the pipeline's worker jump ahead by an hour."""
    leader, worker = leading(bed), bed.host()
    fault = time.monotonic()
    with _impaired(bed, leader, impaired.CLOCK, 3_600_000), _impaired(bed, worker, impaired.CLOCK, 3_600_000):
        figures = _through(load, fault)
        time.sleep(OUTAGE_S)
        figures["leader_changes"] = float(bed.leader() != leader)
    time.sleep(REST_S)
    return figures


def rolling_restart(bed: Bed, load: Load) -> Figures:
    """SIGTERM each process and start it again, one after the other."""
    began = time.monotonic()
    for name in (*COORDINATORS, *WORKERS):
        bed.restart(name)
        _settled(bed)
    return {"took_s": time.monotonic() - began, "longest_write_s": load.longest_write(began)}


def rolling_upgrade(bed: Bed, load: Load) -> Figures:
    """From the release before to this one, a process at a time, both side by side meanwhile."""
    return rolling_restart(bed, load)  # a process that is started again is of this installation


# --- what they have in common


def leading(bed: Bed) -> str:
    """Who leads before the fault."""
    leader = bed.leader()
    if leader is None:
        raise CliError(f"nobody leads before the fault: see {bed.logs}")
    return leader


def _follower(bed: Bed) -> str:
    leader = leading(bed)
    return next(name for name in COORDINATORS if name != leader)


def _leader_gone(bed: Bed, load: Load, leader: str, fault: float) -> Figures:
    elected = bed.leader(other_than=leader)
    election = None if elected is None else time.monotonic() - fault
    return {"election_s": election, **_through(load, fault)}


def _through(load: Load, fault: float) -> Figures:
    return {"first_write_s": load.first_write(fault), "pipelines_s": load.first_output(fault)}


def _cut_off(bed: Bed, load: Load, *directions: Direction) -> Figures:
    assert bed.links is not None
    leader = leading(bed)
    fault = time.monotonic()
    bed.links.freeze(leader, *directions)
    try:
        return _leader_gone(bed, load, leader, fault)
    finally:
        bed.links.heal(leader)
        time.sleep(REST_S)


class _impaired:
    """For the time of the block a process is impaired so much."""

    def __init__(self, bed: Bed, name: str, what: str, value: int) -> None:
        self._flag, self._value = bed.impairment(name) / what, value

    def __enter__(self) -> None:
        self._flag.write_text(str(self._value))

    def __exit__(self, *exception: Any) -> None:
        self._flag.unlink()


def _settled(bed: Bed) -> None:
    """Wait until the pipeline runs, wherever."""
    with bed.client() as client:
        until(lambda: client.get(f"/pipeline-groups/{PIPELINE}")["status"] == "running", PATIENCE_S)
