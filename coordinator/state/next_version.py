"""What a group becomes by an update or a rollback. Nothing here changes anything: a dry run asks the same."""

from msgspec.structs import replace

from coordinator.state import history
from coordinator.state.change import refuse
from coordinator.state.commands import RollbackGroup, ScaleGroup, UpdateGroup
from coordinator.state.divisions import divided, divided_in
from coordinator.state.model import State
from coordinator.state.records import Phase, Placement
from coordinator.state.revisions import fault_of, fresh_in, splits_or_joins
from coordinator.state.versions import Edition, Group, Update, UpdatePhase
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode
from proto_schemas.rest.groups import MAX_WHY, GroupSpec


def updated(state: State, command: UpdateGroup) -> Group | None:
    """The group as the command would make it; None when it is so already. Changes nothing.

    Raises:
        Refusal: `not_found`, `conflict`, `parse_error` for a connector that is gone.
    """
    name = command.spec.name
    group = state.groups.get(name)
    if group is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no group {name!r}: see GET /pipeline-groups, or POST it")
    if group.deleting:
        refuse(ErrorCode.CONFLICT, f"group {name!r} is being torn down: create it once it is gone")
    _check_version(group, command.if_version)
    if group.rolling is not None:
        refuse(
            ErrorCode.CONFLICT,
            f"group {name!r} is {group.rolling.phase.replace('_', ' ')} from version "
            f"{group.rolling.from_version} to {group.rolling.to_version}: wait until that has ended",
        )
    if group.division is not None:
        refuse(
            ErrorCode.CONFLICT,
            f"the instances of {name}/{group.division.pipeline} are being divided: wait until that has ended",
        )
    if command.spec == group.spec:
        return None
    _check_delivery(group, command.spec)
    named = {connector for used in command.connectors.values() for connector in used}
    if gone := sorted(named - state.connectors.keys()):
        refuse(
            ErrorCode.PARSE_ERROR,
            f"connector {gone[0]!r} is not registered any more: see GET /connectors, or declare it",
        )
    pipeline = divided_in(group, command.spec)
    if pipeline is not None:
        _none_leaves(state, name)
        return divided(state, group, command, pipeline)
    version = max(group.version, group.newest) + 1
    new = replace(
        group,
        shared=_shared(state, group, command.spec),
        spec=command.spec,
        consumes=command.consumes,
        connectors=command.connectors,
        version=version,
        newest=version,
    )
    fault = fault_of(group, new)
    if fault is not None:
        refuse(ErrorCode.CONFLICT, fault)
    placements = state.placements[name]
    _none_leaves(state, name)
    fresh = fresh_in(group, new)
    touched = set(fresh)
    update = Update(
        from_version=group.version,
        to_version=version,
        before=history.revision_of(group),
        behind=tuple(each for each in placements if each not in new.instances or each in touched),
        fresh=fresh,
        started_at=command.at,
    )
    edition = Edition(version=version, at=command.at, by=command.by, why=command.why)
    return replace(new, update=update, history=history.followed(group, edition))


def _none_leaves(state: State, name: str) -> None:
    leaving = [each for each, found in state.placements[name].items() if found.phase is Phase.REMOVING]
    if leaving:
        refuse(
            ErrorCode.CONFLICT,
            f"{name}/{leaving[0]}, of an earlier version, is still being removed: ask again once it is gone",
            retryable=True,
        )


def rollback_as_update(state: State, command: RollbackGroup) -> UpdateGroup | None:
    """The update that makes a group what it was; None: the one under way leads there when it is given up.

    Raises:
        Refusal: `not_found`, `conflict`.
    """
    group = state.groups.get(command.group)
    if group is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no group {command.group!r}: see GET /pipeline-groups")
    update = group.rolling
    if update is not None and not group.deleting and command.to in (None, update.from_version):
        _check_version(group, command.if_version)
        if update.phase is UpdatePhase.ROLLING:
            return None
    wanted = history.before(group, command.to)
    return UpdateGroup(
        at=command.at,
        by=command.by,
        spec=wanted.spec,
        consumes=wanted.consumes,
        connectors=wanted.connectors,
        if_version=command.if_version,
        undivided=command.undivided,
        why=f"as version {wanted.version}{': ' if command.why else ''}{command.why}"[:MAX_WHY],
    )


def _check_delivery(group: Group, spec: GroupSpec) -> None:
    """A copy goes on from a position in a stream, in the same one, with the same keys."""
    before = group.spec.delivery
    if before != spec.delivery:
        refuse(
            ErrorCode.CONFLICT,
            f"group {spec.name!r} has delivery {before}, and a group keeps its delivery: tear it down and "
            "create it anew",
        )
    if before == AT_MOST_ONCE:
        return
    for pipeline in spec.pipelines:
        known = group.pipelines.get(pipeline.name)
        if known is None:
            continue
        if (known.replicas, known.partition_key) != (pipeline.replicas, pipeline.partition_key):
            refuse(
                ErrorCode.CONFLICT,
                f"{spec.name}/{pipeline.name}: with delivery {before} the number of its instances, and their "
                "key, stay as they are: tear the group down and create it anew",
            )


def scale_as_update(state: State, command: ScaleGroup) -> UpdateGroup:
    """The update that gives a pipeline another number of replicas.

    Raises:
        Refusal: `not_found`.
    """
    group = state.groups.get(command.group)
    pipeline = group.pipelines.get(command.pipeline) if group is not None else None
    if group is None or pipeline is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no pipeline {command.about}: see GET /pipeline-groups")
    return UpdateGroup(
        at=command.at,
        by=command.by,
        spec=scaled(group.spec, command.pipeline, command.replicas),
        consumes=group.consumes,
        connectors=group.connectors,
        if_version=command.if_version,
        undivided=command.undivided,
        why=command.why or f"{command.pipeline}: {pipeline.replicas} to {command.replicas} replicas",
    )


def scaled(spec: GroupSpec, pipeline: str, replicas: int) -> GroupSpec:
    """The spec with another number of replicas for a pipeline."""
    pipelines = [
        replace(each, replicas=replicas) if each.name == pipeline else each for each in spec.pipelines
    ]
    return replace(spec, pipelines=pipelines)


def line_for(group: Group, instance: str) -> int | None:
    """The line that an instance which is placed now has to join; None: it begins one of its own. While a
    pipeline that ran alone becomes several, or the other way round, they share the events."""
    former, found = group.former, group.at(instance, new=True).instances.get(instance)
    if former is None or found is None or not splits_or_joins(former, group, found.pipeline.name):
        return None
    return group.shared.get(found.pipeline.name, group.created_at)


def _shared(state: State, group: Group, spec: GroupSpec) -> dict[str, int]:
    """The lines that pipelines share once the group is as `spec` says."""
    shared = {}
    for pipeline in spec.pipelines:
        name = pipeline.name
        before = group.pipelines.get(name)
        if before is None or (before.replicas == 1 == pipeline.replicas):
            continue
        if before.replicas > 1:
            shared[name] = group.shared.get(name, group.created_at)
            continue
        placement = state.placements[group.spec.name].get(name, Placement())
        worker = state.workers.get(placement.worker_id or "")
        if worker is not None and (worker.incarnation is None or not placement.queue):
            refuse(
                ErrorCode.CONFLICT,
                f"pipeline {name!r} was placed by an older version, or on a worker that knows no replicas: "
                "delete the group and deploy it anew",
            )
        shared[name] = placement.queue or group.created_at
    return shared


def _check_version(group: Group, wanted: int | None) -> None:
    if wanted is not None and wanted != group.version:
        refuse(
            ErrorCode.CONFLICT,
            f"group {group.spec.name!r} has version {group.version}, not {wanted}: look at it again first",
        )
