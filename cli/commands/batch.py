"""`inject-batch`: a file of events into a group, in requests of bounded size.

The lines go as they are: the coordinator that reads them says which are no events. What one request carries
is bounded in number and in bytes, so a file of any length needs no more memory than one request.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cli.errors import FAILED, OK, UsageError
from cli.invocation import Invocation, Rows
from cli.play import bounded_lines

_MOST: Final = 10_000
_BYTES: Final = 2 * 1024 * 1024
"""Of the text of one request, far below what a coordinator takes."""
_ERRORS: Final = 20
_COUNTS: Final = ("events_sent", "events_failed", "processing_time_us")


def inject_batch(call: Invocation) -> int:
    """Send all lines of a file; fails when an event was not taken."""
    name, size = call.arguments["file"], call.arguments["size"]
    if not 1 <= size <= _MOST:
        raise UsageError(f"--size {size} is out of range: give 1 to {_MOST}")
    path = f"/pipeline-groups/{quote(call.arguments['group'], safe='')}/inject-batch"
    total: dict[str, Any] = {**dict.fromkeys(_COUNTS, 0), "output_events": [], "errors": []}
    first = 0
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as file:
            lines = bounded_lines(file)
            with call.connect() as client:
                for text, count in _parts(lines, size):
                    _add(total, client.post(path, {"events_text": text}), first)
                    first += count
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}: give a file of JSON lines") from None
    outputs = [(event["event_type"], event["fields"]) for event in total["output_events"]]
    said = f"{total['events_sent']} sent, {total['events_failed']} failed, {len(outputs)} came out"
    call.show(total, Rows(("EVENT", "FIELDS"), outputs, said))
    for reason in total["errors"]:
        call.note(f"varpulis: {reason}")
    return FAILED if total["events_failed"] else OK


def _parts(lines: Iterable[bytes], size: int) -> Iterator[tuple[str, int]]:
    """The text of each request, and how many lines it has; empty lines are no events and left out."""
    part: list[str] = []
    length = 0
    for line in lines:
        if not line.strip():
            continue
        if part and (len(part) == size or length + len(line) > _BYTES):
            yield "\n".join(part), len(part)
            part, length = [], 0
        part.append(line.decode(errors="replace").strip())
        length += len(line)
    if part:
        yield "\n".join(part), len(part)


def _add(total: dict[str, Any], answer: dict[str, Any], first: int) -> None:
    for name in _COUNTS:
        total[name] += answer[name]
    total["output_events"] += answer["output_events"]
    where = f"events from {first}: " if first else ""
    room = max(_ERRORS - len(total["errors"]), 0)
    total["errors"] += [f"{where}{error}" for error in answer["errors"][:room]]
