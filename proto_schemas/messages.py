"""The messages between coordinators and workers, as `wire.md` gives them.

Fields without a default are the seed's and required; fields with a default are ours, left out of the JSON
when not set, and never required of a peer. Field order is the order on the wire, so encoding is byte-stable.
"""

from typing import Annotated, Any

import msgspec

from proto_schemas.subjects import EXTERNAL, Id

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Fields = dict[str, Any]


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of every message: immutable; what is not set is not sent; unknown fields are ignored."""


# -- workers ------------------------------------------------------------------------------------------------


class Capacity(Message, frozen=True, kw_only=True):
    """What a worker can take; `pipelines_running` is what it runs already."""

    cpu_cores: Count
    pipelines_running: Count
    max_pipelines: Count


class RunningPipeline(Message, frozen=True, kw_only=True):
    """A copy that really runs on a worker. `epoch` 0: deployed by a coordinator that knows no epochs.
    `queue`: the number of the line of copies in which it listens; 0 when it is in none of its own."""

    pipeline_id: str
    group: str = ""
    name: str = ""
    epoch: Count = 0
    queue: Count = 0
    state: str = "running"
    reason: str | None = None


class Register(Message, frozen=True, kw_only=True):
    """`register`: a worker asks to be a member. `carrier`: `rest` when its commands are to come over HTTP, to
    its address; else they come over NATS. `attempt`: a secret of this attempt, by which the worker knows it
    again (`Hello`)."""

    worker_id: Id
    address: str
    api_key: str
    capacity: Capacity
    incarnation: str | None = None
    version: str | None = None
    labels: dict[str, str] | None = None
    pipelines: list[RunningPipeline] | None = None
    carrier: str | None = None
    attempt: str | None = None

    def __repr__(self) -> str:
        return f"Register(worker_id={self.worker_id!r}, address={self.address!r}, api_key=***)"


class Registered(Message, frozen=True, kw_only=True):
    """Answer to `register`. `lease_secs` absent: the coordinator grants no leases."""

    worker_id: str
    status: str
    heartbeat_interval_secs: int | float
    lease_secs: float | None = None
    term: int | None = None
    cluster_id: str | None = None


class ConnectorHealth(Message, frozen=True, kw_only=True):
    """How one connector of a pipeline does."""

    connector_name: str
    connector_type: str
    connected: bool
    last_error: str | None = None
    messages_received: Count
    seconds_since_last_message: Count


class PipelineMetrics(Message, frozen=True, kw_only=True):
    """Counters of one pipeline since it was deployed."""

    pipeline_name: str
    events_in: Count
    events_out: Count
    connector_health: list[ConnectorHealth] | None = None


MAX_PARTS = 64
"""Messages that one heartbeat may take."""


class HeartbeatPart(Message, frozen=True, kw_only=True):
    """A share of what a worker runs: the `number`-th, from 0, of `of`. The others come under the same `seq`;
    only all of them together say what does not run. Its fields as `Heartbeat` has them."""

    number: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)]
    of: Annotated[int, msgspec.Meta(ge=2, le=MAX_PARTS)]
    pipelines: list[RunningPipeline]
    loss_windows: list[Count] | None = None


class Heartbeat(Message, frozen=True, kw_only=True):
    """`heartbeat.{worker}`: the worker is named by the subject. `seq` counts up within an incarnation.

    `loss_windows`: for each of `pipelines`, in their order, the seconds whose events would be lost with it;
    none where all are 0, absent where the worker does not know them. `part`: in place of both, where one
    message does not hold them; then `pipeline_metrics` are those of the same share, and all else is whole.
    """

    events_processed: Count
    pipelines_running: Count
    pipeline_metrics: list[PipelineMetrics] | None = None
    incarnation: str | None = None
    seq: Count | None = None
    pipelines: list[RunningPipeline] | None = None
    load: float | None = None
    draining: bool = False
    loss_windows: list[Count] | None = None
    part: HeartbeatPart | None = None


class Directive(Message, frozen=True, kw_only=True):
    """What the leader wants of a worker: `do` is `register`, `undeploy`, `checkpoint`, or `leave`: there is
    nothing to wait for any more.
    """

    do: str
    pipeline_id: str | None = None
    reason: str | None = None


class HeartbeatAck(Message, frozen=True, kw_only=True):
    """The leader's answer to a heartbeat that had a reply subject.

    `judged`: the number of the heartbeat whose list of copies it is about: of one in parts, an earlier one;
    0: of none. `renews`: false where the directives are not all there are, or the worker has to register
    first: then no lease is renewed.
    """

    term: int
    lease_secs: float
    directives: list[Directive] | None = None
    judged: int | None = None
    renews: bool = True


# -- commands -----------------------------------------------------------------------------------------------


class Fence(Message, frozen=True, kw_only=True):
    """What our commands carry beside their seed fields.

    `term` and `epoch`: a worker refuses a command older than one it has seen (`stale_epoch`).
    `request_id`: a request seen before gets the first answer again.
    """

    term: int | None = None
    epoch: int | None = None
    request_id: str | None = None


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


class HeartbeatId(Message, frozen=True, kw_only=True):
    """A heartbeat, by the number its worker gave it."""

    incarnation: str
    seq: int


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


class Event(Message, frozen=True, kw_only=True):
    """One event: a type and free fields; integers stay integers."""

    event_type: Name
    fields: Fields = {}


class OutputEvent(Message, frozen=True, kw_only=True):
    """An event that came out of a pipeline: every field, also when there is none."""

    event_type: str
    fields: Fields


class Inject(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.inject`: one event into a pipeline."""

    pipeline_id: str
    event_type: Name
    fields: Fields = {}


class Injected(Message, frozen=True, kw_only=True):
    """Answer to `inject`: what the pipeline put out because of it."""

    ok: bool
    output_events: list[OutputEvent]


class InjectBatch(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.inject_batch`. Each event is checked on its own: a bad one does not refuse the batch."""

    pipeline_id: str
    events: list[Any]


class BatchInjected(Message, frozen=True, kw_only=True):
    """Answer to `inject_batch`, with true counts."""

    events_sent: Count
    events_failed: Count
    output_events: list[OutputEvent]
    errors: list[str]
    processing_time_us: Count


class Hold(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.hold`: take events and keep them. A copy that runs stops processing; one that was
    deployed with `hold` joins its line.

    `relayed`: what other instances passed on is processed all the same, and what this one passed on is on
    the servers when it answers. `back`: a copy that handed over joins its lines again, beside those that took
    over and are to go; it keeps what comes until it resumes.
    """

    pipeline_id: str
    relayed: bool = False
    back: bool = False


class CheckpointRequest(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.checkpoint`. The answer is the checkpoint object itself, or a `CheckpointRef`.

    `handover`: first leave the line without losing what is on its way; what was held meanwhile is part of the
    checkpoint, and nothing is put out any more until `restore`.
    """

    pipeline_id: str
    handover: bool = False


class CheckpointRef(Message, frozen=True, kw_only=True):
    """Where a checkpoint lies that is larger than a NATS payload."""

    checkpoint_ref: str


class HeldEvent(Message, frozen=True, kw_only=True):
    """A message that a copy took and did not handle. `at`: its arrival, ms since 1970; `share`: of whose
    line, where instances share by key."""

    subject: str
    at: Count
    data: bytes
    share: Count | None = None


class HandedOver(Message, frozen=True, kw_only=True):
    """What a copy hands over: its checkpoint with what it held, or where that lies."""

    checkpoint_ref: str | None = None
    v: Count | None = None
    pipeline: str = ""
    source_sha256: str | None = None
    taken_at: int = 0
    positions: dict[str, Any] | None = None
    counters: dict[str, Any] | None = None
    vars: dict[str, Any] | None = None
    watermarks: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    held: list[HeldEvent] | None = None


class Restore(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.restore`: exactly one of `checkpoint` and `checkpoint_ref`.

    `resume`: then handle the events held there and here, in order, and go live; a copy that is live already
    answers and does nothing. Neither of the two may be given then: a copy that handed over goes on from its
    own. `only_held`: take the events of the checkpoint, and not its state: they came after those held here.
    `anew`: likewise, but they came before: another program goes on where its predecessor stopped. `queue`: a
    line to begin; `lines`: of its further shares. `restore_from`: with `resume` and no checkpoint, as
    `Deploy` has it.

    `piece`: the checkpoint is that of the copy with this id, of which this one takes over some keys when it
    resumes; it may be sent again, and those of others beside it. With `only_held`: that of a copy of a
    division which failed, of which this one takes back the events of its lines, for when it goes on.
    """

    pipeline_id: str
    checkpoint: dict[str, Any] | None = None
    checkpoint_ref: str | None = None
    resume: bool = False
    only_held: bool = False
    anew: bool = False
    queue: str | None = None
    restore_from: str | None = None
    lines: dict[str, str] | None = None
    piece: str | None = None


class Drain(Fence, frozen=True, kw_only=True):
    """`cmd.{worker}.drain`."""


class Drained(Message, frozen=True, kw_only=True):
    """Answer to `drain`: how many pipelines were brought to rest."""

    ok: bool
    pipelines: Count


class Hello(Message, frozen=True, kw_only=True):
    """`cmd.{worker}.hello`: who is there? Asked by a worker that starts, by a leader that has missed a
    heartbeat, and by a coordinator before it takes anybody in under an id that is held; then `attempt` is
    that of the registration that came.
    """

    attempt: str | None = None


class Present(Ok, frozen=True, kw_only=True):
    """Answer to `hello`: the process that listens, and whether the `attempt` to register was its own."""

    incarnation: str | None = None
    registers: bool = False


COMMANDS: dict[str, tuple[type[Message], type[Message] | None]] = {
    "deploy": (Deploy, Deployed),
    "undeploy": (Undeploy, Ok),
    "inject": (Inject, Injected),
    "inject_batch": (InjectBatch, BatchInjected),
    "hold": (Hold, Ok),
    "checkpoint": (CheckpointRequest, None),
    "restore": (Restore, Ok),
    "drain": (Drain, Drained),
    "hello": (Hello, Present),
}
"""Request and answer of each worker command; `checkpoint` answers free-form data."""
