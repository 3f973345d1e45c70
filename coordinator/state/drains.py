"""Drains of one worker, and the cordon.

    active --EndDrain--> done | failed | cancelled

At most one drain of a worker is under way. A drain of cause `leave` does not cordon: its worker takes nothing
because it says that it drains, and the one that is started in its place must not find itself cordoned.
"""

from typing import Any, Final, TypeVar

from msgspec.structs import replace

from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    Command,
    CordonWorker,
    EndDrain,
    ExplainDrain,
    StartDrain,
)
from coordinator.state.limits import keep
from coordinator.state.records import (
    Cause,
    Drain,
    DrainPhase,
    Worker,
)
from coordinator.state.results import Done, Result, Started
from proto_schemas.errors import ErrorCode

DRAINS: Final[dict[DrainPhase, frozenset[DrainPhase]]] = {
    DrainPhase.ACTIVE: frozenset({DrainPhase.DONE, DrainPhase.FAILED, DrainPhase.CANCELLED}),
}
"""What `EndDrain` may make of a drain; an ended one takes no command."""

C = TypeVar("C", bound=Command)


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
    end(change, drain, DrainPhase(command.phase), command.reason)
    return Done()


def end(change: Change[Any], drain: Drain, phase: DrainPhase, reason: str) -> None:
    """A drain is over."""
    state = change.state
    del state.drains[drain.id]
    moved = max(drain.total - state.count_on(drain.worker_id), 0)
    ended = replace(drain, phase=phase, moved=moved, reason=reason or None, ended_at=change.command.at)
    keep(state.ended_drains, drain.id, ended)
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
