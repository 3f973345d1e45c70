"""NATS subjects of one cluster, built from checked parts.

A subject is a routing rule: an id with a dot would reach somebody else's subscription and one with `*` or
`>` everybody's. So every id that enters a subject must match `[A-Za-z0-9_-]{1,64}`; anything else is refused
here, at the only door, with a `ValueError` that names the offending value and the rule.
"""

import re
from typing import Annotated, Final

import msgspec

DEFAULT_PREFIX: Final = "varpulis.cluster"
EXTERNAL: Final = "_external"
"""The `{from}` of events that enter a group from outside, and the `{to}` of those that leave a group whose
events are in a stream."""
RELAYED: Final = "_relayed"
"""The `{from}` of events that one instance of a pipeline passes on to another."""

ID_LENGTH: Final = 64
ID_PATTERN: Final = r"\A[A-Za-z0-9_-]{1,64}\Z"
_ID = re.compile(ID_PATTERN)
_PREFIX = re.compile(r"\A[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,7}\Z")
_SUBJECT = re.compile(r"\A[^\s.*>]+(\.[^\s.*>]+)*\Z")

Id = Annotated[str, msgspec.Meta(pattern=ID_PATTERN, description="letters, digits, '_' and '-', 1 to 64")]


def check_id(value: str, what: str = "id") -> str:
    """Return `value` when it may enter a subject.

    Raises:
        ValueError: it may not; the text names the value and the rule.
    """
    if not _ID.match(value):
        raise ValueError(f"{what} {value[:80]!r} is not valid: use 1 to 64 letters, digits, '_' or '-'")
    return value


def check_publishable(subject: str, what: str = "subject") -> str:
    """Return `subject` when one may publish on it: up to 255 characters, no wildcard, no empty token."""
    if len(subject) > 255 or not _SUBJECT.match(subject):
        raise ValueError(
            f"{what} {subject[:80]!r} is not valid: tokens joined by dots, no spaces, no '*' or '>'"
        )
    return subject


class Subjects:
    """Every subject of the cluster that lives under `prefix`."""

    __slots__ = ("prefix",)

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        if not _PREFIX.match(prefix):
            raise ValueError(f"subject prefix {prefix[:80]!r} is not valid: up to 8 ids joined by dots")
        self.prefix = prefix

    @property
    def register(self) -> str:
        """Worker -> coordinators, request; one of them answers (queue group)."""
        return f"{self.prefix}.register"

    @property
    def heartbeats(self) -> str:
        """What every coordinator subscribes to hear all workers."""
        return f"{self.prefix}.heartbeat.>"

    @property
    def heartbeat_prefix(self) -> str:
        """What all heartbeats' subjects begin with; the worker's id follows."""
        return f"{self.prefix}.heartbeat."

    def heartbeat(self, worker_id: str) -> str:
        """Worker -> every coordinator."""
        return f"{self.prefix}.heartbeat.{check_id(worker_id, 'worker id')}"

    @property
    def relays(self) -> str:
        """What every coordinator subscribes to hear, from the leader, of workers without NATS."""
        return f"{self.prefix}.relay.>"

    @property
    def relay_prefix(self) -> str:
        """What the subjects of relayed heartbeats begin with; the worker's id follows."""
        return f"{self.prefix}.relay."

    def relay(self, worker_id: str) -> str:
        """Leader -> every coordinator: the heartbeat of a worker without NATS."""
        return f"{self.prefix}.relay.{check_id(worker_id, 'worker id')}"

    def command(self, worker_id: str, command: str) -> str:
        """Leader -> worker, request."""
        return f"{self.prefix}.cmd.{check_id(worker_id, 'worker id')}.{check_id(command, 'command')}"

    def commands(self, worker_id: str) -> str:
        """What a worker subscribes to hear all its commands."""
        return f"{self.prefix}.cmd.{check_id(worker_id, 'worker id')}.>"

    def pipeline(self, group: str, from_pipeline: str, to_pipeline: str) -> str:
        """Events from one pipeline of a group to another; from outside with `EXTERNAL` as `from_pipeline`."""
        return (
            f"{self.prefix}.pipeline.{check_id(group, 'group')}"
            f".{check_id(from_pipeline, 'pipeline')}.{check_id(to_pipeline, 'pipeline')}"
        )

    def pipeline_inputs(self, group: str, to_pipeline: str) -> str:
        """What a pipeline subscribes to hear its inputs, whoever sends them."""
        return f"{self.prefix}.pipeline.{check_id(group, 'group')}.*.{check_id(to_pipeline, 'pipeline')}"

    def progress(self, group: str, instance: str) -> str:
        """Where a copy notes which outputs it has stored: see `worker.delivery`."""
        return f"{self.prefix}.progress.{check_id(group, 'group')}.{check_id(instance, 'pipeline')}"

    def stream(self, group: str) -> str:
        """The JetStream stream of a group that has one; `=` is in no id, so no two groups share a name."""
        return f"{self.prefix.replace('.', '=')}={check_id(group, 'group')}"

    def stream_subjects(self, group: str) -> list[str]:
        """What that stream captures, but for subjects of the routes' own."""
        check_id(group, "group")
        return [f"{self.prefix}.pipeline.{group}.>", f"{self.prefix}.progress.{group}.*"]

    def raft(self, node_id: str, rpc: str) -> str:
        """Node -> node, request."""
        return f"{self.prefix}.raft.{check_id(node_id, 'node id')}.{check_id(rpc, 'rpc')}"

    def raft_inbox(self, node_id: str) -> str:
        """What a node subscribes to hear all its RPCs."""
        return f"{self.prefix}.raft.{check_id(node_id, 'node id')}.>"


def last_token(subject: str) -> str:
    """The token after the last dot: the worker of a heartbeat, the command of a command subject."""
    return subject.rpartition(".")[2]
