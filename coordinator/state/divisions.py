"""Divisions: the instances of a pipeline that share its events by key become more or fewer while it runs.

    begun --Advance: the new copies are there, and held--> held --Finish--> (they are the placements)
       \\--Fail-------------------------------------------/--Fail--> (the old ones stay)

All old copies hand over to all new ones: a key's windows go to the instance that owns the key now. Its events
stay cut into the shares of old (`Group.shares`), so that nobody who sends need know; see `worker.intake`. The
lines of the shares stay as well: share `i` is taken over by instance `i`, or by `i` modulo their number.

- A division is an update of a group to a version in which only the replicas of that one pipeline differ;
  until `Finish`, which makes all of it so at once, the group is what it was. One at a time, and no other
  update beside it.
- It is about old copies that all run, under the epochs they had at its begin, and about new ones on workers
  in the sessions that were meant. Whatever breaks that before `Finish` fails it in the same command.
- What the old copies left in the store of checkpoints is of other keys: with `Finish` each placement begins
  another life there (`Placement.since`), so nobody goes on from it.
- Epochs of new copies come from the one counter, and are the placements' with `Finish` and not before.
"""

from typing import Any

from msgspec.structs import replace

from coordinator.state import history
from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    AdvanceDivision,
    DivisionCommand,
    FailDivision,
    FinishDivision,
    UpdateGroup,
)
from coordinator.state.constraints import Wants
from coordinator.state.model import State
from coordinator.state.records import HOLDING, NATS, Phase, Placement
from coordinator.state.results import Done, Result
from coordinator.state.room import Room
from coordinator.state.update_plan import choose
from coordinator.state.versions import Division, Edition, Group, Part, Revision, Update, UpdatePhase
from proto_schemas.errors import ErrorCode
from proto_schemas.partition import instance_names
from proto_schemas.rest.groups import GroupSpec, PipelineSpec


def divided_in(group: Group, spec: GroupSpec) -> PipelineSpec | None:
    """The pipeline with a key whose replicas are all that `spec` changes, and, of one that was alone, perhaps
    its key; None when it is none such."""
    pairs = [(group.pipelines.get(each.name), each) for each in spec.pipelines]
    changed = [(before, each) for before, each in pairs if before is not None and before != each]
    if len(changed) != 1:
        return None
    before, pipeline = changed[0]
    same = [before if each is pipeline else each for each in spec.pipelines]
    by_key = pipeline.partition_key is not None and before.replicas != pipeline.replicas
    if not by_key or replace(spec, pipelines=same) != group.spec:
        return None
    key = (
        before.partition_key if group.several(before) else pipeline.partition_key
    )  # who is alone has none yet
    wanted = replace(before, replicas=pipeline.replicas, partition_key=key)
    return pipeline if wanted == pipeline else None


def divided(state: State, group: Group, command: UpdateGroup, pipeline: PipelineSpec) -> Group:
    """The group with the division to `pipeline` begun. Changes nothing.

    Raises:
        Refusal: `conflict`, `unavailable`.
    """
    if (why := command.undivided.get(pipeline.name)) is not None:
        refuse(
            ErrorCode.CONFLICT,
            f"pipeline {pipeline.name!r} cannot go from {group.pipelines[pipeline.name].replicas} to "
            f"{pipeline.replicas} replicas by key {pipeline.partition_key!r} while it runs: {why}; or delete "
            "the group and deploy it anew",
        )
    version = max(group.version, group.newest) + 1
    wanted = replace(group, spec=command.spec, version=version)
    old = tuple(
        _old(state, group, instance)
        for instance in instance_names(pipeline.name, group.pipelines[pipeline.name].replicas)
    )
    new = tuple(_new(state, wanted, pipeline, old))
    division = Division(
        id=f"v-{new[0].epoch}",
        pipeline=pipeline.name,
        wanted=Revision(
            version=version, spec=command.spec, consumes=command.consumes, connectors=command.connectors
        ),
        old=old,
        new=new,
        by=command.by,
        why=command.why,
        started_at=command.at,
    )
    update = Update(from_version=group.version, to_version=version, started_at=command.at)
    return replace(group, division=division, newest=version, update=update)


def _old(state: State, group: Group, instance: str) -> Part:
    about = f"{group.spec.name}/{instance}"
    placement = state.placements[group.spec.name].get(instance, Placement())
    worker = state.ready(placement.worker_id)
    if placement.phase is not Phase.RUNNING or worker is None:
        refuse(ErrorCode.CONFLICT, f"{about} does not run: ask again once it does", retryable=True)
    if state.moving(group.spec.name, instance) is not None:
        refuse(ErrorCode.CONFLICT, f"{about} is being moved: ask again", retryable=True)
    if worker.incarnation is None or worker.carrier != NATS or not placement.queue:
        refuse(
            ErrorCode.CONFLICT,
            f"{about} was placed by an older version, or its worker {worker.id!r} has no NATS: nobody can "
            "take over from it; delete the group and deploy it anew",
        )
    return Part(
        instance=instance,
        worker=worker.id,
        epoch=placement.epoch,
        pipeline_id=placement.pipeline_id,
        queue=placement.queue,
        lines=placement.lines,
    )


def _new(state: State, wanted: Group, pipeline: PipelineSpec, old: tuple[Part, ...]) -> list[Part]:
    name, room, parts, count = wanted.spec.name, Room(state), list[Part](), pipeline.replicas
    shares = wanted.shares.get(pipeline.name, len(old))
    wanted = replace(wanted, shares={**wanted.shares, pipeline.name: shares})
    lines = {
        str(share): part.lines.get(str(share), part.queue)
        for number, part in enumerate(old)
        for share in (number, *range(number + len(old), shares, len(old)))
    }
    for number, instance in enumerate(instance_names(pipeline.name, count)):
        before, epoch = old[number] if number < len(old) else None, state.epochs + 1 + number
        wants = Wants.of(wanted, instance, new=True)
        if before is not None:
            worker, why = choose(state, wanted, instance, before.worker, lambda: room)
        else:
            worker, why = room.choose(name, wants=wants), ""
        if worker is None:
            why = why or room.why_none(group=name, wants=wants)
            refuse(ErrorCode.UNAVAILABLE, f"{instance}: {why}", retryable=True)
        if before is None or worker != before.worker:
            room.take(worker, name, wants.pipeline)
        if state.workers[worker].carrier != NATS:
            refuse(ErrorCode.CONFLICT, f"{instance} would go to {worker!r}, which has no NATS")
        parts.append(
            Part(
                instance=instance,
                worker=worker,
                epoch=epoch,
                session=state.workers[worker].session,
                queue=lines.get(str(number), epoch),
                lines={str(share): lines[str(share)] for share in range(number + count, shares, count)},
            )
        )
    return parts


def begin(change: Change[Any], group: Group, what: str) -> None:
    """Write down what `divided` gave."""
    division, update = group.division, group.update
    if division is None or update is None:
        return
    change.state.epochs = max(change.state.epochs, *(each.epoch for each in division.new))
    change.state.write_group(group)
    versions = f"version {update.from_version} to {update.to_version}"
    count = f"{division.pipeline}, {len(division.old)} instances become {len(division.new)}"
    why = f"; {division.why}" if division.why else ""
    change.tell(what, group.spec.name, f"{versions}: {count}{why}")


def advance_division(change: Change[AdvanceDivision]) -> Result:
    """A step is done, or takes long for a reason."""
    command = change.command
    group, division = _under_way(change)
    if not command.copies:
        division = replace(division, reason=command.reason or None)
    elif command.copies.keys() != {each.instance for each in division.new}:
        refuse(ErrorCode.CONFLICT, f"{command.about} these are not the new copies")
    else:
        new = tuple(replace(each, pipeline_id=command.copies[each.instance]) for each in division.new)
        division = replace(division, held=True, new=new, reason=None)
    change.state.write_group(replace(group, division=division))
    return Done()


def finish_division(change: Change[FinishDivision]) -> Result:
    """All at once: the group is of the new version, and the new copies are its placements."""
    state = change.state
    group, division = _under_way(change)
    if not division.held:
        refuse(ErrorCode.CONFLICT, f"{change.command.about} has no new copies yet")
    name, wanted, update = group.spec.name, division.wanted, group.update
    shares = {**group.shares, division.pipeline: group.shares.get(division.pipeline, len(division.old))}
    if shares[division.pipeline] == len(division.new):
        del shares[division.pipeline]
    edition = Edition(version=wanted.version, at=change.command.at, by=division.by, why=division.why)
    done = replace(
        group,
        spec=wanted.spec,
        consumes=wanted.consumes,
        connectors=wanted.connectors,
        version=wanted.version,
        shares=shares,
        division=None,
        update=replace(update, phase=UpdatePhase.DONE, ended_at=change.command.at) if update else None,
        history=history.followed(group, edition),
    )
    state.write_group(done)
    for part in division.new:
        placement = Placement(
            phase=Phase.RUNNING,
            epoch=part.epoch,
            worker_id=part.worker,
            pipeline_id=part.pipeline_id,
            queue=part.queue,
            lines=part.lines,
            since=wanted.version,
        )
        change.write(name, part.instance, placement)
    for part in division.old:
        if part.instance not in done.instances:
            gone = state.placements[name][part.instance]
            change.write(name, part.instance, replace(gone, phase=Phase.REMOVING, reason=None))
    change.tell("group_updated", name, f"{division.pipeline} has {len(division.new)} instances")
    return Done()


def fail_division(change: Change[FailDivision]) -> Result:
    """The old copies stay, in new lines where a new copy may still listen in the present ones."""
    group, division = _under_way(change)
    if change.command.new_line:
        for part in division.old:
            placement = change.state.placements[group.spec.name][part.instance]
            epoch = division.new[0].epoch
            change.write(group.spec.name, part.instance, replace(placement, queue=epoch, lines={}))
    _give_up(change, group, division, change.command.reason)
    return Done()


def settle(change: Change[Any]) -> None:
    """After every command: end those that it has made impossible."""
    for group in change.state.dividing:
        division = group.division
        if division is not None and (why := _broken(change.state, group, division)) is not None:
            _give_up(change, group, division, why)


def ended(group: Group) -> Group:
    """The group without the division that was under way; its update says so by what it is."""
    return replace(group, division=None)


def _give_up(change: Change[Any], group: Group, division: Division, reason: str) -> None:
    update = group.update
    if update is not None:
        update = replace(update, phase=UpdatePhase.ROLLED_BACK, reason=reason, ended_at=change.command.at)
    edition = Edition(
        version=division.wanted.version,
        at=division.started_at,
        by=division.by,
        why=division.why,
        revision=division.wanted,
        failed=reason,
    )
    editions = history.refused(group, edition)
    change.state.write_group(replace(group, division=None, update=update, history=editions))
    change.tell("group_update_failed", group.spec.name, f"version {division.wanted.version}: {reason}")
    change.tell(
        "group_rolled_back", group.spec.name, f"{division.pipeline} keeps {len(division.old)} instances"
    )


def _broken(state: State, group: Group, division: Division) -> str | None:
    if group.deleting:
        return f"group {group.spec.name} was deleted"
    for part in division.old:
        placement = state.placements[group.spec.name].get(part.instance)
        if placement is None or placement.phase not in HOLDING or placement.epoch != part.epoch:
            reason = placement.reason if placement is not None else None
            return f"{part.instance}: {reason or f'it was taken from worker {part.worker}'}"
        if placement.phase is not Phase.RUNNING:
            return f"{part.instance} is {placement.phase}"
    for part in division.new:
        worker = state.workers.get(part.worker)
        if worker is None or worker.session != part.session:
            return f"worker {part.worker} {'was removed' if worker is None else 'restarted'}"
    return None


def _under_way(change: Change[Any]) -> tuple[Group, Division]:
    command: DivisionCommand = change.command
    group = change.state.groups.get(command.group)
    division = group.division if group is not None else None
    if group is None or division is None or division.id != command.division:
        refuse(ErrorCode.CONFLICT, f"{command.about} is over")
    return group, division
