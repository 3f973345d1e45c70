"""The commands: everything that can change the state, as typed msgpack.

Each carries `at` (ms since 1970, stamped by the proposer) and `by` (who wants it). One with a `request_id`
is answered once: the same id again gets the first answer. Commands of the controllers need none: they name
the epoch or session they are about and are refused when that is over, so a second one finds nothing to do.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from coordinator.state.model import NATS, Cause, DrainPhase, KeyRole, MovePhase, WorkerStatus
from proto_schemas.messages import RunningPipeline
from proto_schemas.rest import GroupSpec

MAX_REASON: Final = 2_000
MAX_NOTE: Final = 16_000
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="do", tag=str.lower):
    """Base of the commands. `at` is 0 until the proposer stamps it."""

    at: int = 0
    by: str
    request_id: str = ""

    @property
    def about(self) -> str:
        """What the command is about, for logs and to tell two requests with one id apart."""
        return ""

    @property
    def words(self) -> "Command":
        """The command without what may differ between two sends of one request."""
        return self


class Announce(Command, frozen=True, kw_only=True):
    """A coordinator says where its REST face is; followers find the leader's by it."""

    node_id: str
    url: str

    @property
    def about(self) -> str:
        return self.node_id


class RegisterWorker(Command, frozen=True, kw_only=True):
    """A worker joins, or joins again. `pipelines`: what it says it runs already; `key_id`: the API key that
    it showed; empty: none was asked for."""

    worker_id: str
    incarnation: str | None = None
    address: str
    cpu_cores: int
    max_pipelines: int
    labels: dict[str, str] = {}
    version: str | None = None
    pipelines: list[RunningPipeline] = []
    carrier: str = NATS
    key_id: str = ""

    @property
    def about(self) -> str:
        return self.worker_id


class RemoveWorker(Command, frozen=True, kw_only=True):
    """Somebody takes a worker out; with `force` also one that holds pipelines."""

    worker_id: str
    force: bool = False

    @property
    def about(self) -> str:
        return self.worker_id


class NoteIntrusion(Command, frozen=True, kw_only=True):
    """Somebody was not let speak as a worker: for the trail. `key_id`: under which key; empty: none."""

    worker_id: str
    key_id: str
    reason: Reason

    @property
    def about(self) -> str:
        return self.worker_id


class MarkWorker(Command, frozen=True, kw_only=True):
    """Liveness found a worker of this session silent, back, or draining."""

    worker_id: str
    session: int
    status: WorkerStatus
    reason: Reason

    @property
    def about(self) -> str:
        return self.worker_id


class CreateGroup(Command, frozen=True, kw_only=True):
    """A new group; its programs were checked before."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}

    @property
    def about(self) -> str:
        return self.spec.name

    @property
    def words(self) -> "CreateGroup":
        return replace(self, consumes={}, connectors={})


class UpdateGroup(Command, frozen=True, kw_only=True):
    """Another version of a group; its programs were checked before. `if_version`: only of that one."""

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    if_version: int | None = None

    @property
    def about(self) -> str:
        return self.spec.name

    @property
    def words(self) -> "UpdateGroup":
        return replace(self, consumes={}, connectors={})


class UpdateCommand(Command, frozen=True, kw_only=True):
    """About the update of a group to `version` that is under way."""

    group: str
    version: int

    @property
    def about(self) -> str:
        return f"{self.group}, version {self.version},"


class ExplainUpdate(UpdateCommand, frozen=True, kw_only=True):
    """What stands in the way of an update now; empty: nothing any more."""

    reason: Reason = ""


class FailUpdate(UpdateCommand, frozen=True, kw_only=True):
    """Give an update up, and roll it back."""

    reason: Reason


class EndUpdate(UpdateCommand, frozen=True, kw_only=True):
    """All that an update touched runs, for long enough."""


class DeleteGroup(Command, frozen=True, kw_only=True):
    """Tear a group down. It is gone once the last placement is let go."""

    group: str

    @property
    def about(self) -> str:
        return self.group


class PlacementCommand(Command, frozen=True, kw_only=True):
    """About one placement, as it stood under `epoch`."""

    group: str
    pipeline: str
    epoch: int

    @property
    def about(self) -> str:
        return f"{self.group}/{self.pipeline}@{self.epoch}"


class Place(PlacementCommand, frozen=True, kw_only=True):
    """The intent to deploy on a worker; the answer holds the next epoch. `reason`: why on that one."""

    worker_id: str
    reason: Reason = ""


class ReportRunning(PlacementCommand, frozen=True, kw_only=True):
    """The copy of this epoch runs: the deploy was answered, or a heartbeat tells of it."""

    worker_id: str
    session: int
    pipeline_id: str


class ReportFailed(PlacementCommand, frozen=True, kw_only=True):
    """The worker will not run it, and the same request would fail again."""

    reason: Reason


class Displace(PlacementCommand, frozen=True, kw_only=True):
    """Take it from its worker; it is to be placed again."""

    reason: Reason


class Explain(PlacementCommand, frozen=True, kw_only=True):
    """Why it does not run yet."""

    reason: Reason


class LetGo(PlacementCommand, frozen=True, kw_only=True):
    """A placement being removed is gone; unless `confirmed` by the worker its copy is remembered as a
    stray. `reason`: why it is let go although the worker would not end the copy."""

    confirmed: bool
    reason: Reason = ""


class ForgetStray(Command, frozen=True, kw_only=True):
    """A stray is gone, or given up for a `reason`."""

    worker_id: str
    pipeline_id: str
    reason: Reason = ""

    @property
    def about(self) -> str:
        return f"{self.worker_id}/{self.pipeline_id}"


class Note(Command, frozen=True, kw_only=True):
    """Remember, under the request id, a choice that was made or an answer that was given; the first one is
    answered. `asked`: the request it belongs to."""

    asked: str
    text: Annotated[str, msgspec.Meta(max_length=MAX_NOTE)] = ""

    @property
    def about(self) -> str:
        return self.asked

    @property
    def words(self) -> "Note":
        return replace(self, text="")


class SaveConnector(Command, frozen=True, kw_only=True):
    """Register a connector (`new`), or change one; checked before.

    `sealed` names the params whose values are secrets, sealed: anew by each node that a request is sent
    through, so they are not among its words. `kept` names secrets that stay as they are.
    """

    name: str
    connector_type: str
    params: dict[str, Any]
    description: str = ""
    new: bool
    sealed: list[str] = []
    kept: list[str] = []

    @property
    def about(self) -> str:
        return self.name

    @property
    def words(self) -> "SaveConnector":
        open_params = {key: value for key, value in self.params.items() if key not in self.sealed}
        return replace(self, params=open_params)


class ResealConnector(Command, frozen=True, kw_only=True):
    """The same params, sealed under another key; of this version and no other."""

    name: str
    version: int
    params: dict[str, Any]

    @property
    def about(self) -> str:
        return f"{self.name}@{self.version}"


class DeleteConnector(Command, frozen=True, kw_only=True):
    """Forget a registered connector that no program names."""

    name: str

    @property
    def about(self) -> str:
        return self.name


class RaiseEpochs(Command, frozen=True, kw_only=True):
    """A worker has seen this epoch: the next one we give is above it."""

    epoch: int

    @property
    def about(self) -> str:
        return f"@{self.epoch}"


class BeginRestore(Command, frozen=True, kw_only=True):
    """A copy will come in parts; `key` is the request id that its commit will have. See `restore`."""

    upload: str
    size: int
    crc: int
    cluster: str
    taken_at: int
    last_index: int
    key: str

    @property
    def about(self) -> str:
        return self.upload


class PutPart(Command, frozen=True, kw_only=True):
    """One part of the copy, by number from 0."""

    upload: str
    number: int
    data: bytes

    @property
    def about(self) -> str:
        return f"{self.upload}#{self.number}"


class CommitRestore(Command, frozen=True, kw_only=True):
    """All parts are there: the state becomes that of the copy."""

    upload: str

    @property
    def about(self) -> str:
        return self.upload


class StartMigration(PlacementCommand, frozen=True, kw_only=True):
    """Move a running pipeline: a slot on the target and the next epoch are its own from here on.

    What people ask for has no epoch (0: the present one) and perhaps no target (empty: as the strategy
    says), so that the same request is the same command whenever it is sent.
    """

    to_worker: str = ""
    cause: Cause


class MigrationCommand(Command, frozen=True, kw_only=True):
    """About one migration that is under way."""

    migration_id: str

    @property
    def about(self) -> str:
        return self.migration_id


class AdvanceMigration(MigrationCommand, frozen=True, kw_only=True):
    """The step to `phase` is done, or, with the same phase, a `reason` why it takes long. `pipeline_id`: of
    the copy on the target, once it is known.
    """

    phase: MovePhase
    pipeline_id: str | None = None
    reason: Reason = ""


class FinishMigration(MigrationCommand, frozen=True, kw_only=True):
    """The target is live: it is the placement now. `reason`: what it begins without. `new_line`: the source
    may still listen, so the target began a new line under its epoch.
    """

    reason: Reason = ""
    new_line: bool = False


class FailMigration(MigrationCommand, frozen=True, kw_only=True):
    """The pipeline stays where it was, and is live there, or to be placed again. `new_line`: the target may
    still listen, so the source was told to begin a new line under the epoch of the migration. `refused`: the
    target will never run what it was sent."""

    reason: Reason
    new_line: bool = False
    refused: bool = False


class CancelMigration(FailMigration, frozen=True, kw_only=True):
    """The same, before the source had handed anything over."""


class CordonWorker(Command, frozen=True, kw_only=True):
    """Give a worker nothing new, or, with `cordoned` false, again."""

    worker_id: str
    cordoned: bool

    @property
    def about(self) -> str:
        return self.worker_id


class StartDrain(Command, frozen=True, kw_only=True):
    """Empty a worker. `timeout_ms`: when to give up; None: never."""

    worker_id: str
    cause: Cause
    timeout_ms: int | None = None

    @property
    def about(self) -> str:
        return self.worker_id


class ExplainDrain(Command, frozen=True, kw_only=True):
    """What stands in the way of a drain now; empty: nothing any more."""

    drain_id: str
    reason: Reason = ""

    @property
    def about(self) -> str:
        return self.drain_id


class EndDrain(Command, frozen=True, kw_only=True):
    """A drain is over: the worker is empty, it took too long, or somebody cancelled it."""

    drain_id: str
    phase: DrainPhase
    reason: Reason = ""

    @property
    def about(self) -> str:
        return self.drain_id


class CreateKey(Command, frozen=True, kw_only=True):
    """An API key is made; its secret stays with who made it. `expires_at` and `overlap_ms` in ms, 0: never,
    and at once. `from_file`: a coordinator was started with it; one that is known already is none of its
    business. `worker`: as whom it may speak.
    """

    key_id: str
    role: KeyRole
    salt: bytes
    digest: bytes
    note: str = ""
    expires_at: int = 0
    replaces: str = ""
    overlap_ms: int = 0
    from_file: bool = False
    worker: str = ""

    @property
    def about(self) -> str:
        return self.key_id

    def __repr__(self) -> str:
        return f"CreateKey({self.key_id!r}, {self.role.value})"


class RevokeKey(Command, frozen=True, kw_only=True):
    """An API key counts no longer; with `force` also the last one of an admin."""

    key_id: str
    force: bool = False

    @property
    def about(self) -> str:
        return self.key_id


AnyCommand = (
    Announce
    | RegisterWorker
    | RemoveWorker
    | MarkWorker
    | NoteIntrusion
    | CreateGroup
    | UpdateGroup
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
