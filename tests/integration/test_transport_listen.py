"""The verbs for who must lose no turn of the loop: listen, send, push."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.client import HARD_LIMIT
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import Message, NatsTransport


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsTransport]:
    transport = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,), ping_interval=10), wait=5)
    yield transport
    await transport.close()


async def test_what_is_sent_and_pushed_is_heard_in_order_by_who_listens(bus: NatsTransport) -> None:
    heard: list[bytes] = []
    await bus.listen("a.*", lambda message: heard.append(message.data))
    for number in range(500):
        bus.send(f"a.{number % 3}", b"%d" % number)
    bus.push()
    await until(lambda: len(heard) == 500)
    assert heard == [b"%d" % number for number in range(500)]


async def test_what_is_sent_without_a_push_leaves_with_the_next_publish(bus: NatsTransport) -> None:
    heard: list[bytes] = []
    await bus.listen("a", lambda message: heard.append(message.data))
    bus.send("a", b"first")
    await bus.publish("a", b"second")
    await until(lambda: len(heard) == 2)
    assert heard == [b"first", b"second"]


async def test_no_responders_reaches_who_listens_on_the_reply_subject(bus: NatsTransport) -> None:
    heard: list[Message] = []
    await bus.listen("back.*", heard.append)
    bus.send("nobody", b"?", reply="back.7")
    bus.push()
    await until(lambda: bool(heard))
    assert heard[0].no_responders and heard[0].subject == "back.7"


async def test_a_listener_that_raises_costs_one_message_and_not_the_connection(bus: NatsTransport) -> None:
    heard: list[bytes] = []

    def handle(message: Message) -> None:
        if message.data == b"bad":
            raise RuntimeError("a defect")
        heard.append(message.data)

    listener = await bus.listen("a", handle)
    for data in (b"bad", b"good"):
        bus.send("a", data)
    bus.push()
    await until(lambda: heard == [b"good"])
    assert listener.failed == 1


async def test_nothing_is_heard_after_unsubscribe_which_may_be_called_twice(bus: NatsTransport) -> None:
    heard: list[bytes] = []
    listener = await bus.listen("a", lambda message: heard.append(message.data))
    await listener.unsubscribe()
    await listener.unsubscribe()
    with pytest.raises(NatsTransportError) as caught:
        await bus.request("a", b"?", timeout=5)
    assert caught.value.kind is ErrorKind.NO_RESPONDERS and heard == []


async def test_listening_goes_on_after_the_server_was_killed_and_started_again(
    bus: NatsTransport, nats_server: NatsServer
) -> None:
    heard: list[bytes] = []
    await bus.listen("a", lambda message: heard.append(message.data))
    nats_server.kill()
    await until(lambda: not bus.connected)
    with pytest.raises(NatsTransportError) as caught:
        bus.send("a", b"lost")
    assert caught.value.kind is ErrorKind.DISCONNECTED
    nats_server.start()
    await until(lambda: bus.connected)
    bus.send("a", b"back")
    bus.push()
    await until(lambda: heard == [b"back"])


async def test_to_a_frozen_server_sending_is_refused_before_memory_grows(
    bus: NatsTransport, nats_server: NatsServer
) -> None:
    nats_server.pause()
    sent = 0
    try:
        with pytest.raises(NatsTransportError) as caught:
            while sent < 100 * HARD_LIMIT:
                bus.send("a", bytes(64 * 1024))
                bus.push()
                sent += 64 * 1024
                await asyncio.sleep(0)
        assert caught.value.kind in (ErrorKind.CONGESTED, ErrorKind.DISCONNECTED)
    finally:
        nats_server.resume()
