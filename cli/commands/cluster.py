"""Commands that look at a cluster: `status`, `workers`, `groups`, `topology`, `scaling`, `raft status`; and
`rebalance`.
"""

import contextlib
from typing import Any, Final

from cli.client import ClusterClient
from cli.errors import FAILED, OK, CliError
from cli.invocation import Invocation, Rows

_PAGE: Final = 1000
_PLACEMENT: Final = ("GROUP", "PIPELINE", "STATUS", "WORKER", "EPOCH", "REASON")
_LEADER_PATIENCE: Final = 2.0
_SILENT_MS: Final = 1_000
"""Beyond the time after which a leader without answers gives up."""


def status(call: Invocation) -> int:
    """The summary, the coordinators, and every pipeline that does not run, with its reason."""
    with call.connect() as client:
        summary, raft = client.get("/summary"), _raft(call, client)
        found = every(client, "/pipeline-groups", "pipeline_groups")
    rows = [(name.replace("_", " "), value) for name, value in summary.items()]
    tables = [Rows(("CLUSTER", ""), rows), _coordinators(raft)]
    waiting = [
        _placement(group, one) for group in found for one in group["placements"] if one["status"] != "running"
    ]
    if waiting:
        tables.append(Rows(_PLACEMENT, waiting, "not running"))
    call.show({"summary": summary, "raft": raft}, *tables)
    return OK


def workers(call: Invocation) -> int:
    """Every worker."""
    with call.connect() as client:
        found = every(client, "/workers", "workers")
    headings = ("WORKER", "STATUS", "PIPELINES", "MAX", "EVENTS", "HEARTBEAT", "ADDRESS", "ASSIGNED")
    further = ("CPUS", "LABELS", "CARRIER", "INCARNATION")
    rows = [
        (
            worker["id"],
            worker["status"] + (" (cordoned)" if worker["cordoned"] else ""),
            worker["pipelines_running"],
            worker["max_pipelines"],
            worker["events_processed"],
            _age(worker["last_heartbeat_age_ms"]),
            worker["address"],
            worker["assigned_pipelines"],
            worker.get("cpu_cores"),
            worker.get("labels"),
            worker.get("carrier"),
            worker.get("incarnation"),
        )
        for worker in found
    ]
    table = Rows((*headings, *further), rows, further=len(further))
    call.show({"workers": found, "total": len(found)}, table)
    return OK


def groups(call: Invocation) -> int:
    """Every group, pipeline by pipeline."""
    with call.connect() as client:
        found = every(client, "/pipeline-groups", "pipeline_groups")
    further = ("VERSION", "LOSS WINDOW", "MOVING", "COPY", "ADDRESS", "DELIVERY", "STRATEGY")
    rows = [
        (
            *_placement(group, one),
            one.get("version"),
            loss_window(group, one),
            one.get("moving"),
            one.get("pipeline_id"),
            one.get("worker_address"),
            group.get("delivery"),
            group.get("strategy"),
        )
        for group in found
        for one in group["placements"]
    ]
    table = Rows((*_PLACEMENT, *further), rows, further=len(further))
    call.show({"pipeline_groups": found, "total": len(found)}, table)
    return OK


def topology(call: Invocation) -> int:
    """What runs where, and every route between pipelines."""
    with call.connect() as client:
        found = client.get("/topology")
    runs = [(worker["id"], worker["status"], worker["assigned_pipelines"]) for worker in found["workers"]]
    routes = [
        (route["group"], route["from_pipeline"], route["to_pipeline"], route["event_types"])
        for route in found["routes"]
    ]
    flow = Rows(("GROUP", "FROM", "TO", "EVENTS"), routes, "" if routes else "no events flow")
    call.show(found, Rows(("WORKER", "STATUS", "RUNS"), runs), flow)
    return OK


def scaling(call: Invocation) -> int:
    """The leader's advice."""
    with call.connect() as client:
        found = client.get("/scaling")
    rows = [(name.replace("_", " "), value) for name, value in found.items()]
    call.show(found, Rows(("SCALING", ""), rows))
    return OK


def raft_status(call: Invocation) -> int:
    """The Raft group as its leader sees it, or, without one, as the answering coordinator does."""
    with call.connect() as client:
        raft = _raft(call, client)
    rows = [(name.replace("_", " "), value) for name, value in raft.items() if name != "nodes"]
    call.show(raft, Rows(("RAFT", ""), rows), _coordinators(raft))
    return OK


def rebalance(call: Invocation) -> int:
    """Start the moves that even the loads, or, with `--dry-run`, show them; fails when one is refused."""
    dry = call.arguments["dry_run"]
    with call.connect() as client:
        answer = client.post("/rebalance", {}, dry_run="true" if dry else "false")
    started = len(answer["migration_ids"])
    ids = [*answer["migration_ids"], *[None] * (len(answer["moves"]) - started)]
    rows = [
        (move["group"], move["pipeline_name"], move["from_worker"], move["to_worker"], migration)
        for move, migration in zip(answer["moves"], ids, strict=True)
    ]
    title = f"{len(rows)} moves, {started} started" if rows else "the loads are even: nothing to move"
    call.show(answer, Rows(("GROUP", "PIPELINE", "FROM", "TO", "MIGRATION"), rows, title))
    if answer["reason"]:
        call.note(f"varpulis: the next move was refused: {answer['reason']}")
        return FAILED
    return OK


def _raft(call: Invocation, client: ClusterClient) -> dict[str, Any]:
    """Only the leader knows how far behind the others are, so it is asked, through whoever answers us."""
    seen: dict[str, Any] = client.get("/raft")
    if seen["leader_id"] in (None, seen["this_node_id"]):
        return seen
    with call.client(client.urls, _LEADER_PATIENCE) as there, contextlib.suppress(CliError):
        seen = there.get("/raft/leader")
    return seen


def every(client: ClusterClient, path: str, items: str, **query: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        page = client.get(path, limit=_PAGE, offset=len(found), **query)
        found += page[items]
        if not page["pagination"]["has_more"] or not page[items]:
            return found


def _coordinators(raft: dict[str, Any]) -> Rows:
    headings = ("COORDINATOR", "ROLE", "MATCH", "LAG", "CONTACT", "URL")
    rows = [
        (
            node["id"],
            _role(node),
            node["match_index"],
            node["lag"],
            _age(node["last_contact_ms"]),
            node["url"],
        )
        for node in raft["nodes"]
    ]
    return Rows(headings, rows)


def _role(node: dict[str, Any]) -> str:
    """A member that is not heard has the role it had, as far as anybody knows; that is not worth telling."""
    silent = (node["last_contact_ms"] or 0) > _SILENT_MS
    return "silent" if silent else str(node["role"])


def loss_window(group: dict[str, Any], placement: dict[str, Any]) -> str:
    """How much the death of its worker would cost, in words."""
    window = group.get("loss_windows", {}).get(placement["pipeline_name"])
    return "not known" if window is None else f"{window} s"


def _placement(group: dict[str, Any], one: dict[str, Any]) -> tuple[Any, ...]:
    return group["name"], one["pipeline_name"], one["status"], one["worker_id"], one["epoch"], one["reason"]


def _age(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds} ms ago"
