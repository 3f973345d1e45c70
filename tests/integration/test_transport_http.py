"""The HTTP server as a client sees it: start, stop, a port in use, what is too large or too slow."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import transport.http
from tests.support.certificates import Authority
from tests.support.poll import until
from transport.errors import ConfigError
from transport.http import MAX_HEAD, HttpServer, PortInUse, StartFailed
from transport.lag import LoopLag
from transport.limits import RequestLimits


class App:
    """Answers each path in its own way, and notes what it saw."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["path"] == "/never":
            await asyncio.Event().wait()
        if scope["path"] == "/broken":
            raise RuntimeError("broken")
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client went away")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/stream":
            self.events.append("streaming")
            while True:
                await send({"type": "http.response.body", "body": b"tick\n", "more_body": True})
                await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": str(len(body)).encode()})

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            kind = message["type"].removeprefix("lifespan.")
            self.events.append(kind)
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return


@asynccontextmanager
async def serving(app: Any, **settings: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, **settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(timeout=0.2)


async def fetch(server: HttpServer, path: str = "/", **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        return await client.post(server.url + path, **options)


async def test_it_serves_from_start_to_stop_and_runs_the_lifespan_around() -> None:
    app = App()
    async with serving(app) as server:
        assert app.events == ["startup"]
        response = await fetch(server, content=b"12345")
        assert (response.status_code, response.text) == (200, "5")
        assert "server" not in response.headers
    assert app.events == ["startup", "shutdown"]
    with pytest.raises(httpx.ConnectError):
        await fetch(server)
    await server.stop()


async def test_small_answers_are_not_held_back_for_more() -> None:
    async with serving(App()) as server, httpx.AsyncClient(trust_env=False) as client:
        await client.get(server.url)
        assert server._server is not None
        (connection,) = server._server.server_state.connections
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_signals_stay_with_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(App()):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_port_in_use_is_an_error_that_names_the_flag_and_starts_nothing() -> None:
    app = App()
    async with serving(App()) as first:
        with pytest.raises(PortInUse, match=rf"{first.port}.*another process.*--api-port"):
            await HttpServer(app, port=first.port, flag="--api-port").start()
    assert app.events == []


@pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("127.0.0.1", 70_000), ("not a host", 0)])
async def test_an_address_that_cannot_be_bound_is_an_error(host: str, port: int) -> None:
    with pytest.raises(PortInUse, match="--port"):
        await HttpServer(App(), host, port).start()


async def test_the_port_is_free_again_after_stop() -> None:
    async with serving(App()) as first:
        pass
    async with serving(App(), port=first.port) as second:
        assert (await fetch(second)).status_code == 200


async def test_an_application_that_cannot_start_is_an_error_and_not_the_end_of_the_process() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(StartFailed):
        await HttpServer(failing).start()


async def test_stop_is_bounded_while_a_stream_and_a_hanging_request_are_open() -> None:
    app = App()
    async with serving(app) as server, httpx.AsyncClient(trust_env=False, timeout=30) as client:

        async def read() -> None:
            async with client.stream("GET", server.url + "/stream") as response:
                async for _ in response.aiter_bytes():
                    pass

        tasks = [asyncio.create_task(read()), asyncio.create_task(client.get(server.url + "/never"))]
        await until(lambda: "streaming" in app.events)
        await asyncio.wait_for(server.stop(timeout=0.2), timeout=10)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(isinstance(each, asyncio.CancelledError) for each in results)
    assert app.events[-1] == "shutdown"


async def test_tls_serves_those_who_trust_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    async with serving(App(), tls_cert=str(pair.cert), tls_key=str(pair.key)) as server:
        trusting = ssl.create_default_context(cafile=str(authority.cert))
        async with httpx.AsyncClient(verify=trusting, trust_env=False) as client:
            assert (await client.get(server.url)).status_code == 200
    with pytest.raises(ConfigError, match="missing"):
        await HttpServer(App(), tls_cert=str(pair.cert), tls_key=str(tmp_path / "missing")).start()


async def test_a_body_above_the_limit_is_refused_with_both_sizes() -> None:
    app = App()
    limits = RequestLimits(app, max_body=1000)
    async with serving(limits) as server:
        assert (await fetch(server, content=bytes(1000))).text == "1000"
        response = await fetch(server, content=bytes(1001))
    assert response.status_code == 413
    body = response.json()
    assert (body["code"], body["retryable"]) == ("bad_request", False)
    assert "1001" in body["error"]
    assert "1000" in body["error"]
    assert limits.too_large == 1
    assert len(app.bodies) == 1


async def test_a_chunked_body_is_refused_once_it_has_grown_past_the_limit() -> None:
    app = App()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(100)

    limits = RequestLimits(app, max_body=1000)
    async with serving(limits) as server:
        response = await fetch(server, content=chunks())
        assert (await fetch(server, content=b"1")).text == "1"
    assert response.status_code == 413
    assert response.json()["code"] == "bad_request"
    assert limits.too_large == 1
    assert app.bodies == [b"1"]


async def test_a_request_that_takes_too_long_is_a_504_and_a_stream_may_go_on() -> None:
    app = App()
    limits = RequestLimits(app, timeout=0.2)
    async with serving(limits) as server:
        response = await fetch(server, "/never")
        assert response.status_code == 504
        assert (response.json()["code"], response.json()["retryable"]) == ("timeout", True)
        assert limits.timed_out == 1
        async with (
            httpx.AsyncClient(trust_env=False) as client,
            client.stream("GET", server.url + "/stream") as stream,
        ):
            ticks = 0
            async for text in stream.aiter_text():
                ticks += text.count("tick")
                if ticks >= 40:
                    break
        assert limits.timed_out == 1


async def test_an_error_of_the_application_is_not_swallowed_by_the_limits() -> None:
    async with serving(RequestLimits(App())) as server:
        assert (await fetch(server, "/broken")).status_code == 500


async def test_a_head_that_never_ends_is_cut_off() -> None:
    async with serving(App()) as server:
        assert b"400" in await _answer_to(
            server, b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * (MAX_HEAD + 100_000)
        )
        assert (await fetch(server, content=bytes(2 * MAX_HEAD))).text == str(2 * MAX_HEAD)


async def test_a_head_that_trickles_in_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport.http, "HEAD_TIMEOUT", 0.1)
    async with serving(App()) as server:
        assert b"400" in await _answer_to(server, b"GET / HTTP/1.1\r\nHost:")
        assert b"400" in await _answer_to(server, b"")


@pytest.mark.parametrize(
    "junk", [b"\x16\x03\x01\x02\x00", b"\r\n\r\nNATS\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_http_is_answered_and_disturbs_nobody(junk: bytes) -> None:
    async with serving(App()) as server:
        head, _, body = (await _answer_to(server, junk)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400") and json.loads(body)["code"] == "bad_request"
        assert (await fetch(server)).status_code == 200


async def test_junk_behind_a_request_ends_the_connection_and_not_the_request() -> None:
    """An answer in its place would tell the client that what was carried out was refused."""
    app = App()
    whole = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nok"
    async with serving(app) as server:
        for junk in (b"\0\r\n\r\n", b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nz\r\n"):
            answer = await _answer_to(server, whole + junk)
            assert answer.count(b"HTTP/1.1") == 1 and answer.startswith(b"HTTP/1.1 200"), answer
    assert app.bodies == [b"ok", b"ok"]


async def test_more_connections_than_it_takes_are_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport.http, "MAX_CONNECTIONS", 2)
    async with serving(App()) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        busy = await fetch(server)
        assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (
            503,
            "unavailable",
            "1",
        )
        writer.close()
        await until(lambda: server._server is not None and not server._server.server_state.connections)
        assert (await fetch(server)).status_code == 200


async def _answer_to(server: HttpServer, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it closes on what we still send
            while part := await asyncio.wait_for(reader.read(1000), timeout=10):
                answer += part
        return answer
    finally:
        writer.close()


async def test_a_server_notes_how_late_the_event_loop_is_when_it_sets_the_date() -> None:
    lag = LoopLag()
    server = HttpServer(App(), lag=lag)
    await server.start()
    try:
        await until(lambda: lag.seconds.count > 0)
    finally:
        await server.stop()
    assert lag.seconds.total >= lag.last >= 0
