"""What follows from several looks: rates, loads, and an order.

The API counts the events of each worker and of each copy, so a rate is a difference: between the newest look
and the oldest that is kept, for heartbeats come once a second and not in step with us, and only within one
life: one incarnation of the worker, one copy of the pipeline, since a new one counts from 0.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from cli.top.looks import Look
from cli.top.problems import problems

_KEPT: Final = 6
_Life = tuple[str, str | None]
"""A worker and its incarnation; a pipeline (`group/name`) and the id of its copy."""
ORDERS: Final = ("events/s", "load", "name")
"""What workers and pipelines may be sorted by."""
_WELL: Final = frozenset({"ready", "running"})


class Looks:
    """The last looks at a cluster; `add` comes before `sample`."""

    _newest: Look

    def __init__(self) -> None:
        self._counted: deque[tuple[float, dict[_Life, int]]] = deque(maxlen=_KEPT)

    def add(self, seen: Look) -> None:
        """The newest."""
        self._newest = seen
        counted = {(one["id"], one["incarnation"]): one["events_processed"] for one in seen.workers}
        counted |= {life: count for group in seen.groups for life, count in _copies(group)}
        self._counted.append((seen.at, counted))

    def sample(self, order: str = ORDERS[0]) -> dict[str, Any]:
        """The cluster now. Rates are None where there is nothing to compare with."""
        now = self._newest
        rates = {
            worker["id"]: self._rate((worker["id"], worker["incarnation"]), worker["events_processed"])
            for worker in now.workers
        }
        copies = {life[0]: self._rate(life, count) for group in now.groups for life, count in _copies(group)}
        known = [rate for rate in rates.values() if rate is not None]
        workers = [_worker(worker, rates[worker["id"]]) for worker in now.workers]
        loads = {worker["id"]: worker["load"] for worker in workers}
        pipelines = [
            _pipeline(group, one, copies.get(_name(group, one)), loads.get(one["worker_id"]))
            for group in now.groups
            for one in group["placements"]
        ]
        raft = now.leaders or now.raft
        return {
            "cluster_id": now.summary["cluster_id"],
            "leader_id": now.raft["leader_id"],
            "term": raft["term"],
            "commit_index": raft["commit_index"],
            "events_per_sec": round(sum(known), 1) if known else None,
            "problems": problems(now),
            "nodes": raft["nodes"],
            "workers": _sorted(workers, order),
            "pipelines": _sorted(pipelines, order),
        }

    def _rate(self, life: _Life, count: int) -> float | None:
        now = self._newest.at
        for at, counted in self._counted:  # oldest first
            before = counted.get(life)
            if before is not None and at < now and count >= before:
                return round(float((count - before) / (now - at)), 1)
        return None


def _name(group: dict[str, Any], one: dict[str, Any]) -> str:
    return f"{group['name']}/{one['pipeline_name']}"


def _copies(group: dict[str, Any]) -> Iterator[tuple[_Life, int]]:
    """The copies of a group that are told of, and how many events each took in."""
    for one in group["placements"]:
        told = group.get("traffic", {}).get(one["pipeline_name"])
        if told is not None:
            yield (_name(group, one), one["pipeline_id"]), told["events_in"]


def _worker(worker: dict[str, Any], rate: float | None) -> dict[str, Any]:
    most = worker["max_pipelines"]
    return {
        "id": worker["id"],
        "status": worker["status"],
        "cordoned": worker["cordoned"],
        "events_per_sec": rate,
        "load": round(len(worker["assigned_pipelines"]) / most, 3) if most else None,
        "pipelines_running": worker["pipelines_running"],
        "assigned": len(worker["assigned_pipelines"]),
        "max_pipelines": most,
        "cpu_cores": worker["cpu_cores"],
        "last_heartbeat_age_ms": worker["last_heartbeat_age_ms"],
    }


def _pipeline(
    group: dict[str, Any], one: dict[str, Any], rate: float | None, load: float | None
) -> dict[str, Any]:
    return {
        "name": _name(group, one),
        "status": one["status"],
        "worker_id": one["worker_id"],
        "events_per_sec": rate,
        "worker_load": load,
        "epoch": one["epoch"],
        "version": one["version"],
        "moving": one["moving"],
        "loss_window_secs": group["loss_windows"].get(one["pipeline_name"]),
        "reason": one["reason"],
    }


def _sorted(found: list[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """What is not well comes first, whatever the order."""

    def key(one: dict[str, Any]) -> tuple[bool, float, str]:
        kind = "events_per_sec" if order == "events/s" else "load"
        value = one.get(kind, one.get(f"worker_{kind}"))
        name = str(one.get("name") or one["id"])
        return one["status"] in _WELL, 0.0 if order == "name" else -(value or 0.0), name

    return sorted(found, key=key)
