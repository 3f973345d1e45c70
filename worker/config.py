"""A worker's configuration: one frozen object, checked when it is made."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from proto_schemas.subjects import DEFAULT_PREFIX, Subjects, check_id
from transport.config import NatsConfig
from transport.errors import ConfigError
from transport.http_client import base_url, check_ca, is_loopback, keeps_secrets
from transport.keyring import read_secret

MAX_PIPELINES: Final = 1000
MAX_KEY: Final = 512
JETSTREAM: Final = "jetstream"
DIRECTORY: Final = "dir:"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker.

    Attributes:
        worker_id: its name in the cluster and in subjects: 1 to 64 letters, digits, `_`, `-`. Two processes
            must not share one.
        nats: where the cluster's NATS is.
        data_dir: for checkpoints, where no other store is given. Made when first written to.
        prefix: of all subjects; that of the coordinators.
        http_host, http_port: where health and metrics are served; port 0 is any free one. They are read-only
            and ask for no key, hence loopback by default. With `coordinators` commands come there, too.
        max_pipelines: 1 to 1,000. More share one core; a heartbeat lists them all.
        cpu_cores: told to the coordinators as capacity.
        leave_timeout: seconds a worker that is told to stop works on until its pipelines have been moved to
            others; 0: it brings them to rest at once.
        checkpoint_store: where checkpoints lie: `dir:PATH`, or `jetstream`; empty: a directory below
            `data_dir`. Only workers that share it can take over each other's state when one has died, or when
            a state is larger than a message.
        checkpoint_interval: seconds between two checkpoints of a pipeline whose state changes, 0.5 or more;
            0: none by themselves. What a death costs is up to that; the work of writing is its inverse.
        checkpoint_wait: seconds a pipeline that is placed anew waits for a store that does not answer; less
            than the 5 s in which a coordinator expects the answer to a deploy, or it asks twice.
        checkpoint_required: it waits on then; else it begins without state, and says so.
        checkpoint_replicas, checkpoint_max_bytes: of the JetStream bucket, where this worker makes it: 1, 3
            or 5; 0 bytes: as many as the account allows.
        files_dir: the directory whose files `file` connectors may read and append to; None: no file at all.
        error_budget: events of a pipeline that may fail one after another; 1 to 1,000,000.
        error_share: part of its events that may fail within 10 s, where that many failed; above 0, to 1.
        event_secs: seconds of processor time that one event may take, 0.05 or more; 0: any. While it runs no
            heartbeat goes out: keep it well below the lease.
        max_keys: that each stage of a stream (a window, a join) keeps at most; 1 to 100,000,000.
        labels: told to the coordinators, for placement.
        api_key: what the coordinators ask of a worker; never shown.
        cluster_key_file: the key that all processes of the cluster share; with it what we say to coordinators
            is signed, and what is not signed by them is not followed.
        sign: with a cluster key; off: nothing is signed, nor has to be.
        allow_unsigned: with a cluster key: follow coordinators that do not sign, too.
        coordinators: URLs of coordinators, tried in turn. With them this worker speaks REST and uses no NATS:
            it takes no pipelines that exchange events with others.
        address: where the coordinators reach it then; empty: at `http_host`.
        worker_key_file: a file with the key that commands must show, 16 characters or more; None: a new one
            at each start. The coordinators are told it either way.
        tls_cert, tls_key: PEM files; with them it serves HTTPS.
        tls_ca: PEM file of the authorities of the coordinators' certificates; empty: the system's.
        insecure: let keys travel in the clear beyond this machine (something else encrypts, such as a mesh).
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
    checkpoint_store: str = ""
    checkpoint_interval: float = 10.0
    checkpoint_wait: float = 3.0
    checkpoint_required: bool = False
    checkpoint_replicas: int = 1
    checkpoint_max_bytes: int = 0
    files_dir: Path | None = None
    error_budget: int = 100
    error_share: float = 0.9
    event_secs: float = 1.0
    max_keys: int = 1_000_000
    labels: dict[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    cluster_key_file: Path | None = None
    sign: bool = True
    allow_unsigned: bool = False
    coordinators: tuple[str, ...] = ()
    address: str = ""
    worker_key_file: Path | None = None
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    insecure: bool = False

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
        self._check_checkpoints()
        if self.files_dir is not None and not self.files_dir.is_dir():
            raise ConfigError(f"files_dir is {self.files_dir}: make that directory, or name another")
        self._check_limits()
        if self.cpu_cores < 1:
            raise ConfigError(f"cpu_cores is {self.cpu_cores}: give at least 1")
        if bool(self.tls_cert) != bool(self.tls_key):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ConfigError(f"{given} is given without {missing}: give both or neither")
        check_ca(self.tls_ca, "tls_ca")
        if self.coordinators:
            self._check_rest()
        elif self.address or self.worker_key_file:
            raise ConfigError(
                "address and worker_key_file are for a worker with coordinators: give those, too"
            )

    def _check_limits(self) -> None:
        if not 1 <= self.error_budget <= 1_000_000:
            raise ConfigError(f"error_budget is {self.error_budget}: give 1 to 1000000 events")
        if not 0 < self.error_share <= 1:
            raise ConfigError(f"error_share is {self.error_share:g}: give a part of 1, above 0")
        if self.event_secs != 0 and not 0.05 <= self.event_secs <= 60:
            raise ConfigError(f"event_secs is {self.event_secs:g}: give 0, or 0.05 to 60 seconds")
        if not 1 <= self.max_keys <= 100_000_000:
            raise ConfigError(f"max_keys is {self.max_keys}: give 1 to 100000000")

    def _check_checkpoints(self) -> None:
        store = self.checkpoint_store
        if store not in ("", JETSTREAM) and not (store.startswith(DIRECTORY) and len(store) > len(DIRECTORY)):
            raise ConfigError(f"checkpoint_store is {store!r}: give dir:PATH, or jetstream")
        if store == JETSTREAM and self.coordinators:
            raise ConfigError(
                "checkpoint_store is jetstream with coordinators: a worker that speaks REST has no NATS. "
                "Give dir:PATH"
            )
        if self.checkpoint_interval != 0 and not 0.5 <= self.checkpoint_interval <= 86_400:
            raise ConfigError(
                f"checkpoint_interval is {self.checkpoint_interval:g}: give 0, or 0.5 to 86400 seconds"
            )
        if not 0 <= self.checkpoint_wait <= 3600:
            raise ConfigError(f"checkpoint_wait is {self.checkpoint_wait:g}: give 0 to 3600 seconds")
        if self.checkpoint_replicas not in (1, 3, 5):
            raise ConfigError(f"checkpoint_replicas is {self.checkpoint_replicas}: give 1, 3 or 5")
        if self.checkpoint_max_bytes < 0:
            raise ConfigError(
                f"checkpoint_max_bytes is {self.checkpoint_max_bytes}: give 0 (no own bound) or more"
            )

    @property
    def checkpoint_directory(self) -> Path | None:
        """Where checkpoints lie; None: in JetStream."""
        if self.checkpoint_store == JETSTREAM:
            return None
        path = self.checkpoint_store.removeprefix(DIRECTORY)
        return Path(path).expanduser() if path else self.data_dir / "checkpoints"

    def _check_rest(self) -> None:
        if not (self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigError("api_key holds what a header does not carry: give printable ASCII in one line")
        for url in self.coordinator_urls:
            if not keeps_secrets(url) and not self.insecure:
                raise ConfigError(
                    f"coordinators has {url}: keys would travel in the clear. Use https, or say insecure"
                )
        if self.address:
            address = base_url(self.address, "address")
            if not keeps_secrets(address) and not self.insecure:
                raise ConfigError(
                    f"address is {address}: keys would travel in the clear. Give tls_cert and tls_key "
                    "and use https, or say insecure"
                )
        elif self.http_host in ("", "0.0.0.0", "::"):
            raise ConfigError(
                f"http_host is {self.http_host!r} with coordinators: say with address where that is"
            )
        if not (is_loopback(self.http_host) or self.tls_cert or self.insecure):
            raise ConfigError(
                f"http_host is {self.http_host} without TLS: keys would travel in the clear. Give "
                "tls_cert and tls_key, listen on 127.0.0.1, or say insecure"
            )

    @property
    def coordinator_urls(self) -> tuple[str, ...]:
        """`coordinators` without what is twice.

        Raises:
            ConfigError: one is no URL, or holds credentials.
        """
        return tuple(dict.fromkeys(base_url(url, "coordinators") for url in self.coordinators))


def read_key(file: Path) -> str:
    """The key in a file, without the space around it.

    Raises:
        ConfigError: it cannot be read, or is no key; the text does not show it.
    """
    key = read_secret(file, "worker_key_file")
    if not 16 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"worker_key_file {file}: a key has 16 to {MAX_KEY} printable characters in one line"
        )
    return key
