"""One frozen object for a coordinator; contradictions fail at start with both values in the text.

The times hang together: `heartbeat_interval * 2 < heartbeat_timeout`, or one lost heartbeat would count as a
death; and the lease a worker gets is `0.8 * heartbeat_timeout`, so that it is over before the worker's
pipelines are placed elsewhere.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from coordinator.state.scaling import Thresholds
from proto_schemas.rest.groups import STRATEGY_PATTERN
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
    """Address to listen on. Anything but loopback needs keys and TLS, or `insecure`."""
    http_port: int = 9100
    """Port to listen on; 0 takes any free one."""
    insecure: bool = False
    """Listen beyond this machine although nobody is asked for a key, or keys come in the clear (because
    something else encrypts, such as a mesh)."""
    advertise_url: str = ""
    """Where the other coordinators reach the REST face of this one; empty: at `http_host`. Needed where that
    is no address to connect to (0.0.0.0), or the certificate is of a name."""
    tls_cert: str = ""
    """PEM file of the certificate of the REST face, which is then https. It is shown to the other
    coordinators as well where requests are passed on, so with `tls_client_ca` it must be good for clients
    too."""
    tls_key: str = ""
    """PEM file of its key."""
    tls_client_ca: str = ""
    """PEM file of the authorities of clients; whoever shows no certificate of theirs is not let in. Empty:
    nobody is asked for one."""
    tls_ca: str = ""
    """PEM file of the authorities of the other coordinators' certificates; empty: the system's."""
    admin_key_file: Path | None = None
    """An API key of an admin, to begin with; the same on all coordinators. With it everybody is asked for a
    key."""
    worker_key_file: Path | None = None
    """An API key for workers, in the same way."""
    require_keys: bool = False
    """Ask everybody for a key; those in the state must do, or nobody gets in."""
    rate_limit: float = 5000.0
    """Requests a second that one API key may make of this node; 0: any number. Heartbeats do not count."""
    rate_burst: float = 10_000.0
    """Requests that a key that was quiet may make at once."""
    cluster_key_file: Path | None = None
    """The key that all processes of the cluster share (`transport.keyring`): with it Raft frames, commands
    and answers to workers are signed, and secrets in the state are sealed."""
    sign: bool = True
    """With a cluster key: sign, and drop what is not signed. Off: secrets are sealed, and nothing is
    signed."""
    allow_unsigned: bool = False
    """With a cluster key: take in workers that do not sign, such as the seed's. Raft frames must be
    signed."""
    worker_ca: str = ""
    """PEM file of the authorities of the certificates of workers that speak REST; empty: the system's."""
    prefix: str = DEFAULT_PREFIX
    """Of all NATS subjects; one per cluster on a shared NATS."""
    heartbeat_interval: float = 1.0
    """Seconds between a worker's heartbeats, told to it at registration; 0.05..60."""
    heartbeat_timeout: float = 3.0
    """Seconds of silence after which a worker's pipelines are placed elsewhere. Shorter fails over sooner,
    longer forgives longer pauses."""
    moves_per_worker: int = 4
    """Migrations driven at once from or to one worker, 1..64. Each holds back one pipeline's output for
    some tens of milliseconds, and copies its state.
    """
    moves_at_once: int = 16
    """The same in all, 1..256."""
    stream_replicas: int = 1
    """Of the JetStream stream of a group that delivers at least once or exactly once: 1, 3 or 5, at most the
    servers of the cluster."""
    stream_max_age: float = 86_400.0
    """Seconds after which an event is removed from it, read or not: the longest outage that costs nothing;
    60 to a year."""
    stream_max_bytes: int = 0
    """Bytes of each such stream; what comes beyond is refused. 0: as many as the account allows."""
    raft_heartbeat: float = 0.09
    """Seconds, see `RaftConfig.heartbeat_interval`. They are what a cluster costs that does nothing; three
    fit into the shortest election timeout.
    """
    election_timeout_min: float = 0.3
    """Seconds, see `RaftConfig`."""
    election_timeout_max: float = 0.6
    """Seconds, see `RaftConfig`."""
    scaling: Thresholds = field(default_factory=Thresholds)
    """When more or fewer workers are advised."""
    scaling_webhook: str = ""
    """URL that is told of each change of that advice; none when empty."""

    placement: str = "least_loaded"
    """How workers are chosen for groups that do not say: `least_loaded`, `round_robin`, `spread`,
    `spread:LABEL` or `binpack`; see `state.strategy`. The leader's counts: give all the same."""
    rebalance: bool = True
    """Even loads by itself after a worker has joined."""
    rebalance_cooldown: float = 60.0
    """Seconds between two rounds of that at least; 1..86400. Shorter is even sooner, longer moves less often
    while workers come and go."""

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
        if not re.match(STRATEGY_PATTERN, self.placement):
            raise ConfigError(
                f"placement is {self.placement[:80]!r}: give least_loaded, round_robin, spread, spread:LABEL "
                "or binpack"
            )
        if not 1 <= self.rebalance_cooldown <= 86_400:
            raise ConfigError(f"rebalance_cooldown is {self.rebalance_cooldown}: give 1 to 86400 seconds")
        if not (1 <= self.moves_per_worker <= 64 and 1 <= self.moves_at_once <= 256):
            raise ConfigError(
                f"moves_per_worker is {self.moves_per_worker}, moves_at_once {self.moves_at_once}: "
                "give 1 to 64, and 1 to 256"
            )
        if self.stream_replicas not in (1, 3, 5):
            raise ConfigError(f"stream_replicas is {self.stream_replicas}: give 1, 3 or 5")
        if not 60 <= self.stream_max_age <= 31_622_400:
            raise ConfigError(f"stream_max_age is {self.stream_max_age:g}: give 60 to 31622400 seconds")
        if self.stream_max_bytes < 0:
            raise ConfigError(f"stream_max_bytes is {self.stream_max_bytes}: give 0 (no own bound) or more")
        if not 0 <= self.http_port <= 65535:
            raise ConfigError(f"http_port is {self.http_port}: give 0 (any) to 65535")
        check_ca(self.worker_ca, "worker_ca")
        if self.scaling_webhook and not _is_plain_url(self.scaling_webhook):
            raise ConfigError(
                "scaling_webhook is no URL: give http://HOST[:PORT]/PATH or https, without a user"
            )
        self._check_exposure()
        try:
            check_id(self.node_id, "node_id")
            Subjects(self.prefix)
            _ = self.raft
        except (ValueError, ConfigInvalid) as error:
            raise ConfigError(str(error)) from None

    def _check_exposure(self) -> None:
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{given} is given without {missing}: give both or neither")
        if self.tls_client_ca and not self.tls_cert:
            raise ConfigError("tls_client_ca is given without tls_cert: clients are asked over TLS only")
        if not 0 <= self.rate_limit <= 1e6 or not 1 <= self.rate_burst <= 1e6:
            raise ConfigError(
                f"rate_limit is {self.rate_limit:g} with rate_burst {self.rate_burst:g}: give 0 (no "
                "limit) to 1000000 a second, and 1 to 1000000 at once"
            )
        if self.advertise_url and not self.advertise_url.startswith(("http://", "https://")):
            raise ConfigError(f"advertise_url is {self.advertise_url!r}: write it as https://name:9100")
        if self.insecure or self.is_local:
            return
        if not self.keys_required:
            raise ConfigError(
                f"http_host is {self.http_host} with insecure off and no keys: anybody who reaches it could "
                "command the cluster. Listen on 127.0.0.1, or give --admin-key-file (`varpulis key new FILE` "
                "makes one), or say --insecure"
            )
        if not self.tls_cert:
            raise ConfigError(
                f"http_host is {self.http_host} with insecure off and no TLS: keys would travel in the "
                "clear. Give --tls-cert and --tls-key, or say --insecure where something else encrypts"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the REST face."""
        return is_loopback(self.http_host)

    @property
    def keys_required(self) -> bool:
        """Whether everybody is asked for an API key."""
        return self.require_keys or self.admin_key_file is not None

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


def _is_plain_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return valid and parts.username is None and url.isascii() and not any(map(str.isspace, url))
