"""HTTP as a carrier of requests: each way to fail is the kind that NATS would give; what a base URL is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from proto_schemas.errors import WireError
from proto_schemas.messages.deploys import Ok
from tests.support.ports import free_port
from transport import http_client
from transport.errors import ConfigError, ErrorKind, NatsTransportError
from transport.http_client import HttpAnswer, HttpClient, base_url, check_ca, keeps_secrets, message_of

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(talk: Talk) -> AsyncIterator[str]:
    """A server of bare bytes; its base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def client() -> AsyncIterator[HttpClient]:
    http = HttpClient()
    try:
        yield http
    finally:
        await http.close()


def saying(answer: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    return talk


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def kind_of(base: str, timeout: float = 5.0) -> ErrorKind:
    async with client() as http:
        with pytest.raises(NatsTransportError) as failure:
            await http.send("POST", base, "/x", b"{}", timeout=timeout)
    assert base in str(failure.value)
    return failure.value.kind


async def test_nobody_listens() -> None:
    assert await kind_of(f"http://127.0.0.1:{free_port()}") is ErrorKind.NO_RESPONDERS


async def test_somebody_listens_and_does_not_answer_in_time() -> None:
    async with listening(silence) as base:
        assert await kind_of(base, timeout=0.2) is ErrorKind.TIMEOUT


async def test_an_answer_that_trickles_in_for_ever_is_bounded_by_the_same_deadline() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listening(trickle) as base:
        assert await kind_of(base, timeout=0.3) is ErrorKind.TIMEOUT


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", b"SSH-2.0 hello\r\n"]
)
async def test_a_connection_that_ends_before_the_answer(answer: bytes) -> None:
    async with listening(saying(answer)) as base:
        assert await kind_of(base) is ErrorKind.DISCONNECTED


async def test_an_answer_too_large_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_ANSWER", 10)
    async with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901")) as base:
        assert await kind_of(base) is ErrorKind.BAD_PAYLOAD


async def test_one_host_that_froze_takes_only_its_share_of_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_client, "PER_HOST", 2)
    healthy = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    async with listening(silence) as frozen, listening(healthy) as other, client() as http:
        waiting = [asyncio.create_task(http.send("POST", frozen, "/", timeout=5)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(NatsTransportError) as failure:
            await http.send("POST", frozen, "/", timeout=5)
        assert failure.value.kind is ErrorKind.CONGESTED
        assert (await http.send("POST", other, "/", timeout=5)).status == 200
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not http._under_way


async def test_a_header_that_is_none_is_a_typed_error_that_does_not_show_it() -> None:
    async with listening(silence) as base, client() as http:
        with pytest.raises(NatsTransportError, match="header") as failure:
            await http.send("POST", base, "/", headers={"x-api-key": "hunter2\nx: y"}, timeout=5)
        assert failure.value.kind is ErrorKind.BAD_PAYLOAD and "hunter2" not in str(failure.value)


async def test_hosts_that_are_asked_no_more_keep_no_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_KEPT_FOR", 0.0)
    healthy = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    async with listening(healthy) as one, listening(healthy) as other, client() as http:
        await http.send("POST", one, "/", timeout=5)
        await http.send("POST", other, "/", timeout=5)
        await http.send("POST", other, "/", timeout=5)
        assert set(http._pools) == {other}


async def test_a_redirect_is_not_followed_and_the_key_stays_here() -> None:
    asked: list[bytes] = []

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))

    async with listening(elsewhere) as there:
        answer = f"HTTP/1.1 307 Over there\r\nlocation: {there}/x\r\ncontent-length: 0\r\n\r\n".encode()
        async with listening(saying(answer)) as base, client() as http:
            found = await http.send("POST", base, "/x", b"{}", {"x-api-key": "k"}, timeout=5)
            assert found.status == 307
            with pytest.raises(NatsTransportError, match="redirects are not followed") as failure:
                message_of(found, Ok)
            assert failure.value.kind is ErrorKind.BAD_PAYLOAD
    assert not asked


def test_an_answer_is_a_message_or_its_error_or_nothing_of_ours() -> None:
    assert message_of(HttpAnswer(200, b'{"ok":true}', "u"), Ok).ok
    with pytest.raises(WireError, match="no") as refusal:
        message_of(HttpAnswer(503, b'{"error":"no","code":"unavailable","retryable":true}', "u"), Ok)
    assert refusal.value.retryable
    for status, body in ((200, b"<html>"), (200, b"{}"), (502, b"bad gateway"), (204, b"")):
        with pytest.raises(NatsTransportError) as failure:
            message_of(HttpAnswer(status, body, "u"), Ok)
        assert failure.value.kind is ErrorKind.BAD_PAYLOAD


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://a:1", "http://a:1"),
        ("https://a/", "https://a:443"),
        ("http://A.example", "http://a.example:80"),
        ("http://[::1]:7", "http://[::1]:7"),
    ],
)
def test_a_base_url_is_scheme_host_and_port(given: str, base: str) -> None:
    assert base_url(given, "address") == base


@pytest.mark.parametrize(
    "given",
    [
        "",
        "a:1",
        "ftp://a",
        "http://",
        "http://a:0",
        "http://a:99999",
        "http://a:x",
        "http://a/b",
        "http://a?b",
        "http://a#b",
        "http://a b",
        "http://a\r\nx: y",
        "http://ä",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_what_is_none_is_refused_by_name(given: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        base_url(given, "address")


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="credentials") as refusal:
        base_url("https://me:hunter2@a", "address")
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("base", "kept"),
    [
        ("https://far:443", True),
        ("http://127.0.0.1:1", True),
        ("http://127.1.2.3:1", True),
        ("http://[::1]:1", True),
        ("http://localhost:1", True),
        ("http://10.0.0.1:1", False),
        ("http://0.0.0.0:1", False),
        ("http://localhost.example:1", False),
    ],
)
def test_a_key_goes_only_over_tls_or_to_this_machine(base: str, kept: bool) -> None:
    assert keeps_secrets(base) is kept


def test_a_file_of_authorities_that_is_none_is_refused(tmp_path: Any) -> None:
    check_ca("", "tls_ca")
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "missing.pem"):
        with pytest.raises(ConfigError, match=f"tls_ca.*{name}"):
            check_ca(str(tmp_path / name), "tls_ca")
