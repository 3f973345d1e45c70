"""The commands: everything that can change the state, as typed msgpack.

Each carries `at` (ms since 1970, stamped by the proposer) and `by` (who wants it). One with a `request_id`
is answered once: the same id again gets the first answer. Commands of the controllers need none: they name
the epoch or session they are about and are refused when that is over, so a second one finds nothing to do.
"""

from typing import Annotated, Any, Final

import msgspec

from coordinator.state.model import NATS, WorkerStatus
from proto_schemas.messages import RunningPipeline
from proto_schemas.rest import GroupSpec

MAX_REASON: Final = 2_000
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


class Announce(Command, frozen=True, kw_only=True):
    """A coordinator says where its REST face is; followers find the leader's by it."""

    node_id: str
    url: str

    @property
    def about(self) -> str:
        return self.node_id


class RegisterWorker(Command, frozen=True, kw_only=True):
    """A worker joins, or joins again. `pipelines`: what it says it runs already."""

    worker_id: str
    incarnation: str | None = None
    address: str
    cpu_cores: int
    max_pipelines: int
    labels: dict[str, str] = {}
    version: str | None = None
    pipelines: list[RunningPipeline] = []
    carrier: str = NATS

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

    @property
    def about(self) -> str:
        return self.spec.name


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
    """The intent to deploy on a worker; the answer holds the next epoch."""

    worker_id: str


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


AnyCommand = (
    Announce
    | RegisterWorker
    | RemoveWorker
    | MarkWorker
    | CreateGroup
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
