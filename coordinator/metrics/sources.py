"""Where the numbers come from."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from coordinator.controllers.loop import ControlLoop
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.machine import ClusterMachine
from coordinator.nats_handlers import WorkerListener
from coordinator.scaling import Scaling
from coordinator.security.door import Door
from coordinator.security.origin import SameOrigin
from coordinator.streams import Streams
from coordinator.webhook import Webhook
from coordinator.worker_commands import WorkerCommands
from raft.counters import Counters
from raft.status import RaftStatus
from transport.lag import LoopLag
from transport.limits import RequestLimits
from transport.stats import Stats


class HttpCounts:
    """Answers by route template and status; `limits` counts what it refused before any route saw it."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self.limits: RequestLimits | None = None
        self.origin: SameOrigin | None = None

    def answered(self, route: str, status: int) -> None:
        """Count one."""
        self.answers[route, status] += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the numbers come from."""

    node_id: str
    version: str
    machine: ClusterMachine
    ledger: Ledger
    table: HeartbeatTable
    listener: WorkerListener
    loop: ControlLoop
    scaling: Scaling
    webhook: Webhook | None
    streams: Streams
    http: HttpCounts
    door: Door
    asked_by_rest: Counter[tuple[str, str]]
    raft_status: Callable[[], RaftStatus]
    raft_counters: Counters
    nats: Stats
    nats_connected: Callable[[], bool]
    commands: WorkerCommands
    lag: LoopLag
    clock: Callable[[], float]
