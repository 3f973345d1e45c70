"""One pipeline that runs: messages in, through the engine, outputs to sinks and routes.

The path of an event is one callback: parse, `Engine.process`, `Engine.take`, send. There is no queue of our
own; the bound is that of the NATS subscription, which counts what it drops. `process` and `take` follow
each other without an `await` between, so what `take` gives belongs to that event, also when several
subscriptions and an inject interleave.

Nothing a pipeline does hurts its neighbours. A refused message, a dropped output and a failing event are
counted by reason; `FAILURE_BUDGET` failing events in a row make the pipeline `failed`: it stops its intake
and says why in the heartbeats, and the coordinator decides. Outputs leave only while the worker's lease
allows (`worker.lease`).
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from proto_schemas.messages import PipelineMetrics, RunningPipeline
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport, Subscription
from vpl import Program
from worker.checkpoints import Checkpoint, put_back
from worker.connectors.base import OutputDropped, Sink, encode_output
from worker.connectors.nats import drain, drop_reason
from worker.connectors.registry import ConnectorRegistry
from worker.lease import Lease
from worker.payload import PayloadError, parse_event
from worker.routes import OutputRoutes

FAILURE_BUDGET: Final = 100
"""Failing events in a row after which a pipeline is `failed`."""
ENGINE_LOSSES: Final = ("unknown_type", "values_dropped", "window_evicted")
"""Counters of the engine that tell of events, or parts of its state, that went nowhere."""
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


def now_ms() -> int:
    """Wall clock, ms since 1970."""
    return time.time_ns() // 1_000_000


class RouteSink:
    """Publishes emitted events on the subjects their types are routed to."""

    def __init__(self, bus: NatsTransport, routes: OutputRoutes) -> None:
        self._bus = bus
        self._routes = routes

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        subjects = self._routes.subjects_of(event_type)
        if not subjects:
            return
        data = encode_output(event_type, fields, ts)
        for subject in subjects:
            try:
                await self._bus.publish(subject, data)
            except NatsTransportError as error:
                raise OutputDropped(drop_reason(error), str(error)) from None


class Pipeline:
    """One copy of a pipeline.

    Attributes:
        state, reason: `running`, or not and why.
        refused: messages that were no events, by reason.
        dropped: outputs that did not leave, by reason.
        errors: events the engine failed on.
    """

    def __init__(
        self,
        identity: RunningPipeline,
        program: Program,
        connectors: ConnectorRegistry,
        route_sink: RouteSink | None,
        lease: Lease,
    ) -> None:
        self.id = identity.pipeline_id
        self.group = identity.group
        self.name = identity.name
        self.epoch = identity.epoch
        self.program = program
        self.engine = program.start()
        self.connectors = connectors
        self.state = State.RUNNING
        self.reason: str | None = None
        self.refused: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.errors = 0
        self._errors_in_a_row = 0
        self._restored: Counter[str] = Counter()
        self._now = 0
        self._lease = lease
        self._inputs: list[Subscription] = []
        self._sinks: list[Sink | None] = [route_sink]  # sink id -1, the last one, is the routes

    async def start(self, bus: NatsTransport | None, subjects: Sequence[str], flush_wait: float) -> None:
        """Make the sinks, then open the sources and `subjects` (none without `bus`); on return the servers
        know all subscriptions.

        Raises:
            ConnectorError, NatsTransportError: and then `stop` cleans up.
        """
        for position, sink in enumerate(self.program.sinks):
            self._sinks.insert(position, await self.connectors.create_sink(sink))
        for source in self.program.sources:
            await self.connectors.start_source(source, self.receive)
        if bus is None or not subjects:
            return
        for subject in subjects:
            self._inputs.append(await bus.subscribe(subject, self.receive))
        await bus.flush(flush_wait)

    # --- the path of an event

    async def receive(self, message: Message) -> None:
        """Handle one message from a source or a route."""
        now = now_ms()
        try:
            event_type, fields, ts = parse_event(message.data, message.subject, now)
        except PayloadError as error:
            self.refused[error.reason] += 1
            return
        outputs = self.process(event_type, fields, ts, now)
        if outputs:
            await self.deliver(outputs)
        elif outputs is None and self.state is State.FAILED:
            await self.stop_intake()

    def process(self, event_type: str, fields: dict[str, Any], ts: int, now: int) -> list[Output] | None:
        """Run one event at `now` (ms): its outputs, or None when the engine failed or there is none."""
        if self.state is not State.RUNNING:
            self.refused[f"pipeline_{self.state}"] += 1
            return None
        engine = self.engine
        if now != self._now:
            engine.now = self._now = now
        try:
            engine.process(event_type, fields, ts)
            self._errors_in_a_row = 0
            return engine.take()
        except Exception as error:
            self._count_failure(error)
            return None

    async def deliver(self, outputs: Sequence[Output]) -> None:
        """Send outputs to their sinks and routes, in order; what does not leave is counted."""
        if not self._lease.is_open(time.monotonic()):
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
        """Something is over at `now` (ms)."""
        if self.state is not State.RUNNING:
            return False
        deadline = self.engine.next_deadline()
        return deadline is not None and deadline <= now

    async def tick(self, now: int) -> None:
        """Close what is over at `now` (ms)."""
        try:
            self.engine.advance(now)
            outputs = self.engine.take()
        except Exception as error:
            self._count_failure(error)
        else:
            await self.deliver(outputs)

    def _count_failure(self, error: Exception) -> None:
        self.engine.take()  # what the failing event had put out is not the next one's
        self.errors += 1
        self._errors_in_a_row += 1
        if self._errors_in_a_row == 1:
            log.error("pipeline=%s the engine failed on an event; going on", self.id, exc_info=error)
        if self._errors_in_a_row >= FAILURE_BUDGET:
            self.state = State.FAILED
            cause = f"{type(error).__name__}: {error}"[:200]
            self.reason = f"{FAILURE_BUDGET} events in a row failed, the last with {cause}"
            log.error("pipeline=%s failed: %s", self.id, self.reason)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`.

        Raises:
            WireError: `conflict`; the pipeline goes on as it was.
        """
        before = self.engine.counters
        put_back(self.engine, checkpoint)
        self._restored.update({key: count - before[key] for key, count in self.engine.counters.items()})

    # --- rest

    async def stop_intake(self) -> None:
        """Unsubscribe now; what is queued is thrown away."""
        for subscription in self._inputs:
            await subscription.unsubscribe()
        await self.connectors.stop_sources()

    async def stop(self) -> None:
        """Unsubscribe now and let go of the connectors."""
        await self.stop_intake()
        await self.connectors.shutdown(CLOSE_WAIT)

    async def drain(self, bus: NatsTransport | None, timeout: float) -> None:
        """Handle what was sent until now, then take no more; the connectors stay until `stop`."""
        if bus is not None:
            await drain(bus, self._inputs, timeout)
        await self.connectors.drain_sources(timeout)
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
            state=self.state,
            reason=self.reason,
        )

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
        late = self.connectors.dropped + sum(each.dropped for each in self._inputs)
        engine = self.engine.counters
        in_engine = Counter({reason: engine[reason] - self._restored[reason] for reason in ENGINE_LOSSES})
        return (
            self.refused + self.dropped + in_engine + Counter(slow_consumer=late, engine_failure=self.errors)
        )
