"""One frozen object for a coordinator; contradictions fail at start with both values in the text.

The times hang together: `heartbeat_interval * 2 < heartbeat_timeout`, or one lost heartbeat would count as a
death; and the lease a worker gets is `0.8 * heartbeat_timeout`, so that it is over before the worker's
pipelines are placed elsewhere.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proto_schemas.subjects import DEFAULT_PREFIX, Subjects, check_id
from raft.config import RaftConfig
from raft.errors import ConfigInvalid
from transport.config import NatsConfig
from transport.errors import ConfigError
from transport.http_client import check_ca, is_loopback

LEASE_PART: Final = 0.8
"""Of `heartbeat_timeout`. Nearer to 1 leaves less room for clocks that run apart; lower pauses workers that
were cut off sooner than needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """Settings of one coordinator. Raises `ConfigError` when two of them contradict each other."""

    node_id: str
    """This coordinator, `[A-Za-z0-9_-]{1,64}`."""
    members: tuple[str, ...]
    """All coordinators at the first start, this one included; 3 survive the loss of one, 5 of two. Later
    changes stand in the files, and count more. With `join`: the members that this one listens to.
    """
    join: bool = False
    """This coordinator is new, and waits until `varpulis raft add` makes it a member; without effect then."""
    cluster_id: str
    """Journals, frames and files of another cluster are refused."""
    data_dir: Path
    """Journal and snapshots. On a disk that survives a crash."""
    nats: NatsConfig = field(default_factory=NatsConfig)
    """How to reach NATS."""
    nats_wait: float = 10.0
    """Seconds to wait at start for a nats-server that is not there yet; 0..600. Longer forgives a slow start,
    shorter tells of a wrong URL sooner."""
    http_host: str = "127.0.0.1"
    """Address to listen on. There are no keys in this version: anything but loopback needs `insecure`."""
    http_port: int = 9100
    """Port to listen on; 0 takes any free one."""
    insecure: bool = False
    """Listen beyond this machine although nobody is asked for a key."""
    worker_ca: str = ""
    """PEM file of the authorities of the certificates of workers that speak REST; empty: the system's."""
    prefix: str = DEFAULT_PREFIX
    """Of all NATS subjects; one per cluster on a shared NATS."""
    heartbeat_interval: float = 1.0
    """Seconds between a worker's heartbeats, told to it at registration; 0.05..60."""
    heartbeat_timeout: float = 3.0
    """Seconds of silence after which a worker's pipelines are placed elsewhere. Shorter fails over sooner,
    longer forgives longer pauses."""
    raft_heartbeat: float = 0.05
    """Seconds, see `RaftConfig.heartbeat_interval`."""
    election_timeout_min: float = 0.3
    """Seconds, see `RaftConfig`."""
    election_timeout_max: float = 0.6
    """Seconds, see `RaftConfig`."""

    def __post_init__(self) -> None:
        if not 0.05 <= self.heartbeat_interval <= 60:
            raise ConfigError(f"heartbeat_interval is {self.heartbeat_interval}: give 0.05 to 60 seconds")
        if not 2 * self.heartbeat_interval < self.heartbeat_timeout <= 600:
            raise ConfigError(
                f"heartbeat_timeout is {self.heartbeat_timeout} with heartbeat_interval "
                f"{self.heartbeat_interval}: it must be more than twice that, and at most 600 seconds"
            )
        if not 0 <= self.nats_wait <= 600:
            raise ConfigError(f"nats_wait is {self.nats_wait}: give 0 to 600 seconds")
        if not 0 <= self.http_port <= 65535:
            raise ConfigError(f"http_port is {self.http_port}: give 0 (any) to 65535")
        check_ca(self.worker_ca, "worker_ca")
        if not self.insecure and not is_loopback(self.http_host):
            raise ConfigError(
                f"http_host is {self.http_host} with insecure off: anybody who reaches it could command the "
                "cluster. Listen on 127.0.0.1, or say insecure"
            )
        try:
            check_id(self.node_id, "node_id")
            Subjects(self.prefix)
            _ = self.raft
        except (ValueError, ConfigInvalid) as error:
            raise ConfigError(str(error)) from None

    @property
    def lease_secs(self) -> float:
        """Seconds a worker may go on after its last acknowledged heartbeat."""
        return round(self.heartbeat_timeout * LEASE_PART, 3)

    @property
    def raft(self) -> RaftConfig:
        """The settings of the Raft node inside."""
        return RaftConfig(
            node_id=self.node_id,
            members=self.members,
            join=self.join,
            cluster_id=self.cluster_id,
            data_dir=self.data_dir,
            prefix=self.prefix,
            heartbeat_interval=self.raft_heartbeat,
            election_timeout_min=self.election_timeout_min,
            election_timeout_max=self.election_timeout_max,
            leader_fallback=max(self.election_timeout_max, 4 * self.raft_heartbeat),
        )
