"""Contradictions fail at start, with both values and a remedy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raft.config import RaftConfig
from raft.errors import ConfigInvalid

CONFIG = RaftConfig("n1", ("n1", "n2", "n3"), "cluster", Path("unused"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"node_id": "n1.x"}, ["node_id", "n1.x"]),
        ({"node_id": "n9"}, ["n9", "members"]),
        ({"members": ("n1", "n1")}, ["different"]),
        ({"prefix": "a b"}, ["prefix", "a b"]),
        ({"heartbeat_interval": 0.2}, ["election_timeout_min=0.3", "heartbeat_interval=0.2"]),
        ({"election_timeout_max": 0.2}, ["election_timeout_max=0.2", "election_timeout_min=0.3"]),
        ({"leader_fallback": 0.1}, ["leader_fallback=0.1", "heartbeat_interval=0.05"]),
        ({"retained_entries": 9_000}, ["retained_entries=9000", "snapshot_every_entries=10000"]),
        ({"retained_bytes": 40_000_000}, ["retained_bytes=40000000", "snapshot_every_bytes=67108864"]),
        ({"snapshot_every_bytes": 4_095}, ["snapshot_every_bytes=4095", "4 KiB"]),
        ({"max_command_bytes": 2**20}, ["max_command_bytes=1048576"]),
    ],
)
def test_a_contradiction_names_both_values(change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigInvalid) as error:
        replace(CONFIG, **change)
    for word in words:
        assert word in str(error.value)


def test_subjects_are_built_from_prefix_node_and_rpc() -> None:
    assert CONFIG.subject("n2", "append") == "varpulis.cluster.raft.n2.append"
    assert CONFIG.peers == ("n2", "n3")
