"""Commands about coordinators and workers."""

from collections.abc import Iterable

from msgspec.structs import replace

from coordinator.state.change import Change, refuse
from coordinator.state.commands import (
    Announce,
    ForgetStray,
    MarkWorker,
    NoteIntrusion,
    RaiseEpochs,
    RegisterWorker,
    RemoveWorker,
)
from coordinator.state.limits import MAX_FOREIGN_EPOCH, MAX_WORKERS
from coordinator.state.model import State
from coordinator.state.names import displaced, fault_in_name
from coordinator.state.records import HOLDING, Phase, Placement, Worker, WorkerStatus
from coordinator.state.results import Done, Joined, Result
from proto_schemas.errors import ErrorCode
from proto_schemas.messages.membership import RunningPipeline


def announce(change: Change[Announce]) -> Result:
    """Remember where a coordinator's REST face is."""
    change.state.coordinators[change.command.node_id] = change.command.url
    change.tell("coordinator_announced", change.command.node_id, change.command.url)
    return Done()


def register_worker(change: Change[RegisterWorker]) -> Result:
    """Take a worker in. A new process (another incarnation; for a seed worker, any registration) runs nothing
    of what its predecessor ran but for what it reports; the rest is to be placed again. What it runs may
    carry epochs above ours, when our logs were lost: ours go on from there. Whose place it takes is looked at
    again: the coordinator that asked for the proof may not have known of everybody yet."""
    state, command = change.state, change.command
    known = state.workers.get(command.worker_id)
    if (fault := fault_in_name(state, command.worker_id, command.key_id, command.at)) is not None:
        refuse(ErrorCode.FORBIDDEN, fault)
    if command.displaces not in (None, displaced(state, command.worker_id, command.carrier)):
        text = f"worker {command.worker_id} registered, or came back, in this moment: try again"
        refuse(ErrorCode.UNAVAILABLE, text, retryable=True)
    if known is None and len(state.workers) >= MAX_WORKERS:
        refuse(ErrorCode.QUOTA_EXCEEDED, f"the cluster has {MAX_WORKERS} workers: remove some first")
    same_process = (
        known is not None and command.incarnation is not None and command.incarnation == known.incarnation
    )
    if known is not None and same_process:
        session = known.session
    else:
        session = state.sessions = state.sessions + 1
    state.workers[command.worker_id] = Worker(
        id=command.worker_id,
        session=session,
        incarnation=command.incarnation,
        address=command.address,
        cpu_cores=command.cpu_cores,
        max_pipelines=command.max_pipelines,
        labels=command.labels,
        version=command.version,
        registered_at=command.at,
        cordoned=known is not None and known.cordoned,
        carrier=command.carrier,
        key_id=command.key_id,
    )
    change.tell("worker_registered", command.worker_id, f"session {session}")
    _raise_epochs(change, newest_epoch(command.pipelines), f"worker {command.worker_id} runs that epoch")
    if not same_process:
        _end_previous_process(change)
    return Joined(session=session)


def _end_previous_process(change: Change[RegisterWorker]) -> None:
    state, command = change.state, change.command
    reported = {(copy.group, copy.name, copy.epoch): copy for copy in command.pipelines}
    if command.incarnation is not None:
        _forget_strays(state, command.worker_id)
    for group, pipeline, placement in state.placed_on(command.worker_id):
        copy = reported.get((group, pipeline, placement.epoch))
        if copy is not None:
            _keep(change, group, pipeline, placement, copy)
        elif placement.phase is not Phase.REMOVING:
            _displace(change, group, pipeline, placement, f"worker {command.worker_id} restarted")
        elif command.incarnation is not None:
            change.drop(group, pipeline)


def _keep(
    change: Change[RegisterWorker], group: str, pipeline: str, placement: Placement, copy: RunningPipeline
) -> None:
    phase = Phase.REMOVING if placement.phase is Phase.REMOVING else Phase.RUNNING
    change.write(group, pipeline, replace(placement, phase=phase, pipeline_id=copy.pipeline_id))


def _displace(
    change: Change[RegisterWorker] | Change[RemoveWorker],
    group: str,
    pipeline: str,
    placement: Placement,
    reason: str,
) -> None:
    worker = change.state.workers.get(change.command.worker_id)
    if worker is None or worker.incarnation is None:
        change.leave_stray(group, pipeline, placement)
    change.write(
        group,
        pipeline,
        replace(placement, phase=Phase.PENDING, worker_id=None, pipeline_id=None, reason=reason),
    )
    change.tell("pipeline_displaced", f"{group}/{pipeline}@{placement.epoch}", reason)


def _forget_strays(state: State, worker_id: str) -> None:
    for key in state.strays_on(worker_id):
        state.drop_stray(key)


def remove_worker(change: Change[RemoveWorker]) -> Result:
    """Take a worker out; what it holds is placed elsewhere."""
    state, command = change.state, change.command
    if command.worker_id not in state.workers:
        refuse(ErrorCode.NOT_FOUND, f"there is no worker {command.worker_id!r}: see GET /workers")
    held = [entry for entry in state.placed_on(command.worker_id) if entry[2].phase in HOLDING]
    if held and not command.force:
        refuse(
            ErrorCode.CONFLICT,
            f"worker {command.worker_id!r} holds {len(held)} pipelines: remove their groups first, "
            "or ask with ?force=true to have them placed elsewhere",
        )
    state.drop_worker(command.worker_id)
    change.tell("worker_removed", command.worker_id, "forced" if held else "")
    for group, pipeline, placement in held:
        if placement.phase is Phase.REMOVING:
            change.leave_stray(group, pipeline, placement)
            change.drop(group, pipeline)
        else:
            _displace(change, group, pipeline, placement, f"worker {command.worker_id} was removed")
    return Done()


def mark_worker(change: Change[MarkWorker]) -> Result:
    """Write down what liveness saw, if it saw this session."""
    state, command = change.state, change.command
    worker = state.workers.get(command.worker_id)
    if worker is None or worker.session != command.session:
        refuse(ErrorCode.CONFLICT, f"worker {command.worker_id!r} is in another session: look again")
    if worker.status is not command.status:
        state.workers[worker.id] = replace(worker, status=WorkerStatus(command.status))
        change.tell(f"worker_{command.status}", worker.id, command.reason)
    return Done()


def note_intrusion(change: Change[NoteIntrusion]) -> Result:
    """Put it into the trail."""
    change.tell("worker_refused", change.command.worker_id, change.command.reason)
    return Done()


def forget_stray(change: Change[ForgetStray]) -> Result:
    """The copy is gone or given up; forgetting it twice is fine."""
    command = change.command
    if change.state.drop_stray(command.about) is not None and command.reason:
        change.tell("stray_forgotten", command.about, command.reason)
    return Done()


def newest_epoch(copies: Iterable[RunningPipeline]) -> int:
    """The highest epoch a worker tells of, nonsense left out; 0 when it runs nothing."""
    return max((copy.epoch for copy in copies if copy.epoch <= MAX_FOREIGN_EPOCH), default=0)


def raise_epochs(change: Change[RaiseEpochs]) -> Result:
    """Give no epoch any more that a worker would call old."""
    _raise_epochs(change, change.command.epoch, "a worker has seen that epoch")
    return Done()


def _raise_epochs(change: Change[RaiseEpochs] | Change[RegisterWorker], epoch: int, why: str) -> None:
    if change.state.epochs < epoch <= MAX_FOREIGN_EPOCH:
        change.tell("epochs_raised", f"{change.state.epochs} to {epoch}", why)
        change.state.epochs = epoch
