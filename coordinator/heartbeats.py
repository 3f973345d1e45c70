"""Who was heard, when, and what they said they run. In memory, on every coordinator, never replicated.

Every coordinator hears all heartbeats, so a new leader knows at once who is alive. Times are seconds of a
monotonic clock, given by the caller. `count` counts the heartbeats of one incarnation; a decision that
needs "a heartbeat sent after X" waits until it has grown by two, because one may have been on its way when
X happened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from coordinator.loads import Load, first
from proto_schemas.messages import Heartbeat, RunningPipeline

MAX_TRACKED: Final = 20_000
SUSPECT_INTERVALS: Final = 2.0
"""Heartbeat intervals without a word (one was missed) after which a worker is suspect."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat of a worker. `pipelines`, `load` and `loss_windows` are None for one that does not
    tell; the last, by pipeline id, are empty where all are 0."""

    at: float
    count: int = 0
    incarnation: str | None = None
    seq: int | None = None
    pipelines: Mapping[str, RunningPipeline] | None = None
    pipelines_running: int = 0
    events_processed: int = 0
    draining: bool = False
    load: Load | None = None
    loss_windows: Mapping[str, int] | None = None

    def loss_window(self, pipeline_id: str) -> int | None:
        """Seconds whose events would be lost with this copy; None when the worker does not tell."""
        if self.pipelines is None or self.loss_windows is None or pipeline_id not in self.pipelines:
            return None
        return self.loss_windows.get(pipeline_id) if self.loss_windows else 0


class HeartbeatTable:
    """The last word of each worker. Bounded: beyond `MAX_TRACKED` names, new ones are not tracked but
    counted."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        self.received = 0
        self.out_of_order = 0
        self.untracked = 0

    def get(self, worker_id: str) -> Heard | None:
        """What was heard last; None when nothing was."""
        return self._heard.get(worker_id)

    def loads(self) -> dict[str, float]:
        """The damped load of each worker that tells one, 0 to 1."""
        return {name: heard.load.step for name, heard in self._heard.items() if heard.load is not None}

    def forget(self, worker_id: str) -> None:
        """The worker was removed."""
        self._heard.pop(worker_id, None)

    def registered(self, worker_id: str, incarnation: str | None, at: float) -> None:
        """A registration is a sign of life too; a new process starts a new count."""
        last = self._heard.get(worker_id)
        if last is not None and incarnation is not None and last.incarnation == incarnation:
            self._heard[worker_id] = replace(last, at=at)
        else:
            self._heard[worker_id] = Heard(at=at, incarnation=incarnation)

    def heard(self, worker_id: str, heartbeat: Heartbeat, at: float) -> bool:
        """Note a heartbeat; True when it tells something new beside "alive"."""
        self.received += 1
        last = self._heard.get(worker_id)
        if last is None and len(self._heard) >= MAX_TRACKED:
            self.untracked += 1
            return False
        same = last is not None and last.incarnation == heartbeat.incarnation
        if last is not None and same and _not_after(heartbeat.seq, last.seq):
            self.out_of_order += 1
            return False
        copies = heartbeat.pipelines
        now = self._heard[worker_id] = Heard(
            at=at,
            count=last.count + 1 if last is not None and same else 1,
            incarnation=heartbeat.incarnation,
            seq=heartbeat.seq,
            pipelines=None if copies is None else {copy.pipeline_id: copy for copy in copies},
            pipelines_running=heartbeat.pipelines_running,
            events_processed=heartbeat.events_processed,
            draining=heartbeat.draining,
            load=_load(last, heartbeat.load, at),
            loss_windows=_loss_windows(heartbeat),
        )
        return (
            last is None or not same or last.pipelines != now.pipelines or last.draining is not now.draining
        )


def _load(last: Heard | None, measured: float | None, at: float) -> Load | None:
    if measured is None:
        return None
    if last is None or last.load is None:
        return first(measured)
    return last.load.then(measured, at - last.at)


def _loss_windows(heartbeat: Heartbeat) -> dict[str, int] | None:
    if heartbeat.loss_windows is None:
        return None
    names = (copy.pipeline_id for copy in heartbeat.pipelines or ())
    return dict(zip(names, heartbeat.loss_windows, strict=False))


def _not_after(seq: int | None, last: int | None) -> bool:
    return seq is not None and last is not None and seq <= last
