"""Commands about coordinators and workers."""

from msgspec.structs import replace

from coordinator.state.commands.base import Command, Reason
from coordinator.state.records import NATS, WorkerStatus
from proto_schemas.messages.membership import RunningPipeline


class Announce(Command, frozen=True, kw_only=True):
    """A coordinator says where its REST face is; followers find the leader's by it."""

    node_id: str
    url: str

    @property
    def about(self) -> str:
        return self.node_id


class RegisterWorker(Command, frozen=True, kw_only=True):
    """A worker joins, or joins again. `pipelines`: what it says it runs already; `key_id`: the API key that
    it showed; empty: none was asked for. `displaces`: the session whose place it takes as was proved to the
    coordinator that took it in, 0: nobody's; None: that one was of a version that does not say."""

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
    displaces: int | None = None

    @property
    def about(self) -> str:
        return self.worker_id

    @property
    def words(self) -> "RegisterWorker":
        return replace(self, displaces=None)


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


class CordonWorker(Command, frozen=True, kw_only=True):
    """Give a worker nothing new, or, with `cordoned` false, again."""

    worker_id: str
    cordoned: bool

    @property
    def about(self) -> str:
        return self.worker_id
