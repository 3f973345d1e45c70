"""The state of a running cluster is replaced by that of a copy.

A copy may have many megabytes and one command of the log 512 KiB, so it comes in parts: `BeginRestore` says
how many bytes there will be and their CRC-32C, `PutPart` brings one part by its number, as often and in
whatever order, and `CommitRestore` swaps. Until that one command the state is the old one, after it the new
one, on every replica alike; whatever is wrong with a copy is a refusal that changes nothing.

- **One upload at a time.** A newer begin takes its place, and the parts of the former one are refused from
  then on; a begin that was held up on its way does not displace a newer one. An upload that brings nothing
  for `PATIENCE_MS` is given up by the next command, whichever that is. Upload and parts belong to the state
  and to its snapshots, so a new leader, or a node that comes later, has what was sent.
- **Quick.** A part is read when it comes (`unpacked`), as far as the parts are in order, so the commit has
  only to exchange what is read already. `unpacked` follows from the parts and is in no snapshot: a node that
  starts in the middle reads the parts again with the next one.

**What the new state is made of.** What somebody decided comes from the copy, what is so comes from the
running cluster:

- *groups*: the copy's; one that was being torn down is not brought back;
- *placements*: a group whose spec is the same as that of the running one goes on as it is, where it runs. All
  else is pending, under no epoch, and begins a life of its own (`created_at`), as if it were new, so that
  its replicas do not share their events with what runs otherwise, which is nobody's, and is ended;
- *API keys*: the running cluster's, so that an old copy locks nobody out and lets nobody in;
- *updates*: none goes on. A group that is being updated, here or in the copy, is placed anew, the copy's in
  the version that was known to run;
- *connectors*: the copy's, with their secrets as they were sealed then. What runs keeps what it was deployed
  with, as after any change of a connector;
- *epochs, sessions*: the counters stay above what either state ever gave, so no worker calls a new command
  old, and no old copy is taken for a new one;
- *migrations, drains*, and those that ended: the running cluster's, as its workers are. A move of a pipeline
  that goes on goes on; any other ends, because the state was restored;
- *workers*: those that are known now stay as they are. Those that only the copy knows are unhealthy until
  they are heard; ours register again anyway, a seed worker would never have been told to;
- *strays*: the running cluster's, and what the restore takes from workers, as far as there is room: first
  what seed workers run, who do not list it (ours do, and are told to end it). The copy's are over: their ids
  may name other pipelines by now;
- *coordinators*, *audit trail*: the running cluster's. A restore cannot remove its own traces;
- *remembered request ids*: both, the running cluster's being newer, so a write that is repeated across the
  restore gets its first answer and is not done again.
"""

from typing import Final, TypeVar

import google_crc32c
from msgspec.structs import replace

from coordinator.state import migrations, updates
from coordinator.state.change import Change, refuse
from coordinator.state.commands import BeginRestore, Command, CommitRestore, PutPart
from coordinator.state.limits import MAX_COPY, MAX_REMEMBERED, MAX_STRAYS, MAX_WORKERS
from coordinator.state.model import State, Unpacked
from coordinator.state.records import HOLDING, MovePhase, Placement, Upload, WorkerStatus
from coordinator.state.results import Done, Restored, Result
from coordinator.state.snapshot import check_counts, read_on
from proto_schemas.errors import ErrorCode

PART_BYTES: Final = 256 * 1024
"""Bytes of each part but the last."""
PATIENCE_MS: Final = 300_000
"""Milliseconds, by the stamps of the commands, after which a silent upload is given up. Shorter frees memory
sooner; it has to be longer than the coordinators' clocks are apart, or one gives up what another sends."""
TAKEN: Final = "another restore began after this one and took its place: nothing was changed by this one"
_NAMED: Final = 20
"""Groups named in the audit trail."""

C = TypeVar("C", bound=Command)


def parts_of(size: int) -> int:
    """How many parts that many bytes have."""
    return -(-size // PART_BYTES)


def give_up_late(change: Change[C]) -> None:
    """Forget an upload that has been silent for too long; asked before each command."""
    for upload in change.state.uploads.values():
        if change.command.at > upload.until:
            _forget(change.state)
            change.tell("restore_given_up", upload.id, f"nothing came for {PATIENCE_MS // 1000} s")
            return


def begin_restore(change: Change[BeginRestore]) -> Result:
    """Take parts from now on; those that are there already of the same upload stay."""
    state, command = change.state, change.command
    if not 0 < command.size <= MAX_COPY:
        refuse(ErrorCode.BAD_REQUEST, f"a copy of {command.size} bytes: it may have 1 to {MAX_COPY}")
    if command.key in state.remembered:
        return Done()
    present = next(iter(state.uploads.values()), None)
    if present is not None and present.id != command.upload and command.at < present.began:
        refuse(ErrorCode.CONFLICT, TAKEN)
    if present is None or present.id != command.upload:
        _forget(state)
        change.tell("restore_began", command.upload, f"{command.size} bytes of cluster {command.cluster}")
    until = command.at + PATIENCE_MS
    state.uploads[command.upload] = Upload(
        id=command.upload,
        size=command.size,
        crc=command.crc,
        cluster=command.cluster,
        taken_at=command.taken_at,
        last_index=command.last_index,
        began=command.at,
        until=max(until, present.until) if present is not None else until,
    )
    return Done()


def put_part(change: Change[PutPart]) -> Result:
    """Keep one part, and read what is in order now."""
    state, command = change.state, change.command
    upload = _present(state, command.upload)
    count = parts_of(upload.size)
    if not 0 <= command.number < count:
        refuse(ErrorCode.BAD_REQUEST, f"part {command.number} of a copy that has {count}: count from 0")
    size = min(PART_BYTES, upload.size - command.number * PART_BYTES)
    if len(command.data) != size:
        refuse(
            ErrorCode.BAD_REQUEST, f"part {command.number} has {len(command.data)} bytes: {size} belong there"
        )
    if state.parts.setdefault(command.number, command.data) != command.data:
        refuse(ErrorCode.CONFLICT, f"another part {command.number} came before: begin another upload")
    state.uploads[upload.id] = replace(upload, until=max(upload.until, command.at + PATIENCE_MS))
    _read_in_order(state)
    return Done()


def commit_restore(change: Change[CommitRestore]) -> Result:
    """Swap, if the copy is here whole."""
    state = change.state
    upload = _present(state, change.command.upload)
    if len(state.parts) < parts_of(upload.size):
        refuse(
            ErrorCode.NOT_FOUND,
            f"{len(state.parts)} of {parts_of(upload.size)} parts are here: send the others first",
            retryable=True,
        )
    new = _whole(_read_in_order(state), upload)
    displaced, kept, go_on = _merge(state, new, change.command.at)
    gone, back = (
        sorted(state.groups.keys() - new.groups.keys()),
        sorted(new.groups.keys() - state.groups.keys()),
    )
    state.become(new)
    for group, pipeline, placement in displaced:
        if len(state.strays) < MAX_STRAYS:
            change.leave_stray(group, pipeline, placement)
    change.tell(
        "state_restored",
        f"{upload.cluster}@{upload.last_index}",
        f"upload {upload.id}, taken at {upload.taken_at} ms; {len(new.groups)} groups; "
        f"gone: {_some(gone)}; back: {_some(back)}",
    )
    for move in [move for move in state.migrations.values() if move.group not in go_on]:
        migrations.end(change, move, MovePhase.FAILED, "the state was restored")
    pipelines = sum(map(len, new.placements.values()))
    return Restored(groups=len(new.groups), pipelines=pipelines, kept=kept)


def _present(state: State, upload_id: str) -> Upload:
    upload = state.uploads.get(upload_id)
    if upload is None:
        refuse(ErrorCode.NOT_FOUND, "this copy is not on its way, or not any more: begin it", retryable=True)
    return upload


def _forget(state: State) -> None:
    state.uploads, state.parts, state.unpacked = {}, {}, None


def _read_in_order(state: State) -> Unpacked:
    """Read the parts that follow without a gap on those that are read; they are kept as they came."""
    so_far = state.unpacked
    if so_far is None:
        so_far = state.unpacked = Unpacked(state=State())
    while so_far.problem is None and (data := state.parts.get(so_far.parts)) is not None:
        so_far.parts, so_far.crc = so_far.parts + 1, google_crc32c.extend(so_far.crc, data)
        try:
            read_on(so_far, data)
        except ValueError as error:
            so_far.problem, so_far.rest = str(error), b""
    return so_far


def _whole(so_far: Unpacked, upload: Upload) -> State:
    """The state of the copy, if it is one."""
    problem = so_far.problem
    if problem is None and so_far.crc != upload.crc:
        problem = f"the checksum of its {upload.size} bytes does not match"
    if problem is None and so_far.rest:
        problem = f"its last frame is not whole: {len(so_far.rest)} bytes are left"
    if problem is None:
        try:
            check_counts(so_far.state, so_far.counts or {})
        except ValueError as error:
            problem = str(error)
    if problem is not None:
        refuse(ErrorCode.BAD_REQUEST, f"the copy cannot be restored: {problem}. Nothing was changed")
    return so_far.state


def _merge(old: State, new: State, at: int) -> tuple[list[tuple[str, str, Placement]], int, set[str]]:
    """Complete `new`, as read from a copy, by what `old` knows better. What is taken from workers thereby,
    from seed workers first, how many pipelines go on where they are, and their groups."""
    kept, go_on = _merge_groups(old, new, at)
    new.epochs, new.sessions = max(old.epochs, new.epochs), max(old.sessions, new.sessions)
    brought, new.workers = new.workers, dict(old.workers)
    for name, worker in brought.items():
        if name not in new.workers and len(new.workers) < MAX_WORKERS:
            new.sessions += 1
            new.workers[name] = replace(worker, session=new.sessions, status=WorkerStatus.UNHEALTHY)
    new.keys = dict(old.keys)
    new.strays, new.coordinators, new.audit = dict(old.strays), dict(old.coordinators), list(old.audit)
    new.migrations, new.ended_migrations = dict(old.migrations), dict(old.ended_migrations)
    new.drains, new.ended_drains = dict(old.drains), dict(old.ended_drains)
    older = {key: answer for key, answer in new.remembered.items() if key not in old.remembered}
    remembered = list((older | old.remembered).items())
    new.remembered = dict(remembered[-MAX_REMEMBERED:])
    new.uploads, new.parts, new.unpacked = {}, {}, None
    seeds = {worker.id for worker in old.workers.values() if worker.incarnation is None}
    displaced = [
        (group, pipeline, placement)
        for group, placements in old.placements.items()
        if group not in go_on
        for pipeline, placement in placements.items()
        if placement.phase in HOLDING
    ]
    displaced.sort(key=lambda entry: entry[2].worker_id not in seeds)
    return displaced, kept, go_on


def _merge_groups(old: State, new: State, at: int) -> tuple[int, set[str]]:
    """How many pipelines go on where they are, and their groups."""
    go_on: set[str] = set()
    new.groups = {
        name: updates.ended(group, "the state was restored", at)
        for name, group in new.groups.items()
        if not group.deleting
    }
    new.placements, kept = {}, 0
    for name, group in list(new.groups.items()):
        running = old.groups.get(name)
        same = running is not None and running.spec == group.spec and running.rolling is None
        same = same and running is not None and running.division is None
        if running is not None and same and not running.deleting:
            go_on.add(name)
            new.groups[name] = running
            new.placements[name] = dict(old.placements[name])
            kept += sum(placement.phase in HOLDING for placement in old.placements[name].values())
        else:
            newest = max(group.newest, running.newest if running is not None else 0)
            new.groups[name] = replace(group, created_at=at, newest=newest, shared={}, shares={})
            new.placements[name] = {instance: Placement() for instance in group.instances}
    return kept, go_on


def _some(names: list[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} others"
    return ", ".join(names) or "none"
