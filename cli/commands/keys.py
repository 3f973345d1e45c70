"""API keys: `key new` makes a file and asks nobody; the others ask the cluster, `whoami` about our own.

A key that was made goes to a file that only its owner can read (`--to FILE`), or once to stdout. It is never
an argument, and nothing here shows it a second time.
"""

import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cli.errors import OK, CliError, UsageError
from cli.invocation import Invocation, Rows, utc
from transport.keyring import new_key, write_secret

ROLES: Final = ("worker", "viewer", "operator", "admin")


def new(call: Invocation) -> int:
    """Make a key file: an API key to start coordinators with, or with `--cluster` a cluster key."""
    path = Path(call.arguments["file"])
    if call.arguments["cluster"]:
        key_id = time.strftime("k%Y%m%d-%H%M%S", time.gmtime())
        _write(path, new_key(key_id))
    else:
        key_id = new_api_key_file(path)
    kind = "cluster key" if call.arguments["cluster"] else "API key"
    call.show({"id": key_id, "file": str(path)}, Rows((), (), f"{kind} {key_id} is in {path}"))
    return OK


def create(call: Invocation) -> int:
    """Have the cluster make a key."""
    role = call.arguments["role"]
    if role not in ROLES:
        raise UsageError(f"role {role!r}: give one of {', '.join(ROLES)}")
    body = {
        "role": role,
        "note": call.arguments["note"] or "",
        "expires_in_secs": int(call.arguments["expires_in"]),
    }
    if call.arguments["worker"]:
        body["worker"] = call.arguments["worker"]
    _free(call)
    with call.connect() as client:
        _hand_out(call, client.post("/keys", body))
    return OK


def list_keys(call: Invocation) -> int:
    """The keys, without their secrets."""
    with call.connect() as client:
        answer = client.get("/keys", limit=1000)
    rows = [
        (
            key["id"],
            key["role"],
            key.get("worker", ""),
            key["status"],
            key["note"],
            utc(key["created_at"]),
            utc(key["expires_at"]),
            utc(key.get("revoked_at")),
            key.get("replaced_by"),
        )
        for key in answer["keys"]
    ]
    title = "" if rows else "there are no keys"
    headings = ("KEY", "ROLE", "WORKER", "STATUS", "NOTE", "MADE", "EXPIRES", "REVOKED", "REPLACED BY")
    call.show(answer, Rows(headings, rows, title, further=2))
    return OK


def revoke(call: Invocation) -> int:
    """A key counts no longer."""
    key_id = call.arguments["id"]
    query = {"force": "true"} if call.arguments["force"] else {}
    with call.connect() as client:
        answer = client.delete(f"/keys/{quote(key_id, safe='')}", **query)
    call.show(answer, Rows((), (), f"key {key_id} is revoked"))
    return OK


def rotate(call: Invocation) -> int:
    """A new key in place of another, which goes on for a while."""
    key_id, overlap = call.arguments["id"], int(call.arguments["overlap"])
    _free(call)
    with call.connect() as client:
        _hand_out(call, client.post(f"/keys/{quote(key_id, safe='')}/rotate", {"overlap_secs": overlap}))
    call.note(f"varpulis: key {key_id} goes on counting for {overlap} s")
    return OK


def show(call: Invocation) -> int:
    """One key, without its secret."""
    with call.connect() as client:
        key = client.get(f"/keys/{quote(call.arguments['id'], safe='')}")
    facts = [(name.replace("_", " "), utc(of) if name.endswith("_at") else of) for name, of in key.items()]
    call.show(key, Rows(("KEY", key["id"]), [fact for fact in facts if fact[0] != "id"]))
    return OK


def whoami(call: Invocation) -> int:
    """As whom the cluster takes us."""
    with call.connect() as client:
        answer = client.get("/whoami")
    asked = "" if answer["keys_required"] else "the cluster asks for no keys"
    call.show(answer, Rows(("ROLE", "KEY"), [(answer["role"], answer["key_id"])], asked))
    return OK


def new_api_key_file(path: Path) -> str:
    """Write a fresh API key into a file of its own; returns its id.

    Raises:
        CliError: the file is there already, or cannot be written.
    """
    import secrets

    key_id = secrets.token_hex(6)
    _write(path, f"vk_{key_id}_{secrets.token_urlsafe(32)}\n")
    return key_id


def _free(call: Invocation) -> None:
    """Find out before the key is made that its file cannot be."""
    to = call.arguments["to"]
    if to and (Path(to).exists() or not Path(to).absolute().parent.is_dir()):
        raise CliError(f"cannot make {to}: it is there already, or its directory is not; name another file")


def _hand_out(call: Invocation, answer: dict[str, Any]) -> None:
    to = call.arguments["to"]
    if to:
        _write(Path(to), answer["key"] + "\n")
        answer = {**answer, "key": "***", "file": to}
        call.show(answer, Rows((), (), f"{answer['role']} key {answer['id']} is in {to}"))
        return
    call.show(answer, Rows((), (), answer["key"]))
    call.note(f"varpulis: this is {answer['role']} key {answer['id']}; it is shown only now: store it")


def _write(path: Path, text: str) -> None:
    try:
        write_secret(path, text)
    except FileExistsError:
        raise CliError(f"{path} is there already: name another file, or remove it") from None
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}: name another file") from None
