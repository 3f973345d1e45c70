"""One coordinator as `varpulis coordinator` runs it, but for snapshots in quick succession.

With the product's settings a minute of this load is far from the first snapshot. Here one is written every
few seconds, and little stays behind it, so that a follower that was away for two seconds gets the snapshot
instead of the log, and kills fall into compactions.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Final

from coordinator.app import serve
from coordinator.config import CoordinatorConfig
from raft.config import RaftConfig
from transport.config import NatsConfig
from transport.loop import run

SNAPSHOT_EVERY: Final = 200
"""Entries; about four seconds of the usual load."""
RETAINED: Final = 40


class Config(CoordinatorConfig):
    """A coordinator that writes snapshots often."""

    @property
    def raft(self) -> RaftConfig:
        usual = super().raft
        return dataclasses.replace(usual, snapshot_every_entries=SNAPSHOT_EVERY, retained_entries=RETAINED)


def main() -> int:
    parser = argparse.ArgumentParser()
    for name in ("id", "nats", "http-port", "data-dir", "members", "cluster-id"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--join", action="store_true")
    given = parser.parse_args()
    config = Config(
        node_id=given.id,
        members=tuple(given.members.split(",")),
        join=given.join,
        cluster_id=given.cluster_id,
        nats=NatsConfig(servers=(given.nats,), name=given.id),
        http_port=int(given.http_port),
        data_dir=Path(given.data_dir),
    )
    return run(serve(config))


if __name__ == "__main__":
    sys.exit(main())
