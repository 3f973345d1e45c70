"""The commands: everything that can change the state, as typed msgpack.

Each carries `at` (ms since 1970, stamped by the proposer) and `by` (who wants it). One with a `request_id`
is answered once: the same id again gets the first answer. Commands of the controllers need none: they name
the epoch or session they are about and are refused when that is over, so a second one finds nothing to do.

**To change them** so that an earlier release would apply something else (a new command, a new field that is
set), raise `FORMAT` and send such commands with it, once every coordinator can apply them: one that cannot
stops before the first. A field that is left at its default is not written, so what uses none of the new needs
no new format.
"""

from typing import Any, Final

import msgspec

from coordinator.state.commands.base import (
    MAX_REASON,
    Command,
    Reason,
)
from coordinator.state.commands.groups import (
    AdvanceDivision,
    CreateGroup,
    DeleteGroup,
    DivisionCommand,
    EndUpdate,
    ExplainUpdate,
    FailDivision,
    FailUpdate,
    FinishDivision,
    RollbackGroup,
    ScaleGroup,
    UpdateCommand,
    UpdateGroup,
)
from coordinator.state.commands.holdings import (
    MAX_NOTE,
    BeginRestore,
    CommitRestore,
    CreateKey,
    DeleteConnector,
    Note,
    PutPart,
    ResealConnector,
    RevokeKey,
    SaveConnector,
)
from coordinator.state.commands.jobs import (
    AdvanceMigration,
    CancelMigration,
    EndDrain,
    ExplainDrain,
    FailMigration,
    FinishMigration,
    MigrationCommand,
    StartDrain,
    StartMigration,
)
from coordinator.state.commands.members import (
    Announce,
    CordonWorker,
    MarkWorker,
    NoteIntrusion,
    RegisterWorker,
    RemoveWorker,
)
from coordinator.state.commands.placements import (
    Displace,
    Explain,
    ForgetStray,
    LetGo,
    Place,
    PlacementCommand,
    RaiseEpochs,
    ReportFailed,
    ReportRunning,
)

AnyCommand = (
    Announce
    | RegisterWorker
    | RemoveWorker
    | MarkWorker
    | NoteIntrusion
    | CreateGroup
    | UpdateGroup
    | RollbackGroup
    | ScaleGroup
    | AdvanceDivision
    | FinishDivision
    | FailDivision
    | ExplainUpdate
    | FailUpdate
    | EndUpdate
    | DeleteGroup
    | Place
    | ReportRunning
    | ReportFailed
    | Displace
    | Explain
    | LetGo
    | ForgetStray
    | RaiseEpochs
    | BeginRestore
    | PutPart
    | CommitRestore
    | SaveConnector
    | ResealConnector
    | DeleteConnector
    | Note
    | StartMigration
    | AdvanceMigration
    | FinishMigration
    | FailMigration
    | CancelMigration
    | CordonWorker
    | StartDrain
    | ExplainDrain
    | EndDrain
    | CreateKey
    | RevokeKey
)

FORMAT: Final = 1
"""The latest format of commands that this release applies."""


class _Head(msgspec.Struct):
    format: int = 1


_heads: "Final[msgspec.msgpack.Decoder[_Head]]" = msgspec.msgpack.Decoder(_Head)
_encoder = msgspec.msgpack.Encoder()
_decoder: "msgspec.msgpack.Decoder[Any]" = msgspec.msgpack.Decoder(AnyCommand)


def encode_command(command: Command) -> bytes:
    """A command as it lies in the log."""
    return _encoder.encode(command)


def decode_command(data: bytes) -> Command:
    """Read a command of the log.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    command: Command = _decoder.decode(data)
    return command


def format_of(data: bytes) -> int:
    """The format of what may be no command this release can read; 1 when it tells none."""
    try:
        return _heads.decode(data).format
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 1


__all__ = [
    "FORMAT",
    "MAX_NOTE",
    "MAX_REASON",
    "AdvanceDivision",
    "AdvanceMigration",
    "Announce",
    "AnyCommand",
    "BeginRestore",
    "CancelMigration",
    "Command",
    "CommitRestore",
    "CordonWorker",
    "CreateGroup",
    "CreateKey",
    "DeleteConnector",
    "DeleteGroup",
    "Displace",
    "DivisionCommand",
    "EndDrain",
    "EndUpdate",
    "Explain",
    "ExplainDrain",
    "ExplainUpdate",
    "FailDivision",
    "FailMigration",
    "FailUpdate",
    "FinishDivision",
    "FinishMigration",
    "ForgetStray",
    "LetGo",
    "MarkWorker",
    "MigrationCommand",
    "Note",
    "NoteIntrusion",
    "Place",
    "PlacementCommand",
    "PutPart",
    "RaiseEpochs",
    "Reason",
    "RegisterWorker",
    "RemoveWorker",
    "ReportFailed",
    "ReportRunning",
    "ResealConnector",
    "RevokeKey",
    "RollbackGroup",
    "SaveConnector",
    "ScaleGroup",
    "StartDrain",
    "StartMigration",
    "UpdateCommand",
    "UpdateGroup",
    "decode_command",
    "encode_command",
    "format_of",
]
