"""Servers that misbehave on purpose, for what no healthy nats-server can be brought to do.

Each test takes the place of one paragraph in `transport.client`, and fails when nats-py is left to itself.
"""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import transport.client
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.client import REFUSED_WAIT_MAX, UNSENT_TIMEOUT, Client, Link
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import NatsTransport

GOOD = b'INFO {"max_payload":1048576,"headers":true}\r\n'


class FakeServer:
    """Speaks just enough NATS: greets with `greetings` in turn (the last for ever), answers PING."""

    def __init__(self, *greetings: bytes, hang_up_on: bytes = b"never") -> None:
        self._greetings = list(greetings)
        self._hang_up_on = hang_up_on
        self.accepted = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeServer"]:
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield self
        listener.close()
        self.drop_all()
        await listener.wait_closed()

    def drop_all(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self._greetings[min(self.accepted, len(self._greetings) - 1)])
        self.accepted += 1
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line.startswith(self._hang_up_on):
                    writer.close()
                elif line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
        writer.close()


@asynccontextmanager
async def connected(server: FakeServer) -> AsyncIterator[NatsTransport]:
    bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
    yield bus
    await bus.close(timeout=1)


@pytest.mark.parametrize("text", ["User Authentication Expired", "maximum connections exceeded", "Unknown"])
async def test_an_error_from_the_server_is_a_lost_connection_and_not_the_end(text: str) -> None:
    async with FakeServer(GOOD).running() as server, connected(server) as bus:
        server.writers[0].write(f"-ERR '{text}'\r\n".encode())
        await until(lambda: bus.connected and bus.stats.reconnects == 1)
        assert server.accepted == 2


async def test_a_connection_closed_during_login_is_no_connection() -> None:
    async with FakeServer(GOOD, hang_up_on=b"CONNECT").running() as server:
        with pytest.raises(NatsTransportError, match="closed the connection") as caught:
            await NatsTransport.connect(NatsConfig(servers=(server.url,)))
        assert caught.value.kind is ErrorKind.UNAUTHORIZED


@pytest.mark.parametrize("greeting", [b"INFO []\r\n", b"INFO \xff\r\n", b"junk\r\n", b"\r\n", b"I" * 100_000])
async def test_a_greeting_that_cannot_be_read_is_tried_again(greeting: bytes) -> None:
    async with FakeServer(GOOD, greeting, GOOD).running() as server, connected(server) as bus:
        server.drop_all()
        await until(lambda: bus.connected and bus.stats.reconnects == 1)
        assert server.accepted == 3


async def test_advertised_servers_with_impossible_names_do_not_end_the_search() -> None:
    others = [f"a..{number}:4222" for number in range(20)]
    greeting = b"INFO " + json.dumps({"max_payload": 1000, "connect_urls": others}).encode() + b"\r\n"
    async with FakeServer(greeting).running() as server, connected(server) as bus:
        server.drop_all()
        await until(lambda: bus.connected and bus.stats.reconnects == 1)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is an option of Linux")
async def test_the_kernel_gives_up_on_bytes_nobody_takes(nats_server: NatsServer) -> None:
    bus = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,)))
    raw = bus._client.link._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
    option = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    await bus.close()
    assert option == UNSENT_TIMEOUT * 1000


async def test_closing_is_bounded_even_where_the_kernel_does_not_give_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport.client, "UNSENT_TIMEOUT", 3600)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts by its backlog, and never reads
        link = Link()
        await link.connect(_Address(*listener.getsockname()), 1024, 5)
        link.write(bytes(32_000_000))
        link.close()  # type: ignore[no-untyped-call]
        await asyncio.wait_for(link.wait_closed(), timeout=10)


async def test_a_connection_that_did_not_last_is_not_tried_again_at_once() -> None:
    client = Client(NatsConfig())
    client._setup_server_pool(["nats://127.0.0.1:1"])
    assert client.choose_server(client.server_pool, {})[1] == 0
    client._login_at = asyncio.get_running_loop().time()
    assert client.choose_server(client.server_pool, {})[1] > 0


async def test_attempts_after_a_refusal_come_slower_and_slower_up_to_a_bound() -> None:
    client = Client(NatsConfig())
    client._setup_server_pool(["nats://127.0.0.1:1"])
    waits = []
    for refusals in range(12):
        client.refusals = refusals
        waits.append(client.choose_server(client.server_pool, {})[1])
    assert waits[0] < waits[4] < waits[8]
    client.refusals = 100_000
    assert max(*waits, client.choose_server(client.server_pool, {})[1]) <= REFUSED_WAIT_MAX


class _Address:
    """What nats-py hands over: a parsed URL."""

    def __init__(self, hostname: str, port: int) -> None:
        self.hostname = hostname
        self.port = port
