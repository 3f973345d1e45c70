"""A pipeline's own NATS, by every way to log in: events come from it and go to it, a wrong login is refused
with its cause, nothing of a secret is told, and health follows the connection.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.certificates import Authority
from tests.support.nats_accounts import Operator, user_seed
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.unit.worker.support import bare_client, command, coordinated, running
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport

PROGRAM: Final = (
    'stream Ins = In.from(Bus, topic: "in")\nstream Out = Ins.where(n > 0).emit(n: n).to(Bus, topic: "out")\n'
)


@dataclass
class Guarded:
    """How a server is started, what opens it, what does not, and what must not be seen of that."""

    server: dict[str, Any]
    right: dict[str, Any]
    wrong: dict[str, Any]
    secrets: list[str] = field(default_factory=list)


def password(_: Path) -> Guarded:
    own = {"user": "ann", "password": "canary-right"}
    return Guarded(own, own, {"user": "ann", "password": "canary-wrong"}, ["canary-right", "canary-wrong"])


def token(_: Path) -> Guarded:
    own = {"token": "canary-right"}
    return Guarded(own, own, {"token": "canary-wrong"}, ["canary-right", "canary-wrong"])


def nkey(_: Path) -> Guarded:
    seed, public = user_seed()
    other, _public = user_seed()
    config = {"extra": f"authorization: {{ users: [{{ nkey: {public} }}] }}"}
    return Guarded(config, {"nkey_seed": seed}, {"nkey_seed": other}, [seed, other])


def nkey_file(place: Path) -> Guarded:
    guarded = nkey(place)
    for name, params in (("right", guarded.right), ("wrong", guarded.wrong)):
        (place / name).write_text(params["nkey_seed"] + "\n")
        params["nkey_seed"] = str(place / name)
    return guarded


def creds(place: Path) -> Guarded:
    ours, strangers = Operator(), Operator()
    seeds = [ours.user(place / "right.creds"), strangers.user(place / "wrong.creds")]
    right, wrong = ({"creds": str(place / f"{name}.creds")} for name in ("right", "wrong"))
    return Guarded({"extra": ours.server_config}, right, wrong, seeds)


def tls(place: Path) -> Guarded:
    ours, other = Authority(place), Authority(place, "other")
    pair = ours.issue("server")
    server = {"tls_cert": pair.cert, "tls_key": pair.key}
    return Guarded(server, {"tls_ca": str(ours.cert)}, {"tls_ca": str(other.cert)})


def client_certificate(place: Path) -> Guarded:
    ours, other = Authority(place), Authority(place, "other")
    pair, client, stranger = (
        ours.issue("server"),
        ours.issue("client", client=True),
        other.issue("stranger", client=True),
    )
    server = {"tls_cert": pair.cert, "tls_key": pair.key, "tls_ca": ours.cert, "verify": True}
    right, wrong = (
        {"tls_ca": str(ours.cert), "tls_cert": str(who.cert), "tls_key": str(who.key)}
        for who in (client, stranger)
    )
    return Guarded(server, right, wrong)


LOGINS: Final = (password, token, nkey, nkey_file, creds, tls, client_certificate)


def wanted(name: str, url: str, login: dict[str, Any]) -> dict[str, Any]:
    bus = {"name": "Bus", "connector_type": "nats", "params": {"servers": url, **login}}
    return {"name": name, "source": PROGRAM, "connectors": [bus]}


async def metrics(url: str) -> str:
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{url}/metrics")).text


@pytest.mark.parametrize("login", LOGINS, ids=lambda login: login.__name__)
async def test_events_come_from_and_go_to_a_server_that_asks_who_is_there(
    nats_server: NatsServer,
    tmp_path: Path,
    login: Callable[[Path], Guarded],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    guarded = login(tmp_path)
    with NatsServer(**guarded.server) as server:
        async with running(nats_server, tmp_path) as worker, bare_client(nats_server) as client:
            refused = await command(client, "deploy", wanted("p", server.url, guarded.wrong))
            assert "Bus" in refused["error"] and f":{server.port}" in refused["error"], refused
            answer = await command(client, "deploy", wanted("p", server.url, guarded.right))
            assert answer.get("status") == "running", answer

            heard: list[bytes] = []

            async def hear(message: Message) -> None:
                heard.append(message.data)

            outside = NatsConfig.from_params({"servers": server.url, **guarded.right})
            bus = await NatsTransport.connect(outside, wait=5)
            await bus.subscribe("out", hear)
            await bus.publish("in", b'{"event_type": "In", "n": 7}')
            await bus.flush()
            await until(lambda: heard, what="the output")
            await bus.close()
            shown = await metrics(worker.url)
            status = await command(client, "status", {"pipeline_id": answer["id"]})
    assert b'"n":7' in heard[0] and len(heard) == 1
    said = f"{refused} {answer} {status} {shown} {caplog.text}"
    assert not [secret for secret in guarded.secrets if secret in said]


async def test_health_follows_the_connection_in_heartbeats_and_metrics_and_drops_are_counted(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    def health() -> dict[str, Any]:
        told = by.heartbeats[-1].get("pipeline_metrics") if by.heartbeats else None
        return dict(told[0]["connector_health"][0]) if told else {}

    with NatsServer(token="canary") as server:
        async with (
            bare_client(nats_server) as client,
            coordinated(nats_server) as by,
            running(nats_server, tmp_path) as worker,
        ):
            params = {"token": "canary", "ping_interval": 0.2}
            answer = await command(client, "deploy", wanted("p", server.url, params))
            await until(lambda: health().get("connected"), what="a heartbeat that says connected")
            assert 'varpulis_connectors{state="connected",type="nats"} 1.0' in await metrics(worker.url)
            server.kill()
            await until(lambda: health().get("connected") is False, what="a heartbeat that says it is away")
            assert f":{server.port}" in health()["last_error"] and "canary" not in str(by.heartbeats)
            assert 'varpulis_connectors{state="disconnected",type="nats"} 1.0' in await metrics(worker.url)
            event = {"pipeline_id": answer["id"], "event_type": "In", "fields": {"n": 1}}
            await command(client, "inject", event)
            assert 'varpulis_dropped_total{reason="disconnected"} 1.0' in await metrics(worker.url)
            server.restart()
            await until(lambda: health()["connected"], what="a heartbeat that says it is back")
            assert "last_error" not in health()
            assert 'varpulis_connectors{state="connected",type="nats"} 1.0' in await metrics(worker.url)
            await command(client, "inject", event)
            assert 'varpulis_dropped_total{reason="disconnected"} 1.0' in await metrics(worker.url)
