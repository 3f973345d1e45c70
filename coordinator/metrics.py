"""Metrics: read from plain integers when Prometheus asks, nothing on the hot paths.

Every label is bounded: statuses and phases are enumerations, routes are templates, reasons are codes. A
scrape runs in a thread beside the event loop, so each dictionary is copied before it is walked.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.controllers.loop import ControlLoop
from coordinator.durations import Durations
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.machine import ClusterMachine
from coordinator.nats_handlers import WorkerListener
from coordinator.scaling import Scaling
from coordinator.security.door import Door
from coordinator.security.origin import SameOrigin
from coordinator.state.model import Phase, WorkerStatus
from coordinator.state.scaling import ADVICE
from coordinator.streams import Streams
from coordinator.webhook import Webhook
from raft.counters import FSYNC_BOUNDS, Counters
from raft.status import RaftStatus
from transport.limits import RequestLimits
from transport.stats import Stats

_P: Final = "varpulis_cluster_"
_ROLES: Final = {"follower": 0, "candidate": 1, "leader": 2}


class HttpCounts:
    """Answers by route template and status; `limits` counts what it refused before any route saw it."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.limits: RequestLimits | None = None
        self.origin: SameOrigin | None = None

    def answered(self, route: str, status: int) -> None:
        """Count one."""
        self.answers[route, status] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers come from."""

    node_id: str
    version: str
    machine: ClusterMachine
    ledger: Ledger
    table: HeartbeatTable
    listener: WorkerListener
    loop: ControlLoop
    scaling: Scaling
    webhook: Webhook | None
    streams: Streams
    http: HttpCounts
    door: Door
    asked_by_rest: Counter[tuple[str, str]]
    raft_status: Callable[[], RaftStatus]
    raft_counters: Counters
    nats: Stats
    nats_connected: Callable[[], bool]


class ClusterCollector(Collector):
    """Reads `Sources` when it is asked."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield from self._state()
        yield from self._decisions()
        yield from self._operations()
        yield from self._raft()
        yield from self._carriers()
        yield from self._to_workers()

    def _state(self) -> Iterator[Metric]:
        state = self._from.machine.state
        workers = Counter(worker.status for worker in list(state.workers.values()))
        yield _gauge(
            "workers_total", "Workers by status.", "status", {s.value: workers[s] for s in WorkerStatus}
        )
        yield GaugeMetricFamily(_P + "pipeline_groups_total", "Pipeline groups.", len(state.groups))
        phases = Counter(
            placement.phase
            for placements in list(state.placements.values())
            for placement in list(placements.values())
        )
        yield _gauge(
            "pipelines", "Pipelines by phase.", "phase", {phase.value: phases[phase] for phase in Phase}
        )
        yield GaugeMetricFamily(
            _P + "strays", "Copies to be ended where they may still run.", len(state.strays)
        )

    def _to_workers(self) -> Iterator[Metric]:
        asked = CounterMetricFamily(
            _P + "rest_commands", "Commands to workers over REST.", labels=["command", "outcome"]
        )
        for (command, outcome), count in sorted(self._from.asked_by_rest.items()):
            asked.add_metric([command, outcome], count)
        yield asked

    def _decisions(self) -> Iterator[Metric]:
        took = self._from.ledger.decisions
        yield _counter(
            "deployments",
            "Deployments while this node led.",
            "result",
            {"running": took["pipeline_running"], "failed": took["pipeline_failed"]},
        )
        yield _counter(
            "placements",
            "Placements while this node led.",
            "reason",
            {"new": took["pipeline_placed"], "again": took["pipeline_placed_again"]},
        )
        loop = self._from.loop
        yield _durations(
            "deploy_duration_seconds",
            "From the choice of a worker until the pipeline runs there.",
            loop.deployment.durations,
        )
        yield _durations(
            "health_sweep_duration_seconds",
            "A look at the heartbeats of all workers.",
            loop.liveness.durations,
        )
        yield from self._moves()
        yield from self._updates()
        ended = loop.pipelines.ended + loop.verdicts.ended + loop.sweeps.ended + loop.jobs.ended
        yield _counter("actions", "Actions of the controllers.", "result", ended)
        yield _count("controller_failed_passes", "Passes that raised.", self._from.loop.failed_passes)

    def _operations(self) -> Iterator[Metric]:
        registered = len(self._from.machine.state.connectors)
        yield GaugeMetricFamily(_P + "connectors", "Registered connectors.", registered)
        advice = self._from.scaling.current
        if advice is not None:
            yield _gauge(
                "scaling_advice",
                "1 for what is advised now; only the leader advises.",
                "advice",
                {each: int(each == advice.advice) for each in ADVICE},
            )
            yield GaugeMetricFamily(_P + "scaling_workers_wanted", "Workers wanted.", advice.wanted)
        if self._from.webhook is not None:
            posts = self._from.webhook.ended.copy()
            yield _counter("webhook_posts", "Posts to the scaling webhook.", "result", posts)
        streams = self._from.streams
        yield GaugeMetricFamily(_P + "stream_clients", "Clients of /stream.", streams.clients)
        ended = {"refused": streams.refused, "reset": streams.resets, "let_go": streams.let_go}
        yield _counter("stream_misses", "Clients of /stream that missed something.", "reason", ended)

    def _moves(self) -> Iterator[Metric]:
        took, loop = self._from.ledger.decisions, self._from.loop
        results = ("started", "done", "failed", "cancelled")
        yield _counter(
            "migrations",
            "Migrations that began and ended while this node led.",
            "result",
            {result: took[f"migration_{result}"] for result in results},
        )
        yield _durations(
            "migration_duration_seconds",
            "From the decision to move a pipeline until it runs on the target.",
            loop.moves.durations,
        )
        state = self._from.machine.state
        yield GaugeMetricFamily(_P + "migrations_active", "Migrations under way.", len(state.migrations))
        yield GaugeMetricFamily(_P + "drains_active", "Workers that are being drained.", len(state.drains))

    def _updates(self) -> Iterator[Metric]:
        took = self._from.ledger.decisions
        results = {
            "started": took["group_update_started"] + took["group_rollback_started"],
            "done": took["group_updated"],
            "rolled_back": took["group_rolled_back"],
            "failed": took["group_update_ended"],
        }
        yield _counter(
            "updates", "Updates of groups that began and ended while this node led.", "result", results
        )
        causes = {
            "failure": took["group_update_failed"],
            "asked": took["group_rollback_started"] + took["group_rollback_asked"],
        }
        yield _counter("rollbacks", "Rollbacks that began while this node led.", "cause", causes)
        yield _durations(
            "update_duration_seconds",
            "From the begin of an update until all it touched runs, in the new version or again in the old.",
            self._from.loop.updates.durations,
        )
        groups = list(self._from.machine.state.groups.values())
        rolling = sum(group.rolling is not None or group.division is not None for group in groups)
        yield GaugeMetricFamily(_P + "updates_active", "Groups that are being updated.", rolling)

    def _raft(self) -> Iterator[Metric]:
        status, counters = self._from.raft_status(), self._from.raft_counters
        role = next((node.role for node in status.nodes if node.id == status.this_node_id), "unknown")
        yield _level("raft_role", "Role: 0 follower, 1 candidate, 2 leader.", _ROLES.get(role, 0))
        yield _level("raft_term", "Term.", status.term)
        yield _level("raft_generation", "Generation of the members.", status.generation)
        yield _level("raft_commit_index", "Last committed entry.", status.commit_index)
        yield _level("raft_applied_index", "Last applied entry.", status.applied_index)
        yield _level("has_leader", "1 when a leader is known.", int(status.leader_id is not None))
        yield _gauge(
            "raft_state", "1 for the role of this node.", "state", {r: int(r == role) for r in _ROLES}
        )
        yield from _peers(status)
        yield _count("leader_changes", "Changes of leader seen here.", counters.leader_changes)
        yield _count("raft_proposals", "Proposals made here.", counters.proposals)
        yield _count("raft_commits", "Entries committed.", counters.commits)
        yield _count("raft_elections", "Elections begun here.", counters.elections)
        yield _count("raft_barriers", "Barriers for reads, each shared by all who waited.", counters.barriers)
        yield _count("raft_snapshots", "Snapshots written.", counters.snapshots)
        yield _count(
            "raft_snapshots_failed", "Snapshots that could not be written.", counters.snapshots_failed
        )
        yield _count("raft_snapshots_sent", "Snapshots sent to a peer.", counters.snapshots_sent)
        yield _count(
            "raft_snapshots_installed", "Snapshots of a peer installed.", counters.snapshots_installed
        )
        yield _count(
            "raft_snapshots_refused", "Snapshots that did not check out.", counters.snapshots_refused
        )
        yield _count(
            "raft_snapshots_too_large",
            "Snapshots a peer declined for their size.",
            counters.snapshots_too_large,
        )
        yield _count("raft_frames_sent", "Frames sent.", counters.frames_sent)
        yield _count("raft_frames_received", "Frames received.", counters.frames_received)
        yield _count("raft_no_responders", "Requests that no peer heard.", counters.no_responders)
        yield _count("raft_apply_failures", "Commands the state broke on.", counters.apply_failures)
        failed = dict(counters.proposals_failed.copy())
        yield _counter("raft_proposals_failed", "Proposals that failed.", "outcome", failed)
        yield _count("unreadable_commands", "Commands of another version.", self._from.machine.unreadable)
        yield _counter(
            "raft_frames_dropped", "Frames dropped.", "reason", dict(counters.frames_dropped.copy())
        )
        yield _fsyncs(counters)

    def _carriers(self) -> Iterator[Metric]:
        part = self._from
        yield _count("heartbeats", "Heartbeats, and parts of large ones, heard.", part.table.received)
        yield _count(
            "heartbeats_incomplete", "Heartbeats of which a part did not come.", part.table.incomplete
        )
        yield _count("heartbeats_out_of_order", "Heartbeats older than one heard.", part.table.out_of_order)
        bad = CounterMetricFamily(_P + "bad_messages", "Messages refused.", labels=("kind", "reason"))
        for labels, count in part.listener.bad_messages.copy().items():
            bad.add_metric(labels, count)
        yield bad
        yield _count("heartbeats_untracked", "Heartbeats of workers beyond the bound.", part.table.untracked)
        yield _level("nats_connected", "1: connected to NATS.", int(part.nats_connected()))
        yield _count("nats_requests", "Requests over NATS.", part.nats.requests)
        yield _count("nats_reconnects", "Reconnects to NATS.", part.nats.reconnects)
        errors = {kind.value: count for kind, count in part.nats.request_errors.copy().items()}
        yield _counter("nats_request_errors", "Requests over NATS that failed.", "kind", errors)
        yield _count("nats_dropped_messages", "Messages that found a full queue.", part.nats.dropped_messages)
        http = CounterMetricFamily(_P + "http_requests", "Answers over HTTP.", labels=("route", "status"))
        for (route, status), count in part.http.answers.copy().items():
            http.add_metric((route, str(status)), count)
        yield http
        limits = part.http.limits
        refused = {"too_large": limits.too_large, "timed_out": limits.timed_out} if limits else {}
        refused["foreign_origin"] = part.http.origin.refused if part.http.origin else 0
        yield _counter("http_refused", "Requests beyond their bounds.", "reason", refused)
        yield _counter(
            "signatures_refused",
            "Messages without a right signature.",
            "reason",
            dict(part.nats.refused_signatures.copy()),
        )
        yield _counter("auth_refused", "Requests not let in.", "reason", dict(part.door.refused.copy()))
        build = GaugeMetricFamily(_P + "build_info", "This program.", labels=("version", "node"))
        build.add_metric((part.version, part.node_id), 1)
        yield build


def exposition(sources: Sources) -> Callable[[], bytes]:
    """A function that writes the page for Prometheus."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterCollector(sources))
    return lambda: generate_latest(registry)


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_P + name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(_P + name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family


def _count(name: str, text: str, value: int) -> CounterMetricFamily:
    return CounterMetricFamily(_P + name, text, value)


def _level(name: str, text: str, value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(_P + name, text, value)


def _peers(status: RaftStatus) -> Iterator[Metric]:
    """What this node knows of the other members; there are as many series as members."""
    others = [node for node in status.nodes if node.id != status.this_node_id]
    lag = {node.id: node.lag for node in others if node.lag is not None}
    yield _gauge("raft_peer_lag_entries", "Entries a peer lacks; the leader knows.", "peer", lag)
    contact = GaugeMetricFamily(
        _P + "raft_peer_last_contact_seconds", "Since a peer was last heard.", labels=("peer",)
    )
    for node in others:
        if node.last_contact_ms is not None:
            contact.add_metric((node.id,), node.last_contact_ms / 1000)
    yield contact


def _fsyncs(counters: Counters) -> HistogramMetricFamily:
    seen = counters.fsync_seconds
    return _histogram("raft_fsync_seconds", "Journal syncs.", FSYNC_BOUNDS, seen.buckets, seen.total)


def _durations(name: str, text: str, seen: Durations) -> HistogramMetricFamily:
    return _histogram(name, text, seen.bounds, list(seen.buckets), seen.total)


def _histogram(
    name: str, text: str, bounds: Sequence[float], buckets: Sequence[int], total: float
) -> HistogramMetricFamily:
    labels = [*(str(bound) for bound in bounds), "+Inf"]
    cumulative = list(zip(labels, accumulate(buckets), strict=True))
    return HistogramMetricFamily(_P + name, text, cumulative, total)
