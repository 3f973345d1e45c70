"""A worker's configuration: contradictions are refused at once, secrets never shown."""

from pathlib import Path
from typing import Any

import pytest

from transport.config import ConfigError
from worker.config import WorkerConfig, read_key


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_id": "a.b"},
        {"worker_id": ""},
        {"prefix": "a b"},
        {"max_pipelines": 0},
        {"max_pipelines": 1001},
        {"http_port": -1},
        {"http_port": 70000},
        {"cpu_cores": 0},
        {"checkpoint_store": "/a/path/alone"},
        {"checkpoint_store": "dir:"},
        {"checkpoint_interval": 0.1},
        {"checkpoint_wait": -1},
        {"checkpoint_replicas": 2},
        {"checkpoint_max_bytes": -1},
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong)).replace("_", ".")):
        WorkerConfig(**({"worker_id": "w"} | wrong))


def test_the_api_key_is_not_shown() -> None:
    assert "hunter2" not in repr(WorkerConfig("w", api_key="hunter2"))


REST: dict[str, Any] = {"coordinators": ("http://127.0.0.1:9100",)}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"coordinators": ("127.0.0.1:9100",)}, "coordinators"),
        ({"coordinators": ("http://10.0.0.1:9100",)}, "coordinators.*in the clear"),
        ({"coordinators": ("http://me:hunter2@127.0.0.1:9100",)}, "coordinators.*credentials"),
        (REST | {"address": "me"}, "address"),
        (REST | {"address": "http://10.0.0.2:9000"}, "address.*in the clear"),
        (REST | {"http_host": "0.0.0.0", "tls_cert": "c", "tls_key": "k"}, "http_host.*address"),
        (REST | {"http_host": "10.0.0.2"}, "http_host.*without TLS"),
        (REST | {"api_key": "hunter2\nx: y"}, "api_key"),
        (REST | {"api_key": "hunter2ü"}, "api_key"),
        ({"tls_cert": "c"}, "tls_cert.*without tls_key"),
        ({"tls_ca": "/nowhere/ca.pem"}, "tls_ca.*nowhere"),
        ({"address": "http://127.0.0.1:1"}, "address.*coordinators"),
        ({"worker_key_file": Path("k")}, "worker_key_file.*coordinators"),
    ],
)
def test_what_would_let_a_key_out_or_leads_nowhere_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text) as refusal:
        WorkerConfig("w", **wrong)
    assert "hunter2" not in str(refusal.value)


def test_keys_may_travel_in_the_clear_only_where_that_is_said() -> None:
    far: dict[str, Any] = {
        "coordinators": ("http://10.0.0.1:9100",),
        "http_host": "10.0.0.2",
        "address": "http://w:9000",
    }
    WorkerConfig("w", insecure=True, **far)
    WorkerConfig("w", **REST)


def test_a_worker_without_nats_keeps_no_checkpoints_in_jetstream() -> None:
    with pytest.raises(ConfigError, match="checkpoint_store is jetstream with coordinators"):
        WorkerConfig("w", checkpoint_store="jetstream", **REST)


def test_checkpoints_lie_where_it_is_said_and_else_below_the_data_directory() -> None:
    assert WorkerConfig("w", data_dir=Path("d")).checkpoint_directory == Path("d/checkpoints")
    assert WorkerConfig("w", checkpoint_store="dir:/shared").checkpoint_directory == Path("/shared")
    assert WorkerConfig("w", checkpoint_store="jetstream").checkpoint_directory is None


def test_a_coordinator_named_twice_is_asked_once() -> None:
    twice = WorkerConfig("w", coordinators=("https://a", "https://a:443/", "https://b:1"))
    assert twice.coordinator_urls == ("https://a:443", "https://b:1")


def test_a_key_file_holds_one_key(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("  0123456789abcdef\n")
    assert read_key(file) == "0123456789abcdef"
    for text in (
        "",
        "short",
        "0123456789abcdef 0123456789abcdef",
        "k" * 513,
        "0123456789abcdef\nsecond line",
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match="worker_key_file"):
            read_key(file)
    with pytest.raises(ConfigError, match=r"worker_key_file.*No such file"):
        read_key(tmp_path / "missing")
