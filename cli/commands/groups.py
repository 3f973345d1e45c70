"""Commands about groups: `deploy`, `update`, `group rollback`, `group scale`, `group history`, `undeploy`,
`inject`, `group show`, `pipeline status`.
"""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from cli.client import Refused
from cli.commands.cluster import loss_window
from cli.demo.group import reasons
from cli.errors import FAILED, OK, UsageError
from cli.group_file import read_group
from cli.invocation import Invocation, Rows, utc
from proto_schemas.rest.groups import MAX_WHY, ROLLBACK_ASKED


def deploy(call: Invocation) -> int:
    """Deploy a group; fails when it does not run within `--wait`, though the cluster goes on trying."""
    wait = call.wait
    body = read_group(Path(call.arguments["file"]), call.arguments["name"])
    with call.connect() as client:
        try:
            group = client.post("/pipeline-groups", body, wait=wait, **_why(call))
        except Refused as refusal:
            _tell_findings(call, refusal)
            raise
    rows = [(one["pipeline_name"], one["status"], one["worker_id"]) for one in group["placements"]]
    call.show(group, Rows(("PIPELINE", "STATUS", "WORKER"), rows, f"{group['name']}: {group['status']}"))
    if group["status"] == "running" or wait == 0:
        return OK
    call.note(f"varpulis: {group['name']} is {group['status']}: {reasons(group)}: see `varpulis groups`")
    return FAILED


def update(call: Invocation) -> int:
    """Roll a group to the version in a file; fails when that was rolled back, or is not done within `--wait`,
    though the cluster goes on with it. With `--dry-run` show what would be done."""
    wait, name = call.wait, call.arguments["group"]
    path = f"/pipeline-groups/{quote(name, safe='')}"
    body = read_group(Path(call.arguments["file"]), name)
    headers = _if_version(call)
    with call.connect() as client:
        try:
            if call.arguments["dry_run"]:
                return _show_plan(call, client.put(path, body, headers=headers, dry_run="true"))
            group = client.put(path, body, headers=headers, wait=wait, **_why(call))
        except Refused as refusal:
            _tell_findings(call, refusal)
            raise
    return _show_update(call, group, wait)


def rollback(call: Invocation) -> int:
    """Make a group what it was; fails as `update` does. With `--dry-run` show what would be done."""
    wait, path = call.wait, f"/pipeline-groups/{quote(call.arguments['group'], safe='')}/rollback"
    body = {"to": call.arguments["to"], **_why(call)}
    headers = _if_version(call)
    with call.connect() as client:
        if call.arguments["dry_run"]:
            return _show_plan(call, client.post(path, body, headers=headers, dry_run="true"))
        group = client.post(path, body, headers=headers, wait=wait)
    return _show_update(call, group, wait, give_up=True)


def scale(call: Invocation) -> int:
    """Give a pipeline another number of replicas; fails as `update` does."""
    group, slash, pipeline = call.arguments["pipeline"].partition("/")
    if not (group and slash and pipeline):
        raise UsageError(f"{call.arguments['pipeline']!r} names no pipeline: write it as GROUP/PIPELINE")
    if not call.arguments["replicas"].isdecimal():
        raise UsageError(f"{call.arguments['replicas']!r} is no number of replicas: give 1 to 1000")
    body = {"pipeline": pipeline, "replicas": int(call.arguments["replicas"]), **_why(call)}
    wait, path, headers = call.wait, f"/pipeline-groups/{quote(group, safe='')}/scale", _if_version(call)
    with call.connect() as client:
        if call.arguments["dry_run"]:
            return _show_plan(call, client.post(path, body, headers=headers, dry_run="true"))
        answer = client.post(path, body, headers=headers, wait=wait)
    return _show_update(call, answer, wait)


def show(call: Invocation) -> int:
    """One group; with `--source` its programs as well."""
    with call.connect() as client:
        group = client.get(f"/pipeline-groups/{quote(call.arguments['group'], safe='')}")
    facts = [(name, group[name]) for name in ("status", "version", "delivery", "strategy")]
    placed = [
        (one["pipeline_name"], one["status"], one["worker_id"], one["epoch"], one["version"], one["reason"])
        for one in group["placements"]
    ]
    routes = [(one["from_pipeline"], one["to_pipeline"], one["event_types"]) for one in group["routes"]]
    tables = [
        Rows(("GROUP", group["name"]), facts),
        Rows(("PIPELINE", "STATUS", "WORKER", "EPOCH", "VERSION", "REASON"), placed),
    ]
    tables += [Rows(("FROM", "TO", "EVENTS"), routes)] if routes else []
    if call.arguments["source"]:
        tables += [Rows((), (), f"-- {name}\n{text}") for name, text in group["sources"].items()]
    call.show(group, *tables)
    return OK


def history(call: Invocation) -> int:
    """The versions that are kept, newest first."""
    name = call.arguments["group"]
    with call.connect() as client:
        found = client.get(f"/pipeline-groups/{quote(name, safe='')}/history")
    rows = [
        (
            one["version"],
            one["status"],
            utc(one["at"]),
            one["by"],
            one["why"],
            one["pipelines"],
            one["reason"],
        )
        for one in found["versions"]
    ]
    call.show(found, Rows(("VERSION", "STATUS", "SINCE", "BY", "WHY", "PIPELINES", "REASON"), rows))
    return OK


def _if_version(call: Invocation) -> dict[str, str] | None:
    version = call.arguments["if_version"]
    return {"If-Match": f'"{version}"'} if version is not None else None


def _why(call: Invocation) -> dict[str, Any]:
    why = call.arguments["why"] or ""
    if len(why) > MAX_WHY:
        raise UsageError(f"--why has {len(why)} characters: {MAX_WHY} is the most")
    return {"why": why} if why else {}


def _show_update(call: Invocation, group: dict[str, Any], wait: float, *, give_up: bool = False) -> int:
    """The group after an update, and whether all is as asked; `give_up`: also when it went back."""
    name = group["name"]
    rows = [
        (one["pipeline_name"], one["status"], one["worker_id"], one["version"]) for one in group["placements"]
    ]
    roll = group["update"]
    state = roll["status"].replace("_", " ") if roll is not None else "unchanged"
    title = f"{name}: version {group['version']}, {state}"
    call.show(group, Rows(("PIPELINE", "STATUS", "WORKER", "VERSION"), rows, title))
    asked = roll is not None and (roll["reason"] or "").startswith(ROLLBACK_ASKED)
    given_up = asked and roll["status"] == "rolled_back" and give_up
    under_way = wait == 0 and roll is not None and roll["ended_at"] is None
    if roll is None or roll["status"] == "done" or given_up or under_way:
        return OK
    reason = roll["reason"] or "it takes longer than --wait"
    call.note(f"varpulis: {name} is {state}: {reason}: see `varpulis groups`, `varpulis events`")
    return FAILED


def pipeline_status(call: Invocation) -> int:
    """The pipelines of a group, or one of them, with their loss windows; fails when one does not run."""
    name, _, pipeline = call.arguments["pipeline"].partition("/")
    with call.connect() as client:
        group = client.get(f"/pipeline-groups/{quote(name, safe='')}")
    found = [one for one in group["placements"] if pipeline in ("", one["pipeline_name"], one["instance_of"])]
    if not found:
        known = ", ".join(one["pipeline_name"] for one in group["placements"])
        raise UsageError(f"there is no pipeline {pipeline!r} in group {name}: there are {known}")
    rows = [
        (
            one["pipeline_name"],
            one["status"],
            one["worker_id"],
            one["epoch"],
            one["version"],
            loss_window(group, one),
            one["reason"] or "",
            *_events(group, one),
            one["instance_of"],
            one.get("moving"),
            one.get("pipeline_id"),
            one.get("worker_address"),
        )
        for one in found
    ]
    headings = ("PIPELINE", "STATUS", "WORKER", "EPOCH", "VERSION", "LOSS WINDOW", "REASON")
    further = ("EVENTS IN", "EVENTS OUT", "INSTANCE OF", "MOVING", "COPY", "ADDRESS")
    table = Rows((*headings, *further), rows, name, further=len(further))
    windows = {one["pipeline_name"]: group["loss_windows"].get(one["pipeline_name"]) for one in found}
    traffic = {one["pipeline_name"]: group.get("traffic", {}).get(one["pipeline_name"]) for one in found}
    call.show(
        {"group": name, "placements": found, "loss_windows": windows, "traffic": traffic},
        table,
    )
    return OK if all(one["status"] == "running" for one in found) else FAILED


def _events(group: dict[str, Any], placement: dict[str, Any]) -> tuple[int | None, int | None]:
    """What the present copy took in and put out."""
    told = group.get("traffic", {}).get(placement["pipeline_name"]) or {}
    return told.get("events_in"), told.get("events_out")


def _show_plan(call: Invocation, plan: Any) -> int:
    rows = [
        (one["pipeline_name"], one["change"], one["worker_id"], one["reason"] or "")
        for one in plan["changes"]
    ]
    versions = f"{plan['id']}: version {plan['from_version']} to {plan['to_version']}; nothing was changed"
    call.show(plan, Rows(("PIPELINE", "CHANGE", "WORKER", "REASON"), rows, versions))
    return OK


def _tell_findings(call: Invocation, refusal: Refused) -> None:
    for finding in refusal.diagnostics:
        hint = f" ({finding.hint})" if finding.hint else ""
        call.note(f"{finding.line}:{finding.column}: {finding.severity}: {finding.message}{hint}")


def undeploy(call: Invocation) -> int:
    """Remove a group; fails when a worker has not let go within `--wait`."""
    wait = call.wait
    name = call.arguments["group"]
    with call.connect() as client:
        answer = client.delete(f"/pipeline-groups/{quote(name, safe='')}", wait=wait)
    call.show(answer, Rows(("GROUP", "STATUS"), [(name, answer["status"])]))
    if answer["torn_down"] or wait == 0:
        return OK
    call.note(
        f"varpulis: {name} is {answer['status']}: its workers have not all let go yet: see `varpulis groups`"
    )
    return FAILED


def inject(call: Invocation) -> int:
    """Send one event; shows every event that came out because of it, or where it is stored."""
    group = call.arguments["group"]
    body = {"event_type": call.arguments["type"], "fields": fields(call.arguments["fields"])}
    with call.connect() as client:
        answer = client.post(f"/pipeline-groups/{quote(group, safe='')}/inject", body)
    rows = [
        (result["pipeline"], result["worker_id"], event["event_type"], event["fields"])
        for result in answer["results"]
        for event in result["worker_response"].get("output_events", [])
    ]
    reached = ", ".join(result["pipeline"] for result in answer["results"])
    stored = all("stored" in result["worker_response"] for result in answer["results"])
    said = f"stored for {reached}" if stored else f"went to {reached}; {len(rows)} came out"
    call.show(answer, Rows(("PIPELINE", "WORKER", "EVENT", "FIELDS"), rows, said))
    return OK


def fields(pairs: list[str]) -> dict[str, Any]:
    """Typed fields from `name=value` words: what reads as JSON is that, anything else is text.

    Raises:
        UsageError: a word without a name or without "=", or a name given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"field {pair!r} is not name=value: write it as held_ms=45000")
        if name in found:
            raise UsageError(f"field {name!r} is given twice: keep one")
        found[name] = _value(text)
    return found


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
