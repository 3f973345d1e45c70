"""The configurations of nats-server: each is taken, and lets in whom it says. Users and permissions process
by process are the affair of tests/integration/test_nats_permissions.py.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.up import nats_conf
from tests.deploy.credentials import DEPLOY
from tests.support.certificates import Authority
from tests.support.cluster import Cluster
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.coordinator.three import Three, group
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import NatsTransport
from transport.nats_binary import nats_server_binary
from worker.app import Worker, WorkerConfig

CONF = DEPLOY / "nats"
SERVERS = ("single.conf", "tls.conf", "cluster.conf")
LOGINS = ("users.conf", "password.conf", "token.conf", "accounts.conf")
SECRETS = {"VARPULIS_NATS_PASSWORD": "pw", "VARPULIS_NATS_TOKEN": "tk", "VARPULIS_NATS_SHOP": "sh"}


def old_server() -> Path | None:
    """Debian's nats-server, where it is installed."""
    for place in ("/usr/sbin/nats-server", "/usr/bin/nats-server"):
        if Path(place).is_file() and nats_conf.version_of(Path(place)) < (2, 10):
            return Path(place)
    return None


OLD = old_server()
needs_old = pytest.mark.skipif(
    OLD is None, reason="there is no nats-server 2.9 here: apt-get install nats-server"
)


def environment(tmp_path: Path) -> dict[str, str]:
    """Every variable that a file names."""
    named = re.findall(r"\$(VARPULIS_\w+)", "".join(path.read_text() for path in CONF.glob("*.conf")))
    pair = Authority(tmp_path).issue("server", client=True, server=True)
    known = {
        "VARPULIS_NATS_TLS_CERT": str(pair.cert),
        "VARPULIS_NATS_TLS_KEY": str(pair.key),
        "VARPULIS_NATS_TLS_CA": str(tmp_path / "ca.pem"),
        "VARPULIS_NATS_STORE": str(tmp_path / "store"),
        **SECRETS,
    }
    return {"PATH": os.environ["PATH"], **dict.fromkeys(named, "pw"), **known}


def taken(binary: Path, conf: Path, env: dict[str, str]) -> str:
    """What the server says of a configuration; "" when it takes it."""
    done = subprocess.run(
        [binary, "-t", "-c", conf], env=env, capture_output=True, text=True, timeout=20, check=False
    )
    return "" if done.returncode == 0 else done.stderr + done.stdout


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("server", SERVERS)
def test_each_way_to_log_in_goes_with_each_server(server: str, login: str, tmp_path: Path) -> None:
    own = tmp_path / "nats"
    shutil.copytree(CONF, own)
    conf = own / server
    text = conf.read_text()
    assert text.count("include ./users.conf") == 1
    conf.write_text(text.replace("include ./users.conf", f"include ./{login}"))
    assert taken(nats_server_binary(), conf, environment(tmp_path)) == ""


@needs_old
@pytest.mark.parametrize("login", LOGINS)
def test_a_server_of_2_9_takes_the_files_with_its_own_limits(login: str, tmp_path: Path) -> None:
    assert OLD is not None
    own = tmp_path / "nats"
    shutil.copytree(CONF, own)
    conf = own / "single.conf"
    text = conf.read_text().replace("include ./users.conf", f"include ./{login}")
    conf.write_text(text)
    assert "no_fast_producer_stall" in taken(OLD, conf, environment(tmp_path))
    conf.write_text(text.replace("include ./limits.conf", "include ./limits-2.9.conf"))
    assert taken(OLD, conf, environment(tmp_path)) == ""


@needs_old
@pytest.mark.processes
def test_a_server_of_2_9_carries_the_core(tmp_path: Path) -> None:
    """Raft, registration, commands, events between workers, and a failover."""
    cluster = Cluster(tmp_path, demo=True, env={"VARPULIS_UP_NATS_SERVER": str(OLD)})
    with cluster:
        serving = Path(f"/proc/{cluster.pid('nats')}/exe").resolve()
        assert serving == OLD
        first = cluster.leader()
        cluster.kill(first)
        assert cluster.leader() != first
        done = cluster.run("inject", "demo", "Trade", *_trade(), "--data-dir", str(cluster.data_dir))
        assert done.returncode == 0, done.stderr
        groups = cluster.run("groups", "--data-dir", str(cluster.data_dir)).stdout
        assert len(re.findall(r"(?:filter|stats) +running +worker-[01]", groups)) == 2, groups


def _trade() -> list[str]:
    return ["symbol=ACME", "price=10.5", "volume=1000", "seq=1"]


def included(*names: str) -> str:
    """These files as one text, their variables put in."""
    text = "\n".join((CONF / name).read_text() for name in names)
    secrets = {**SECRETS, "VARPULIS_NATS_SYSTEM": "sy"}
    return re.sub(r"\$(\w+)", lambda match: secrets[match[1]], text)


@pytest.mark.parametrize(
    ("login", "right", "wrong"),
    [
        ("password.conf", {"user": "varpulis", "password": "pw"}, {"user": "varpulis", "password": "x"}),
        ("token.conf", {"token": "tk"}, {"token": "x"}),
        ("accounts.conf", {"user": "varpulis", "password": "pw"}, {"user": "shop", "password": "pw"}),
    ],
)
async def test_who_has_the_secret_is_let_in_and_nobody_else(
    login: str, right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    with NatsServer(extra=included("limits.conf", login)) as server:
        nobody: dict[str, Any] = {}
        for given in (wrong, nobody):
            with pytest.raises(NatsTransportError) as refused:
                await NatsTransport.connect(NatsConfig(servers=(server.url,), **given))
            assert refused.value.kind is ErrorKind.UNAUTHORIZED
        transport = await NatsTransport.connect(NatsConfig(servers=(server.url,), **right))
        assert transport.connected
        await transport.close()


@pytest.fixture
def accounts() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True, extra=included("limits.conf", "accounts.conf")) as server:
        yield server


async def test_an_application_of_another_account_reaches_pipelines_by_its_exports_alone(
    accounts: NatsServer, tmp_path: Path
) -> None:
    def login(user: str, password: str) -> NatsConfig:
        return NatsConfig(servers=(accounts.url,), user=user, password=password, name=user)

    ours = login("varpulis", "pw")
    stage = Three(accounts.url, tmp_path)
    worker = Worker(WorkerConfig("w0", nats=ours, data_dir=tmp_path / "w0"))
    shop = await NatsTransport.connect(login("shop", "sh"))
    try:
        await stage.start("c0", nats=ours, members=("c0",))
        await stage.has_leader()
        await worker.start()
        await until(lambda: worker.health()["ready"], what="the worker is a member")
        program = (
            f'connector Bus = nats (servers: "{accounts.url}", user: "varpulis", password: "env:SHOP_TEST")\n'
            'stream Large = Order.from(Bus, topic: "events.shop.orders.>").where(total > 100)'
            '.emit(id: id).to(Bus, topic: "events.alerts.large")'
        )
        os.environ["SHOP_TEST"] = "pw"
        spec = group("g", "p")
        spec["pipelines"][0]["source"] = program
        made = await stage.ask("POST", "/pipeline-groups?wait=15", spec)
        assert made.status_code == 201, made.text
        alerts: list[bytes] = []
        everything: list[str] = []
        await shop.listen("events.alerts.>", lambda message: alerts.append(message.data))
        await shop.listen("varpulis.>", lambda message: everything.append(message.subject))
        await shop.flush()

        async def ordered() -> bool:
            order = {"event_type": "Order", "fields": {"id": 7, "total": 250}}
            await shop.publish("orders.eu", json.dumps(order).encode())
            return bool(alerts)

        await until(ordered, what="an alert on an order")
        assert b"7" in alerts[0]
        await shop.publish("varpulis.cluster.pipeline.g._external.p", b"{}")
        await shop.flush()
        await asyncio.sleep(0)
        assert everything == ["varpulis.cluster.pipeline.g._external.p"], "heartbeats are of another account"
    finally:
        os.environ.pop("SHOP_TEST", None)
        await shop.close()
        await worker.stop()
        await stage.http.aclose()
        for node_id in list(stage.nodes):
            await stage.stop(node_id)
