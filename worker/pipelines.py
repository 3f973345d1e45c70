"""The pipelines that run on this worker.

A pipeline is known by its id (`{name}-{8 hex}`, new for each copy) and by (group, name), of which one copy
runs at a time; beside it one may be held that is to take over (`worker.handover`). Deploying is idempotent:
the same epoch again answers with the copy that runs, a newer epoch replaces it (the old copy is stopped
first), and without an epoch the same source is the same pipeline while another one is a conflict. A copy
that `failed` is replaced by any deploy. Either everything of a deploy stands (sinks connected,
subscriptions known to the servers) within `START_WAIT`, or nothing of it remains.

One timer closes windows for all pipelines: every `TICK` it asks each engine whether something is over.
"""

import asyncio
import logging
import math
import time
from collections import Counter
from functools import reduce
from typing import Final

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.membership import PipelineMetrics, RunningPipeline
from proto_schemas.subjects import EXTERNAL, Subjects
from transport.durations import Durations
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport
from vpl import check_source
from worker import handover
from worker.assembly import assemble
from worker.budget import Limits
from worker.checkpointer import Checkpointer
from worker.checkpoints import Checkpoint
from worker.connectors.base import ConnectorError, Site
from worker.cut import CutFailed
from worker.delivery.assembly import check_worker
from worker.delivery.counts import Counts
from worker.lease import Lease, Permit
from worker.pipeline import KEEPS, Pipeline, State, now_ms
from worker.store.archive import Archive
from worker.store.base import Fenced, StoreDown
from worker.watchdog import Watchdog

START_WAIT: Final = 3.0
"""Seconds in which all connections and subscriptions of a deploy must stand."""
DRAIN_WAIT: Final = 2.0
"""Seconds a drain gives the queues of one pipeline."""
LATENCY: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1, 1.0)
"""Seconds, upper bounds of the times that engines take for an event."""
TICK: Final = 0.1
"""Seconds between looks at the engines' deadlines: a window closes at most this much late."""

Key = tuple[str, str]
"""(group, name); the group is empty for a coordinator that knows none."""

log = logging.getLogger(__name__)


class PipelineHost:
    """Deploys, finds, drains and removes pipelines.

    Args:
        bus: what carries events between pipelines; None: this worker takes none that need it.
        shared_store: other workers can read the checkpoints, too.
        site: what the worker gives its connectors.
        limits: what one pipeline may use before it is `failed`.
        archive: where checkpoints go; `checkpoint_secs`, `checkpoint_wait`, `checkpoint_required`: see
            `Checkpointer`.

    Attributes:
        checkpoints: takes them, and gives them back.
        watchdog: cuts off events that take too long, once it is started.
        latency: how long the engines took for an event, from parsed to put out; the first of each millisecond
            and pipeline is timed.
        draining: no more deploys; set by `drain` for good.
    """

    def __init__(
        self,
        bus: NatsTransport | None,
        subjects: Subjects,
        archive: Archive,
        *,
        max_pipelines: int,
        lease: Lease,
        checkpoint_secs: float = 0.0,
        checkpoint_wait: float = 0.0,
        checkpoint_required: bool = False,
        shared_store: bool = False,
        site: Site | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._bus = bus
        self._limits = limits or Limits()
        self.watchdog = Watchdog(self._limits.event_secs)
        self._shared_store = shared_store
        self._site = site or Site()
        self._subjects = subjects
        self.checkpoints = Checkpointer(
            archive,
            lambda: self.pipelines,
            interval=checkpoint_secs,
            wait=checkpoint_wait,
            required=checkpoint_required,
        )
        self._max_pipelines = max_pipelines
        self._lease = lease
        self._pipelines: dict[str, Pipeline] = {}
        self._keys: dict[Key, Pipeline] = {}
        self._held: dict[Key, Pipeline] = {}
        self._starting = 0
        self.latency = Durations(LATENCY)
        self.draining = False
        self._retired_in = 0
        self._retired_out = 0
        self._retired_losses: Counter[str] = Counter()
        self._retired_shares: Counter[str] = Counter()
        self._retired_feeds = Counts()

    # --- finding

    @property
    def pipelines(self) -> list[Pipeline]:
        """All copies, oldest first."""
        return list(self._pipelines.values())

    def find(self, pipeline_id: str) -> Pipeline | None:
        return self._pipelines.get(pipeline_id)

    def locate(self, pipeline_id: str) -> Key | None:
        """The (group, name) of the copy with this id."""
        pipeline = self._pipelines.get(pipeline_id)
        return None if pipeline is None else (pipeline.group, pipeline.name)

    def ingress(self, pipeline: Pipeline) -> str:
        """The subject of events from outside for a pipeline of a group."""
        base = pipeline.intake.pipeline if pipeline.intake is not None else pipeline.name
        return self._subjects.pipeline(pipeline.group, EXTERNAL, base)

    def epoch_of(self, pipeline_id: str) -> int | None:
        """The epoch of the copy with this id; None when it has none."""
        pipeline = self._pipelines.get(pipeline_id)
        return pipeline.epoch or None if pipeline is not None else None

    @property
    def at_work(self) -> int:
        """Copies that run, or would go on by themselves."""
        return sum(pipeline.state is State.RUNNING or pipeline.joined for pipeline in self.pipelines)

    def get(self, pipeline_id: str) -> Pipeline:
        """The copy with this id.

        Raises:
            WireError: `pipeline_not_found`.
        """
        pipeline = self._pipelines.get(pipeline_id)
        if pipeline is None:
            raise WireError(
                ErrorCode.PIPELINE_NOT_FOUND,
                f"pipeline {pipeline_id[:80]!r} does not run here: ask the coordinator where it runs",
            )
        return pipeline

    def running(self) -> list[RunningPipeline]:
        """What runs, as registrations and heartbeats carry it."""
        return [pipeline.running() for pipeline in self._pipelines.values()]

    def loss_windows(self) -> list[int]:
        """Of what runs, in that order: whole seconds, rounded up; empty where all are 0."""
        now = time.monotonic()
        windows = [math.ceil(pipeline.loss_window(now)) for pipeline in self._pipelines.values()]
        return windows if any(windows) else []

    def metrics(self) -> list[PipelineMetrics]:
        return [pipeline.metrics() for pipeline in self._pipelines.values()]

    @property
    def events_in(self) -> int:
        """Events of all copies there were, so that it only grows."""
        return self._retired_in + sum(pipeline.events_in for pipeline in self._pipelines.values())

    @property
    def events_out(self) -> int:
        return self._retired_out + sum(pipeline.events_out for pipeline in self._pipelines.values())

    def losses(self) -> Counter[str]:
        """What was refused or dropped by all copies there were, by reason."""
        return sum((pipeline.losses() for pipeline in self._pipelines.values()), self._retired_losses.copy())

    def shares(self) -> Counter[str]:
        """What instances that share by key saw: `others`, left to another one; `without_key`."""
        return sum((pipeline.shares() for pipeline in self._pipelines.values()), self._retired_shares.copy())

    def feeds(self) -> Counts:
        """What the feeds of all copies there were did."""
        feeds = (pipeline.feed.counts for pipeline in self._pipelines.values() if pipeline.feed is not None)
        return reduce(Counts.plus, feeds, self._retired_feeds)

    @property
    def lag(self) -> int:
        """Events that are in streams, and were not handled by the copies that run here: the most of any."""
        feeds = (pipeline.feed.lag for pipeline in self._pipelines.values() if pipeline.feed is not None)
        return max(feeds, default=0)

    # --- deploying

    async def deploy(self, wanted: Deploy, heard_at: float | None = None) -> Pipeline:
        """Run what `wanted` describes, or find that it runs already. `heard_at`: when the heartbeat was sent
        that its sender had heard, in monotonic seconds.

        Raises:
            WireError: `unavailable` (draining), `conflict`, `parse_error` with diagnostics, `bad_request`,
                `quota_exceeded`, `engine_error` (a connector; retryable where its cause may pass),
                `not_found` (the checkpoint to start from), `carrier_missing` (its routes need NATS).
        """
        if self.draining:
            raise _draining()
        check_worker(wanted, self._bus, shared_store=self._shared_store)
        key = (wanted.group or "", wanted.name)
        copies = self._held if wanted.hold else self._keys
        old, live = copies.get(key), self._keys.get(key)
        if wanted.hold and live is not None and live.epoch == wanted.epoch:
            return live  # it has taken over already
        if old is not None and old.state is not State.FAILED and not _replaces(wanted, old):
            return old
        if old is live is None and len(self._pipelines) + self._starting >= self._max_pipelines:
            raise WireError(
                ErrorCode.QUOTA_EXCEEDED,
                f"{self._max_pipelines} pipelines run here already: "
                "use another worker, or raise --max-pipelines",
            )
        self._starting += 1
        try:
            pipeline = await self._start(wanted, old, Permit(self._lease, heard_at))
        finally:
            self._starting -= 1
        self._pipelines[pipeline.id] = copies[key] = pipeline
        pipeline.permit.listed(time.monotonic())
        log.info("deployed pipeline=%s group=%s epoch=%d", pipeline.id, pipeline.group, pipeline.epoch)
        return pipeline

    async def _start(self, wanted: Deploy, old: Pipeline | None, permit: Permit) -> Pipeline:
        pipeline = await assemble(
            wanted,
            self._bus,
            self._subjects,
            permit,
            self._site,
            self._limits,
            self.watchdog,
            self.latency,
        )
        checkpoint: Checkpoint | None = None
        if wanted.checkpoint_ref is not None:
            checkpoint = await self.checkpoints.read(wanted.checkpoint_ref)
            pipeline.restore(checkpoint)
        elif wanted.restore_from is not None and not wanted.hold:
            if old is not None and old.state is State.RUNNING and old.is_unsaved(time.monotonic()):
                await self.save(old)  # here it is not dead, and nothing need be lost
            checkpoint = await self.checkpoints.recover(pipeline)
        if old is not None and old.id in self._pipelines:
            await self.undeploy(old.id)
        if self.checkpoints.takes_by_itself(pipeline):
            pipeline.connectors.keep()
        try:
            async with asyncio.timeout(START_WAIT):
                await pipeline.start(START_WAIT)
        except (ConnectorError, NatsTransportError, TimeoutError) as error:
            await pipeline.stop()
            cause = str(error) or f"connections and subscriptions did not stand within {START_WAIT:g} s"
            retryable = getattr(error, "retryable", True)
            raise WireError(ErrorCode.ENGINE_ERROR, f"{wanted.name}: {cause}", retryable=retryable) from None
        except BaseException:
            await pipeline.stop()
            raise
        if self.draining:
            await pipeline.stop()
            raise _draining()
        for event in checkpoint.held if checkpoint is not None and not wanted.hold else ():
            await pipeline.handle(Message(event.subject, event.data), event.at)
        return pipeline

    def took_over(self, pipeline: Pipeline) -> None:
        """A copy that was held is the one that runs; that which it replaced stays until it is undeployed. Its
        first checkpoint is due at once: so it claims what the other one wrote until now."""
        pipeline.safety.due = time.monotonic()
        key = pipeline.group, pipeline.name
        if self._held.get(key) is pipeline:
            self._keys[key] = self._held.pop(key)

    # --- removing

    async def undeploy(self, pipeline_id: str, *, drain: bool = False, forget: bool = False) -> None:
        """Stop a copy and forget it; with `drain` after it has handled what was sent to it until now, with
        `forget` its checkpoints, too.

        Raises:
            WireError: `pipeline_not_found`.
        """
        pipeline = self.get(pipeline_id)
        if drain and pipeline.state is State.RUNNING:
            async with pipeline.moving:
                await pipeline.drain(DRAIN_WAIT)
            pipeline = self.get(pipeline_id)
        del self._pipelines[pipeline_id]
        key = pipeline.group, pipeline.name
        for copies in (self._keys, self._held):
            if copies.get(key) is pipeline:
                del copies[key]
        self._retired_in += pipeline.events_in
        self._retired_out += pipeline.events_out
        self._retired_losses += pipeline.losses()
        self._retired_shares += pipeline.shares()
        if pipeline.feed is not None:
            self._retired_feeds = self._retired_feeds.plus(pipeline.feed.counts)
        await pipeline.stop_intake()
        if forget or pipeline.state is State.HANDED_OVER:
            await pipeline.connectors.settle()
        await pipeline.stop()
        await self.checkpoints.forget(pipeline, all_of_it=forget)
        log.info("undeployed pipeline=%s group=%s epoch=%d", pipeline.id, pipeline.group, pipeline.epoch)

    async def drain(self) -> int:
        """Bring every pipeline to rest, its state on disk; how many are at rest then. Safe to call again."""
        self.draining = True
        await asyncio.gather(*(self._rest(pipeline) for pipeline in self.pipelines))
        return sum(pipeline.state is State.DRAINED for pipeline in self.pipelines)

    async def _rest(self, pipeline: Pipeline) -> None:
        if pipeline.state in KEEPS and pipeline.held_since is not None:
            await handover.resume(pipeline, None)  # it ran, and nobody has taken over
        if pipeline.state is not State.RUNNING:
            return
        await pipeline.drain(DRAIN_WAIT)
        await self.save(pipeline)
        await pipeline.connectors.shutdown(DRAIN_WAIT)

    async def save(self, pipeline: Pipeline) -> None:
        """Take a checkpoint of the pipeline now; what does not work is counted and logged, no more."""
        try:
            await self.checkpoints.save(pipeline)
        except (StoreDown, Fenced, CutFailed, ValueError) as error:
            log.error("pipeline=%s checkpoint not taken: %s", pipeline.id, error)

    async def stop(self) -> None:
        """Stop every pipeline at once."""
        await asyncio.gather(*(pipeline.stop() for pipeline in self.pipelines))

    async def run_timers(self) -> None:
        """Close windows when they are over, and let copies go on that nobody takes over, until cancelled;
        slow outputs of one pipeline delay no other.
        """
        at_work: dict[Pipeline, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(TICK)
                now = now_ms()
                at_work = {pipeline: task for pipeline, task in at_work.items() if not task.done()}
                for pipeline in self.pipelines:
                    if pipeline in at_work:
                        continue
                    if pipeline.is_due(now):
                        at_work[pipeline] = tasks.create_task(pipeline.tick(now))
                    elif pipeline.last_word_due:
                        pipeline.last_word_due = False
                        at_work[pipeline] = tasks.create_task(self.checkpoints.last_word(pipeline))
                    elif handover.is_overdue(pipeline):
                        log.warning("pipeline=%s its move is heard of no more: going on", pipeline.id)
                        at_work[pipeline] = tasks.create_task(self._go_on(pipeline))

    async def _go_on(self, pipeline: Pipeline) -> None:
        try:
            await handover.resume(pipeline, None)
        except WireError as error:
            log.warning("pipeline=%s cannot go on yet: %s", pipeline.id, error)


async def warm_up() -> None:
    """Have the grammar ready (half a second, once a process), so that the first deploy takes milliseconds."""
    await asyncio.to_thread(check_source, "stream Warm = Up")


def _replaces(wanted: Deploy, old: Pipeline) -> bool:
    """Whether `wanted` is another copy than `old`, which runs.

    Raises:
        WireError: `conflict`.
    """
    if wanted.epoch is not None:
        return wanted.epoch > old.epoch
    if wanted.source == old.program.source:
        return False
    raise WireError(
        ErrorCode.CONFLICT,
        f"pipeline {old.name!r} runs already as {old.id} with another source: "
        "undeploy it first, or use another name",
    )


def _draining() -> WireError:
    return WireError(ErrorCode.UNAVAILABLE, "this worker drains: deploy on another one")
