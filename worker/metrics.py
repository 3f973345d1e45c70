"""The worker's figures for Prometheus: read from plain integers when somebody asks, so the hot path pays
nothing.

Every label has few values: reasons and codes are fixed sets, pipelines are told by state and not by name.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from transport import tracing
from transport.durations import cumulated
from transport.lag import LoopLag
from transport.nats import NatsTransport
from worker.connectors.registry import TYPES
from worker.dispatcher import Dispatcher
from worker.http_carrier import HttpCarrier
from worker.membership import VERSION, Membership
from worker.pipeline import State
from worker.pipelines import PipelineHost
from worker.rest_link import RestLink


class WorkerCollector(Collector):
    """All figures of one worker."""

    def __init__(
        self,
        host: PipelineHost,
        dispatcher: Dispatcher,
        membership: Membership,
        connection: Callable[[], Iterator[Metric]],
        lease_open: Callable[[], bool],
        lag: LoopLag,
    ) -> None:
        self._host = host
        self._dispatcher = dispatcher
        self._membership = membership
        self._connection = connection
        self._lease_open = lease_open
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        yield from self._pipelines()
        yield from self._checkpoints()
        yield from self._delivery()
        yield from self._control()
        yield from self._connection()

    def _pipelines(self) -> Iterator[Metric]:
        host = self._host
        yield CounterMetricFamily("varpulis_events", "Events taken in", value=host.events_in)
        yield CounterMetricFamily("varpulis_output_events", "Events put out by .emit", value=host.events_out)
        yield HistogramMetricFamily(
            "varpulis_processing_latency_seconds",
            "From a parsed event to its outputs; the first of each millisecond and pipeline is timed",
            buckets=cumulated(host.latency),
            sum_value=host.latency.total,
        )
        mismatches = sum(pipeline.engine.counters["mismatches"] for pipeline in host.pipelines)
        yield GaugeMetricFamily(
            "varpulis_mismatches",
            "Missing fields and unlike types met by the running pipelines",
            value=mismatches,
        )
        states = Counter(pipeline.state for pipeline in host.pipelines)
        pipelines = GaugeMetricFamily("varpulis_pipelines", "Pipelines by state", labels=["state"])
        for state in State:
            pipelines.add_metric([state], states[state])
        yield pipelines
        health = Counter(
            (each.connector_type, "connected" if each.connected else "disconnected")
            for pipeline in host.pipelines
            for each in pipeline.connectors.health_reports()
        )
        connectors = GaugeMetricFamily(
            "varpulis_connectors", "Connectors of the running pipelines", labels=["type", "state"]
        )
        for kind in sorted(TYPES):
            for name in ("connected", "disconnected"):
                connectors.add_metric([kind, name], health[kind, name])
        yield connectors
        yield GaugeMetricFamily(
            "varpulis_redelivered",
            "Messages of JetStream that came to the running pipelines more than once",
            value=sum(pipeline.connectors.redelivered for pipeline in host.pipelines),
        )
        losses = CounterMetricFamily(
            "varpulis_dropped", "Messages refused and outputs dropped, by reason", labels=["reason"]
        )
        for reason, count in sorted(host.losses().items()):
            losses.add_metric([reason], count)
        yield losses
        yield CounterMetricFamily(
            "varpulis_events_cut_off",
            "Events, and closings of windows, that took too long and were cut off",
            value=host.watchdog.ended,
        )
        shares = host.shares()
        yield CounterMetricFamily(
            "varpulis_left_to_other_instances",
            "Messages whose key another instance of the pipeline owns",
            value=shares["others"],
        )
        yield CounterMetricFamily(
            "varpulis_events_without_key", "Events without the partition key", value=shares["without_key"]
        )
        yield CounterMetricFamily(
            "varpulis_relayed_to_other_instances",
            "Events of shares taken here that another instance of the pipeline owns",
            value=shares["relayed"],
        )

    def _checkpoints(self) -> Iterator[Metric]:
        taken = self._host.checkpoints
        yield GaugeMetricFamily(
            "varpulis_checkpoint_age_seconds",
            "Seconds whose events a death of this worker would cost: the most of any pipeline",
            value=taken.age(),
        )
        yield GaugeMetricFamily(
            "varpulis_checkpoint_size_bytes",
            "Bytes of the newest checkpoint: the most of any pipeline",
            value=max((pipeline.safety.size for pipeline in self._host.pipelines), default=0),
        )
        counts = CounterMetricFamily(
            "varpulis_checkpoints", "Checkpoints by what became of them", labels=["outcome"]
        )
        for outcome in ("written", "failed", "fenced"):
            counts.add_metric([outcome], taken.counts[outcome])
        yield counts
        yield CounterMetricFamily(
            "varpulis_checkpoints_damaged",
            "Checkpoints that could not be read, and were skipped in favour of the one before",
            value=taken.archive.damaged,
        )
        yield CounterMetricFamily(
            "varpulis_checkpoint_bytes", "Bytes of the checkpoints written", value=taken.archive.bytes_written
        )
        yield CounterMetricFamily(
            "varpulis_checkpoint_seconds", "Seconds it took to write them", value=taken.duration
        )
        yield GaugeMetricFamily(
            "varpulis_checkpoint_longest_stall_seconds",
            "The longest that the copying of a state has held up events",
            value=taken.longest_stall,
        )
        begun = CounterMetricFamily(
            "varpulis_recoveries",
            "Copies that took the place of a dead one: from a checkpoint, or empty",
            labels=["from"],
        )
        begun.add_metric(["checkpoint"], taken.restored)
        begun.add_metric(["nothing"], taken.empty)
        yield begun
        yield GaugeMetricFamily(
            "varpulis_checkpoint_store_up", "1: the store took the last checkpoint", value=not taken.error
        )

    def _delivery(self) -> Iterator[Metric]:
        counts = self._host.feeds()
        yield CounterMetricFamily(
            "varpulis_delivery_outputs", "Outputs stored in streams", value=counts.outputs
        )
        yield CounterMetricFamily(
            "varpulis_delivery_batches", "Batches in which they were stored", value=counts.batches
        )
        yield CounterMetricFamily(
            "varpulis_delivery_attempts_failed",
            "Batches that were not stored, or not heard of, and sent again",
            value=counts.attempts_failed,
        )
        yield CounterMetricFamily(
            "varpulis_delivery_replayed",
            "Outputs made again that a copy before had stored, and left out",
            value=counts.replayed,
        )
        yield CounterMetricFamily(
            "varpulis_delivery_sent_again",
            "Outputs through connectors that may have been sent twice",
            value=counts.sent_again,
        )
        yield CounterMetricFamily(
            "varpulis_delivery_expired",
            "Messages removed from a stream before they were read, at most: its max_age was too short",
            value=counts.expired,
        )
        yield CounterMetricFamily(
            "varpulis_delivery_fenced",
            "Copies whose outputs the stream refused, as another had taken over",
            value=counts.fenced,
        )
        yield GaugeMetricFamily(
            "varpulis_delivery_lag",
            "Events in a stream that were not handled yet: the most of any pipeline here",
            value=self._host.lag,
        )

    def _control(self) -> Iterator[Metric]:
        commands = CounterMetricFamily("varpulis_commands", "Commands answered", labels=["command", "code"])
        for (command, code), count in sorted(self._dispatcher.answered.items()):
            commands.add_metric([command, code], count)
        yield commands
        membership = self._membership
        heartbeats = CounterMetricFamily("varpulis_heartbeats", "Heartbeats and answers", labels=["what"])
        heartbeats.add_metric(["sent"], membership.heartbeats)
        heartbeats.add_metric(["missed"], membership.missed)
        heartbeats.add_metric(["acknowledged"], membership.acknowledged)
        heartbeats.add_metric(["refused"], membership.refused)
        yield heartbeats
        yield GaugeMetricFamily(
            "varpulis_registered", "1: a coordinator accepted us", value=membership.registered
        )
        yield GaugeMetricFamily("varpulis_lease_open", "1: outputs may leave", value=self._lease_open())
        yield CounterMetricFamily(
            "varpulis_traceparents_ignored", "Headers traceparent that were none", value=tracing.ignored()
        )
        yield HistogramMetricFamily(
            "varpulis_event_loop_lag_seconds",
            "How late the event loop was, seen once a second",
            buckets=cumulated(self._lag.seconds),
            sum_value=self._lag.seconds.total,
        )
        build = GaugeMetricFamily("varpulis_build_info", "Version", labels=["version"])
        build.add_metric([VERSION], 1)
        yield build


def of_nats(bus: NatsTransport) -> Iterator[Metric]:
    """Figures of the connection to NATS."""
    stats = bus.stats
    yield GaugeMetricFamily("varpulis_nats_connected", "1: connected", value=bus.connected)
    yield CounterMetricFamily("varpulis_nats_reconnects", "Connections made again", value=stats.reconnects)
    yield CounterMetricFamily(
        "varpulis_nats_refused_publishes", "Publishes refused", value=stats.refused_publishes
    )
    yield CounterMetricFamily("varpulis_nats_requests", "Requests over NATS", value=stats.requests)
    errors = CounterMetricFamily(
        "varpulis_nats_request_errors", "Requests over NATS that failed", labels=["kind"]
    )
    for kind, count in stats.request_errors.copy().items():
        errors.add_metric([kind.value], count)
    yield errors
    durations = HistogramMetricFamily(
        "varpulis_nats_request_seconds",
        "From a request over NATS to its answer, by the message that was sent",
        labels=["message"],
    )
    for message, seen in stats.request_seconds.copy().items():
        durations.add_metric([message], cumulated(seen), seen.total)
    yield durations
    yield CounterMetricFamily(
        "varpulis_nats_dropped_messages", "Messages that found a full queue", value=stats.dropped_messages
    )
    refused = CounterMetricFamily(
        "varpulis_signatures_refused", "Messages without a right signature", labels=["reason"]
    )
    for reason, count in sorted(stats.refused_signatures.items()):
        refused.add_metric([reason], count)
    yield refused


def of_rest(link: RestLink, commands: HttpCarrier) -> Iterator[Metric]:
    """Figures of a worker that speaks REST."""
    yield GaugeMetricFamily(
        "varpulis_coordinator_connected", "1: a coordinator answered the last request", value=link.connected
    )
    yield CounterMetricFamily(
        "varpulis_coordinator_changes", "Times another coordinator was taken", value=link.changes
    )
    requests = CounterMetricFamily(
        "varpulis_http_commands", "Commands over HTTP answered", labels=["route", "status"]
    )
    for (route, status), count in sorted(commands.counts.items()):
        requests.add_metric([route, str(status)], count)
    yield requests
    bounds = CounterMetricFamily("varpulis_http_refused", "Requests beyond the bounds", labels=["reason"])
    bounds.add_metric(["too_large"], commands.limits.too_large)
    bounds.add_metric(["too_slow"], commands.limits.timed_out)
    yield bounds


def exposition(collector: Collector) -> bytes:
    """The Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    return generate_latest(registry)
