"""A worker's configuration: one frozen object, checked when it is made."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proto_schemas.subjects import DEFAULT_PREFIX, Subjects, check_id
from transport.config import NatsConfig
from transport.errors import ConfigError

MAX_PIPELINES: Final = 1000


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker.

    Attributes:
        worker_id: its name in the cluster and in subjects: 1 to 64 letters, digits, `_`, `-`. Two processes
            must not share one.
        nats: where the cluster's NATS is.
        data_dir: for checkpoints larger than a message, and for those of a drain. Made when first written to.
        prefix: of all subjects; that of the coordinators.
        http_host, http_port: where health and metrics are served; port 0 is any free one. They are read-only
            and ask for no key, hence loopback by default.
        max_pipelines: 1 to 1,000. More share one core; a heartbeat lists them all.
        cpu_cores: told to the coordinators as capacity.
        leave_timeout: seconds a worker that is told to stop works on until its pipelines have been moved to
            others; 0: it brings them to rest at once.
        checkpoint_dir: where checkpoints larger than a message lie; None: below `data_dir`. A pipeline with
            such a state can be moved only between workers that share it.
        labels: told to the coordinators, for placement.
        api_key: what the coordinators ask of a worker; never shown.
        cluster_key_file: the key that all processes of the cluster share; with it what we say to coordinators
            is signed, and what is not signed by them is not followed.
        sign: with a cluster key; off: nothing is signed, nor has to be.
        allow_unsigned: with a cluster key: follow coordinators that do not sign, too.
    """

    worker_id: str
    nats: NatsConfig = field(default_factory=NatsConfig)
    data_dir: Path = Path(".varpulis")
    prefix: str = DEFAULT_PREFIX
    http_host: str = "127.0.0.1"
    http_port: int = 0
    max_pipelines: int = 100
    cpu_cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    leave_timeout: float = 10.0
    checkpoint_dir: Path | None = None
    labels: dict[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    cluster_key_file: Path | None = None
    sign: bool = True
    allow_unsigned: bool = False

    def __post_init__(self) -> None:
        try:
            check_id(self.worker_id, "worker id")
            Subjects(self.prefix)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if not 1 <= self.max_pipelines <= MAX_PIPELINES:
            raise ConfigError(f"max_pipelines is {self.max_pipelines}: give 1 to {MAX_PIPELINES}")
        if not 0 <= self.http_port <= 65_535:
            raise ConfigError(f"http_port is {self.http_port}: give 0 (any free one) to 65535")
        if not 0 <= self.leave_timeout <= 3600:
            raise ConfigError(f"leave_timeout is {self.leave_timeout}: give 0 to 3600 seconds")
        if self.cpu_cores < 1:
            raise ConfigError(f"cpu_cores is {self.cpu_cores}: give at least 1")
