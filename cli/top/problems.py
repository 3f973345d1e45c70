"""What is wrong now, worst first: each with its cause and what to do. As on the coordinators' page."""

from collections.abc import Iterator
from typing import Any, Final

from cli.top.looks import Look

SILENT_MS: Final = 3000
_LAGGING: Final = 1000
_BAD: Final = "bad"
_WARN: Final = "warn"


def problems(seen: Look) -> list[dict[str, str]]:
    """`kind` (bad or warn), `text`, `remedy`."""
    found = [*_raft(seen), *_workers(seen.workers), *_groups(seen.groups)]
    named = [{"kind": kind, "text": text, "remedy": remedy} for kind, text, remedy in found]
    return sorted(named, key=lambda one: one["kind"] != _BAD)


def _raft(seen: Look) -> Iterator[tuple[str, str, str]]:
    raft, leaders = seen.raft, seen.leaders
    if raft["failure"]:
        yield (
            _BAD,
            f"Coordinator {raft['this_node_id']} has withdrawn: {raft['failure']}",
            "Mend this one, and name another one with --url.",
        )
    if not raft["leader_id"]:
        remedy = "Do a majority of the coordinators run, and reach NATS?"
        yield _BAD, "No coordinator leads: nothing is decided now.", remedy
    elif leaders is None:
        remedy = "Whether all coordinators run is not known from here."
        yield _WARN, "The leader does not say whom it hears.", remedy
    for node in leaders["nodes"] if leaders is not None else ():
        heard = node["last_contact_ms"]
        if node["id"] != (leaders or {})["this_node_id"] and (heard is None or heard > SILENT_MS):
            remedy = "Start it again; without another one there is no majority to lose."
            yield _BAD, f"Coordinator {node['id']} is silent.", remedy
        if (node["lag"] or 0) > _LAGGING:
            text = f"Coordinator {node['id']} lags by {node['lag']} entries."
            yield _WARN, text, "Its disk or network is slow."


def _workers(workers: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for worker in workers:
        if worker["status"] == "unhealthy":
            remedy = "Its pipelines are placed elsewhere. Start it again, or delete it."
            yield _BAD, f"Worker {worker['id']} is not heard any more.", remedy


def _groups(groups: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for group in groups:
        for one in group["placements"]:
            name = f"{group['name']}/{one['pipeline_name']}"
            if one["status"] == "failed":
                text = f"Pipeline {name} failed: {one['reason'] or 'no reason was given'}"
                yield _BAD, text, "Mend the program, and deploy another version."
            elif one["status"] == "pending":
                text = f"Pipeline {name} runs nowhere: {one['reason'] or 'it waits for a worker'}"
                yield _WARN, text, "Start a worker that fits, or relax a constraint."
        if group["update"] and group["update"]["status"] == "rolled_back":
            text = f"Group {group['name']} was rolled back: {group['update']['reason'] or ''}"
            yield _WARN, text, "The version before runs."
