"""`apply`: one command in, one answer out, the state changed in place or not at all.

A request id that is remembered gets its first answer again, whatever has happened since; the last
`MAX_REMEMBERED` are remembered, oldest forgotten first. An answer that says "later" is not remembered, or a
retry could never succeed. Ids are spent on what they were first used for: another request under the same id
is a conflict.
"""

import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from coordinator.state import (
    connectors,
    divisions,
    drains,
    groups,
    jobs,
    keys,
    members,
    migrations,
    placements,
    restore,
    updates,
)
from coordinator.state.change import Change, Refusal
from coordinator.state.commands import (
    AdvanceDivision,
    AdvanceMigration,
    Announce,
    BeginRestore,
    CancelMigration,
    Command,
    CommitRestore,
    CordonWorker,
    CreateGroup,
    CreateKey,
    DeleteConnector,
    DeleteGroup,
    Displace,
    EndDrain,
    EndUpdate,
    Explain,
    ExplainDrain,
    ExplainUpdate,
    FailDivision,
    FailMigration,
    FailUpdate,
    FinishDivision,
    FinishMigration,
    ForgetStray,
    LetGo,
    MarkWorker,
    Note,
    NoteIntrusion,
    Place,
    PutPart,
    RaiseEpochs,
    RegisterWorker,
    RemoveWorker,
    ReportFailed,
    ReportRunning,
    ResealConnector,
    RevokeKey,
    RollbackGroup,
    SaveConnector,
    ScaleGroup,
    StartDrain,
    StartMigration,
    UpdateGroup,
    encode_command,
)
from coordinator.state.limits import MAX_REMEMBERED
from coordinator.state.model import State
from coordinator.state.records import Event
from coordinator.state.results import AnyResult, Noted, Refused, Remembered
from proto_schemas.errors import ErrorCode


class Applied(NamedTuple):
    """The answer, and the decisions that were taken."""

    result: AnyResult
    events: tuple[Event, ...]


_HANDLERS: Final[dict[type[Command], Callable[[Change[Any]], Any]]] = {
    Announce: members.announce,
    RegisterWorker: members.register_worker,
    RemoveWorker: members.remove_worker,
    MarkWorker: members.mark_worker,
    NoteIntrusion: members.note_intrusion,
    ForgetStray: members.forget_stray,
    RaiseEpochs: members.raise_epochs,
    CreateGroup: groups.create_group,
    DeleteGroup: groups.delete_group,
    UpdateGroup: updates.update_group,
    RollbackGroup: updates.rollback_group,
    ScaleGroup: updates.scale_group,
    AdvanceDivision: divisions.advance_division,
    FinishDivision: divisions.finish_division,
    FailDivision: divisions.fail_division,
    ExplainUpdate: updates.explain_update,
    FailUpdate: updates.fail_update,
    EndUpdate: updates.end_update,
    Place: placements.place,
    ReportRunning: placements.report_running,
    ReportFailed: placements.report_failed,
    Displace: placements.displace,
    Explain: placements.explain,
    LetGo: placements.let_go,
    BeginRestore: restore.begin_restore,
    PutPart: restore.put_part,
    CommitRestore: restore.commit_restore,
    SaveConnector: connectors.save,
    ResealConnector: connectors.reseal,
    DeleteConnector: connectors.delete,
    Note: lambda change: Noted(text=change.command.text),
    StartMigration: migrations.start_migration,
    AdvanceMigration: migrations.advance_migration,
    FinishMigration: migrations.finish_migration,
    FailMigration: migrations.fail_migration,
    CancelMigration: migrations.fail_migration,
    CordonWorker: drains.cordon_worker,
    StartDrain: drains.start_drain,
    ExplainDrain: drains.explain_drain,
    EndDrain: drains.end_drain,
    CreateKey: keys.create_key,
    RevokeKey: keys.revoke_key,
}


def apply(state: State, command: Command) -> Applied:
    """Change `state` by `command`. A refusal is an answer (`Refused`), never an exception."""
    about = f"{type(command).__name__} {command.about}"
    words = _words(command) if command.request_id else 0
    first = state.remembered.get(command.request_id) if command.request_id else None
    if first is not None:
        same = (first.about, first.words) == (about, words)
        return Applied(first.result if same else _id_spent(command, first), ())
    change = Change(state, command)
    restore.give_up_late(change)
    try:
        result: AnyResult = _HANDLERS[type(command)](change)
        jobs.settle(change)
        updates.settle(change)
        divisions.settle(change)
    except Refusal as refusal:
        result = Refused(code=refusal.code, error=refusal.error, retryable=refusal.retryable)
    if command.request_id and not (isinstance(result, Refused) and result.retryable):
        _remember(state, command.request_id, Remembered(about, result, words))
    return Applied(result, tuple(change.events))


def _words(command: Command) -> int:
    """The same for each time a request is sent, whenever and through whichever node."""
    return zlib.crc32(encode_command(replace(command.words, at=0, by="")))


def _id_spent(command: Command, first: Remembered) -> Refused:
    error = f"request id {command.request_id[:80]!r} was used for another {first.about}: use a new one"
    return Refused(code=ErrorCode.CONFLICT.value, error=error)


def _remember(state: State, request_id: str, answer: Remembered) -> None:
    state.remembered[request_id] = answer
    if len(state.remembered) > MAX_REMEMBERED:
        del state.remembered[next(iter(state.remembered))]
