"""Who may connect: users, tokens, keys and certificates, right and wrong, against real servers."""

from pathlib import Path

import nkeys  # type: ignore[import-untyped]
import pytest

from tests.support.certificates import Authority
from tests.support.nats_server import NatsServer
from transport.config import NatsConfig
from transport.errors import ConfigError, ErrorKind, NatsTransportError
from transport.nats import NatsTransport


async def can_connect(server: NatsServer, **settings: object) -> bool:
    params = {"servers": server.url, **settings}
    bus = await NatsTransport.connect(NatsConfig.from_params(params), wait=5)
    await bus.flush()
    await bus.close()
    return True


async def refusal(server: NatsServer, **settings: object) -> str:
    with pytest.raises(NatsTransportError) as caught:
        await can_connect(server, **settings)
    assert caught.value.kind is ErrorKind.UNAUTHORIZED
    assert not caught.value.retryable
    return str(caught.value)


async def test_a_user_with_the_right_password_may_connect_and_others_may_not() -> None:
    with NatsServer(user="ann", password="s3cret/@:%") as server:
        assert await can_connect(server, user="ann", password="s3cret/@:%")
        assert await can_connect(server, servers=server.url.replace("//", "//ann:s3cret%2F%40%3A%25@"))
        for wrong in (
            {"user": "ann", "password": "wr0ng"},
            {"user": "bob", "password": "wr0ng"},
            {"token": "wr0ng"},
            {},
        ):
            text = await refusal(server, **wrong)
            assert server.url in text
            assert "wr0ng" not in text


async def test_a_token_opens_and_a_wrong_one_does_not() -> None:
    with NatsServer(token="t0ken") as server:
        assert await can_connect(server, token="t0ken")
        assert await can_connect(server, servers=server.url.replace("//", "//t0ken@"))
        assert "wr0ng" not in await refusal(server, token="wr0ng")


async def test_a_key_signs_in_and_a_stranger_key_does_not(tmp_path: Path) -> None:
    ours, strangers = _seed(1), _seed(2)
    public = nkeys.from_seed(bytearray(ours.encode())).public_key.decode()
    (tmp_path / "seed").write_text(ours + "\n")
    with NatsServer(extra=f"authorization: {{ users: [{{ nkey: {public} }}] }}") as server:
        assert await can_connect(server, nkey_seed=ours)
        assert await can_connect(server, nkey_seed=str(tmp_path / "seed"))
        assert await can_connect(server, nkey_seed=f"file:{tmp_path / 'seed'}")
        assert strangers not in await refusal(server, nkey_seed=strangers)


async def test_tls_trusts_its_authority_and_nobody_else(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair = ca.issue("server")
    with NatsServer(tls_cert=pair.cert, tls_key=pair.key) as server:
        assert await can_connect(server, tls_ca=str(ca.cert))
        assert await can_connect(server, tls_ca=str(ca.cert), servers=f"nats://127.0.0.1:{server.port}")
        assert "certificate" in await refusal(server, tls_ca=str(other.cert))
        assert "certificate" in await refusal(server)


async def test_tls_checks_the_name_in_the_certificate(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    pair = ca.issue("server", host="nats.example")
    with NatsServer(tls_cert=pair.cert, tls_key=pair.key) as server:
        assert "localhost" in await refusal(server, tls_ca=str(ca.cert))
        assert await can_connect(server, tls_ca=str(ca.cert), tls_hostname="nats.example")


async def test_a_server_that_asks_for_a_client_certificate_gets_one_or_refuses(tmp_path: Path) -> None:
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    pair, client, stranger = (
        ca.issue("server"),
        ca.issue("client", client=True),
        other.issue("stranger", client=True),
    )
    with NatsServer(tls_cert=pair.cert, tls_key=pair.key, tls_ca=ca.cert, verify=True) as server:
        trusted = {"tls_ca": str(ca.cert)}
        assert await can_connect(server, **trusted, tls_cert=str(client.cert), tls_key=str(client.key))
        await refusal(server, **trusted)
        await refusal(server, **trusted, tls_cert=str(stranger.cert), tls_key=str(stranger.key))


async def test_a_secret_is_not_told_to_a_server_without_the_tls_that_was_asked_for(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    with NatsServer(user="ann", password="secret") as server:
        text = await refusal(server, user="ann", password="secret", tls_ca=str(ca.cert))
        assert "secure connection not available" in text
        assert "authorization violation" not in server.log.lower()


async def test_tls_survives_a_restart_and_a_frozen_server(tmp_path: Path) -> None:
    from tests.support.poll import until

    ca = Authority(tmp_path)
    pair = ca.issue("server")
    with NatsServer(tls_cert=pair.cert, tls_key=pair.key) as server:
        config = NatsConfig(
            servers=(server.url,), tls_ca=str(ca.cert), ping_interval=0.2, connect_timeout=0.5
        )
        bus = await NatsTransport.connect(config, wait=5)
        server.restart()
        await until(lambda: bus.connected and bus.stats.reconnects == 1)
        server.pause()
        with pytest.raises(NatsTransportError):
            while True:
                await bus.publish("filler", bytes(60_000))
        await until(lambda: not bus.connected)
        server.resume()
        await until(lambda: bus.connected, timeout=20)
        await bus.close()


async def test_files_that_cannot_be_used_are_named_before_anything_is_sent(tmp_path: Path) -> None:
    ca = Authority(tmp_path)
    pair, other = ca.issue("one"), ca.issue("two")
    junk = tmp_path / "junk"
    junk.write_text("not a certificate")
    cases: list[tuple[dict[str, str], str]] = [
        ({"tls_ca": str(tmp_path / "missing")}, "tls_ca"),
        ({"tls_ca": str(junk)}, "tls_ca"),
        ({"tls_cert": str(pair.cert), "tls_key": str(other.key)}, "tls_key"),
        ({"creds": str(junk)}, "creds"),
        ({"creds": str(tmp_path / "missing")}, "creds"),
        ({"nkey_seed": str(junk)}, "nkey_seed"),
    ]
    for settings, named in cases:
        with pytest.raises(ConfigError, match=named):
            await NatsTransport.connect(NatsConfig.from_params(settings))


def _seed(number: int) -> str:
    return bytes(nkeys.encode_seed(bytes([number]) * 32, nkeys.PREFIX_BYTE_USER)).decode()
