"""Metrics: read from plain integers when Prometheus asks, nothing on the hot paths.

Every label is bounded: statuses and phases are enumerations, routes are templates, reasons are codes; names
that users chose stand in one family only, and only so many of them (`coordinator.metrics.families`). A
scrape runs in a thread beside the event loop, so each dictionary is copied before it is walked.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.metrics.families import PREFIX, count, counter, durations, gauge, histograms, level, named
from coordinator.metrics.raft import of_raft
from coordinator.metrics.sources import HttpCounts, Sources
from coordinator.state.model import State
from coordinator.state.records import Phase, WorkerStatus
from coordinator.state.scaling import ADVICE
from transport import tracing

__all__ = ["ClusterCollector", "HttpCounts", "Sources", "exposition"]


class ClusterCollector(Collector):
    """Reads `Sources` when it is asked."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield from self._state()
        yield from self._decisions()
        yield from self._operations()
        yield from of_raft(self._from)
        yield from self._carriers()
        yield from self._to_workers()

    def _state(self) -> Iterator[Metric]:
        state = self._from.machine.state
        workers = Counter(worker.status for worker in list(state.workers.values()))
        yield gauge(
            "workers_total", "Workers by status.", "status", {s.value: workers[s] for s in WorkerStatus}
        )
        yield GaugeMetricFamily(PREFIX + "pipeline_groups_total", "Pipeline groups.", len(state.groups))
        phases = Counter(
            placement.phase
            for placements in list(state.placements.values())
            for placement in list(placements.values())
        )
        yield gauge(
            "pipelines", "Pipelines by phase.", "phase", {phase.value: phases[phase] for phase in Phase}
        )
        yield from self._ages(state)
        yield GaugeMetricFamily(
            PREFIX + "strays", "Copies to be ended where they may still run.", len(state.strays)
        )

    def _ages(self, state: State) -> Iterator[Metric]:
        """How long workers have been silent, by name as far as there is room for names."""
        now, table = self._from.clock(), self._from.table
        heard = ((worker, table.get(worker.id)) for worker in list(state.workers.values()))
        ages = {
            worker.id: max(now - last.at, 0.0)
            for worker, last in heard
            if last is not None and worker.status is not WorkerStatus.UNHEALTHY
        }
        shown, unnamed = named(ages)
        yield gauge(
            "worker_heartbeat_age_seconds",
            "Since a worker that is not known to be dead was heard; the longest of those without a series.",
            "worker",
            shown,
        )
        yield level("workers_without_series", "Workers told of together as other.", unnamed)

    def _to_workers(self) -> Iterator[Metric]:
        asked = CounterMetricFamily(
            PREFIX + "rest_commands", "Commands to workers over REST.", labels=["command", "outcome"]
        )
        for (command, outcome), times in sorted(self._from.asked_by_rest.items()):
            asked.add_metric([command, outcome], times)
        yield asked
        yield counter(
            "fenced_commands",
            "Commands refused as of an older epoch: by the replicated state, by a worker.",
            "by",
            {"state": self._from.ledger.fenced, "worker": self._from.commands.fenced},
        )

    def _decisions(self) -> Iterator[Metric]:
        took = self._from.ledger.decisions
        yield counter(
            "deployments",
            "Deployments while this node led.",
            "result",
            {"running": took["pipeline_running"], "failed": took["pipeline_failed"]},
        )
        yield counter(
            "placements",
            "Placements while this node led.",
            "reason",
            {"new": took["pipeline_placed"], "again": took["pipeline_placed_again"]},
        )
        loop = self._from.loop
        yield durations(
            "deploy_duration_seconds",
            "From the choice of a worker until the pipeline runs there.",
            loop.deployment.durations,
        )
        yield durations(
            "health_sweep_duration_seconds",
            "A look at the heartbeats of all workers.",
            loop.liveness.durations,
        )
        yield from self._moves()
        yield from self._updates()
        ended = loop.pipelines.ended + loop.verdicts.ended + loop.sweeps.ended + loop.jobs.ended
        yield durations(
            "placement_duration_seconds",
            "A pass that looked for places for pipelines.",
            loop.placement.durations,
        )
        yield counter("actions", "Actions of the controllers.", "result", ended)
        yield count("controller_failed_passes", "Passes that raised.", self._from.loop.failed_passes)

    def _operations(self) -> Iterator[Metric]:
        registered = len(self._from.machine.state.connectors)
        yield GaugeMetricFamily(PREFIX + "connectors", "Registered connectors.", registered)
        advice = self._from.scaling.current
        if advice is not None:
            yield gauge(
                "scaling_advice",
                "1 for what is advised now; only the leader advises.",
                "advice",
                {each: int(each == advice.advice) for each in ADVICE},
            )
            yield GaugeMetricFamily(PREFIX + "scaling_workers_wanted", "Workers wanted.", advice.wanted)
        if self._from.webhook is not None:
            posts = self._from.webhook.ended.copy()
            yield counter("webhook_posts", "Posts to the scaling webhook.", "result", posts)
        streams = self._from.streams
        yield GaugeMetricFamily(PREFIX + "stream_clients", "Clients of /stream.", streams.clients)
        ended = {"refused": streams.refused, "reset": streams.resets, "let_go": streams.let_go}
        yield counter("stream_misses", "Clients of /stream that missed something.", "reason", ended)

    def _moves(self) -> Iterator[Metric]:
        took, loop = self._from.ledger.decisions, self._from.loop
        results = ("started", "done", "failed", "cancelled")
        yield counter(
            "migrations",
            "Migrations that began and ended while this node led.",
            "result",
            {result: took[f"migration_{result}"] for result in results},
        )
        yield durations(
            "migration_duration_seconds",
            "From the decision to move a pipeline until it runs on the target.",
            loop.moves.durations,
        )
        state = self._from.machine.state
        yield level("migrations_active", "Migrations under way.", len(state.migrations))
        yield level("drains_active", "Workers that are being drained.", len(state.drains))

    def _updates(self) -> Iterator[Metric]:
        took = self._from.ledger.decisions
        results = {
            "started": took["group_update_started"] + took["group_rollback_started"],
            "done": took["group_updated"],
            "rolled_back": took["group_rolled_back"],
            "failed": took["group_update_ended"],
        }
        yield counter(
            "updates", "Updates of groups that began and ended while this node led.", "result", results
        )
        causes = {
            "failure": took["group_update_failed"],
            "asked": took["group_rollback_started"] + took["group_rollback_asked"],
        }
        yield counter("rollbacks", "Rollbacks that began while this node led.", "cause", causes)
        yield durations(
            "update_duration_seconds",
            "From the begin of an update until all it touched runs, in the new version or again in the old.",
            self._from.loop.updates.durations,
        )
        groups = list(self._from.machine.state.groups.values())
        rolling = sum(group.rolling is not None or group.division is not None for group in groups)
        yield GaugeMetricFamily(PREFIX + "updates_active", "Groups that are being updated.", rolling)

    def _carriers(self) -> Iterator[Metric]:
        part = self._from
        yield count("heartbeats", "Heartbeats, and parts of large ones, heard.", part.table.received)
        yield count(
            "heartbeats_incomplete", "Heartbeats of which a part did not come.", part.table.incomplete
        )
        yield count("heartbeats_out_of_order", "Heartbeats older than one heard.", part.table.out_of_order)
        bad = CounterMetricFamily(PREFIX + "bad_messages", "Messages refused.", labels=("kind", "reason"))
        for labels, times in part.listener.bad_messages.copy().items():
            bad.add_metric(labels, times)
        yield bad
        yield count("heartbeats_untracked", "Heartbeats of workers beyond the bound.", part.table.untracked)
        yield level("nats_connected", "1: connected to NATS.", int(part.nats_connected()))
        yield count("nats_requests", "Requests over NATS.", part.nats.requests)
        yield count("nats_reconnects", "Reconnects to NATS.", part.nats.reconnects)
        errors = {kind.value: times for kind, times in part.nats.request_errors.copy().items()}
        yield counter("nats_request_errors", "Requests over NATS that failed.", "kind", errors)
        yield histograms(
            "nats_request_seconds",
            "From a request over NATS to its answer, by the message that was sent.",
            "message",
            part.nats.request_seconds.copy(),
        )
        yield count("nats_dropped_messages", "Messages that found a full queue.", part.nats.dropped_messages)
        http = CounterMetricFamily(PREFIX + "http_requests", "Answers over HTTP.", labels=("route", "status"))
        for (route, status), times in part.http.answers.copy().items():
            http.add_metric((route, str(status)), times)
        yield http
        limits = part.http.limits
        refused = {"too_large": limits.too_large, "timed_out": limits.timed_out} if limits else {}
        refused["foreign_origin"] = part.http.origin.refused if part.http.origin else 0
        yield counter("http_refused", "Requests beyond their bounds.", "reason", refused)
        yield counter(
            "signatures_refused",
            "Messages without a right signature.",
            "reason",
            dict(part.nats.refused_signatures.copy()),
        )
        yield counter("auth_refused", "Requests not let in.", "reason", dict(part.door.refused.copy()))
        yield count("traceparents_ignored", "Headers traceparent that were none.", tracing.ignored())
        yield durations(
            "event_loop_lag_seconds", "How late the event loop was, seen once a second.", part.lag.seconds
        )
        build = GaugeMetricFamily(PREFIX + "build_info", "This program.", labels=("version", "node"))
        build.add_metric((part.version, part.node_id), 1)
        yield build


def exposition(sources: Sources) -> Callable[[], bytes]:
    """A function that writes the page for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterCollector(sources))
    return lambda: generate_latest(registry)
