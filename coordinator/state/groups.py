"""Commands about pipeline groups."""

from msgspec.structs import replace

from coordinator.state import history
from coordinator.state.change import Change, refuse
from coordinator.state.commands import CreateGroup, DeleteGroup
from coordinator.state.constraints import Wants
from coordinator.state.limits import MAX_GROUPS
from coordinator.state.model import State
from coordinator.state.records import HOLDING, Phase
from coordinator.state.results import Done, Result
from coordinator.state.room import Room
from coordinator.state.strategy import takes_new
from coordinator.state.versions import Group
from proto_schemas.errors import ErrorCode


def create_group(change: Change[CreateGroup]) -> Result:
    """A new group: all its pipelines are pending. It takes a worker with room for at least one of them."""
    state, command = change.state, change.command
    name = command.spec.name
    existing = state.groups.get(name)
    if existing is not None:
        refuse(
            ErrorCode.CONFLICT,
            f"group {name!r} is being torn down: ask again once it is gone"
            if existing.deleting
            else f"there is a group {name!r} already: update it with PUT, or choose another name",
            retryable=existing.deleting,
        )
    if len(state.groups) >= MAX_GROUPS:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"the cluster has {MAX_GROUPS} groups: delete some first")
    if not any(state.ready(worker_id) for worker_id in state.workers):
        refuse(
            ErrorCode.UNAVAILABLE,
            f"no worker is ready ({len(state.workers)} known): start one, then ask again",
            retryable=True,
        )
    named = {connector for used in command.connectors.values() for connector in used}
    if gone := sorted(named - state.connectors.keys()):
        refuse(
            ErrorCode.PARSE_ERROR,
            f"connector {gone[0]!r} is not registered any more: see GET /connectors, or declare it",
        )
    group = Group(
        spec=command.spec,
        consumes=command.consumes,
        connectors=command.connectors,
        created_at=command.at,
        history=history.begun(command.at, command.by, command.why),
    )
    first = [name for name, instance in group.instances.items() if instance.number == 0]
    wants = {each.signature: each for each in (Wants.of(group, name) for name in first)}
    if wants and not any(_has_room(state, each) for each in wants.values()):
        why = Room(state).why_none(wants=next(iter(wants.values())))
        refuse(ErrorCode.UNAVAILABLE, f"{why}, then ask again", retryable=True)
    state.write_group(group)
    state.place_anew(name, group.instances)
    change.tell("group_created", name, f"{len(command.spec.pipelines)} pipelines")
    return Done()


def _has_room(state: State, wants: Wants) -> bool:
    return any(
        takes_new(worker) and state.slots_taken(worker.id) < worker.max_pipelines and wants.fits(worker)
        for worker in state.workers.values()
    )


def delete_group(change: Change[DeleteGroup]) -> Result:
    """Begin to tear a group down; what no worker holds is gone at once."""
    state, name = change.state, change.command.group
    group = state.groups.get(name)
    if group is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no group {name!r}: see GET /pipeline-groups")
    if group.deleting:
        return Done()
    state.write_group(replace(group, deleting=True))
    change.tell("group_deleting", name)
    for pipeline, placement in list(state.placements[name].items()):
        if placement.phase in HOLDING:
            change.write(name, pipeline, replace(placement, phase=Phase.REMOVING, reason=None))
        else:
            change.drop(name, pipeline)
    return Done()
