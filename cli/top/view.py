"""A sample as tables: problems, coordinators, workers and pipelines, as many as there is room for."""

from typing import Any, Final

from cli.invocation import Rows
from cli.top.problems import SILENT_MS

_PROBLEMS: Final = 5
_NODES: Final = 7
_TABLE: Final = 4
"""Lines of a table beside its rows: an empty line above, what is left out, headings, a rule."""


def headline(sample: dict[str, Any]) -> str:
    """The cluster in a line."""
    ready = sum(worker["status"] == "ready" for worker in sample["workers"])
    running = sum(one["status"] == "running" for one in sample["pipelines"])
    return (
        f"{sample['cluster_id']}   leader {sample['leader_id'] or 'NONE'}   term {sample['term']}   "
        f"workers {ready}/{len(sample['workers'])}   pipelines {running}/{len(sample['pipelines'])}   "
        f"events/s {_rate(sample['events_per_sec'])}"
    )


def tables(sample: dict[str, Any], height: int | None = None) -> list[Rows]:
    """The tables; `height`: of the screen in lines, None: all of it is to be shown."""
    found = [_problems(sample["problems"], height), _nodes(sample["nodes"], height)]
    workers, pipelines = len(sample["workers"]), len(sample["pipelines"])
    if height is not None:
        used = sum(len(table.rows) + _TABLE if table.rows else 2 for table in found)
        room = max(height - used - 2 * _TABLE, 4)
        workers = min(workers, max(room // 2, room - pipelines))
        pipelines = min(pipelines, room - workers)
    return [*found, _workers(sample["workers"], workers), _pipelines(sample["pipelines"], pipelines)]


def _problems(found: list[dict[str, str]], height: int | None) -> Rows:
    if not found:
        return Rows(("PROBLEM", "WHAT TO DO"), [], "All is well.")
    shown = found if height is None else found[:_PROBLEMS]
    rows = [(one["text"], one["remedy"]) for one in shown]
    return Rows(("PROBLEM", "WHAT TO DO"), rows, _of("problems", shown, found))


def _nodes(nodes: list[dict[str, Any]], height: int | None) -> Rows:
    shown = nodes if height is None else nodes[:_NODES]
    rows = [(node["id"], node["role"], node["lag"], _heard(node["last_contact_ms"])) for node in shown]
    return Rows(("COORDINATOR", "ROLE", "LAG", "HEARD"), rows, _of("coordinators", shown, nodes))


def _workers(workers: list[dict[str, Any]], room: int) -> Rows:
    shown = workers[:room]
    rows = [
        (
            worker["id"],
            worker["status"] + (" (cordoned)" if worker["cordoned"] else ""),
            _rate(worker["events_per_sec"]),
            "-" if worker["load"] is None else f"{worker['load']:.0%}",
            f"{worker['assigned']} of {worker['max_pipelines']}",
            worker["cpu_cores"],
            _heard(worker["last_heartbeat_age_ms"]),
        )
        for worker in shown
    ]
    headings = ("WORKER", "STATUS", "EVENTS/S", "LOAD", "PIPELINES", "CPUS", "HEARD")
    return Rows(headings, rows, _of("workers", shown, workers))


def _pipelines(pipelines: list[dict[str, Any]], room: int) -> Rows:
    shown = pipelines[:room]
    rows = [
        (
            one["name"],
            one["status"] + (" (moving)" if one["moving"] else ""),
            one["worker_id"],
            _rate(one["events_per_sec"]),
            "not known" if one["loss_window_secs"] is None else f"{one['loss_window_secs']} s",
            one["reason"],
        )
        for one in shown
    ]
    headings = ("PIPELINE", "STATUS", "WORKER", "EVENTS/S", "LOSS WINDOW", "REASON")
    return Rows(headings, rows, _of("pipelines", shown, pipelines))


def _of(what: str, shown: list[Any], found: list[Any]) -> str:
    """The title of a table: its headings say what is in it, unless nothing or not all of it is shown."""
    if not found:
        return f"no {what}"
    return "" if len(shown) == len(found) else f"{what}: {len(shown)} of {len(found)}"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.0f}"


def _heard(milliseconds: int | None) -> str:
    """A figure that changed all the time would say no more than "now"."""
    if milliseconds is None:
        return "-"
    return "now" if milliseconds < SILENT_MS else f"{milliseconds / 1000:.0f} s ago"
