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
- A rollback that somebody asks for (`RollbackGroup`) is an update to what the group was, taken from its
  `history`, under a new number; while an update is under way, it gives that up.
- One update of a group at a time; another one is refused. A group that is deleted ends it.

Version numbers are never used again: after the way back the group has its old number, and the next update
one above the highest there was.
"""

from typing import Any, Final

from msgspec.structs import replace

from coordinator.state import divisions, history
from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    MAX_REASON,
    EndUpdate,
    ExplainUpdate,
    FailUpdate,
    RollbackGroup,
    ScaleGroup,
    UpdateCommand,
    UpdateGroup,
)
from coordinator.state.model import State
from coordinator.state.next_version import rollback_as_update, scale_as_update, updated
from coordinator.state.records import HOLDING, Cause, Migration, MovePhase, Phase, Placement
from coordinator.state.results import Done, Result
from coordinator.state.versions import Group, Update, UpdatePhase
from proto_schemas.errors import ErrorCode
from proto_schemas.rest.groups import ROLLBACK_ASKED

MAX_FAILURES: Final = 5
"""Migrations of one instance that may fail for reasons that are not the program's."""


def update_group(change: Change[UpdateGroup]) -> Result:
    """The group is of the new version; what of it does not run so yet is behind, or pending."""
    group = updated(change.state, change.command)
    if group is not None:
        _begin(change, group, "group_update_started", change.command.why)
    return Done()


def rollback_group(change: Change[RollbackGroup]) -> Result:
    """As an update to what the group was; one that is under way is given up instead."""
    command = change.command
    wanted = rollback_as_update(change.state, command)
    if wanted is not None:
        group = updated(change.state, wanted)
        if group is not None:
            _begin(change, group, "group_rollback_started", wanted.why)
        return Done()
    group = change.state.groups[command.group]
    update = group.rolling
    if update is not None and _goes_on(update):
        reason = f"{ROLLBACK_ASKED}{': ' if command.why else ''}{command.why}"
        _write(change, group, replace(update, failing=reason, reason=reason))
        change.tell("group_rollback_asked", group.spec.name, f"version {update.to_version}: {reason}")
    return Done()


def scale_group(change: Change[ScaleGroup]) -> Result:
    """As an update that changes the replicas of one pipeline."""
    wanted = scale_as_update(change.state, change.command)
    group = updated(change.state, wanted)
    if group is not None:
        _begin(change, group, "group_update_started", wanted.why)
    return Done()


def _begin(change: Change[Any], group: Group, what: str, why: str) -> None:
    if group.division is not None:
        divisions.begin(change, group, what)
        return
    state, name, update = change.state, group.spec.name, group.update
    state.write_group(group)
    for instance in group.instances:
        if instance not in state.placements[name]:
            change.write(name, instance, Placement(since=group.version))
    if update is None:
        return
    versions = f"version {update.from_version} to {update.to_version}"
    change.tell(what, name, f"{versions}: {len(update.fresh)} to deploy{'; ' if why else ''}{why}")
    if not update.fresh and not update.behind:
        _end(change, group, UpdatePhase.DONE, None)


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
    group = divisions.ended(group)
    update = group.rolling
    if update is None:
        return group
    over = replace(_over(update, at), phase=UpdatePhase.FAILED, reason=reason)
    if update.phase is not UpdatePhase.ROLLING or group.former is None:
        return replace(group, update=over)
    return replace(group.former, update=over, history=history.returned(group, group.former, reason))


def _turn_round(change: Change[Any], group: Group, update: Update) -> None:
    name, old = group.spec.name, group.former
    if old is None:
        return
    placements = change.state.placements[name]
    rolled = [each for each in update.fresh if each not in update.behind and each in placements]
    back = replace(
        update,
        phase=UpdatePhase.ROLLING_BACK,
        before=history.revision_of(group),
        behind=tuple(rolled),
        fresh=tuple(each for each in rolled if each in old.instances),
        failing=None,
        failures={},
        reason=update.failing,
    )
    editions = history.returned(group, old, update.failing or "")
    change.state.write_group(replace(old, update=back, history=editions))
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


def _under_way(change: Change[Any]) -> tuple[Group, Update]:
    command: UpdateCommand = change.command
    group = change.state.groups.get(command.group)
    update = group.rolling if group is not None else None
    if group is None or update is None or update.to_version != command.version:
        refuse(ErrorCode.CONFLICT, f"the update of {command.about} is over")
    return group, update
