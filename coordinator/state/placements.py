"""Commands about one placement: each names the epoch it is about, and an older one is refused."""

from typing import TypeVar

from msgspec.structs import replace

from coordinator.state import updates
from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    Displace,
    Explain,
    LetGo,
    Place,
    PlacementCommand,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.next_version import line_for
from coordinator.state.phases import TRANSITIONS
from coordinator.state.records import Phase, Placement
from coordinator.state.results import Done, Placed, Result
from proto_schemas.errors import ErrorCode

P = TypeVar("P", bound=PlacementCommand)


def _step(change: Change[P]) -> tuple[Placement, Phase | None]:
    command = change.command
    placement = change.state.placement(command.group, command.pipeline)
    if placement is None:
        refuse(ErrorCode.NOT_FOUND, f"there is no pipeline {command.group}/{command.pipeline}")
    if placement.epoch != command.epoch:
        refuse(
            ErrorCode.STALE_EPOCH,
            f"{command.about} is over: {command.group}/{command.pipeline} is at epoch {placement.epoch}",
        )
    moves = TRANSITIONS[placement.phase]
    if type(command) not in moves:
        refuse(
            ErrorCode.CONFLICT, f"{command.about} is {placement.phase}: {type(command).__name__} does not fit"
        )
    return placement, moves[type(command)]


def place(change: Change[Place]) -> Result:
    """Write the intent down under the next epoch; never beyond what the worker takes."""
    command, state = change.command, change.state
    placement, _ = _step(change)
    worker = state.open(command.worker_id)
    if worker is None:
        refuse(ErrorCode.CONFLICT, f"worker {command.worker_id!r} takes nothing now: choose another")
    if state.slots_taken(worker.id) >= worker.max_pipelines:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"worker {worker.id!r} has no room left: choose another")
    state.epochs += 1
    change.write(
        command.group,
        command.pipeline,
        replace(
            placement,
            phase=Phase.DEPLOYING,
            epoch=state.epochs,
            worker_id=worker.id,
            pipeline_id=None,
            attempts=placement.attempts + 1,
            queue=line_for(state.groups[command.group], command.pipeline) or state.epochs,
            lines={},
        ),
    )
    updates.caught_up(change, command.group, command.pipeline)
    what = "pipeline_placed_again" if placement.epoch else "pipeline_placed"
    why = f"on {worker.id}: {command.reason}" if command.reason else f"on {worker.id}"
    change.tell(what, f"{command.group}/{command.pipeline}@{state.epochs}", why)
    return Placed(epoch=state.epochs)


def report_running(change: Change[ReportRunning]) -> Result:
    """The copy runs, in the session of the worker that was asked: an answer from before a restart is void."""
    command, state = change.command, change.state
    placement, phase = _step(change)
    worker = state.workers.get(command.worker_id)
    if worker is None or worker.session != command.session:
        refuse(ErrorCode.CONFLICT, f"worker {command.worker_id!r} is in another session: its copy is gone")
    state.drop_stray(f"{worker.id}/{command.pipeline_id}")
    if phase is Phase.REMOVING:
        change.write(command.group, command.pipeline, replace(placement, pipeline_id=command.pipeline_id))
        return Done()
    running = Placement(
        phase=Phase.RUNNING,
        epoch=command.epoch,
        worker_id=worker.id,
        pipeline_id=command.pipeline_id,
        queue=placement.queue,
        reason=command.reason or None,
        lines=placement.lines,
        since=placement.since,
    )
    change.write(command.group, command.pipeline, running)
    began = f": {command.reason}" if command.reason else ""
    change.tell("pipeline_running", command.about, f"on {worker.id} as {command.pipeline_id}{began}")
    return Done()


def report_failed(change: Change[ReportFailed]) -> Result:
    """It does not run, and says why."""
    command = change.command
    result = _release(change, "pipeline_failed", command.reason)
    if change.state.placement(command.group, command.pipeline) is not None:
        updates.instance_failed(change, command.group, command.pipeline, command.reason)
    return result


def displace(change: Change[Displace]) -> Result:
    """Back to pending; the epoch stays until the next placement."""
    return _release(change, "pipeline_displaced", change.command.reason)


def _release(change: Change[P], what: str, reason: str) -> Result:
    command = change.command
    placement, phase = _step(change)
    change.leave_stray(command.group, command.pipeline, placement)
    change.tell(what, command.about, reason)
    if phase is None:
        change.drop(command.group, command.pipeline)
        return Done()
    change.write(
        command.group,
        command.pipeline,
        replace(placement, phase=phase, worker_id=None, pipeline_id=None, reason=reason),
    )
    return Done()


def explain(change: Change[Explain]) -> Result:
    """Only the reason changes."""
    command = change.command
    placement, _ = _step(change)
    change.write(command.group, command.pipeline, replace(placement, reason=command.reason))
    change.tell("pipeline_waits", command.about, command.reason)
    return Done()


def let_go(change: Change[LetGo]) -> Result:
    """The last word about a placement that is being removed."""
    command = change.command
    placement, _ = _step(change)
    if not command.confirmed:
        change.leave_stray(command.group, command.pipeline, placement)
    change.tell("pipeline_removed", command.about, command.reason)
    change.drop(command.group, command.pipeline)
    return Done()
