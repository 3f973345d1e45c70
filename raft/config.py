"""One frozen object for all knobs, each with unit, range and trade-off; contradictions fail with both values
named.

The times hang together: ``heartbeat_interval * 3 < election_timeout_min < election_timeout_max <= 10 s`` and
``heartbeat_interval * 3 < leader_fallback``. With the defaults a dead leader is replaced in 0.3-0.7 s, and a
leader cut off from the majority stops answering after 0.6 s.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from raft.errors import ConfigInvalid

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
LARGEST_COMMAND = 512 * 1024
MOST_MEMBERS = 9


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Settings of one node. Raises `ConfigInvalid` when two of them contradict each other."""

    node_id: str
    """This node, ``[A-Za-z0-9_-]{1,64}``; never used again for another machine."""
    members: tuple[str, ...]
    """All voting nodes of generation 1, this one included: 1 to 9, odd counts are best (4 tolerate no more
    failures than 3). Later generations keep theirs in `data_dir`. With `join`: whom to listen to.
    """
    cluster_id: str
    """Frames and files of another cluster are refused."""
    data_dir: Path
    """Journal, snapshot and lock. On a disk that survives the machine's crash."""
    prefix: str = "varpulis.cluster"
    """Subjects are ``{prefix}.raft.{node_id}.{rpc}``."""
    generation: int = 1
    """Which set of members this is; frames and files of another generation are refused."""
    join: bool = False
    """This node is new: it follows the `members`, without being one, until it is made one."""
    heartbeat_interval: float = 0.05
    """Seconds, 0.01-1. Shorter finds a dead leader sooner and costs ``2 * (members - 1) / interval``
    messages/s.
    """
    election_timeout_min: float = 0.3
    """Seconds; more than 3 heartbeats. Shorter replaces a leader sooner and mistakes a pause for a death more
    often.
    """
    election_timeout_max: float = 0.6
    """Seconds; the wider the range, the rarer a split vote. Double the minimum serves up to 9 members."""
    leader_fallback: float = 0.6
    """Seconds without a majority's answers after which a leader steps down. Longer survives longer pauses,
    and lets callers of a leader that was cut off wait longer.
    """
    snapshot_every_entries: int = 10_000
    """Entries in the journal that trigger a snapshot. More means longer replay at start and more memory."""
    retained_entries: int = 1_000
    """Entries kept behind a snapshot, so that a follower slightly behind catches up from the log; less than
    half of `snapshot_every_entries`.
    """
    snapshot_every_bytes: int = 64 * 1024 * 1024
    """Bytes of commands applied since the last snapshot that trigger another, from 4 KiB. The journal holds,
    in memory and on disk, at most about ``2 * snapshot_every_bytes + retained_bytes`` (twice, as a snapshot
    waits for its turn, or for one that is being sent) and what is not committed yet. More means a longer
    replay at start.
    """
    retained_bytes: int = 8 * 1024 * 1024
    """Bytes of commands kept behind a snapshot: as many of the `retained_entries` as fit; less than half of
    `snapshot_every_bytes`.
    """
    max_command_bytes: int = LARGEST_COMMAND
    """Bytes, up to 512 KiB: one frame must stay below NATS's default payload limit of 1 MiB."""
    max_snapshot_bytes: int = 256 * 1024 * 1024
    """Bytes a follower takes for one snapshot, on disk and then in memory; it declines a larger one."""

    peers: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The other members; follows from `members`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "peers", tuple(name for name in self.members if name != self.node_id))
        for what, name in (
            ("node_id", self.node_id),
            ("cluster_id", self.cluster_id),
            *(("members", m) for m in self.members),
        ):
            if not _NAME.fullmatch(name):
                raise ConfigInvalid(
                    f"{what} {name!r} cannot be part of a subject. Use 1-64 of the characters A-Za-z0-9_-"
                )
        if not _PREFIX.fullmatch(self.prefix):
            raise ConfigInvalid(
                f"prefix {self.prefix!r} is no subject. Use tokens of A-Za-z0-9_- joined by dots"
            )
        if self.node_id not in self.members and not self.join:
            raise ConfigInvalid(
                f"node_id {self.node_id!r} is not among members {self.members}. Add it, or correct the id"
            )
        if len(set(self.members)) != len(self.members) or len(self.members) > MOST_MEMBERS:
            raise ConfigInvalid(
                f"members {self.members} must be 1 to {MOST_MEMBERS} different ids. Remove the surplus"
            )
        self._require(0.01 <= self.heartbeat_interval <= 1, "heartbeat_interval", "0.01..1 s")
        self._require(
            self.heartbeat_interval * 3 < self.election_timeout_min,
            "election_timeout_min",
            f"more than 3 * heartbeat_interval={self.heartbeat_interval}",
        )
        self._require(
            self.election_timeout_min < self.election_timeout_max <= 10,
            "election_timeout_max",
            f"above election_timeout_min={self.election_timeout_min}, at most 10 s",
        )
        self._require(
            self.heartbeat_interval * 3 < self.leader_fallback <= 60,
            "leader_fallback",
            f"more than 3 * heartbeat_interval={self.heartbeat_interval}, at most 60 s",
        )
        self._require(self.snapshot_every_entries >= 10, "snapshot_every_entries", "at least 10")
        self._require(
            0 <= self.retained_entries * 2 < self.snapshot_every_entries,
            "retained_entries",
            f"less than half of snapshot_every_entries={self.snapshot_every_entries}",
        )
        self._require(2**12 <= self.snapshot_every_bytes < 2**40, "snapshot_every_bytes", "4 KiB..1 TiB")
        self._require(
            0 <= self.retained_bytes * 2 < self.snapshot_every_bytes,
            "retained_bytes",
            f"less than half of snapshot_every_bytes={self.snapshot_every_bytes}",
        )
        self._require(
            1 <= self.max_command_bytes <= LARGEST_COMMAND, "max_command_bytes", f"1..{LARGEST_COMMAND}"
        )
        self._require(0 <= self.generation < 2**31, "generation", "0..2^31-1")
        self._require(1024 <= self.max_snapshot_bytes < 2**32, "max_snapshot_bytes", "1 KiB..4 GiB")

    def _require(self, holds: bool, knob: str, rule: str) -> None:
        if not holds:
            raise ConfigInvalid(f"{knob}={getattr(self, knob)} must be {rule}. Correct one of the two")

    def subject(self, node_id: str, rpc: str) -> str:
        """Where `node_id` listens for requests of kind `rpc`."""
        return f"{self.prefix}.raft.{node_id}.{rpc}"
