"""Updates: a group goes from one version to another, instance by instance, and back when the new one fails.

    rolling --EndUpdate--> done
       \\--(fails, and no migration of it is under way)--> rolling_back --EndUpdate--> rolled_back

- `UpdateGroup` makes the new version the group's own at once; each instance that is deployed otherwise in it
  is `behind` until a copy of the new version is its placement: by a migration of cause `update`
  (`FinishMigration`), or because it had to be placed anew (`Place`). All others are not touched.
- Instances that are new are pending from the beginning. Those that are gone in the new version run on until
  all else does, so that until then the way back leads to where it began; they are removed at the end.
- The new version has failed when a worker refuses its program or the copy fails (`ReportFailed`, a migration
  whose target refused), when `MAX_FAILURES` migrations of one instance failed for other reasons, or when the
  controller says so (`FailUpdate`: nothing comes forward). Then nothing further begins, and when the last
  migration of the update has ended, in the same command the two versions change places and all goes back the
  same way.
- A pipeline whose instances share its events without a key may get more of them or fewer, also from one or to
  one: the old and the new ones listen in one queue group (`Group.shared`), so each event reaches one of them.
- One update of a group at a time; another one is refused. A group that is deleted ends it.

Version numbers are never used again: after the way back the group has its old number, and the next update
one above the highest there was.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    MAX_REASON,
    EndUpdate,
    ExplainUpdate,
    FailUpdate,
    UpdateCommand,
    UpdateGroup,
)
from coordinator.state.constraints import Wants
from coordinator.state.model import (
    HOLDING,
    Cause,
    Done,
    Group,
    Migration,
    MovePhase,
    Phase,
    Placement,
    Result,
    Revision,
    State,
    Update,
    UpdatePhase,
)
from coordinator.state.revisions import fault_of, fresh_in, splits_or_joins
from coordinator.state.strategy import Room, twins_of
from proto_schemas.errors import ErrorCode
from proto_schemas.rest import GroupSpec

MAX_FAILURES: Final = 5
"""Migrations of one instance that may fail for reasons that are not the program's."""


def update_group(change: Change[UpdateGroup]) -> Result:
    """The group is of the new version; what of it does not run so yet is behind, or pending."""
    state, command = change.state, change.command
    group = updated(state, command)
    if group is None:
        return Done()
    name, update = group.spec.name, group.update
    placements = state.placements[name]
    state.write_group(group)
    for instance in group.instances:
        if instance not in placements:
            change.write(name, instance, Placement())
    versions = f"version {update.from_version} to {update.to_version}" if update is not None else ""
    change.tell("group_update_started", name, f"{versions}: {len(update.fresh) if update else 0} to deploy")
    if update is not None and not update.fresh and not update.behind:
        _end(change, group, UpdatePhase.DONE, None)
    return Done()


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
    if command.if_version is not None and command.if_version != group.version:
        refuse(
            ErrorCode.CONFLICT,
            f"group {name!r} has version {group.version}, not {command.if_version}: look at it again first",
        )
    if group.rolling is not None:
        refuse(
            ErrorCode.CONFLICT,
            f"group {name!r} is {group.rolling.phase.replace('_', ' ')} from version "
            f"{group.rolling.from_version} to {group.rolling.to_version}: wait until that has ended",
        )
    if command.spec == group.spec:
        return None
    named = {connector for used in command.connectors.values() for connector in used}
    if gone := sorted(named - state.connectors.keys()):
        refuse(
            ErrorCode.PARSE_ERROR,
            f"connector {gone[0]!r} is not registered any more: see GET /connectors, or declare it",
        )
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
    leaving = [each for each, placement in placements.items() if placement.phase is Phase.REMOVING]
    if leaving:
        refuse(
            ErrorCode.CONFLICT,
            f"{name}/{leaving[0]}, of an earlier version, is still being removed: ask again once it is gone",
            retryable=True,
        )
    fresh = fresh_in(group, new)
    touched = set(fresh)
    update = Update(
        from_version=group.version,
        to_version=version,
        before=_revision(group),
        behind=tuple(each for each in placements if each not in new.instances or each in touched),
        fresh=fresh,
        started_at=command.at,
    )
    return replace(new, update=update)


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


def explain_update(change: Change[ExplainUpdate]) -> Result:
    """Only the reason changes."""
    group, update = _under_way(change)
    reason = change.command.reason or None
    _write(change, group, replace(update, reason=reason))
    if reason:
        change.tell("group_update_waits", group.spec.name, reason)
    return Done()


def fail_update(change: Change[FailUpdate]) -> Result:
    """The new version is given up: it will be rolled back."""
    group, update = _under_way(change)
    if update.phase is not UpdatePhase.ROLLING:
        refuse(ErrorCode.CONFLICT, f"the update of {group.spec.name} is {update.phase}: it cannot be failed")
    _fail(change, group, change.command.reason)
    return Done()


def end_update(change: Change[EndUpdate]) -> Result:
    """All that was touched runs in the version that the group has; what that does not have is removed."""
    group, update = _under_way(change)
    if left := waits_for(change.state, group):
        refuse(ErrorCode.CONFLICT, f"{group.spec.name}/{left[0]} and so {len(left)} are not done yet")
    if update.failing is not None:
        refuse(ErrorCode.CONFLICT, f"the update of {group.spec.name} has failed: {update.failing}")
    forward = update.phase is UpdatePhase.ROLLING
    for name in [name for name in update.behind if name not in group.instances]:
        _remove(change, group.spec.name, name)
    _end(change, group, UpdatePhase.DONE if forward else UpdatePhase.ROLLED_BACK, update.reason)
    return Done()


def waits_for(state: State, group: Group) -> list[str]:
    """The touched instances that do not run in the group's version yet."""
    update = group.rolling
    if update is None:
        return []
    placements, behind = state.placements[group.spec.name], set(update.behind)
    return [
        name
        for name in update.fresh
        if name in behind or name not in placements or placements[name].phase is not Phase.RUNNING
    ]


# -- what happens to its instances --------------------------------------------------------------------------


def caught_up(change: Change[Any], group_name: str, instance: str) -> None:
    """The placement of an instance is of the group's version from here on, if that has it at all."""
    group = change.state.groups[group_name]
    update = group.rolling
    if update is not None and instance in group.instances and instance in update.behind:
        behind = tuple(name for name in update.behind if name != instance)
        reason = None if _goes_on(update) else update.reason
        _write(change, group, replace(update, behind=behind, reason=reason))


def instance_failed(change: Change[Any], group_name: str, instance: str, reason: str) -> None:
    """A copy failed, or was refused: if it was of the new version, that has failed."""
    group = change.state.groups[group_name]
    update = group.rolling
    if update is not None and instance in update.fresh and instance not in update.behind:
        _fail(change, group, f"{instance}: {reason}")


def move_ended(change: Change[Any], move: Migration, phase: MovePhase, reason: str, refused: bool) -> None:
    """A migration of an update is over; `refused`: the target would not run its program."""
    group = change.state.groups.get(move.group)
    update = group.rolling if group is not None else None
    if group is None or update is None or move.cause is not Cause.UPDATE or group.deleting:
        return
    if phase is MovePhase.DONE:
        caught_up(change, move.group, move.pipeline)
        return
    placement = change.state.placement(move.group, move.pipeline)
    if placement is None or placement.epoch != move.from_epoch or placement.phase is not Phase.RUNNING:
        return  # it is placed anew, and so in the group's version
    count = update.failures.get(move.pipeline, 0) + 1
    failures = {**update.failures, move.pipeline: count}
    reason = reason[:MAX_REASON]
    update = replace(update, failures=failures, reason=reason if _goes_on(update) else update.reason)
    _write(change, group, update)
    if _goes_on(update) and (refused or count >= MAX_FAILURES):
        _fail(change, change.state.groups[move.group], f"{move.pipeline}: {reason}")


def settle(change: Change[Any]) -> None:
    """After every command, and after the jobs: end what cannot go on, and turn round what may."""
    state = change.state
    for group in state.rolling:
        update = group.rolling
        if update is None:
            continue
        if group.deleting:
            _end(change, group, UpdatePhase.FAILED, "the group was deleted")
        elif update.failing is not None and not moves_of(state, group):
            _turn_round(change, group, update)


def moves_of(state: State, group: Group) -> list[Migration]:
    """The migrations of its update that are under way."""
    return [
        move
        for move in state.migrations.values()
        if move.group == group.spec.name and move.cause is Cause.UPDATE
    ]


def ended(group: Group, reason: str, at: int) -> Group:
    """The group without the update that was under way, of the version that is known to run: for a state
    that is brought back from a copy."""
    update = group.rolling
    if update is None:
        return group
    known = group.former if update.phase is UpdatePhase.ROLLING and group.former is not None else group
    over = replace(_over(update, at), phase=UpdatePhase.FAILED, reason=reason)
    return replace(known, update=over)


def _turn_round(change: Change[Any], group: Group, update: Update) -> None:
    name, old = group.spec.name, group.former
    if old is None:
        return
    placements = change.state.placements[name]
    rolled = [each for each in update.fresh if each not in update.behind and each in placements]
    back = replace(
        update,
        phase=UpdatePhase.ROLLING_BACK,
        before=_revision(group),
        behind=tuple(rolled),
        fresh=tuple(each for each in rolled if each in old.instances),
        failing=None,
        failures={},
        reason=update.failing,
    )
    change.state.write_group(replace(old, update=back))
    change.tell(
        "group_rolling_back",
        name,
        f"version {update.to_version} to {update.from_version}, {len(rolled)} pipelines: {update.failing}",
    )
    for each in rolled:
        if each not in old.instances:
            _remove(change, name, each)


def _fail(change: Change[Any], group: Group, reason: str) -> None:
    update = group.rolling
    if update is not None and _goes_on(update):
        _write(change, group, replace(update, failing=reason, reason=reason))
        change.tell("group_update_failed", group.spec.name, f"version {update.to_version}: {reason}")


def _goes_on(update: Update) -> bool:
    return update.phase is UpdatePhase.ROLLING and update.failing is None


def _end(change: Change[Any], group: Group, phase: UpdatePhase, reason: str | None) -> None:
    update = group.rolling
    if update is None:
        return
    _write(change, group, replace(_over(update, change.command.at), phase=phase, reason=reason))
    what = {UpdatePhase.DONE: "group_updated", UpdatePhase.ROLLED_BACK: "group_rolled_back"}
    versions = f"version {update.from_version} to {update.to_version}"
    why = f"{versions}: {reason}" if reason else versions
    change.tell(what.get(phase, "group_update_ended"), group.spec.name, why)


def _over(update: Update, at: int) -> Update:
    return replace(update, before=None, behind=(), fresh=(), failing=None, failures={}, ended_at=at)


def _write(change: Change[Any], group: Group, update: Update) -> None:
    change.state.write_group(group.with_update(update))


def _remove(change: Change[Any], group: str, instance: str) -> None:
    placement = change.state.placement(group, instance)
    if placement is not None and placement.phase in HOLDING:
        change.write(group, instance, replace(placement, phase=Phase.REMOVING, reason=None))
    elif placement is not None:
        change.drop(group, instance)


def _revision(group: Group) -> Revision:
    return Revision(
        version=group.version, spec=group.spec, consumes=group.consumes, connectors=group.connectors
    )


def _under_way(change: Change[Any]) -> tuple[Group, Update]:
    command: UpdateCommand = change.command
    group = change.state.groups.get(command.group)
    update = group.rolling if group is not None else None
    if group is None or update is None or update.to_version != command.version:
        refuse(ErrorCode.CONFLICT, f"the update of {command.about} is over")
    return group, update


class Step(NamedTuple):
    """What an update does to one instance; `worker` None: nowhere now, for a `reason`."""

    instance: str
    change: str
    worker: str | None
    reason: str = ""


def plan(state: State, group: Group, room: Room) -> list[Step]:
    """What the update of a group as `updated` gives it would do, were it begun now. `room` is used up."""
    placements, fresh = state.placements[group.spec.name], set(group.rolling.fresh if group.rolling else ())
    steps: list[Step] = []
    for name in group.instances:
        here = placements[name].worker_id if name in placements else None
        if name not in fresh:
            steps.append(Step(name, "unchanged", here))
            continue
        wants = Wants.of(group, name, new=True)
        if here is not None:
            choice, why = choose(state, group, name, here, lambda: room)
        else:
            choice = room.choose(group.spec.name, wants=wants)
            why = "" if choice is not None else room.why_none(group=group.spec.name, wants=wants)
        if choice is not None and choice != here:
            room.take(choice, group.spec.name, wants.pipeline)
        steps.append(Step(name, "updated" if name in placements else "added", choice, why))
    gone = (name for name in placements if name not in group.instances)
    return steps + [Step(name, "removed", placements[name].worker_id) for name in gone]


# -- where its copies go ------------------------------------------------------------------------------------


def choose(
    state: State, group: Group, instance: str, source: str, room: Callable[[], Room]
) -> tuple[str | None, str]:
    """The worker for the new copy of an instance that runs on `source`: that one again, unless it does not
    fit any more or another is wished for. Or None, and why."""
    wants = Wants.of(group, instance, new=True)
    stays = _can_stay(state, group, instance, wants, source)
    if stays and wants.affinity in (None, source):
        return source, ""
    name, free = group.spec.name, room()
    choice = free.choose(name, avoid={source}, wants=wants)
    if stays and choice != wants.affinity:
        return source, ""
    return choice, "" if choice is not None else free.why_none({source}, group=name, wants=wants)


def _can_stay(state: State, group: Group, instance: str, wants: Wants, source: str) -> bool:
    worker, name = state.ready(source), group.spec.name
    if worker is None or not wants.fits(worker):
        return False
    return not wants.distinct or not any(
        other != instance and placement.worker_id == source and twins_of(state, name, other) == wants.pipeline
        for other, placement in state.placements[name].items()
    )
