"""How much the state may hold: what would go beyond is refused, so that a snapshot stays bounded."""

from typing import Final, TypeVar

T = TypeVar("T")

MAX_WORKERS: Final = 10_000
MAX_GROUPS: Final = 10_000
MAX_REMEMBERED: Final = 10_000
MAX_AUDIT: Final = 1_000
MAX_STRAYS: Final = 10_000
MAX_COPY: Final = 128 * 1024 * 1024
"""Bytes of a copy that is restored: half of `RaftConfig.max_snapshot_bytes`, because a snapshot that is taken
meanwhile holds the parts beside the state."""
MAX_CONNECTORS: Final = 1_000
MAX_JOBS: Final = 1_000
"""Migrations that ended, and likewise drains, that are remembered."""
MAX_KEYS: Final = 10_000
MAX_FOREIGN_EPOCH: Final = 2**53
"""An epoch above this, told by a worker, is nonsense: taken over, it would use the counter up."""


def keep(ended: dict[str, T], job_id: str, job: T) -> None:
    """The newest `MAX_JOBS` of those that ended, oldest first."""
    ended[job_id] = job
    if len(ended) > MAX_JOBS:
        del ended[next(iter(ended))]
