"""Names: whether each may be one, whether two are the same, and whose the files in a directory are."""

import socket
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import psutil

from cli.doctor.findings import Finding, fault, judged, ok, skipped, warning
from cli.doctor.site import Place, Site
from proto_schemas.subjects import check_id
from raft.verify import verify
from transport.http_client import is_loopback


def ids(site: Site) -> Iterator[Finding]:
    """Legal, unique, and known to the cluster."""
    settings = site.settings
    named = [(f"{role}.id", settings[f"{role}.id"]) for role in site.roles]
    if settings.resolved("cluster.id").given:
        named.append(("cluster.id", settings["cluster.id"]))
    named += [("coordinator.members", member) for member in settings["coordinator.members"] or ()]
    if not named and site.record is None:
        yield skipped("ids", "the settings name no coordinator, worker or cluster")
    wrong = False
    for key, value in named:
        try:
            check_id(value, key)
        except ValueError as error:
            wrong = True
            yield judged(key, error)
    yield from _twice(site)
    yield from _membership(site)
    yield from _namesake(site)
    if named and not wrong:
        yield ok("ids", ", ".join(f"{key} {value}" for key, value in named) + ": can be ids")
    if site.record is not None:
        names = [process.id for process in site.record.processes]
        yield ok(str(site.call.data_dir), f"cluster {site.record.cluster_id}: {', '.join(names)}")


def _twice(site: Site) -> Iterator[Finding]:
    settings = site.settings
    members = settings["coordinator.members"] or ()
    for name, count in Counter(members).items():
        if count > 1:
            yield fault("coordinator.members", f"{name} is there {count} times", "name each member once")
    if len(site.roles) > 1 and settings["coordinator.id"] == settings["worker.id"]:
        yield warning(
            settings["worker.id"],
            "is the id of the coordinator and of the worker",
            "give each process a name of its own, or logs and metrics mix them up",
        )
    answers = Counter(peer.health["node_id"] for peer in site.peers.answering if peer.health)
    for name, count in answers.items():
        if count > 1:
            urls = [peer.url for peer in site.peers.answering if (peer.health or {}).get("node_id") == name]
            yield fault(
                name,
                f"answers at {' and '.join(urls)}",
                "name it once; if those are two processes, stop one: an id belongs to one process",
            )


def _membership(site: Site) -> Iterator[Finding]:
    """Our coordinator is one of the cluster's, where the cluster answers."""
    name = site.settings["coordinator.id"]
    seen = next((peer.raft for peer in site.peers.answering if peer.raft), None)
    if not name or seen is None:
        return
    known = {node["id"] for node in seen["nodes"]} | set(seen["learners"])
    if name not in known:
        yield warning(
            name,
            f"is no member: those are {', '.join(sorted(known))}",
            f"start it with --join, then `varpulis raft add {name}`; or correct its id",
        )


def _namesake(site: Site) -> Iterator[Finding]:
    """A worker of our worker's name that runs on another machine: each pushes the other out."""
    name = site.settings["worker.id"]
    listed = (site.peers.page("/workers?limit=1000") or {}).get("workers", []) if name else []
    for worker in listed:
        host = urlsplit(worker["address"]).hostname
        if worker["id"] == name and worker["status"] == "ready" and host and not _ours(host):
            yield warning(
                name,
                f"runs at {worker['address']}, which is no address of this machine",
                "give this worker another id, unless it is meant to take the place of that one",
            )


def _ours(host: str) -> bool:
    known = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return is_loopback(host) or host in known or host == socket.gethostname()


def journals(site: Site) -> Iterator[Finding]:
    """Every byte of the journals and snapshots on this machine, and whose they are."""
    there = [place for place in site.places if place.role == "coordinator" and place.path.is_dir()]
    if not there:
        yield skipped("journals", "no data directory of a coordinator is known here")
    for place in there:
        report = verify(place.path)
        newest = report.generations[-1] if report.generations else report
        for finding in newest.findings:
            about = f"{place.id}: {finding.file}"
            if finding.severity == "error":
                yield judged(about, ValueError(finding.text))
            elif finding.severity == "warning":
                yield warning(about, finding.text, f"varpulis raft verify {place.path}")
        yield from _owner(place, newest.node, newest.cluster)
        if report.ok:
            yield ok(place.id, f"{place.path}: whole, up to entry {newest.last_index} of term {newest.term}")


def _owner(place: Place, node: str | None, cluster: str | None) -> Iterator[Finding]:
    if node is not None and node != place.id:
        yield fault(
            place.id,
            f"{place.path} belongs to {node}",
            "correct --data-dir or --id: a node never takes over the files of another",
        )
    if cluster is not None and place.cluster is not None and cluster != place.cluster:
        yield fault(
            place.id,
            f"{place.path} belongs to cluster {cluster}, not {place.cluster}",
            "correct --data-dir or --cluster-id",
        )
