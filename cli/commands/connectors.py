"""`connector list`, `show`, `create`, `update`, `delete`: the registered connectors.

A secret on a command line is seen by every user of the machine, so it comes by `--params-file`, or stays
where the worker reads it: `env:NAME`, `file:PATH`.
"""

import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from cli.commands.cluster import every
from cli.commands.groups import fields
from cli.errors import OK, UsageError
from cli.invocation import Invocation, Rows, utc

_HEADINGS: Final = ("CONNECTOR", "TYPE", "VERSION", "PARAMS", "USED BY", "DESCRIPTION", "CREATED", "UPDATED")
_FURTHER: Final = 2


def list_all(call: Invocation) -> int:
    """Every registered connector."""
    with call.connect() as client:
        found = every(client, "/connectors", "connectors")
    call.show({"connectors": found, "total": len(found)}, _table(found))
    return OK


def show(call: Invocation) -> int:
    """One connector."""
    with call.connect() as client:
        _show(call, client.get(_path(call)))
    return OK


def create(call: Invocation) -> int:
    """Register a connector."""
    body = {
        "name": call.arguments["name"],
        "connector_type": call.arguments["type"],
        "params": _params(call),
        "description": call.arguments["description"] or "",
    }
    with call.connect() as client:
        _show(call, client.post("/connectors", body))
    return OK


def update(call: Invocation) -> int:
    """Change what is named and leave the rest; secrets come back as `***`, which keeps them."""
    given = _params(call)
    gone = [name for name in (call.arguments["remove"] or "").split(",") if name]
    with call.connect() as client:
        now = client.get(_path(call))
        if unknown := sorted(set(gone) - now["params"].keys()):
            raise UsageError(f"--remove {unknown[0]}: connector {now['name']} has no such parameter")
        params = {name: value for name, value in now["params"].items() if name not in gone}
        description = call.arguments["description"]
        body = {
            "name": now["name"],
            "connector_type": now["connector_type"],
            "params": {**params, **given},
            "description": now["description"] if description is None else description,
        }
        _show(call, client.put(_path(call), body))
    return OK


def delete(call: Invocation) -> int:
    """Forget a connector."""
    with call.connect() as client:
        answer = client.delete(_path(call))
    call.show(answer, Rows((), (), f"{call.arguments['name']} is deleted"))
    return OK


def _params(call: Invocation) -> dict[str, Any]:
    """What the words and the file say.

    Raises:
        UsageError: a word is not name=value, the file holds no JSON object, or a name is given twice.
    """
    given = fields(call.arguments["params"])
    place = call.arguments["params_file"]
    if not place:
        return given
    try:
        text = sys.stdin.read() if place == "-" else Path(place).read_text()
        more = msgspec.json.decode(text, type=dict[str, Any])
    except (OSError, UnicodeError, msgspec.MsgspecError) as error:
        raise UsageError(f"--params-file {place}: {error}: give a JSON object") from None
    if twice := sorted(given.keys() & more.keys()):
        raise UsageError(f"parameter {twice[0]!r} is given twice: keep one")
    return {**given, **more}


def _path(call: Invocation) -> str:
    return f"/connectors/{quote(call.arguments['name'], safe='')}"


def _show(call: Invocation, connector: dict[str, Any]) -> None:
    call.show(connector, _table([connector]))


def _table(found: list[dict[str, Any]]) -> Rows:
    return Rows(_HEADINGS, [_row(one) for one in found], further=_FURTHER)


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    return (
        one["name"],
        one["connector_type"],
        one["version"],
        one["params"],
        one["used_by"],
        one["description"],
        utc(one.get("created_at")),
        utc(one.get("updated_at")),
    )
