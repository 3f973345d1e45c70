"""Commands that change who leads and who belongs to the group: `raft transfer`, `raft add`, `raft remove`.

Each says what is to be, so it may be repeated: what is so already is shown and is no failure.
"""

from typing import Any, Final

from cli.errors import OK, UsageError
from cli.invocation import Invocation, Rows
from proto_schemas.subjects import check_id

OWN: Final = "."
"""Stands for the coordinator whose settings these are, where no shell is there to write its id."""


def transfer(call: Invocation) -> int:
    """Give leadership to a coordinator, or to the one that is best prepared."""
    target = call.arguments["id"]
    body = {"to": None if target is None else checked(target)}
    giver = call.arguments["from"]
    if giver == OWN:
        giver = call.settings.required("coordinator.id")
    with call.connect() as client:
        if giver is not None:
            leader = client.get("/summary")["leader_id"]
            if leader != checked(giver):
                said = f"{leader or 'nobody'} leads: {giver} has nothing to give away"
                call.show({"leader_id": leader}, Rows((), (), said))
                return OK
        answer = client.post("/raft/transfer", body, wait=call.wait)
    call.show(answer, Rows((), (), f"{answer['leader_id']} leads"))
    return OK


def add(call: Invocation) -> int:
    """Make a coordinator that was started with `--join` a member."""
    replaced = call.arguments["replaces"]
    body = {
        "id": checked(call.arguments["id"]),
        "replaces": None if replaced is None else checked(replaced),
    }
    with call.connect() as client:
        show_generation(call, client.post("/raft/members", body, wait=call.wait))
    return OK


def remove(call: Invocation) -> int:
    """Remove a member for good."""
    member = checked(call.arguments["id"])
    call.confirm(f"{member} leaves the group for good, and its id can never be used again", member)
    with call.connect() as client:
        show_generation(call, client.delete(f"/raft/members/{member}", wait=call.wait))
    return OK


def checked(member: str) -> str:
    """An id that can be one.

    Raises:
        UsageError: it cannot.
    """
    try:
        return check_id(member, "coordinator id")
    except ValueError as error:
        raise UsageError(str(error)) from None


def show_generation(call: Invocation, generation: dict[str, Any]) -> None:
    """The members as they are now."""
    row = (generation["number"], generation["members"], generation["retired"])
    call.show(generation, Rows(("GENERATION", "MEMBERS", "RETIRED"), [row]))
