"""The coordinators and the workers: they answer, are one cluster, and agree on who leads."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from cli.doctor.findings import Finding, fault, ok, skipped, warning
from cli.doctor.peers import Peer
from cli.doctor.site import Site

LAG: Final = 1000
"""Entries that a member may be behind while nothing is wrong."""
SILENCE_MS: Final = 1000
"""Since the leader last heard of a member."""


def coordinators(site: Site) -> Iterator[Finding]:
    """Each one that is named or that others tell of, then all of them together."""
    if site.rests:
        yield skipped(str(site.call.data_dir), "no process of its cluster runs: `varpulis up` starts it")
        return
    peers = site.peers.coordinators
    if not site.names_a_cluster and not site.peers.answering:
        yield skipped("coordinators", f"no cluster is named, and none answers at {', '.join(site.urls)}")
        return
    for peer in peers:
        yield _one(peer)
    answering = site.peers.answering
    if not answering:
        return
    yield from _one_cluster(site, answering)
    yield from _leader(answering)
    yield from _admission(answering)
    yield from _members(answering)


def _one(peer: Peer) -> Finding:
    told = "" if peer.named else ", of which others tell"
    if peer.health is None:
        return fault(
            peer.url + told,
            peer.problem or "does not answer",
            "start it (`varpulis up --detach`, or its service), or correct --url",
        )
    if peer.ready:
        return fault(peer.name + told, f"is not ready: {peer.ready}", "see its log; it comes back by itself")
    role = "leads" if peer.health["is_leader"] else f"follows {peer.health['leader_id']}"
    took = f", answers in {peer.round_trip * 1000:.0f} ms" if peer.round_trip is not None else ""
    return ok(peer.name + told, f"{role}, term {peer.health['term']}{took}")


def _one_cluster(site: Site, answering: list[Peer]) -> Iterator[Finding]:
    clusters = sorted({str((peer.health or {})["cluster_id"]) for peer in answering})
    if len(clusters) > 1:
        words = [f"{peer.url} is of {(peer.health or {})['cluster_id']}" for peer in answering]
        yield fault("cluster id", ", ".join(words), "name the coordinators of one cluster in --url")
    wanted = site.settings.resolved("cluster.id")
    if wanted.given and clusters != [wanted.value]:
        yield fault(
            "cluster id",
            f"the settings say {wanted.value}, the coordinators {', '.join(clusters)}",
            "correct --cluster-id, or --url",
        )


def _leader(answering: list[Peer]) -> Iterator[Finding]:
    """Everybody names the same, in the same term; right after an election one may not have heard yet."""
    seen = [peer.health for peer in answering if peer.health is not None]
    leaders = Counter(health["leader_id"] for health in seen if health["leader_id"])
    terms = sorted({health["term"] for health in seen})
    if not leaders:
        yield fault(
            "leader",
            "nobody leads",
            "start the coordinators that are missing: more than half must run, and reach NATS",
        )
    elif len(leaders) > 1 or len(terms) > 1:
        words = [f"{health['node_id']}: {health['leader_id']} in term {health['term']}" for health in seen]
        yield warning(
            "leader",
            f"they do not agree: {', '.join(words)}",
            "look again in a second; if it stays, one of them does not hear the others: see its log, NATS",
        )
    else:
        yield ok("leader", f"all that answer name {next(iter(leaders))}, term {terms[0]}")


def _admission(answering: list[Peer]) -> Iterator[Finding]:
    refused = next((peer.refused for peer in answering if peer.refused), "")
    if refused:
        yield fault(
            "our key",
            refused,
            "give --api-key-file with a key of a viewer or more: without it most cannot be looked at",
        )


def _members(answering: list[Peer]) -> Iterator[Finding]:
    """What the leader knows of each member, whether that one answers us or not."""
    leads = [
        peer.raft for peer in answering if peer.raft and peer.raft["leader_id"] == peer.raft["this_node_id"]
    ]
    for raft in [peer.raft for peer in answering if peer.raft and peer.raft["failure"]]:
        yield fault(raft["this_node_id"], f"has withdrawn: {raft['failure']}", "mend that, then restart it")
    if not leads:
        return
    for node in leads[0]["nodes"]:
        yield from _member(leads[0], node)
    for learner in leads[0]["learners"]:
        yield warning(learner, "is being added and catches up", "look again in a while")


def _member(raft: dict[str, Any], node: dict[str, Any]) -> Iterator[Finding]:
    if node["id"] == raft["this_node_id"]:
        return
    silent, lag = node["last_contact_ms"], node["lag"]
    if silent is None or silent > SILENCE_MS:
        since = "never heard" if silent is None else f"not heard for {silent / 1000:.1f} s"
        yield fault(
            f"member {node['id']}",
            f"{since} by the leader",
            f"start it, or mend its way to NATS; if it is lost for good: `varpulis raft remove {node['id']}`",
        )
    elif lag is not None and lag > LAG:
        yield warning(
            f"member {node['id']}", f"is {lag} entries behind the leader", "look again; is its disk slow?"
        )


def workers(site: Site) -> Iterator[Finding]:
    """What the cluster says of each worker."""
    listed = site.peers.page("/workers?limit=1000")
    if listed is None:
        yield skipped("workers", "no coordinator tells us")
        return
    if not listed["workers"]:
        yield warning("workers", "there are none, so nothing can run", "start one: `varpulis worker`")
    for worker in listed["workers"]:
        age = worker["last_heartbeat_age_ms"]
        heard = "never heard" if age is None else f"heard {age / 1000:.1f} s ago"
        if worker["status"] != "ready":
            yield warning(
                worker["id"],
                f"{worker['status']}, {heard}",
                f"start it again, or `varpulis worker remove {worker['id']}`",
            )
        elif worker["cordoned"]:
            yield warning(worker["id"], "is cordoned", f"`varpulis worker uncordon {worker['id']}` when done")
        else:
            yield ok(worker["id"], f"ready, {heard}, {worker['pipelines_running']} pipelines")
