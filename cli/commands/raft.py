"""Commands that change who leads and who belongs to the group: `raft transfer`, `raft add`, `raft remove`.

Each says what is to be, so it may be repeated: what is so already is shown and is no failure.
"""

from typing import Any
from urllib.parse import quote

from cli.errors import OK
from cli.invocation import Invocation, Rows


def transfer(call: Invocation) -> int:
    """Give leadership to a coordinator, or to the one that is best prepared."""
    with call.connect() as client:
        answer = client.post("/raft/transfer", {"to": call.arguments["id"]}, wait=call.wait)
    call.show(answer, Rows((), (), f"{answer['leader_id']} leads"))
    return OK


def add(call: Invocation) -> int:
    """Make a coordinator that was started with `--join` a member."""
    body = {"id": call.arguments["id"], "replaces": call.arguments["replaces"]}
    with call.connect() as client:
        show_generation(call, client.post("/raft/members", body, wait=call.wait))
    return OK


def remove(call: Invocation) -> int:
    """Remove a member for good."""
    member = call.arguments["id"]
    call.confirm(f"{member} leaves the group for good, and its id can never be used again", member)
    with call.connect() as client:
        show_generation(call, client.delete(f"/raft/members/{quote(member, safe='')}", wait=call.wait))
    return OK


def show_generation(call: Invocation, generation: dict[str, Any]) -> None:
    """The members as they are now."""
    row = (generation["number"], generation["members"], generation["retired"])
    call.show(generation, Rows(("GENERATION", "MEMBERS", "RETIRED"), [row]))
