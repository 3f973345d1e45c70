"""`events`: the trail of decisions, and what is added to it.

Following asks again for what came after the last number, of whichever coordinator answers: so it survives
the loss of any of them, and shows nothing twice.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from cli.client import ClusterClient, Unreachable
from cli.documents import Stream
from cli.errors import OK, UsageError
from cli.invocation import Invocation, Rows

_HEADINGS: Final = ("TIME", "BY", "WHAT", "ABOUT", "WHY")
_LOOK_EVERY: Final = 0.5
_PAGE: Final = 1000
_Show = Callable[[list[dict[str, Any]]], None]


def events(call: Invocation) -> int:
    """The last decisions, or those after `--since`; with `--follow` also those to come."""
    asked = {name: call.arguments[name] for name in ("about", "what", "by") if call.arguments[name]}
    limit, since = call.arguments["limit"], call.arguments["since"]
    if not 1 <= limit <= _PAGE:
        raise UsageError(f"--limit {limit} is out of range: give 1 to {_PAGE}")
    with call.connect() as client:
        page = client.get("/events", limit=limit, **asked, **({} if since is None else {"since": since}))
        if since is not None and not page["complete"]:
            call.note("varpulis: the trail no longer holds all that came since then: this is what is left")
        if not call.arguments["follow"]:
            rows = [(*_row(event), event["seq"]) for event in page["events"]]
            call.show(page, Rows((*_HEADINGS, "NUMBER"), rows, further=1))
            return OK
        call.shown = True
        show = _documents(call.output) if call.for_programs else _lines(call.output)
        show(page["events"])
        more = page["pagination"]["has_more"]
        _follow(call, client, page["events"][-1]["seq"] if more else page["newest"], asked, show)
    return OK


def _follow(call: Invocation, client: ClusterClient, seen: int, asked: dict[str, Any], show: _Show) -> None:
    """Until interrupted."""
    while True:
        try:
            page = client.get("/events", since=seen, limit=_PAGE, **asked)
        except Unreachable as error:
            call.note(f"varpulis: {error}: going on")
            time.sleep(_LOOK_EVERY)
            continue
        if not page["complete"]:
            call.note("varpulis: more happened than the trail holds: some is missing here")
        show(page["events"])
        more = page["pagination"]["has_more"]
        seen = page["events"][-1]["seq"] if more else max(page["newest"], 0)
        if not more:
            time.sleep(_LOOK_EVERY)


def _documents(form: str) -> _Show:
    stream = Stream(form)

    def show(found: list[dict[str, Any]]) -> None:
        for event in found:
            stream.write(event)

    return show


def _lines(output: str) -> _Show:
    def show(found: list[dict[str, Any]]) -> None:
        for event in found:
            when, by, what, about, why = _row(event)
            number = f"{event['seq']:<8}  " if output == "wide" else ""
            print(f"{number}{when}  {by:<10}  {what:<22}  {about}  {why}".rstrip(), flush=True)

    return show


def _row(event: dict[str, Any]) -> tuple[str, str, str, str, str]:
    when = datetime.fromtimestamp(event["at"] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return when, event["by"], event["what"], event["about"], event["why"]
