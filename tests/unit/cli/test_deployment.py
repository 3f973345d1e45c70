"""`probe` asks whoever it stands beside; `checkpoints prepare` makes the bucket; `raft transfer --from`."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import main
from tests.support.certificates import Authority
from tests.support.cluster import varpulis
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port
from tests.unit.cli.stand_in import Coordinator, serving
from transport.config import NatsConfig
from transport.nats import NatsTransport


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Coordinator]:
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        yield server


def test_a_probe_is_the_exit_code_of_what_readyz_says(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", f"{coordinator.url}/readyz"]) == 0
    coordinator.status, coordinator.answer = 503, b"no majority"
    assert main(["probe", f"{coordinator.url}/readyz"]) == 1
    assert "503 no majority" in capsys.readouterr().err
    assert [path for _, path, _ in coordinator.asked] == ["/readyz", "/readyz"]


@pytest.mark.parametrize("role", ["coordinator", "worker"])
def test_without_a_url_it_asks_the_process_whose_settings_these_are(
    coordinator: Coordinator, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"VARPULIS_{role.upper()}_ID", "x-0")
    monkeypatch.setenv(f"VARPULIS_{role.upper()}_HTTP_HOST", "0.0.0.0")
    monkeypatch.setenv(f"VARPULIS_{role.upper()}_HTTP_PORT", str(coordinator.server_port))
    assert main(["probe"]) == main(["probe", "--live"]) == 0
    assert [path for _, path, _ in coordinator.asked] == ["/readyz", "/livez"]


def test_over_tls_it_trusts_the_authority_that_the_process_trusts_and_no_other(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the loopback address, which the certificate of a machine need not name."""
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair = authority.issue("coordinator-0", host="coordinator-0.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    coordinator.socket = context.wrap_socket(coordinator.socket, server_side=True)
    settings = {"ID": "c0", "HTTP_PORT": coordinator.server_port, "TLS_CERT": pair.cert, "TLS_KEY": pair.key}
    for name, value in settings.items():
        monkeypatch.setenv(f"VARPULIS_COORDINATOR_{name}", str(value))
    monkeypatch.setenv("VARPULIS_COORDINATOR_TLS_CA", str(authority.cert))
    assert main(["probe"]) == 0
    assert len(coordinator.asked) == 1
    monkeypatch.setenv("VARPULIS_COORDINATOR_TLS_CA", str(other.cert))
    assert main(["probe"]) == 1
    assert len(coordinator.asked) == 1


def test_nobody_there_is_exit_code_1_and_no_settings_are_wrong_usage(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["probe", f"http://127.0.0.1:{free_port()}/readyz"]) == 1
    assert "refused" in capsys.readouterr().err
    assert main(["probe"]) == 2
    assert "VARPULIS_WORKER_ID" in capsys.readouterr().err
    monkeypatch.setenv("VARPULIS_WORKER_ID", "w")
    assert main(["probe"]) == 2
    assert "listens anywhere" in capsys.readouterr().err
    assert main(["probe", "--within", "0"]) == 2
    assert main(["checkpoints", "prepare", "--replicas", "2"]) == 2


def test_leadership_is_given_away_only_by_whom_it_is_asked_of(
    coordinator: Coordinator, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a hook before a stop does, on each coordinator."""
    monkeypatch.setenv("VARPULIS_URL", coordinator.url)
    coordinator.answer = json.dumps({"leader_id": "c2"}).encode()
    assert main(["raft", "transfer", "--from", "c1"]) == 0
    assert "c2 leads: c1 has nothing to give away" in capsys.readouterr().out
    assert [method for method, *_ in coordinator.asked] == ["GET"]
    monkeypatch.setenv("VARPULIS_COORDINATOR_ID", "c2")
    assert main(["raft", "transfer", "--from", "."]) == 0
    assert coordinator.asked[1:] == [
        ("GET", "/summary", None),
        ("POST", "/raft/transfer?wait=30.0", {"to": None}),
    ]


async def test_the_bucket_is_made_once_jetstream_is_there_and_stays(tmp_path: Path) -> None:
    server = NatsServer(jetstream=True, port=free_port())
    asked = ("checkpoints", "prepare", "--max-bytes", "1000000", "--within", "20")

    def prepare() -> str:
        done = varpulis(*asked, cwd=tmp_path, env={"VARPULIS_NATS_URL": server.url})
        return done.stdout + done.stderr

    waiting = asyncio.create_task(asyncio.to_thread(prepare))
    await asyncio.sleep(0)
    try:
        server.start()
        assert await waiting == prepare() == "varpulis-checkpoints is there\n"
    finally:
        server.remove()


async def test_more_replicas_than_servers_are_an_error_that_says_so(
    tmp_path: Path,
) -> None:
    with NatsServer(jetstream=True) as server:
        done = varpulis(
            *("checkpoints", "prepare", "--replicas", "3", "--within", "0"),
            cwd=tmp_path,
            env={"VARPULIS_NATS_URL": server.url},
        )
        assert done.returncode == 1 and "give fewer" in done.stderr, done.stderr
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)))
        try:
            answer = await bus.request("$JS.API.STREAM.INFO.OBJ_varpulis-checkpoints", b"", timeout=5)
            assert b"not found" in answer
        finally:
            await bus.close()
