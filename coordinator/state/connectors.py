"""Commands about registered connectors. What they hold was checked, and sealed, before."""

from msgspec.structs import replace

from coordinator.state.change import Change, refuse
from coordinator.state.commands import DeleteConnector, ResealConnector, SaveConnector
from coordinator.state.limits import MAX_CONNECTORS
from coordinator.state.records import Connector
from coordinator.state.results import Done, Result
from proto_schemas.errors import ErrorCode


def save(change: Change[SaveConnector]) -> Result:
    """Register or change a connector. Pipelines that run keep what they were deployed with; its type stays
    while a program names it, for the program says how it is used."""
    state, command = change.state, change.command
    name, old = command.name, state.connectors.get(command.name)
    if command.new and old is not None:
        refuse(ErrorCode.CONFLICT, f"there is a connector {name!r} already: change it with PUT")
    if not command.new and old is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no connector {name!r}: see GET /connectors")
    if old is None and len(state.connectors) >= MAX_CONNECTORS:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"the cluster has {MAX_CONNECTORS} connectors: delete some first")
    same_type = old is not None and old.connector_type == command.connector_type
    if old is not None and not same_type and (users := state.users_of(name)):
        refuse(
            ErrorCode.CONFLICT,
            f"connector {name!r} is {old.connector_type} for {users[0]} and {len(users) - 1} others: "
            "register one of another name",
        )
    held = old.params if old is not None and same_type else {}
    if missing := [key for key in command.kept if key not in held]:
        refuse(ErrorCode.BAD_REQUEST, f"$.params.{missing[0]}: there is none to keep: give the value")
    state.connectors[name] = Connector(
        name=name,
        connector_type=command.connector_type,
        params={**command.params, **{key: held[key] for key in command.kept}},
        description=command.description,
        version=old.version + 1 if old is not None else 1,
        created_at=old.created_at if old is not None else command.at,
        updated_at=command.at,
    )
    change.tell("connector_changed" if old else "connector_created", name, command.connector_type)
    return Done()


def reseal(change: Change[ResealConnector]) -> Result:
    """Take the same secrets sealed anew; what was changed meanwhile is left alone."""
    command, state = change.command, change.state
    old = state.connectors.get(command.name)
    if old is None or old.version != command.version or old.params.keys() != command.params.keys():
        refuse(ErrorCode.CONFLICT, f"connector {command.name!r} is of another version: look again")
    state.connectors[command.name] = replace(old, params=command.params)
    change.tell("connector_resealed", command.name, "its key is no longer the signing one")
    return Done()


def delete(change: Change[DeleteConnector]) -> Result:
    """Forget a connector that no group names."""
    state, name = change.state, change.command.name
    if name not in state.connectors:
        refuse(ErrorCode.NOT_FOUND, f"there is no connector {name!r}: see GET /connectors")
    if users := state.users_of(name):
        refuse(
            ErrorCode.CONFLICT,
            f"connector {name!r} is used by {', '.join(users[:5])}{' and others' * (len(users) > 5)}: "
            "delete those groups first",
        )
    del state.connectors[name]
    change.tell("connector_deleted", name)
    return Done()
