"""Commands that are a process of the cluster: `coordinator`, `worker`, and the demo's generator.

Each imports only its own room, so that a worker does not carry the coordinator's REST stack in memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.errors import OK, CliError, UsageError
from cli.invocation import Invocation
from cli.resolve import Settings
from cli.settings import NATS_KEYS
from transport import tracing
from transport.config import NatsConfig
from transport.errors import NatsTransportError
from transport.keyring import read_secret
from transport.loop import run

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig
    from coordinator.state.scaling import Thresholds
    from worker.config import WorkerConfig

_NUMBERS: Final = (
    "nats_wait",
    "heartbeat_interval",
    "heartbeat_timeout",
    "raft_heartbeat",
    "election_timeout_min",
    "election_timeout_max",
    "moves_per_worker",
    "moves_at_once",
    "stream_replicas",
    "stream_max_age",
    "stream_max_bytes",
)
_THRESHOLDS: Final = ("high", "low", "up_after", "down_after", "min_workers", "max_workers")

_ACCESS: Final = (
    "advertise_url",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "tls_ca",
    "require_keys",
    "rate_limit",
    "rate_burst",
)

_LIMITS: Final = ("error_budget", "error_share", "event_secs", "max_keys")
_CHECKPOINTS: Final = (
    "checkpoint_store",
    "checkpoint_interval",
    "checkpoint_wait",
    "checkpoint_required",
    "checkpoint_replicas",
    "checkpoint_max_bytes",
)
_REST: Final = ("address", "tls_cert", "tls_key", "tls_ca", "insecure")


def coordinator(call: Invocation) -> int:
    """Run one coordinator until SIGTERM or SIGINT."""
    from coordinator.app import serve

    config = coordinator_config(call)
    with _traces("coordinator", config.node_id):
        return run(serve(config))


def coordinator_config(call: Invocation) -> "CoordinatorConfig":
    """What the settings make of a coordinator.

    Raises:
        UsageError, transport.errors.ConfigError: one is missing, or two contradict each other.
    """
    from coordinator.config import CoordinatorConfig

    settings = call.settings
    node_id = settings.required("coordinator.id")
    return CoordinatorConfig(
        node_id=node_id,
        members=settings.required("coordinator.members"),
        join=settings["coordinator.join"],
        cluster_id=settings["cluster.id"],
        prefix=settings["cluster.prefix"],
        nats=nats_config(settings, node_id),
        http_host=settings["coordinator.http_host"],
        http_port=settings["coordinator.http_port"],
        data_dir=call.directory("coordinator", node_id),
        insecure=settings["coordinator.insecure"],
        scaling=_thresholds(settings),
        scaling_webhook=settings["scaling.webhook"],
        placement=settings["coordinator.placement"],
        rebalance=settings["coordinator.rebalance"],
        rebalance_cooldown=settings["coordinator.rebalance_cooldown"],
        cluster_key_file=_path(settings["cluster.key_file"]),
        sign=settings["cluster.sign"],
        allow_unsigned=settings["cluster.allow_unsigned"],
        admin_key_file=_path(settings["coordinator.admin_key_file"]),
        worker_key_file=_path(settings["coordinator.worker_key_file"]),
        worker_ca=settings["coordinator.worker_ca"],
        **{name: settings[f"coordinator.{name}"] for name in _ACCESS},
        **{name: settings[f"coordinator.{name}"] for name in _NUMBERS},
    )


@contextmanager
def _traces(role: str, name: str) -> Iterator[None]:
    """Make traces meanwhile, if the environment asks for them."""
    end = tracing.configure(f"varpulis-{role}", name)
    try:
        yield
    finally:
        end()


def _thresholds(settings: Settings) -> "Thresholds":
    from coordinator.state.scaling import Thresholds

    try:
        return Thresholds(**{name: settings[f"scaling.{name}"] for name in _THRESHOLDS})
    except ValueError as error:
        raise UsageError(f"settings under scaling: {error}") from None


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def worker(call: Invocation) -> int:
    """Run one worker until SIGTERM or SIGINT."""
    from worker.app import serve

    config = worker_config(call)
    with _traces("worker", config.worker_id):
        return run(serve(config))


def worker_config(call: Invocation) -> "WorkerConfig":
    """What the settings make of a worker; raises as `coordinator_config`."""
    from worker.config import WorkerConfig

    settings = call.settings
    worker_id = settings.required("worker.id")
    return WorkerConfig(
        worker_id=worker_id,
        prefix=settings["cluster.prefix"],
        nats=nats_config(settings, worker_id),
        http_host=settings["worker.http_host"],
        http_port=settings["worker.http_port"],
        data_dir=call.directory("worker", worker_id),
        max_pipelines=settings["worker.max_pipelines"],
        files_dir=_path(settings["worker.files_dir"]),
        labels=labels(settings["worker.labels"]),
        leave_timeout=settings["worker.leave_timeout"],
        api_key=_worker_key(settings),
        cluster_key_file=_path(settings["cluster.key_file"]),
        sign=settings["cluster.sign"],
        allow_unsigned=settings["cluster.allow_unsigned"],
        coordinators=settings["worker.coordinators"],
        worker_key_file=_path(settings["worker.worker_key_file"]),
        **{name: settings[f"worker.{name}"] for name in _REST},
        **{name: settings[f"worker.{name}"] for name in (*_LIMITS, *_CHECKPOINTS)},
    )


def _worker_key(settings: Settings) -> str:
    file = settings["worker.api_key_file"]
    return read_secret(Path(file), "worker.api_key_file") if file else str(settings["worker.api_key"])


def demo_generator(call: Invocation) -> int:
    """Publish trades until SIGTERM or SIGINT, or until `--count` of them are out."""
    from cli.demo.generator import generate

    rate, count = call.arguments["rate"], call.arguments["count"]
    if not 1 <= rate <= 100_000 or count < 0:
        raise UsageError(
            f"--rate {rate:g} or --count {count} is out of range: give 1 to 100000, and 0 or more"
        )
    try:
        sent = run(generate(nats_config(call.settings, "demo-generator"), rate=rate, count=count))
    except NatsTransportError as error:
        raise CliError(str(error)) from None
    call.note(f"{sent} trades published")
    return OK


def nats_config(settings: Settings, name: str) -> NatsConfig:
    """How to reach NATS, from the settings under `nats`.

    Raises:
        transport.errors.ConfigError: they contradict each other, or an `env:` or `file:` is not there.
    """
    given: dict[str, Any] = {key.partition(".")[2]: settings[key] for key in NATS_KEYS if settings[key]}
    given["servers"] = given.pop("url")
    return NatsConfig.from_params({**given, "name": name})


def labels(pairs: tuple[str, ...]) -> dict[str, str]:
    """Labels from `key=value` words.

    Raises:
        UsageError: a word without a key or without "=".
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise UsageError(f"label {pair!r} is not key=value: write it as --label zone=a")
        found[key] = value
    return found
