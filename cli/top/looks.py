"""What one look at a cluster reads.

Raft is read first, from whichever coordinator answers, for it is known with or without a leader. While nobody
leads, the rest is read as that coordinator knows it: stale is better than nothing on a screen that says so.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cli.client import ClusterClient
from cli.commands.cluster import every
from cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Look:
    """Answers of the API. `at`: seconds of a monotonic clock; `leaders`: Raft as the leader sees it, who
    alone hears all the others, None where it does not say."""

    at: float
    summary: dict[str, Any]
    raft: dict[str, Any]
    leaders: dict[str, Any] | None
    workers: list[dict[str, Any]]
    groups: list[dict[str, Any]]


def look(client: ClusterClient) -> Look:
    """Read it all; raises as `ClusterClient.get` does."""
    raft = client.get("/raft")
    leaders = None
    if raft["leader_id"]:
        with suppress(CliError):
            leaders = client.get("/raft/leader")
    how = {} if raft["leader_id"] else {"consistency": "stale"}
    workers = every(client, "/workers", "workers", **how)
    at = time.monotonic()
    return Look(
        at=at,
        summary=client.get("/summary", **how),
        raft=raft,
        leaders=leaders,
        workers=workers,
        groups=every(client, "/pipeline-groups", "pipeline_groups", **how),
    )
