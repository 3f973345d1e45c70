"""Jobs: migrations of one pipeline, drains of one worker, and the cordon.

    started --Advance--> held --Advance--> handed_over --Finish--> done
       |                  |                     |
       |--Cancel----------|--Cancel             |
       \\--Fail------------+--Fail---------------/--Fail--> failed

    active --EndDrain--> done | failed | cancelled

Invariants, held after every command by `settle`:

- A migration that is under way is about a placement that runs, under its `from_epoch`, on its
  `from_worker`, in a group that stays; its target is a member, in the session that was meant. Whatever
  breaks that (a group deleted, a worker removed or started anew, a placement taken away) ends the migration
  with that reason in the same command, and gives its slot back.
- At most one migration of a pipeline, and one drain of a worker, is under way.
- `to_epoch` comes from the one counter, so the copies on both sides never share an epoch. It becomes the
  placement's with `FinishMigration` and not before.

A drain of cause `leave` does not cordon: its worker takes nothing because it says that it drains, and the one
that is started in its place must not find itself cordoned.
"""

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from coordinator.state import updates
from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    AdvanceMigration,
    CancelMigration,
    Command,
    CordonWorker,
    EndDrain,
    ExplainDrain,
    FailMigration,
    FinishMigration,
    MigrationCommand,
    StartDrain,
    StartMigration,
)
from coordinator.state.constraints import Wants, met, words
from coordinator.state.limits import MAX_JOBS
from coordinator.state.model import State
from coordinator.state.next_version import line_for
from coordinator.state.records import (
    Cause,
    Drain,
    DrainPhase,
    Migration,
    MovePhase,
    Phase,
    Placement,
    Worker,
    WorkerStatus,
)
from coordinator.state.results import Done, Result, Started
from coordinator.state.strategy import Room, twins_of
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

DRAINS: Final[dict[DrainPhase, frozenset[DrainPhase]]] = {
    DrainPhase.ACTIVE: frozenset({DrainPhase.DONE, DrainPhase.FAILED, DrainPhase.CANCELLED}),
}
"""What `EndDrain` may make of a drain; an ended one takes no command."""

C = TypeVar("C", bound=Command)
M = TypeVar("M", bound=MigrationCommand)


# -- migrations ---------------------------------------------------------------------------------------------


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
    _keep(state.ended_migrations, move.id, ended)
    change.tell(f"migration_{phase}", move.about, f"{move.id}{': ' if reason else ''}{reason}")
    updates.move_ended(change, move, phase, reason, refused)
    drain = state.draining(move.from_worker)
    if drain is None:
        return
    failures = {name: why for name, why in drain.failures.items() if name != move.about}
    if phase is not MovePhase.DONE:
        failures[move.about] = reason[:MAX_FAILURE]
    state.drains[drain.id] = replace(drain, failures=failures)


# -- drains and cordons -------------------------------------------------------------------------------------


def cordon_worker(change: Change[CordonWorker]) -> Result:
    """Nothing new for a worker, or again. What it has stays. Saying it twice is fine."""
    command = change.command
    worker = _worker(change, command.worker_id)
    drain = change.state.draining(worker.id)
    if drain is not None and not command.cordoned:
        refuse(ErrorCode.CONFLICT, f"worker {worker.id!r} is being drained: cancel the drain first")
    if drain is not None and drain.cordoned:  # it stays cordoned when the drain is cancelled
        change.state.drains[drain.id] = replace(drain, cordoned=False)
    _cordon(change, worker, command.cordoned)
    return Done()


def start_drain(change: Change[StartDrain]) -> Result:
    """Begin to empty a worker; one that is under way is the answer to a second request."""
    command, state = change.command, change.state
    worker = _worker(change, command.worker_id)
    under_way = state.draining(worker.id)
    if under_way is not None:
        return Started(id=under_way.id)
    state.epochs += 1
    drain = Drain(
        id=f"d-{state.epochs}",
        worker_id=worker.id,
        session=worker.session,
        cause=Cause(command.cause),
        cordoned=command.cause is not Cause.LEAVE and not worker.cordoned,
        total=state.count_on(worker.id),
        started_at=command.at,
        deadline_at=None if command.timeout_ms is None else command.at + command.timeout_ms,
    )
    if command.cause is not Cause.LEAVE:
        _cordon(change, worker, True)
    state.drains[drain.id] = drain
    change.tell("drain_started", worker.id, f"{drain.id}: {drain.total} pipelines, {drain.cause}")
    return Started(id=drain.id)


def explain_drain(change: Change[ExplainDrain]) -> Result:
    """Only the reason changes."""
    command = change.command
    drain = _drain(change, command.drain_id)
    change.state.drains[drain.id] = replace(drain, reason=command.reason or None)
    if command.reason:
        change.tell("drain_waits", drain.worker_id, f"{drain.id}: {command.reason}")
    return Done()


def end_drain(change: Change[EndDrain]) -> Result:
    """Done only when nothing is left there; a cancelled one takes back the cordon that it brought."""
    command, state = change.command, change.state
    drain = _drain(change, command.drain_id)
    if command.phase not in DRAINS[drain.phase]:
        refuse(ErrorCode.CONFLICT, f"drain {drain.id} cannot become {command.phase}")
    left = len(state.placed_on(drain.worker_id))
    if command.phase is DrainPhase.DONE and left:
        refuse(ErrorCode.CONFLICT, f"{left} pipelines are left on {drain.worker_id}: it is not empty")
    worker = state.workers.get(drain.worker_id)
    if command.phase is DrainPhase.CANCELLED and drain.cordoned and worker is not None:
        _cordon(change, worker, False)
    _end_drain(change, drain, DrainPhase(command.phase), command.reason)
    return Done()


def _end_drain(change: Change[Any], drain: Drain, phase: DrainPhase, reason: str) -> None:
    state = change.state
    del state.drains[drain.id]
    moved = max(drain.total - state.count_on(drain.worker_id), 0)
    ended = replace(drain, phase=phase, moved=moved, reason=reason or None, ended_at=change.command.at)
    _keep(state.ended_drains, drain.id, ended)
    change.tell(f"drain_{phase}", drain.worker_id, f"{drain.id}{': ' if reason else ''}{reason}")


def _cordon(change: Change[Any], worker: Worker, cordoned: bool) -> None:
    if worker.cordoned is not cordoned:
        change.state.workers[worker.id] = replace(worker, cordoned=cordoned)
        change.tell("worker_cordoned" if cordoned else "worker_uncordoned", worker.id)


def _worker(change: Change[C], worker_id: str) -> Worker:
    worker = change.state.workers.get(worker_id)
    if worker is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no worker {worker_id!r}: see GET /workers")
    return worker


def _drain(change: Change[C], drain_id: str) -> Drain:
    drain = change.state.drains.get(drain_id)
    if drain is None:
        ended = change.state.ended_drains.get(drain_id)
        how = f"is {ended.phase} already" if ended is not None else "does not exist"
        refuse(ErrorCode.CONFLICT, f"drain {drain_id!r} {how}")
    return drain


# -- after every command ------------------------------------------------------------------------------------


def settle(change: Change[Any]) -> None:
    """End the jobs that the command has made impossible; nothing while there are none."""
    state = change.state
    for move in list(state.migrations.values()):
        broken = _broken(state, move)
        if broken is not None:
            end(change, move, MovePhase.FAILED, broken)
    for drain in list(state.drains.values()):
        worker = state.workers.get(drain.worker_id)
        if worker is None:
            _end_drain(change, drain, DrainPhase.FAILED, f"worker {drain.worker_id} was removed")
        elif worker.session != drain.session and drain.cause is Cause.LEAVE:
            _end_drain(change, drain, DrainPhase.DONE, f"worker {drain.worker_id} left and came back")


def _broken(state: State, move: Migration) -> str | None:
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


T = TypeVar("T")


def _keep(ended: dict[str, T], job_id: str, job: T) -> None:
    """The newest `MAX_JOBS` of those that ended, oldest first."""
    ended[job_id] = job
    if len(ended) > MAX_JOBS:
        del ended[next(iter(ended))]
