"""Commands that change a cluster or send events into it: `deploy`, `undeploy`, `inject`."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from cli.client import Refused
from cli.demo.group import reasons
from cli.errors import FAILED, OK, UsageError
from cli.group_file import read_group
from cli.invocation import Invocation, Rows


def deploy(call: Invocation) -> int:
    """Deploy a group; fails when it does not run within `--wait`, though the cluster goes on trying."""
    wait = call.wait
    body = read_group(Path(call.arguments["file"]), call.arguments["name"])
    with call.connect() as client:
        try:
            group = client.post("/pipeline-groups", body, wait=wait)
        except Refused as refusal:
            for finding in refusal.diagnostics:
                hint = f" ({finding.hint})" if finding.hint else ""
                call.note(f"{finding.line}:{finding.column}: {finding.severity}: {finding.message}{hint}")
            raise
    rows = [(one["pipeline_name"], one["status"], one["worker_id"]) for one in group["placements"]]
    call.show(group, Rows(("PIPELINE", "STATUS", "WORKER"), rows, f"{group['name']}: {group['status']}"))
    if group["status"] == "running" or wait == 0:
        return OK
    call.note(f"varpulis: {group['name']} is {group['status']}: {reasons(group)}: see `varpulis groups`")
    return FAILED


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
    """Send one event; shows every event that came out because of it."""
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
    call.show(
        answer,
        Rows(("PIPELINE", "WORKER", "EVENT", "FIELDS"), rows, f"went to {reached}; {len(rows)} came out"),
    )
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
