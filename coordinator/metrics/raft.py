"""What a coordinator tells of Raft."""

from collections.abc import Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from coordinator.metrics.families import PREFIX, count, counter, durations, gauge, histograms, level
from coordinator.metrics.sources import Sources
from raft.counters import Counters
from raft.status import RaftStatus

_ROLES: Final = {"follower": 0, "candidate": 1, "leader": 2}


def of_raft(sources: Sources) -> Iterator[Metric]:
    """Role, log, elections, frames, and how long commits take."""
    status, counters = sources.raft_status(), sources.raft_counters
    role = next((node.role for node in status.nodes if node.id == status.this_node_id), "unknown")
    yield level("raft_role", "Role: 0 follower, 1 candidate, 2 leader.", _ROLES.get(role, 0))
    yield level("raft_term", "Term.", status.term)
    yield level("raft_generation", "Generation of the members.", status.generation)
    yield level("raft_commit_index", "Last committed entry.", status.commit_index)
    yield level("raft_applied_index", "Last applied entry.", status.applied_index)
    yield level("has_leader", "1 when a leader is known.", int(status.leader_id is not None))
    yield gauge("raft_state", "1 for the role of this node.", "state", {r: int(r == role) for r in _ROLES})
    yield from _peers(status, counters)
    yield count("leader_changes", "Changes of leader seen here.", counters.leader_changes)
    yield count("raft_proposals", "Proposals made here.", counters.proposals)
    yield count("raft_commits", "Entries committed.", counters.commits)
    yield count("raft_elections", "Elections begun here.", counters.elections)
    yield count("raft_barriers", "Barriers for reads, each shared by all who waited.", counters.barriers)
    yield count("raft_snapshots", "Snapshots written.", counters.snapshots)
    yield count("raft_snapshots_failed", "Snapshots that could not be written.", counters.snapshots_failed)
    yield count("raft_snapshots_sent", "Snapshots sent to a peer.", counters.snapshots_sent)
    yield count("raft_snapshots_installed", "Snapshots of a peer installed.", counters.snapshots_installed)
    yield count("raft_snapshots_refused", "Snapshots that did not check out.", counters.snapshots_refused)
    yield count(
        "raft_snapshots_too_large",
        "Snapshots a peer declined for their size.",
        counters.snapshots_too_large,
    )
    yield count("raft_frames_sent", "Frames sent.", counters.frames_sent)
    yield count("raft_frames_received", "Frames received.", counters.frames_received)
    yield count("raft_no_responders", "Requests that no peer heard.", counters.no_responders)
    yield count("raft_apply_failures", "Commands the state broke on.", counters.apply_failures)
    failed = dict(counters.proposals_failed.copy())
    yield counter("raft_proposals_failed", "Proposals that failed.", "outcome", failed)
    yield count("unreadable_commands", "Commands of another version.", sources.machine.unreadable)
    yield counter("raft_frames_dropped", "Frames dropped.", "reason", dict(counters.frames_dropped.copy()))
    yield durations("raft_fsync_seconds", "Journal syncs.", counters.fsync_seconds)
    yield durations(
        "raft_commit_seconds",
        "From a proposal to this node, while it led, until it was committed and applied.",
        counters.commit_seconds,
    )
    yield histograms(
        "failover_seconds",
        "Phases of the elections this node won: detection, election, first commit.",
        "phase",
        counters.failover_seconds,
    )


def _peers(status: RaftStatus, counters: Counters) -> Iterator[Metric]:
    """What this node knows of the other members; there are as many series as members."""
    others = [node for node in status.nodes if node.id != status.this_node_id]
    lag = {node.id: node.lag for node in others if node.lag is not None}
    yield gauge("raft_peer_lag_entries", "Entries a peer lacks; the leader knows.", "peer", lag)
    contact = GaugeMetricFamily(
        PREFIX + "raft_peer_last_contact_seconds", "Since a peer was last heard.", labels=("peer",)
    )
    for node in others:
        if node.last_contact_ms is not None:
            contact.add_metric((node.id,), node.last_contact_ms / 1000)
    yield contact
    trips = counters.round_trip_seconds.copy()
    yield histograms(
        "raft_peer_round_trip_seconds",
        "From an append to a peer, while this node led, until it answered.",
        "peer",
        {node.id: trips[node.id] for node in others if node.id in trips},
    )
