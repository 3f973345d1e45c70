"""Settings that contradict each other are refused at start, both named."""

from pathlib import Path
from typing import Any

import pytest

from coordinator.config import CoordinatorConfig
from transport.errors import ConfigError


def make(**changes: Any) -> CoordinatorConfig:
    base = {"node_id": "c0", "members": ("c0",), "cluster_id": "x", "data_dir": Path("/nowhere")}
    return CoordinatorConfig(**{**base, **changes})


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"http_host": "0.0.0.0"}, ["0.0.0.0", "insecure"]),
        ({"http_host": "example.org"}, ["example.org", "insecure"]),
        ({"http_host": "0.0.0.0", "admin_key_file": Path("/k")}, ["0.0.0.0", "TLS", "--tls-cert"]),
        ({"http_host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}, ["no keys", "--admin-key-file"]),
        ({"tls_cert": "c"}, ["tls_cert", "tls_key"]),
        ({"tls_key": "k"}, ["tls_key", "tls_cert"]),
        ({"tls_client_ca": "ca"}, ["tls_client_ca", "tls_cert"]),
        ({"rate_limit": -1.0}, ["rate_limit", "-1"]),
        ({"rate_burst": 0.0}, ["rate_burst", "0"]),
        ({"advertise_url": "c0:9100"}, ["advertise_url", "c0:9100"]),
        ({"http_port": 70_000}, ["http_port", "70000"]),
        ({"heartbeat_interval": 2.0}, ["heartbeat_timeout", "3.0", "2.0"]),
        ({"heartbeat_interval": 0.0}, ["heartbeat_interval", "0.0"]),
        ({"heartbeat_timeout": 601}, ["601"]),
        ({"nats_wait": -1}, ["nats_wait", "-1"]),
        ({"node_id": "a.b", "members": ("a.b",)}, ["a.b"]),
        ({"members": ("c1", "c2")}, ["c0", "c1"]),
        ({"prefix": "a..b"}, ["a..b"]),
        ({"election_timeout_min": 0.9}, ["0.9", "0.6"]),
        ({"cluster_id": "x y"}, ["x y"]),
    ],
)
def test_a_contradiction_names_what_contradicts(changes: dict[str, Any], texts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**changes)
    assert all(text in str(caught.value) for text in texts), caught.value


def test_a_coordinator_that_joins_is_not_among_the_members_it_listens_to() -> None:
    joining = make(members=("c1", "c2"), join=True)
    assert joining.raft.join and joining.raft.members == ("c1", "c2")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert make(http_host=host).http_host == host


def test_listening_beyond_this_machine_has_to_be_said() -> None:
    assert make(http_host="0.0.0.0", insecure=True).insecure


@pytest.mark.parametrize(
    "more",
    [
        {"admin_key_file": Path("/k"), "tls_cert": "c", "tls_key": "k"},
        {"require_keys": True, "tls_cert": "c", "tls_key": "k"},
        {"admin_key_file": Path("/k"), "insecure": True},
    ],
)
def test_keys_over_tls_need_no_permission_and_without_tls_it_has_to_be_said(more: dict[str, Any]) -> None:
    made = make(http_host="0.0.0.0", **more)
    assert made.keys_required and not made.is_local


def test_on_loopback_nobody_is_asked_for_a_key_unless_that_was_said() -> None:
    assert not make().keys_required
    assert make(require_keys=True).keys_required
    assert make(admin_key_file=Path("/k")).keys_required


def test_a_lease_is_over_before_the_pipelines_are_placed_elsewhere() -> None:
    for timeout in (0.5, 3.0, 600.0):
        made = make(heartbeat_interval=0.2, heartbeat_timeout=timeout)
        assert made.lease_secs < made.heartbeat_timeout
        assert made.lease_secs > made.heartbeat_interval
