"""A worker is a member: its registration, its heartbeats, and what the leader answers to them."""

from typing import Annotated

import msgspec

from proto_schemas.messages.base import Count, Message
from proto_schemas.subjects import Id


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


class HeartbeatId(Message, frozen=True, kw_only=True):
    """A heartbeat, by the number its worker gave it."""

    incarnation: str
    seq: int


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
