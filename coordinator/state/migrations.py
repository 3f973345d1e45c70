"""Migrations: one pipeline moves from one worker to another.

    started --Advance--> held --Advance--> handed_over --Finish--> done
       |                  |                     |
       |--Cancel----------|--Cancel             |
       \\--Fail------------+--Fail---------------/--Fail--> failed

- A migration that is under way is about a placement that runs, under its `from_epoch`, on its
  `from_worker`, in a group that stays; its target is a member, in the session that was meant (`broken`).
- At most one migration of a pipeline is under way.
- `to_epoch` comes from the one counter, so the copies on both sides never share an epoch. It becomes the
  placement's with `FinishMigration` and not before.
"""

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from coordinator.state import updates
from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    AdvanceMigration,
    CancelMigration,
    FailMigration,
    FinishMigration,
    MigrationCommand,
    StartMigration,
)
from coordinator.state.constraints import Wants, met, words
from coordinator.state.limits import keep
from coordinator.state.model import State
from coordinator.state.next_version import line_for
from coordinator.state.records import (
    Cause,
    Migration,
    MovePhase,
    Phase,
    Placement,
    Worker,
    WorkerStatus,
)
from coordinator.state.results import Done, Result, Started
from coordinator.state.room import Room, twins_of
from coordinator.state.update_plan import choose
from proto_schemas.errors import ErrorCode

MAX_ACTIVE: Final = 256
"""Migrations under way at most; the controllers stay far below."""
MAX_FAILURE: Final = 300
"""Characters of a failure that a drain remembers."""

MOVES: Final[dict[MovePhase, dict[type[MigrationCommand], frozenset[MovePhase]]]] = {
    MovePhase.STARTED: {
        AdvanceMigration: frozenset({MovePhase.STARTED, MovePhase.HELD}),
        FailMigration: frozenset({MovePhase.FAILED}),
        CancelMigration: frozenset({MovePhase.CANCELLED}),
    },
    MovePhase.HELD: {
        AdvanceMigration: frozenset({MovePhase.HELD, MovePhase.HANDED_OVER}),
        FailMigration: frozenset({MovePhase.FAILED}),
        CancelMigration: frozenset({MovePhase.CANCELLED}),
    },
    MovePhase.HANDED_OVER: {
        AdvanceMigration: frozenset({MovePhase.HANDED_OVER}),
        FinishMigration: frozenset({MovePhase.DONE}),
        FailMigration: frozenset({MovePhase.FAILED}),
    },
}
"""Phase and command to the phases it may lead to; an ended migration takes no command."""

M = TypeVar("M", bound=MigrationCommand)


def start_migration(change: Change[StartMigration]) -> Result:
    """Reserve a slot on the target and take the next epoch; the placement stays as it is."""
    command, state = change.command, change.state
    name = f"{command.group}/{command.pipeline}"
    placement = _movable(change)
    source = state.workers[placement.worker_id or ""]
    target = state.workers.get(command.to_worker or _choose(state, command, source.id))
    if target is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no worker {command.to_worker!r}: see GET /workers")
    same = target.id == source.id
    if same and command.cause is not Cause.UPDATE:
        refuse(ErrorCode.CONFLICT, f"{name} runs on {target.id} already: name another worker, or none")
    if target.status is not WorkerStatus.READY or (target.cordoned and not same):
        state_of = "cordoned" if target.status is WorkerStatus.READY else target.status.value
        refuse(ErrorCode.CONFLICT, f"worker {target.id!r} is {state_of}: choose another")
    if source.incarnation is None or target.incarnation is None:
        seed = source.id if source.incarnation is None else target.id
        refuse(
            ErrorCode.CONFLICT,
            f"worker {seed!r} does not know how to hand pipelines over: deploy the group anew",
        )
    if not same:
        _check_fits(state, command, target)
    if not same and state.slots_taken(target.id) >= target.max_pipelines:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"worker {target.id!r} has no room left: choose another")
    if len(state.migrations) >= MAX_ACTIVE:
        refuse(ErrorCode.UNAVAILABLE, f"{MAX_ACTIVE} migrations are under way: wait for some", retryable=True)
    state.epochs += 1
    move = Migration(
        id=f"m-{state.epochs}",
        group=command.group,
        pipeline=command.pipeline,
        cause=command.cause,
        from_worker=source.id,
        from_epoch=placement.epoch,
        from_pipeline_id=placement.pipeline_id or "",
        to_worker=target.id,
        to_epoch=state.epochs,
        to_session=target.session,
        queue=placement.queue,
        started_at=command.at,
    )
    state.migrations[move.id] = move
    change.tell("migration_started", name, f"{move.id}: {source.id} to {target.id}, {move.cause}")
    return Started(id=move.id)


def _choose(state: State, command: StartMigration, source: str) -> str:
    """Every replica chooses the same: nothing that only the leader knows, a load or a setting, counts."""
    if command.cause is Cause.UPDATE:
        group = state.groups[command.group]
        best, why = choose(state, group, command.pipeline, source, lambda: Room(state))
        if best is None:
            refuse(ErrorCode.UNAVAILABLE, why, retryable=True)
        return best
    room = Room(state)
    wants = Wants.of(state.groups[command.group], command.pipeline)
    choice = room.choose(command.group, avoid={source}, wants=wants)
    if choice is None:
        why = room.why_none({source}, group=command.group, wants=wants)
        refuse(ErrorCode.UNAVAILABLE, why, retryable=True)
    return choice


def _check_fits(state: State, command: StartMigration, target: Worker) -> None:
    """Hard constraints hold for moves as for placements."""
    group = state.groups[command.group]
    wants = Wants.of(group, command.pipeline, new=command.cause is Cause.UPDATE)
    lacking = [words(each) for each in wants.hard if not met(each, target.labels)]
    if lacking:
        refuse(ErrorCode.CONFLICT, f"worker {target.id!r} lacks {', '.join(lacking)}: choose another")
    if not wants.reaches(target):
        refuse(
            ErrorCode.CONFLICT,
            f"worker {target.id!r} has no NATS, which the routes of {command.pipeline} need: choose another",
        )
    if wants.distinct and any(
        twins_of(state, command.group, name) == wants.pipeline and placement.worker_id == target.id
        for name, placement in state.placements[command.group].items()
    ):
        refuse(
            ErrorCode.CONFLICT,
            f"worker {target.id!r} holds another instance of {wants.pipeline}: choose another",
        )


def _movable(change: Change[StartMigration]) -> Placement:
    command, state = change.command, change.state
    name = f"{command.group}/{command.pipeline}"
    placement = state.placement(command.group, command.pipeline)
    if placement is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no pipeline {name}: see GET /pipeline-groups")
    if command.epoch and placement.epoch != command.epoch:
        refuse(ErrorCode.STALE_EPOCH, f"{command.about} is over: {name} is at epoch {placement.epoch}")
    if placement.phase is not Phase.RUNNING or placement.worker_id not in state.workers:
        refuse(ErrorCode.CONFLICT, f"{name} is {placement.phase}: only what runs can be moved")
    under_way = state.moving(command.group, command.pipeline)
    if under_way is not None:
        refuse(ErrorCode.CONFLICT, f"{name} moves already, to {under_way.to_worker}: see {under_way.id}")
    if state.groups[command.group].divides(command.pipeline):
        refuse(ErrorCode.CONFLICT, f"{name} is being divided: ask again", retryable=True)
    if not placement.queue:
        refuse(
            ErrorCode.CONFLICT,
            f"{name} was placed by an older version and cannot be handed over: deploy its group anew",
        )
    return placement


def advance_migration(change: Change[AdvanceMigration]) -> Result:
    """A step is done, or takes long for a reason."""
    command = change.command
    move = _step(change, command.phase)
    changed = replace(
        move,
        phase=MovePhase(command.phase),
        to_pipeline_id=command.pipeline_id or move.to_pipeline_id,
        reason=command.reason or None,
        lost=move.lost or command.lost,
    )
    change.state.migrations[move.id] = changed
    what = f"migration_{command.phase}" if command.phase is not move.phase else "migration_waits"
    change.tell(what, move.about, f"{move.id}{': ' if command.reason else ''}{command.reason}")
    return Done()


def finish_migration(change: Change[FinishMigration]) -> Result:
    """The target's copy is the placement; the source's is stale by its epoch."""
    command = change.command
    move = _step(change, MovePhase.DONE)
    before = change.state.placements[move.group][move.pipeline]
    placement = Placement(
        phase=Phase.RUNNING,
        lines={} if command.new_line else before.lines,
        since=before.since,
        epoch=move.to_epoch,
        worker_id=move.to_worker,
        pipeline_id=move.to_pipeline_id,
        queue=_line(change.state, move) if command.new_line else move.queue,
    )
    change.write(move.group, move.pipeline, placement)
    end(change, move, MovePhase.DONE, command.reason)
    return Done()


def fail_migration(change: Change[FailMigration]) -> Result:
    """The placement stays the source's; where the target may still listen, in a line of its own."""
    command = change.command
    phase = MovePhase.CANCELLED if isinstance(command, CancelMigration) else MovePhase.FAILED
    move = _step(change, phase)
    placement = change.state.placement(move.group, move.pipeline)
    if command.new_line and placement is not None:
        change.write(move.group, move.pipeline, replace(placement, queue=_line(change.state, move), lines={}))
    end(change, move, phase, command.reason, refused=command.refused)
    return Done()


def _line(state: State, move: Migration) -> int:
    """A new line, unless it has to stay in one with others."""
    return line_for(state.groups[move.group], move.pipeline) or move.to_epoch


def _step(change: Change[M], phase: MovePhase) -> Migration:
    command, state = change.command, change.state
    move = state.migrations.get(command.migration_id)
    if move is None:
        ended = state.ended_migrations.get(command.migration_id)
        how = f"is {ended.phase}: {ended.reason or 'nothing is left to do'}" if ended else "does not exist"
        refuse(ErrorCode.CONFLICT, f"migration {command.migration_id!r} {how}")
    if phase not in MOVES[move.phase].get(type(command), frozenset()):
        refuse(
            ErrorCode.CONFLICT,
            f"migration {move.id} is {move.phase}: {type(command).__name__} to {phase} does not fit",
        )
    return move


def end(
    change: Change[Any], move: Migration, phase: MovePhase, reason: str, *, refused: bool = False
) -> None:
    """A migration is over; its slot is free again."""
    state = change.state
    del state.migrations[move.id]
    ended = replace(move, phase=phase, reason=reason or None, ended_at=change.command.at)
    keep(state.ended_migrations, move.id, ended)
    change.tell(f"migration_{phase}", move.about, f"{move.id}{': ' if reason else ''}{reason}")
    updates.move_ended(change, move, phase, reason, refused)
    drain = state.draining(move.from_worker)
    if drain is None:
        return
    failures = {name: why for name, why in drain.failures.items() if name != move.about}
    if phase is not MovePhase.DONE:
        failures[move.about] = reason[:MAX_FAILURE]
    state.drains[drain.id] = replace(drain, failures=failures)


def broken(state: State, move: Migration) -> str | None:
    """Why it cannot go on; None while it can."""
    group, placement = state.groups.get(move.group), state.placement(move.group, move.pipeline)
    if group is None or group.deleting or placement is None:
        return f"group {move.group} was deleted"
    if placement.epoch != move.from_epoch or placement.worker_id != move.from_worker:
        return placement.reason or f"the pipeline was taken from worker {move.from_worker}"
    if placement.phase is not Phase.RUNNING:
        return f"the pipeline is {placement.phase}"
    target = state.workers.get(move.to_worker)
    if target is None:
        return f"worker {move.to_worker} was removed"
    if target.session != move.to_session:
        return f"worker {move.to_worker} restarted"
    return None
