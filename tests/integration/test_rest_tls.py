"""REST over TLS with real certificates: clients, the way from follower to leader, the command line."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.client import ClusterClient
from cli.errors import CliError
from coordinator.security import keys
from tests.support.certificates import Authority, Pair
from tests.support.nats_server import NatsServer
from tests.unit.coordinator.three import Three, three
from transport.errors import ConfigError
from transport.tls import client_context

ADMIN = keys.new_key()


@dataclass
class Place:
    """A cluster that asks for certificates, and files to come with."""

    stage: Three
    ca: Authority
    client: Pair

    def context(self, client: Pair | None = None, ca: Authority | None = None) -> ssl.SSLContext:
        shown = {"cert": str(client.cert), "key": str(client.key)} if client else {}
        return client_context(ca=str((ca or self.ca).cert), **shown)


@pytest.fixture
async def place(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Place]:
    ca = Authority(tmp_path)
    node, client = ca.issue("node", client=True, server=True), ca.issue("client", client=True)
    (tmp_path / "admin").write_text(ADMIN.text)
    trusted = client_context(ca=str(ca.cert), cert=str(client.cert), key=str(client.key))
    files = {
        "tls_cert": str(node.cert),
        "tls_key": str(node.key),
        "tls_ca": str(ca.cert),
        "tls_client_ca": str(ca.cert),
        "admin_key_file": tmp_path / "admin",
    }
    async with three(nats_server.url, tmp_path, key=ADMIN.text, verify=trusted, **files) as stage:
        yield Place(stage, ca, client)


async def test_a_follower_passes_a_request_on_over_tls(place: Place) -> None:
    stage = place.stage
    assert all(node.url.startswith("https://") for node in stage.nodes.values())
    for node in stage.nodes.values():
        made = await stage.ask("POST", "/keys", {"role": "viewer"}, node=node)
        assert made.status_code == 201, made.text
        assert (await stage.ask("GET", "/keys", node=node)).json()["total"] >= 2


async def test_who_shows_no_certificate_or_one_of_another_authority_is_not_let_in(
    place: Place, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    url = place.stage.leader.url + "/livez"
    for client in (None, other.issue("stranger", client=True)):
        async with httpx.AsyncClient(verify=place.context(client), trust_env=False) as http:
            with pytest.raises(httpx.HTTPError):
                await http.get(url)
    async with httpx.AsyncClient(verify=place.context(place.client), trust_env=False) as http:
        assert (await http.get(url)).status_code == 200
        assert (await http.get(place.stage.leader.url + "/api/v1/cluster/keys")).status_code == 401
        with pytest.raises(httpx.HTTPError):
            await http.get(url.replace("https://", "http://"))
    async with httpx.AsyncClient(verify=place.context(place.client, other), trust_env=False) as http:
        with pytest.raises(httpx.ConnectError, match="verify"):
            await http.get(url)


async def test_the_command_line_asks_over_tls_and_says_what_is_missing(place: Place, tmp_path: Path) -> None:
    urls = [node.url for node in place.stage.nodes.values()]

    def ask(context: ssl.SSLContext, timeout: float = 10) -> int:
        with ClusterClient(urls, timeout=timeout, key=ADMIN.text, tls=context) as client:
            total: int = client.get("/keys")["total"]
            return total

    assert await asyncio.to_thread(ask, place.context(place.client)) == 1
    stranger = Authority(tmp_path, "other")
    with pytest.raises(CliError, match=r"no TLS with .*--tls-ca"):
        await asyncio.to_thread(ask, place.context(place.client, stranger))
    with pytest.raises(CliError, match=r"--tls-cert"):
        await asyncio.to_thread(ask, place.context(), timeout=1)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    one, two = ca.issue("one"), ca.issue("two")
    with pytest.raises(ConfigError, match=r"tls_ca .*none\.pem.*readable PEM"):
        client_context(ca=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"tls_cert .*one\.pem with tls_key .*two-key\.pem"):
        client_context(cert=str(one.cert), key=str(two.key))
