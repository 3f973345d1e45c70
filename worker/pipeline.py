"""One pipeline that runs: messages in, through the engine, outputs to sinks and routes.

The path of an event is one callback: parse, `Engine.process`, `Engine.take`, send. There is no queue of our
own; the bound is that of the NATS subscription, which counts what it drops. `process` and `take` follow
each other without an `await` between, so what `take` gives belongs to that event, also when several
subscriptions and an inject interleave.

Nothing a pipeline does hurts its neighbours. A refused message, a dropped output and a failing event are
counted by reason; too many failing events (`worker.budget`), or one that takes too long (`worker.watchdog`),
make the pipeline `failed`: it stops its intake and says why in the heartbeats, and the coordinator decides.
Outputs leave only while the worker's lease allows (`worker.lease`). While it moves, a copy keeps what comes
instead of handling it (`worker.handover`).

A pipeline whose group delivers at least once, or exactly once, has a `feed` (`worker.delivery`): that brings
it its events from a stream, and takes its outputs; nothing else reaches it.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from proto_schemas.messages.membership import HeartbeatId, PipelineMetrics, RunningPipeline
from transport.durations import Durations
from transport.nats import Message
from transport.turns import TURN_SECS, give_way
from vpl import Program
from vpl.keeper import LOSSES
from worker.budget import ErrorBudget, Limits
from worker.checkpoints import NOWHERE, At, Checkpoint, put_back
from worker.connectors.base import OutputDropped, Sink
from worker.connectors.registry import ConnectorRegistry
from worker.cut import CutFailed
from worker.held import Held, Witness
from worker.inputs import Inputs
from worker.intake import Intake
from worker.lease import Permit
from worker.payload import PayloadError, parse_event
from worker.relay import Relay
from worker.routes import RouteSink
from worker.safety import Progress, Safety
from worker.store.base import NO_GROUP, Owner, Place
from worker.watchdog import IDLE, TooLong, Watchdog

if TYPE_CHECKING:
    from worker.delivery.feed import Feed

CLOSING_TIMES: Final = 10
"""So many times as long as an event may the closing of all windows that are due take."""
FIRST_SLICE: Final = 8
"""Milliseconds of deadlines in the first slice of what is closed."""
MAX_REASON: Final = 300
ENGINE_LOSSES: Final = ("unknown_type", "values_dropped", *LOSSES)
"""Counters of the engine that tell of events, or parts of its state, that went nowhere."""
NEWS_SECS: Final = 60.0
"""Seconds for which heartbeats tell what a copy began from."""
CLOSE_WAIT: Final = 2.0
"""Seconds connectors are given to send their last outputs."""

Output = tuple[int, str, dict[str, Any], int]
"""(sink id, event type, fields, time in ms); sink id -1 is the output of `.emit`."""

log = logging.getLogger(__name__)


class State(StrEnum):
    """As heartbeats carry it."""

    RUNNING = "running"
    FAILED = "failed"
    DRAINED = "drained"
    HELD = "held"
    HANDED_OVER = "handed_over"


KEEPS: Final = frozenset({State.HELD, State.HANDED_OVER})
"""States in which what comes is held."""


async def breathe() -> None:
    """Let others have their turn."""
    await asyncio.sleep(0)


def now_ms() -> int:
    """Wall clock, ms since 1970."""
    return time.time_ns() // 1_000_000


class Pipeline:
    """One copy of a pipeline.

    Attributes:
        state, reason: `running`, or not and why.
        refused: messages that were no events, by reason.
        dropped: outputs that did not leave, by reason.
        torn: an event was cut off in its middle: its state is worthless.
        last_word_due: it failed on events, which the next copy is to be spared (`Checkpointer.last_word`).
        held, witness: what it keeps while it moves, and the order in which that came.
        relayed, relayed_goes_on: events passed on to others; and, while it holds, that what others pass on
            is handled.
        pieces: of which copies it takes over what, when it resumes.
        joined: it is in its line; one that is deployed held is not yet.
        held_since: monotonic seconds since when one that ran holds; else None.
        moving, timer: held by a step of a move, and while a window is closed.
        owner: as what it writes its checkpoints; `checkpoint_secs`: how often, None: as the worker does.
        has_run: it is, or was, the one that runs; one that is deployed held is not yet.
        safety: which part of its state a checkpoint holds.
        begun: what it began from, where that was not nothing.
        listed_from: the first heartbeat that lists it, as its coordinator was told.
        feed: what brings it events from a stream; None: they come as they are sent.
    """

    feed: "Feed | None" = None

    def __init__(
        self,
        identity: RunningPipeline,
        program: Program,
        connectors: ConnectorRegistry,
        inputs: Inputs,
        route_sink: RouteSink | None,
        permit: Permit,
        *,
        intake: Intake | None = None,
        relay: Relay | None = None,
        held: bool = False,
        life: int = 0,
        checkpoint_secs: float | None = None,
        limits: Limits | None = None,
        watchdog: Watchdog | None = None,
        latency: Durations | None = None,
    ) -> None:
        self.id = identity.pipeline_id
        self.group = identity.group
        self.name = identity.name
        self.epoch = identity.epoch
        self.program = program
        limits = limits or Limits()
        self.engine = program.start(max_keys=limits.keys)
        self.connectors = connectors
        self.inputs = inputs
        self.intake = intake
        self.relay = relay
        self.relayed = 0
        self.relayed_goes_on = False
        self.pieces: dict[str, Checkpoint] = {}
        self.state = State.HELD if held else State.RUNNING
        self.reason: str | None = None
        self.held = Held()
        self.witness = Witness()
        self.joined = False
        self.held_since: float | None = None
        self.owner = Owner(_place(identity), identity.epoch, life)
        self.has_run = not held
        self.saved_aside = False
        self.checkpoint_secs = checkpoint_secs
        self.safety = Safety(time.monotonic())
        self.begun = ""
        self.listed_from: HeartbeatId | None = None
        self._made_at = time.monotonic()
        self.moving = asyncio.Lock()
        self.timer = asyncio.Lock()
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._budget = ErrorBudget(limits)
        self._watch = watchdog or Watchdog(0)
        self._latency = latency or Durations()
        self.torn = False
        self.last_word_due = False
        self._restored: Counter[str] = Counter()
        self._now = 0
        self._ticks = 0
        self.permit = permit
        self.resumes = connectors.resumes(program.sources)
        """A source of it has a position: where it begins, not where it can be put while it runs."""
        self._sinks: list[Sink | None] = [route_sink]  # sink id -1, the last one, is the routes

    async def start(self, flush_wait: float) -> None:
        """Make the sinks, then open the inputs; on return the servers know all subscriptions. A copy that
        is to be held only watches its inputs, which shows all the same that it can reach them.

        Raises:
            ConnectorError, NatsTransportError: and then `stop` cleans up.
        """
        for position, sink in enumerate(self.program.sinks):
            self._sinks.insert(position, await self.connectors.create_sink(sink))
        if self.feed is not None:
            if self.state is not State.HELD:
                await self.feed.begin()
                self.joined = True
        elif self.state is State.HELD:
            await self.inputs.watch(self.witness.see, flush_wait)
        else:
            await self.inputs.open(self.receive, flush_wait)
            self.joined = True

    # --- the path of an event

    async def receive(self, message: Message, share: int | None = None) -> None:
        """Take one message from a source or a route, in the line of a share."""
        if self.state in KEEPS and not (self.relayed_goes_on and self._was_relayed(message)):
            self.held.add(message, now_ms(), share)
        else:
            await self.handle(message, now_ms(), share)

    def _was_relayed(self, message: Message) -> bool:
        relay, intake = self.relay, self.intake
        return relay is not None and intake is not None and message.subject == relay.subject(intake.number)

    async def handle(self, message: Message, now: int, share: int | None = None) -> None:
        """Handle one message that arrived at `now` (ms) in the line of a share."""
        try:
            event_type, fields, ts = parse_event(message.data, message.subject, now)
        except PayloadError as error:
            self.refused[error.reason] += 1
            return
        intake = self.intake
        if intake is not None:
            owner = intake.owner(message.subject, event_type, fields, share)
            if owner != intake.number:
                if owner is not None:
                    await self._pass_on(owner, event_type, fields, ts)
                return
        outputs = self.process(event_type, fields, ts, now)
        if outputs:
            await self.deliver(outputs)
        elif outputs is None and self.state is State.FAILED:
            await self.stop_intake()

    async def _pass_on(self, owner: int, event_type: str, fields: dict[str, Any], ts: int) -> None:
        if self.relay is None:
            self.dropped["no_relay"] += 1
        elif not self.permit.is_open(time.monotonic()):
            self.dropped["lease_expired"] += 1
        else:
            try:
                await self.relay.send(owner, event_type, fields, ts)
                self.relayed += 1
            except OutputDropped as error:
                self.dropped[error.reason] += 1

    def process(self, event_type: str, fields: dict[str, Any], ts: int, now: int) -> list[Output] | None:
        """Run one event at `now` (ms): its outputs, or None when the engine failed or there is none. Of each
        millisecond the first one is timed."""
        if self.state is State.FAILED or self.state is State.DRAINED:
            self.refused[f"pipeline_{self.state}"] += 1
            return None
        engine, watch, began = self.engine, self._watch, 0.0
        if now != self._now:
            engine.now = self._now = now
            began = time.perf_counter()
        try:
            try:
                watch.ticks = 0
                engine.process(event_type, fields, ts)
            finally:
                watch.ticks = IDLE
            outputs: list[Output] = engine.take()
            if began:
                self._latency.observe(time.perf_counter() - began)
            return outputs
        except TooLong:
            self._cut_off(f"an event of type {event_type[:60]!r}")
        except Exception as error:
            self._count_failure(error)
        return None

    def may_put_out(self) -> bool:
        """The lease of the worker, and what is known of this copy, allow it now."""
        return self.permit.is_open(time.monotonic())

    async def send(self, output: Output) -> None:
        """Send one output to its sink; raises `OutputDropped`, or what the sink raises."""
        sink_id, event_type, fields, ts = output
        sink = self._sinks[sink_id]
        if sink is not None:
            await sink.send(event_type, fields, ts)

    async def deliver(self, outputs: Sequence[Output]) -> None:
        """Send outputs to their sinks and routes, in order; what does not leave is counted."""
        if not self.may_put_out():
            self.dropped["lease_expired"] += len(outputs)
            return
        sinks = self._sinks
        for sink_id, event_type, fields, ts in outputs:
            sink = sinks[sink_id]
            if sink is None:  # emitted, and routed nowhere
                continue
            try:
                await sink.send(event_type, fields, ts)
            except OutputDropped as error:
                self.dropped[error.reason] += 1
            except Exception:
                self.dropped["sink_error"] += 1
                if self.dropped["sink_error"] == 1:
                    log.exception("pipeline=%s a sink failed; further failures are only counted", self.id)

    def is_due(self, now: int) -> bool:
        """Something is over at `now` (ms), and no feed looks after that."""
        if self.state is not State.RUNNING or self.feed is not None:
            return False
        if self.engine.now is None:
            self.engine.now = now  # timers count from here
        deadline = self.engine.next_deadline()
        return deadline is not None and deadline <= now

    async def tick(self, now: int) -> None:
        """Close what is over at `now` (ms). Many windows are closed in slices of the time in which they were
        due, and others have their turn in between, as if the timer had come more often. (A program with
        timers of its own is not sliced: each would make up for all its rounds.)"""
        async with self.timer:
            until, width = 0, FIRST_SLICE
            while self.state is State.RUNNING and until < now:
                due = self.engine.next_deadline()
                if due is None or due > now:
                    return
                until = now if self.engine.has_timers else min(max(due, until) + width, now)
                began = time.monotonic()
                self._ticks += 1
                if outputs := self.close_windows(until):
                    await self.deliver(outputs)
                worked = time.monotonic() - began
                if until < now and worked > TURN_SECS:
                    width = max(width // 2, 1)
                    await give_way(worked)
                else:
                    width *= 2

    def close_windows(self, now: int) -> list[Output]:
        """Close what is over at `now` (ms): its outputs."""
        watch = self._watch
        try:
            try:
                watch.times, watch.ticks = CLOSING_TIMES, 0
                self.engine.advance(now)
            finally:
                watch.times, watch.ticks = 1, IDLE
            return self.engine.take()
        except TooLong:
            self._cut_off("the closing of windows", CLOSING_TIMES)
        except Exception as error:
            self._count_failure(error)
            self.last_word_due = False  # the event that comes after the closing was not handled
        return []

    def fail(self, reason: str) -> None:
        """It cannot go on here: the coordinators are told why."""
        self.state, self.reason = State.FAILED, reason
        log.error("pipeline=%s failed: %s", self.id, reason)

    def _count_failure(self, error: Exception) -> None:
        self.engine.take()  # what the failing event had put out is not the next one's
        spent = self._budget.spend(self.engine.counters["events_in"], time.monotonic())
        if self._budget.in_a_row == 1:
            log.error("pipeline=%s the engine failed on an event; going on", self.id, exc_info=error)
        if spent:
            self.last_word_due = self.keeps
            self.fail(f"{spent}, the last with {type(error).__name__}: {error}"[:MAX_REASON])

    def _cut_off(self, what: str, times: int = 1) -> None:
        self.engine.take()
        self.torn, self.last_word_due = True, self.keeps
        secs = self._watch.event_secs * times
        self.fail(
            f"{what} took more than {secs:g} s of processor time, and was cut off: make its expressions "
            "cheaper, share its keys out over instances, or raise the workers' event_secs"
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`.

        Raises:
            WireError: `conflict`; the pipeline goes on as it was.
        """
        before = self.engine.counters
        put_back(self.engine, checkpoint)
        after = self.engine.counters
        self._restored.update({key: count - before[key] for key, count in after.items()})
        self._budget.begin_anew(after["events_in"])
        self.safety.saved = None
        if self.feed is not None:
            self.feed.go_from(checkpoint)
        else:
            self.connectors.go_from(checkpoint.positions)

    # --- what a checkpoint holds

    @property
    def aside(self) -> Owner:
        """As what it writes before it has run: the place is still another copy's, which needs what lies there
        should it go on after all."""
        return Owner(Place(NO_GROUP, self.id), self.epoch, self.owner.life)

    @property
    def keeps(self) -> bool:
        """It has something that a checkpoint keeps: a state, or a position in a stream."""
        return self.program.stateful or self.feed is not None or self.resumes

    @contextlib.asynccontextmanager
    async def at_rest(self) -> AsyncIterator[At]:
        """Within the block, where it has a feed: nothing is handled, and all that was put out is stored.

        Raises:
            CutFailed: that could not be brought about in time.
        """
        if self.torn:
            raise CutFailed(f"its state is not whole: {self.reason}")
        if self.feed is None:
            yield NOWHERE._replace(positions=self.connectors.positions)
            return
        async with self.feed.at_rest() as place:
            yield place

    @property
    def progress(self) -> Progress:
        """As long as it stays the same, so does the state."""
        if self.feed is not None:
            return self.feed.progress
        return self.engine.counters["events_in"], self._ticks

    def is_unsaved(self, now: float) -> bool:
        """At `now` (monotonic seconds) there is state that no checkpoint holds."""
        return self.keeps and self.safety.look(self.progress, now)

    def loss_window(self, now: float) -> float:
        """Seconds whose events would be lost with this copy; 0 when none would."""
        return max(now - self.safety.saved_at, 0.0) if self.is_unsaved(now) else 0.0

    # --- rest

    async def stop_intake(self) -> None:
        """Unsubscribe now; what is queued is thrown away."""
        if self.feed is not None:
            await self.feed.stop()
        await self.inputs.stop()

    async def stop(self) -> None:
        """Unsubscribe now and let go of the connectors."""
        await self.stop_intake()
        await self.connectors.shutdown(CLOSE_WAIT)

    async def drain(self, timeout: float) -> None:
        """Handle what was sent until now, then take no more; the connectors stay until `stop`."""
        if self.feed is not None:  # what it has not taken stays in the stream
            await self.feed.pause()
        await self.inputs.leave(timeout)
        if self.state is State.RUNNING:
            self.state = State.DRAINED

    # --- reports

    @property
    def events_in(self) -> int:
        """Events this copy took; what a checkpoint brought along does not count."""
        return self.engine.counters["events_in"] - self._restored["events_in"]

    @property
    def events_out(self) -> int:
        """Events that came out of `.emit`, likewise."""
        return self.engine.counters["events_out"] - self._restored["events_out"]

    def running(self) -> RunningPipeline:
        """As registrations and heartbeats carry it."""
        return RunningPipeline(
            pipeline_id=self.id,
            group=self.group,
            name=self.name,
            epoch=self.epoch,
            queue=self._line(),
            state=self.state,
            reason=self.reason or self._obstacle() or self._news() or None,
        )

    def _line(self) -> int:
        """The number of its line, which its queue group is named after (`Deploy.queue`)."""
        before, _, number = self.inputs.queue.rpartition(".")
        return int(number) if before == f"{self.group}.{self.name}" and number.isdecimal() else 0

    def _obstacle(self) -> str:
        return self.feed.error[:200] if self.feed is not None else ""

    def _news(self) -> str:
        """What it began from, until every coordinator has heard it: heartbeats are many."""
        return self.begun if time.monotonic() - self._made_at < NEWS_SECS else ""

    def metrics(self) -> PipelineMetrics:
        """As heartbeats carry it."""
        return PipelineMetrics(
            pipeline_name=self.name,
            events_in=self.events_in,
            events_out=self.events_out,
            connector_health=self.connectors.health_reports() or None,
        )

    def losses(self) -> Counter[str]:
        """Messages refused and outputs dropped, by reason; `slow_consumer`: came faster than handled."""
        engine = self.engine.counters
        in_engine = Counter({reason: engine[reason] - self._restored[reason] for reason in ENGINE_LOSSES})
        no_route = self.intake.no_route if self.intake is not None else 0
        return (
            self.refused
            + self.dropped
            + self.connectors.lost
            + in_engine
            + Counter(
                slow_consumer=self.inputs.dropped,
                engine_failure=self._budget.failures,
                held_overflow=self.held.overflow,
                no_route=no_route,
            )
        )

    def shares(self) -> Counter[str]:
        """What came because instances share by key, and was no loss: see `Intake`."""
        if self.intake is None:
            return Counter()
        intake = self.intake
        return Counter(others=intake.others, without_key=intake.without_key, relayed=self.relayed)


def _place(identity: RunningPipeline) -> Place:
    try:
        if identity.group:
            return Place(identity.group, identity.name)
    except ValueError:  # a name that was never checked, as no subject is made of it
        pass
    return Place(NO_GROUP, identity.pipeline_id)
