"""What can go wrong, as types. Each text names the cause and the remedy.

Two families. **Start errors** stop a node before it takes part: a journal or snapshot that does not check
out, a directory or id that belongs to somebody else. **Call errors** answer a proposal or a barrier, and
differ in the one thing a caller must know: `NotLeader`, `Unavailable` and `CommandTooLarge` promise that the
command was *not* and will not be applied; `OutcomeUnknown` promises nothing, so the caller retries with the
same request id inside the command; `ApplyFailed` says that it was committed and the state machine broke on
it.
"""

_REPLACE_IT = (
    "Check the disk; the other members go on while they are a majority. Never empty its directory or put an "
    "older copy there: replace the node under a new id (docs/raft.md, 'A member is lost for good')"
)


class RaftError(Exception):
    """Any error of this package."""


class ConfigInvalid(RaftError):
    """Two settings contradict each other, or one is out of its range."""


class JournalCorrupt(RaftError):
    """A journal record does not check out. It may have been acknowledged, so it is never skipped."""

    def __init__(self, file: str, offset: int, cause: str) -> None:
        super().__init__(
            f"journal {file} is corrupt at byte {offset}: {cause}. This node may have acknowledged what is "
            f"lost here, so it does not start. {_REPLACE_IT}"
        )
        self.file, self.offset, self.cause = file, offset, cause


class FormatTooNew(RaftError):
    """A file was written in a later version of its format than this release reads."""

    def __init__(self, file: str, found: int, known: int) -> None:
        super().__init__(
            f"{file} was written in format {found} by a later release; this release reads format {known}. "
            "Start this node with the release that wrote it, or a later one; the file is left as it is. If "
            "no later release ever ran here, its first bytes are damaged: " + _REPLACE_IT
        )
        self.file, self.found, self.known = file, found, known


class EntryTooNew(RaftError):
    """A committed entry means what only a later release knows. To skip it would be to disagree with the
    others for ever, so the node stops before it; the entry stays in its journal."""

    def __init__(self, index: int, found: int, known: int) -> None:
        super().__init__(
            f"entry {index} is of format {found}, by a later release; this release applies format {known}. "
            "Start this node with the release that the others run"
        )
        self.index, self.found, self.known = index, found, known


class SnapshotCorrupt(RaftError):
    """A snapshot does not check out, or does not fit the journal beside it."""

    def __init__(self, file: str, cause: str) -> None:
        super().__init__(f"snapshot {file} cannot be used: {cause}. {_REPLACE_IT}")
        self.file, self.cause = file, cause


class WrongCluster(RaftError):
    """The data directory was written by another cluster, node or generation."""

    def __init__(self, file: str, what: str, found: str, expected: str) -> None:
        super().__init__(
            f"{file} was written by {what} {found!r}, but this node is configured as {expected!r}. Point "
            f"data_dir to the directory of {expected!r}, or correct the configured {what}"
        )
        self.what, self.found, self.expected = what, found, expected


class MembersChanged(RaftError):
    """The data directory was last used with other members than this node is configured with."""

    def __init__(self, directory: str, found: tuple[str, ...], expected: tuple[str, ...]) -> None:
        super().__init__(
            f"{directory} was last used with the members {', '.join(found)}, but this node is configured "
            f"with {', '.join(expected)}. A majority of others may lack what was acknowledged. Correct "
            "--members; members change with `varpulis raft add` and `varpulis raft remove` (docs/members.md)"
        )
        self.found, self.expected = found, expected


class DirectoryInUse(RaftError):
    """Another process holds the lock on the data directory."""

    def __init__(self, directory: str, pid: str) -> None:
        super().__init__(
            f"data directory {directory} is in use by process {pid}. Stop that process, or give this node a "
            "data_dir of its own"
        )
        self.pid = pid


class NodeIdInUse(RaftError):
    """Somebody on the bus already answers under this node's id."""

    def __init__(self, node_id: str, cause: str) -> None:
        super().__init__(
            f"node id {node_id!r} is in use on this bus: {cause}. Two nodes under one id could vote twice. "
            "Stop the other node, or start this one under an id of its own"
        )
        self.node_id = node_id


class NotLeader(RaftError):
    """Another node leads; the command was not and will not be applied."""

    def __init__(self, leader: str | None) -> None:
        super().__init__(
            f"this node does not lead; the leader is {leader or 'not known'}. Send the command there, or "
            "retry"
        )
        self.leader = leader


class TransferRefused(RaftError):
    """Leadership stays where it is."""

    def __init__(self, to: str | None, cause: str) -> None:
        super().__init__(
            f"leadership cannot go to {to or 'another member'}: {cause}. See `varpulis raft status` for a "
            "member without lag, and retry"
        )
        self.to, self.cause = to, cause


class ChangeRefused(RaftError):
    """The members stay as they are."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the members stay as they are: {reason}")
        self.reason = reason


class RecoveryRefused(RaftError):
    """No cluster can be made from these files; nothing was changed."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. {remedy}; nothing was changed")
        self.cause, self.remedy = cause, remedy


class Unavailable(RaftError):
    """No answer can be had now; the command was not and will not be applied."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"{cause}; the command was not applied. Retry after a moment")
        self.cause = cause


class OutcomeUnknown(RaftError):
    """The command may or may not be applied."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"{cause}; the command may or may not be applied. Retry with the same request id inside the "
            "command"
        )
        self.cause = cause


class CommandTooLarge(RaftError):
    """The command is larger than `max_command_bytes`."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the command has {size} bytes, the limit is {limit} (max_command_bytes). Send it in parts, or "
            "by reference"
        )
        self.size, self.limit = size, limit


class ApplyFailed(RaftError):
    """The command is committed, and the state machine raised on it: a defect of the state machine."""

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"the command is committed, but the state machine raised on it: {cause}. Report the defect; a "
            "retry of the same command will fail in the same way"
        )
        self.cause = cause


class FrameError(RaftError):
    """Bytes from the bus that are no valid frame; `reason` is the label of the drop counter."""

    def __init__(self, reason: str, cause: str) -> None:
        super().__init__(
            f"frame dropped ({reason}): {cause}. The sender runs another version, or is no Raft node"
        )
        self.reason = reason
