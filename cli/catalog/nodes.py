"""The processes of a cluster."""

from typing import Final

from cli.catalog.kinds import Command, Option
from cli.settings import NATS_KEYS

_NODE_KEYS: Final = (
    *NATS_KEYS,
    "cluster.prefix",
    "cluster.key_file",
    "cluster.sign",
    "cluster.allow_unsigned",
)
_COORDINATOR_KEYS: Final = (
    "coordinator.id",
    "coordinator.members",
    "coordinator.join",
    "coordinator.data_dir",
    "coordinator.http_host",
    "coordinator.http_port",
    "coordinator.insecure",
    "coordinator.advertise_url",
    "coordinator.tls_cert",
    "coordinator.tls_key",
    "coordinator.tls_client_ca",
    "coordinator.tls_ca",
    "coordinator.admin_key_file",
    "coordinator.worker_key_file",
    "coordinator.require_keys",
    "coordinator.worker_ca",
    "coordinator.heartbeat_interval",
    "coordinator.heartbeat_timeout",
    "coordinator.placement",
    "coordinator.rebalance",
    "coordinator.rebalance_cooldown",
    "cluster.id",
    "scaling.webhook",
)
_WORKER_KEYS: Final = (
    "worker.id",
    "worker.data_dir",
    "worker.http_host",
    "worker.http_port",
    "worker.max_pipelines",
    "worker.files_dir",
    "worker.labels",
    "worker.leave_timeout",
    "worker.error_budget",
    "worker.error_share",
    "worker.event_secs",
    "worker.max_keys",
    "worker.checkpoint_store",
    "worker.checkpoint_interval",
    "worker.checkpoint_wait",
    "worker.checkpoint_required",
    "worker.checkpoint_replicas",
    "worker.checkpoint_max_bytes",
    "worker.api_key",
    "worker.api_key_file",
    "worker.coordinators",
    "worker.address",
    "worker.worker_key_file",
    "worker.tls_cert",
    "worker.tls_key",
    "worker.tls_ca",
    "worker.insecure",
)

COMMANDS: Final = (
    Command(
        "coordinator",
        "run one coordinator in the foreground",
        "cli.commands.nodes:coordinator",
        (*_COORDINATOR_KEYS, *_NODE_KEYS),
        shows=False,
    ),
    Command(
        "worker",
        "run one worker in the foreground",
        "cli.commands.nodes:worker",
        (*_WORKER_KEYS, *_NODE_KEYS),
        shows=False,
    ),
    Command(
        "demo-generator",
        "publish the demo's numbered trades",
        "cli.commands.nodes:demo_generator",
        NATS_KEYS,
        options=(
            Option("--rate", "trades a second", float, 200.0),
            Option("--count", "how many; 0: until stopped", int, 0),
        ),
        shows=False,
        hidden=True,
    ),
)
