"""`context list`, `show`, `set`, `use`, `delete`: clusters by name; `cli.contexts` keeps them."""

from pathlib import Path
from typing import Any

from cli import contexts
from cli.contexts import Contexts
from cli.errors import OK, UsageError
from cli.invocation import Invocation, Rows
from cli.settings import BY_KEY


def list_all(call: Invocation) -> int:
    """Every context."""
    found = contexts.load(_place(call))
    shown = [_document(found, name) for name in sorted(found.known)]
    rows = [
        ("*" if one["current"] else "", one["name"], one.get("url"), one.get("api_key_file")) for one in shown
    ]
    title = "" if rows else f"there are none in {found.path}: `varpulis context set NAME --url ...` makes one"
    document = {"file": str(found.path), "current": found.current or None, "contexts": shown}
    call.show(document, Rows(("IN USE", "CONTEXT", "URL", "KEY FILE"), rows, title))
    return OK


def show(call: Invocation) -> int:
    """One context, or the one that commands would take now."""
    found = contexts.load(_place(call))
    name = call.arguments["name"] or call.settings["client.context"] or found.current
    if not name:
        raise UsageError("no context is in use: name one, or `varpulis context use NAME`")
    found.named(name)
    _show(call, found, name)
    return OK


def set_values(call: Invocation) -> int:
    """Make or change a context with the flags of this command line, and nothing from elsewhere."""
    name, path = contexts.checked_name(call.arguments["name"]), _place(call)
    given = {
        key: contexts.checked_value(BY_KEY[key], call.settings[key])
        for key in contexts.KEYS
        if call.settings.resolved(key).origin == BY_KEY[key].flag
    }
    if not given:
        raise UsageError("nothing to set: give --url, --api-key-file, --tls-ca, ... (see --help)")
    with contexts.changing(path) as held:
        values = {**held[0].known.get(name, {}), **given}
        values = {key: values[key] for key in contexts.KEYS if values.get(key) not in (None, "", ())}
        if "client.url" not in values:
            raise UsageError(f"context {name} has no URL: give --url")
        held[0] = Contexts(held[0].path, held[0].current, {**held[0].known, name: values})
        now = held[0]
    _show(call, now, name)
    for key in ("client.api_key_file", "client.tls_ca", "client.tls_cert", "client.tls_key"):
        if key in given and given[key] and not Path(given[key]).is_file():
            call.note(f"varpulis: there is no file {given[key]} yet")
    return OK


def use(call: Invocation) -> int:
    """Choose a context for all commands to come."""
    name, none = call.arguments["name"] or "", call.arguments["none"]
    if bool(name) == none:
        raise UsageError("give the name of a context, or --none")
    with contexts.changing(_place(call)) as held:
        if name:
            held[0].named(name)
        held[0] = Contexts(held[0].path, name, held[0].known)
    text = f"context {name} is in use" if name else "no context is in use"
    call.show({"current": name or None}, Rows((), (), text))
    return OK


def delete(call: Invocation) -> int:
    """Forget a context."""
    name = call.arguments["name"]
    with contexts.changing(_place(call)) as held:
        held[0].named(name)
        known = {other: values for other, values in held[0].known.items() if other != name}
        was_in_use = held[0].current == name
        held[0] = Contexts(held[0].path, "" if was_in_use else held[0].current, known)
    call.show({"deleted": name, "was_in_use": was_in_use}, Rows((), (), f"context {name} is deleted"))
    if was_in_use:
        call.note("varpulis: it was in use: now none is")
    return OK


def _place(call: Invocation) -> Path:
    path = call.settings.contexts_file
    if path is None:
        raise UsageError("there is no home directory to keep contexts in: give VARPULIS_CONTEXTS=FILE")
    return path


def _document(found: Contexts, name: str) -> dict[str, Any]:
    values = {key.partition(".")[2]: value for key, value in found.known[name].items()}
    return {"name": name, "current": name == found.current, **values}


def _show(call: Invocation, found: Contexts, name: str) -> None:
    document = _document(found, name)
    rows = [(key.replace("_", " "), value) for key, value in document.items() if key != "name"]
    call.show(document, Rows(("CONTEXT", name), rows))
