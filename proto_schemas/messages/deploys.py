"""A copy of a pipeline is made on a worker, and ended there."""

from typing import Annotated

import msgspec

from proto_schemas.messages.base import Count, Fence, Fields, Message, Name
from proto_schemas.messages.membership import HeartbeatId
from proto_schemas.subjects import EXTERNAL, Id


class Route(Message, frozen=True, kw_only=True):
    """Events of these types, put out by one pipeline (or `_external`), go into another of the same group."""

    from_pipeline: Id
    to_pipeline: Id
    event_types: list[str]
    nats_subject: str | None = None

    @property
    def over_nats(self) -> bool:
        """Whether only NATS carries it: from pipeline to pipeline, or on a subject of its own. Events from
        outside can also come as `inject`."""
        return self.from_pipeline != EXTERNAL or self.nats_subject is not None


class ConnectorParams(Message, frozen=True, kw_only=True):
    """A registered connector as a worker needs it, its secrets in the clear; its repr shows no value."""

    name: str
    connector_type: str
    params: Fields = {}

    def __repr__(self) -> str:
        return f"ConnectorParams(name={self.name!r}, connector_type={self.connector_type!r}, params=***)"


class Instance(Message, frozen=True, kw_only=True):
    """Which instance of a pipeline with replicas a deploy is: the `number`-th, from 0, of `count`.

    `key`: the field whose value decides which instance handles an event; None: any of them. `shares`: into
    how many shares its events are cut, where that is another number than `count`; `lines`: the queue groups
    of the shares that it takes beside the one of its number. See `worker.intake`.
    """

    of: Id
    number: Count
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    key: str | None = None
    shares: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    lines: dict[str, str] = {}


class Partition(Message, frozen=True, kw_only=True):
    """How the events for a pipeline are shared out by key: senders publish to the owner among `count`."""

    key: str
    count: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Deploy(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.deploy`.

    `routes`: all of the group that touch this pipeline or lead in from outside; `connectors`: those the
    program names without declaring them; `partitions`: those pipelines its routes lead to that share by key.

    `queue`: the NATS queue group whose members share their inputs, so that each event reaches one of them:
    the line of copies that this one belongs to, or all instances that share without a key; None: this copy
    hears everything. `hold`: make the copy and put it out of the way, for a move: it takes no events before
    `hold`, puts nothing out before `restore`, and leaves a copy of an older epoch alone; status `held`.

    `heard`: the newest heartbeat of this worker that had come when the command was sent. The worker knows
    when it sent that one, so how old the command is at most. Where that is more than its lease, or it cannot
    tell, the copy puts nothing out until an answer to a heartbeat that lists it leaves it alone.
    """

    name: Name
    source: str
    group: Id | None = None
    routes: list[Route] | None = None
    connectors: list[ConnectorParams] | None = None
    delivery: str | None = None
    checkpoint_ref: str | None = None
    queue: str | None = None
    instance: Instance | None = None
    partitions: dict[str, Partition] | None = None
    hold: bool = False
    restore_from: str | None = None
    life: Count | None = None
    checkpoint_secs: float | None = None
    heard: HeartbeatId | None = None


class Deployed(Message, frozen=True, kw_only=True):
    """Answer to `deploy`. `begun`: from which state it began, for people; absent: from none, as it should.
    `divides`: the worker knows how instances by key become more or fewer. `listed_from`: its first heartbeat
    that lists the copy; one that was sent before says nothing of it, however late it comes.
    """

    id: str
    name: str
    status: str
    begun: str | None = None
    divides: bool = False
    listed_from: HeartbeatId | None = None


class Undeploy(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.undeploy`. `drain`: first handle what was sent to it until now. `forget`: the pipeline is
    gone for good, its checkpoints are not needed any more."""

    pipeline_id: str
    drain: bool = False
    forget: bool = False


class Ok(Message, frozen=True, kw_only=True):
    """Answer to `undeploy`, `hold` and `restore`; to that with `begun` as `Deployed` has it."""

    ok: bool
    begun: str | None = None
