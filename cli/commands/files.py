"""Commands on the files of a coordinator: `raft verify`, which only reads, and `raft recover`.

Both work on a directory, without a cluster. `recover` makes a new group from what one survivor holds, and so
gives up what only the others held: it asks for that in words.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from cli.commands.raft import checked, show_generation
from cli.errors import FAILED, OK, CliError, UsageError
from cli.invocation import Invocation, Rows

_FACTS: Final = (
    "ok",
    "cluster",
    "node",
    "generation",
    "members",
    "term",
    "voted_for",
    "incarnation",
    "first_index",
    "last_index",
)


def verify(call: Invocation) -> int:
    """Check every record of journal and snapshots; fails when one of them is damaged."""
    from raft.verify import verify

    directory = Path(call.arguments["directory"])
    if not directory.is_dir():
        raise UsageError(f"there is no directory {directory}: give the data directory of a coordinator")
    report: dict[str, Any] = msgspec.to_builtins(verify(directory))
    call.show(report, *_tables(report))
    return OK if report["ok"] else FAILED


def recover(call: Invocation) -> int:
    """Make a new group from the directory of one survivor, after the loss of a majority."""
    from raft.errors import RaftError
    from raft.recovery import recover

    settings = call.settings
    node_id, members = settings.required("coordinator.id"), settings.required("coordinator.members")
    for name in (node_id, *members):
        checked(name)
    directory = call.directory("coordinator", node_id)
    if not call.arguments["i_accept_lost_writes"]:
        raise UsageError(
            f"{node_id} may lack what the lost majority acknowledged, and may bring in what was never "
            "acknowledged: nothing was done; read docs/members.md, then say --i-accept-lost-writes"
        )
    try:
        generation = recover(directory, node_id=node_id, members=members)
    except (RaftError, OSError) as error:
        raise CliError(str(error)) from None
    show_generation(call, msgspec.to_builtins(generation))
    call.note(
        f"make sure that no other former member ever runs again, then: varpulis coordinator --id {node_id} "
        f"--members {','.join(members)} --data-dir {directory}"
    )
    return OK


def _tables(report: dict[str, Any]) -> list[Rows]:
    """What stands in the directory of each generation, and what is wrong with it."""
    own = [report] if report["segments"] or report["findings"] or not report["generations"] else []
    tables: list[Rows] = []
    for part in [*own, *report["generations"]]:
        facts = [(name.replace("_", " "), part[name]) for name in _FACTS if name in part]
        facts.append(("snapshot", _snapshot(part["snapshot"])))
        tables.append(Rows(("DIRECTORY", part["directory"]), facts))
        if part["segments"]:
            tables.append(Rows(("SEGMENT", "BYTES", "RECORDS", "FIRST", "LAST", "TORN"), _segments(part)))
        if part["findings"]:
            tables.append(Rows(("FINDING", "FILE", "BYTE", "WHAT IT IS, AND WHAT TO DO"), _findings(part)))
    return [*tables, Rows((), (), "no damage found" if report["ok"] else "damaged: see the findings")]


def _segments(part: dict[str, Any]) -> list[tuple[Any, ...]]:
    names = ("file", "bytes", "records", "first_index", "last_index", "torn_bytes")
    return [tuple(segment[name] for name in names) for segment in part["segments"]]


def _findings(part: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(one["severity"], one["file"], one["offset"], one["text"]) for one in part["findings"]]


def _snapshot(found: dict[str, Any] | None) -> str | None:
    return None if found is None else f"up to entry {found['last_index']}, {found['bytes']} bytes"
