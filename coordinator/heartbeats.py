"""Who was heard, when, and what they said they run. In memory, on every coordinator, never replicated.

Every coordinator hears all heartbeats, so a new leader knows at once who is alive. Times are seconds of a
monotonic clock, given by the caller. `count` counts the heartbeats of one incarnation; a decision that
needs "a heartbeat sent after X" waits until it has grown by two, because one may have been on its way when
X happened.

Heartbeats may also wait here before they are looked at, many of them when somebody floods us. So our workers
say with which heartbeat a copy that they made is listed first (`expect`), and until that one has come it is
not missed in any other.

A heartbeat that is larger than a message comes in parts. Each of them says "alive"; what runs, and that a
heartbeat came at all by `count`, says only the one whose parts are all here (`_Parts`). So a part that is
lost makes nobody conclude that the copies in it are gone: what the last whole one said stays, and the next
one says it anew. Of each member the parts of one heartbeat are kept, the latest.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec.structs import replace as replace_struct

from coordinator.loads import Load, first
from proto_schemas.messages.membership import (
    Heartbeat,
    HeartbeatId,
    HeartbeatPart,
    PipelineMetrics,
    RunningPipeline,
)

MAX_STRANGERS: Final = 10_000
"""Names tracked that no state here knows: as many as there may be workers, for to a coordinator that has not
caught up yet all of them are strangers."""
SUSPECT_INTERVALS: Final = 2.0
"""Heartbeat intervals without a word (one was missed) after which a worker is suspect."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat of a worker. `pipelines`, `load`, `loss_windows` and `metrics` are None for one that
    does not tell; loss windows, by pipeline id, are empty where all are 0; `metrics` are in the order of
    `pipelines`."""

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
    metrics: list[PipelineMetrics] | None = None

    def counted(self) -> dict[str, PipelineMetrics]:
        """What each copy that runs has counted, by pipeline id; empty when the worker does not tell."""
        if self.pipelines is None or self.metrics is None or len(self.pipelines) != len(self.metrics):
            return {}
        return dict(zip(self.pipelines, self.metrics, strict=True))

    def loss_window(self, pipeline_id: str) -> int | None:
        """Seconds whose events would be lost with this copy; None when the worker does not tell."""
        if self.pipelines is None or self.loss_windows is None or pipeline_id not in self.pipelines:
            return None
        return self.loss_windows.get(pipeline_id) if self.loss_windows else 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """Of one heartbeat, as far as they came: by number."""

    incarnation: str | None
    seq: int
    of: int
    here: dict[int, tuple[HeartbeatPart, list[PipelineMetrics] | None]] = field(default_factory=dict)

    def whole(self, heartbeat: Heartbeat) -> Heartbeat | None:
        """One of its messages with the lists of all; None while some are missing."""
        if len(self.here) < self.of:
            return None
        shares = [self.here[number] for number in range(self.of)]
        copies = [copy for part, _ in shares for copy in part.pipelines]
        told = all(part.loss_windows is not None for part, _ in shares)
        windows = [secs for part, _ in shares for secs in part.loss_windows or ()]
        counted = all(metrics is not None for _, metrics in shares)
        metrics = [one for _, metrics in shares for one in metrics or ()]
        return replace_struct(
            heartbeat,
            part=None,
            pipelines=copies,
            loss_windows=windows if told else None,
            pipeline_metrics=metrics if counted else None,
        )


class HeartbeatTable:
    """The last word of each worker. Members are always tracked; of strangers at most `MAX_STRANGERS`, and
    only that they were heard, so a flood of names takes neither memory nor anybody's place. Kept in the order
    in which they were heard, so that who is silent is found without a look at the others.

    `received` counts messages; `incomplete`, heartbeats given up because a part of them did not come, and
    parts that are none.
    """

    def __init__(self) -> None:
        self._heard: OrderedDict[str, Heard] = OrderedDict()
        self._strangers: set[str] = set()
        self._parts: dict[str, _Parts] = {}
        self._expected: dict[str, dict[str, HeartbeatId]] = {}
        self.received = 0
        self.incomplete = 0
        self.out_of_order = 0
        self.untracked = 0

    def get(self, worker_id: str) -> Heard | None:
        """What was heard last; None when nothing was."""
        return self._heard.get(worker_id)

    def last_heard(self, worker_id: str) -> HeartbeatId | None:
        """Which heartbeat told last what it runs; None when none that has a number did."""
        heard = self._heard.get(worker_id)
        if heard is None or heard.incarnation is None or heard.seq is None:
            return None
        return HeartbeatId(incarnation=heard.incarnation, seq=heard.seq)

    def expect(self, worker_id: str, pipeline_id: str, first: HeartbeatId) -> None:
        """A copy was made, which is listed from the heartbeat `first` on; kept of who is tracked alone."""
        if not _has_come(first, self._heard.get(worker_id)):
            self._expected.setdefault(worker_id, {})[pipeline_id] = first

    def expected(self, worker_id: str) -> Set[str]:
        """Ids of the copies of which the last heartbeat, sent before they were made, says nothing."""
        return self._expected.get(worker_id, {}).keys()

    def silent_since(self, at: float) -> Iterator[tuple[str, Heard]]:
        """Those last heard before a time, the longest silent first."""
        for name, heard in self._heard.items():
            if heard.at >= at:
                return
            yield name, heard

    def loads(self) -> dict[str, float]:
        """The damped load of each worker that tells one, 0 to 1."""
        return {name: heard.load.step for name, heard in self._heard.items() if heard.load is not None}

    def forget(self, worker_id: str) -> None:
        """The worker was removed."""
        self._heard.pop(worker_id, None)
        self._parts.pop(worker_id, None)
        self._expected.pop(worker_id, None)
        self._strangers.discard(worker_id)

    def registered(self, worker_id: str, incarnation: str | None, at: float) -> None:
        """A registration is a sign of life too; a new process starts a new count."""
        self._strangers.discard(worker_id)
        last = self._heard.get(worker_id)
        if last is not None and incarnation is not None and last.incarnation == incarnation:
            self._heard[worker_id] = replace(last, at=at)
        else:
            self._heard[worker_id] = Heard(at=at, incarnation=incarnation)
        self._heard.move_to_end(worker_id)

    def heard(self, worker_id: str, heartbeat: Heartbeat, at: float, *, member: bool = True) -> bool:
        """Note a heartbeat; True when it tells something new beside "alive". `member`: the state here knows
        this worker."""
        self.received += 1
        last = self._heard.get(worker_id)
        if member:
            self._strangers.discard(worker_id)
        elif last is None and len(self._strangers) >= MAX_STRANGERS:
            self.untracked += 1
            return False
        else:
            self._strangers.add(worker_id)
            heartbeat = replace_struct(
                heartbeat, pipelines=None, load=None, loss_windows=None, part=None, pipeline_metrics=None
            )
        same = last is not None and last.incarnation == heartbeat.incarnation
        if last is not None and same and _not_after(heartbeat.seq, last.seq):
            self.out_of_order += 1
            return False
        if heartbeat.part is not None:
            whole = self._completed(worker_id, heartbeat, heartbeat.part)
            if whole is None:
                return self._alive(worker_id, last if same else None, heartbeat, at)
            heartbeat = whole
        elif self._parts and self._parts.pop(worker_id, None) is not None:
            self.incomplete += 1
        before = last.pipelines if last is not None and same else None
        pipelines = _by_id(heartbeat.pipelines, before)
        self._heard[worker_id] = Heard(
            at=at,
            count=last.count + 1 if last is not None and same else 1,
            incarnation=heartbeat.incarnation,
            seq=heartbeat.seq,
            pipelines=pipelines,
            pipelines_running=heartbeat.pipelines_running,
            events_processed=heartbeat.events_processed,
            draining=heartbeat.draining,
            load=_load(last, heartbeat.load, at),
            loss_windows=_loss_windows(heartbeat),
            metrics=heartbeat.pipeline_metrics,
        )
        self._heard.move_to_end(worker_id)
        if self._expected and (waiting := self._expected.pop(worker_id, None)):
            for pipeline_id, first in waiting.items():
                self.expect(worker_id, pipeline_id, first)
        return (
            last is None
            or not same
            or last.pipelines is not pipelines
            or last.draining is not heartbeat.draining
        )

    def _completed(self, worker_id: str, heartbeat: Heartbeat, part: HeartbeatPart) -> Heartbeat | None:
        """The whole heartbeat, once its last part is here; those of one that is older are given up."""
        if heartbeat.seq is None or part.number >= part.of:
            self.incomplete += 1
            return None
        key = (heartbeat.incarnation, heartbeat.seq, part.of)
        parts = self._parts.get(worker_id)
        if parts is None or (parts.incarnation, parts.seq, parts.of) != key:
            if parts is not None and parts.incarnation == heartbeat.incarnation:
                if heartbeat.seq < parts.seq:
                    self.out_of_order += 1
                    return None
                self.incomplete += 1
            parts = self._parts[worker_id] = _Parts(*key)
        parts.here[part.number] = (part, heartbeat.pipeline_metrics)
        whole = parts.whole(heartbeat)
        if whole is not None:
            del self._parts[worker_id]
        return whole

    def _alive(self, worker_id: str, last: Heard | None, heartbeat: Heartbeat, at: float) -> bool:
        """Note what any part says; what runs, and the count of heartbeats, stay as they were."""
        news = last is None or last.draining is not heartbeat.draining
        last = last or Heard(at=at, incarnation=heartbeat.incarnation)
        self._heard[worker_id] = replace(
            last,
            at=at,
            pipelines_running=heartbeat.pipelines_running,
            events_processed=heartbeat.events_processed,
            draining=heartbeat.draining,
        )
        self._heard.move_to_end(worker_id)
        return news


def _by_id(
    copies: list[RunningPipeline] | None, before: Mapping[str, RunningPipeline] | None
) -> Mapping[str, RunningPipeline] | None:
    """The copies by their ids; the very mapping `before` when nothing has changed."""
    if copies is None or (before is not None and list(before.values()) == copies):
        return before if copies is not None else None
    return {copy.pipeline_id: copy for copy in copies}


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


def _has_come(first: HeartbeatId, heard: Heard | None) -> bool:
    """That heartbeat, or a later one; or none will, as its process is gone or its worker was removed."""
    if heard is None or heard.incarnation != first.incarnation:
        return True
    return heard.seq is not None and heard.seq >= first.seq


def _not_after(seq: int | None, last: int | None) -> bool:
    return seq is not None and last is not None and seq <= last
