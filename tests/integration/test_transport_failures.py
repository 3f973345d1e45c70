"""Servers that are killed, frozen, replaced or that throw us out, and what a caller sees of it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from nats.aio.transport import TcpTransport

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from tests.support.ports import free_port
from transport.client import HARD_LIMIT, Link
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import Message, NatsTransport


@asynccontextmanager
async def connected(*servers: NatsServer, **settings: object) -> AsyncIterator[NatsTransport]:
    urls = [server.url for server in servers]
    transport = await NatsTransport.connect(NatsConfig.from_params({"servers": urls, **settings}), wait=5)
    try:
        yield transport
    finally:
        await transport.close(timeout=1)


async def echo_on(bus: NatsTransport, subject: str = "echo") -> None:
    async def echo(message: Message) -> None:
        await bus.publish(message.reply, message.data)

    await bus.subscribe(subject, echo)


async def answers(bus: NatsTransport, subject: str = "echo") -> bool:
    try:
        return await bus.request(subject, b"?", timeout=0.5) == b"?"
    except NatsTransportError:
        return False


async def test_no_server_is_an_error_with_url_cause_and_remedy() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    with pytest.raises(NatsTransportError, match=rf"{url}.*start nats-server.*--nats") as caught:
        await NatsTransport.connect(NatsConfig(servers=(url,)))
    assert caught.value.kind is ErrorKind.DISCONNECTED
    assert caught.value.retryable


async def test_a_host_name_that_cannot_be_is_an_error_and_not_a_hang() -> None:
    with pytest.raises(NatsTransportError, match=r"a\.\.b"):
        await NatsTransport.connect(NatsConfig(servers=("nats://a..b:4222",)))


async def test_a_server_that_comes_up_while_we_wait_is_used() -> None:
    port = free_port()
    server = NatsServer(port=port)
    try:
        coming = asyncio.create_task(NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=30))
        await asyncio.sleep(0)
        await asyncio.to_thread(server.start)
        bus = await coming
        assert bus.connected
        await bus.close()
    finally:
        server.remove()


async def test_waiting_for_a_server_ends_at_its_deadline() -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    with pytest.raises(NatsTransportError, match=url):
        await asyncio.wait_for(NatsTransport.connect(NatsConfig(servers=(url,)), wait=0.3), timeout=10)


async def test_something_that_is_no_nats_server_is_an_error() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(http, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    with pytest.raises(NatsTransportError, match="INFO"):
        await NatsTransport.connect(NatsConfig(servers=(f"nats://127.0.0.1:{port}",)))
    listener.close()
    await listener.wait_closed()


async def test_the_second_server_is_used_when_the_first_is_not_there(nats_server: NatsServer) -> None:
    urls = (f"nats://127.0.0.1:{free_port()}", nats_server.url)
    bus = await NatsTransport.connect(NatsConfig(servers=urls))
    assert bus.server_url == nats_server.url
    await bus.close()


async def test_without_a_server_publish_and_request_fail_at_once(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        nats_server.kill()
        await until(lambda: not bus.connected)
        with pytest.raises(NatsTransportError, match=f"not connected to {nats_server.url}") as caught:
            await bus.publish("a", b"1")
        assert caught.value.kind is ErrorKind.DISCONNECTED
        assert bus.stats.refused_publishes == 1
        with pytest.raises(NatsTransportError):
            await asyncio.wait_for(bus.request("a", b"1", timeout=3600), timeout=5)
        with pytest.raises(NatsTransportError):
            await bus.flush()


async def test_subscriptions_live_on_after_a_kill_and_a_restart(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        await echo_on(bus)
        changes: list[bool] = []
        bus.on_connection_change(changes.append)
        nats_server.kill()
        await until(lambda: not bus.connected)
        await echo_on(bus, "made.while.down")
        nats_server.restart()
        await until(lambda: answers(bus))
        await until(lambda: answers(bus, "made.while.down"))
        assert changes == [False, True]
        assert bus.stats.reconnects == 1


async def test_a_subscription_made_and_given_up_without_a_server_takes_no_message_afterwards(
    nats_server: NatsServer,
) -> None:
    """Nobody would handle its share of the messages of a queue group."""
    taken: list[bytes] = []

    async def take(message: Message) -> None:
        taken.append(message.data)

    async with connected(nats_server) as gone, connected(nats_server) as stays:
        await stays.subscribe("work", take, queue="line")
        nats_server.kill()
        await until(lambda: not gone.connected and not stays.connected)
        given_up = await gone.subscribe("work", take, queue="line")
        kept = await gone.subscribe("kept", take)
        await given_up.unsubscribe()
        nats_server.restart()
        await until(lambda: gone.connected and stays.connected)
        await gone.flush()
        for number in range(50):
            await stays.publish("work", b"%d" % number)
        await stays.publish("kept", b"kept")
        await until(lambda: b"kept" in taken)
        await until(lambda: len(taken) == 51, what="every message of the queue group")
        await kept.unsubscribe()


@pytest.mark.parametrize("where", ["connect", "write"])
async def test_a_socket_that_is_reset_as_soon_as_it_stands_costs_one_more_attempt(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """uvloop tells of such a socket by what is no `OSError`: it has no socket any more, or is closed."""
    usual = getattr(TcpTransport, where)
    resets: list[str] = []

    async def connect_to_nothing(link: Link, uri: object, buffer_size: int, timeout: float) -> None:
        await usual(link, uri, buffer_size, timeout)
        if not resets:
            resets.append(where)
            link._io_writer = Gone()  # type: ignore[assignment]

    def write_to_nothing(link: Link, payload: bytes) -> None:
        if b"SUB echo" in payload and not resets:
            resets.append(where)
            raise RuntimeError("the handler is closed")
        usual(link, payload)

    async with connected(nats_server) as bus:
        await echo_on(bus)
        await bus.flush()
        monkeypatch.setattr(
            TcpTransport, where, connect_to_nothing if where == "connect" else write_to_nothing
        )
        nats_server.restart()
        await until(lambda: answers(bus))
    assert resets == [where]


class Gone:
    """What is left of a writer whose socket was reset."""

    def __init__(self) -> None:
        self.transport = self

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass

    def get_extra_info(self, name: str) -> None:
        return None


async def test_a_watcher_that_raises_does_not_stop_the_others(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        changes: list[bool] = []

        def broken(connected: bool) -> None:
            raise RuntimeError("watcher")

        bus.on_connection_change(broken)
        bus.on_connection_change(changes.append)
        nats_server.restart()
        await until(lambda: changes == [False, True])


async def test_a_request_in_flight_fails_when_the_connection_is_lost(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:

        async def silent(message: Message) -> None:
            pass

        subscription = await bus.subscribe("silent", silent)
        asking = asyncio.create_task(bus.request("silent", b"", timeout=3600))
        await until(lambda: subscription.handled == 1)
        nats_server.kill()
        with pytest.raises(NatsTransportError, match="may have been carried out") as caught:
            await asyncio.wait_for(asking, timeout=10)
        assert caught.value.kind is ErrorKind.DISCONNECTED


async def test_what_was_not_sent_when_the_connection_died_is_not_replayed(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus, connected(nats_server) as other:
        seen: list[bytes] = []

        async def keep(message: Message) -> None:
            seen.append(message.data)

        await other.subscribe(">", keep)
        nats_server.pause()
        with pytest.raises(NatsTransportError):
            while True:  # until the kernel takes no more and our own bound is reached
                await bus.publish("filler", bytes(60_000))
        assert bus._client.pending_data_size > HARD_LIMIT / 2
        nats_server.restart()
        await until(lambda: bus.connected and bus.stats.reconnects and other.stats.reconnects, timeout=20)
        await bus.publish("news", b"fresh")
        await until(lambda: seen)
        assert seen == [b"fresh"]


async def test_a_frozen_server_costs_no_request_more_than_its_deadline(nats_server: NatsServer) -> None:
    async with connected(nats_server, ping_interval=0.2, connect_timeout=0.5) as bus:
        await echo_on(bus)
        assert await answers(bus)
        nats_server.pause()
        for _ in range(5):
            with pytest.raises(NatsTransportError) as caught:
                await asyncio.wait_for(bus.request("echo", bytes(100_000), timeout=0.3), timeout=5)
            assert caught.value.kind in (ErrorKind.TIMEOUT, ErrorKind.DISCONNECTED)
        await until(lambda: not bus.connected)
        nats_server.resume()
        await until(lambda: answers(bus))


async def test_a_first_request_to_a_frozen_server_keeps_its_deadline(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        nats_server.pause()
        with pytest.raises(NatsTransportError):
            await asyncio.wait_for(bus.request("echo", b"", timeout=0.2), timeout=5)


async def test_a_frozen_server_is_left_for_a_healthy_one_even_with_bytes_unsent() -> None:
    with NatsServer() as first, NatsServer() as second:
        config = NatsConfig(servers=(first.url,), ping_interval=0.2, connect_timeout=0.5)
        bus = await NatsTransport.connect(config, wait=5)
        bus._client.set_server_pool([first.url, second.url])
        await echo_on(bus)
        first.pause()
        with pytest.raises(NatsTransportError) as caught:
            while True:
                await asyncio.wait_for(bus.publish("filler", bytes(60_000)), timeout=5)
        assert caught.value.kind in (
            ErrorKind.CONGESTED,
            ErrorKind.DISCONNECTED,
        )  # bound or ping, who is first
        await until(lambda: bus.connected and bus.server_url == second.url)
        await until(lambda: answers(bus))
        await bus.close()


async def test_close_is_bounded_while_the_server_is_frozen(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        await echo_on(bus)
        nats_server.pause()
        with pytest.raises(NatsTransportError):
            while True:
                await bus.publish("filler", bytes(60_000))
        await asyncio.wait_for(bus.close(timeout=0.2), timeout=8)
        assert not bus.connected


async def test_close_is_bounded_while_no_server_is_there(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus:
        await echo_on(bus)
        nats_server.kill()
        await until(lambda: not bus.connected)
        await asyncio.wait_for(bus.close(), timeout=8)


async def test_after_close_everything_is_refused_and_closing_again_does_nothing(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server) as bus:
        await bus.close()
        with pytest.raises(NatsTransportError, match="was closed"):
            await bus.publish("a", b"")
        with pytest.raises(NatsTransportError) as caught:
            await echo_on(bus)
        assert caught.value.kind is ErrorKind.DISCONNECTED
        await bus.close()


async def test_close_handles_what_was_queued_and_sends_its_answers(nats_server: NatsServer) -> None:
    async with connected(nats_server) as asking, connected(nats_server) as answering:

        async def slow(message: Message) -> None:
            await asyncio.sleep(0.005)
            await answering.publish(message.reply, message.data)

        subscription = await answering.subscribe("slow", slow)
        await answering.flush()
        asked = [asyncio.create_task(asking.request("slow", str(n).encode(), timeout=10)) for n in range(40)]
        await until(lambda: subscription.handled > 0)
        await answering.close(timeout=10)
        assert await asyncio.gather(*asked) == [str(n).encode() for n in range(40)]


async def test_a_user_that_is_removed_and_put_back_is_connected_again() -> None:
    with NatsServer(extra=_users("ann")) as server:
        async with connected(server, user="ann", password="secret") as bus:
            await echo_on(bus)
            server.configure(_users("bob"))
            server.reload()
            await until(lambda: not bus.connected)
            server.configure(_users("ann"))
            server.reload()
            await until(lambda: answers(bus), timeout=20)


async def test_a_missing_permission_costs_the_message_and_not_the_connection() -> None:
    permissions = {"publish": {"deny": "secret.>"}, "subscribe": {"deny": "secret.>"}}
    with NatsServer(extra=_users("ann", permissions=permissions)) as server:
        async with connected(server, user="ann", password="secret") as bus:
            await echo_on(bus)
            await bus.publish("secret.a", b"")
            await echo_on(bus, "secret.b")
            await until(lambda: bus.stats.server_errors >= 2)
            assert await answers(bus)
            assert bus.stats.reconnects == 0


async def test_thousands_of_subscriptions_can_be_given_up_while_the_server_is_frozen(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server) as bus:

        async def nothing(message: Message) -> None:
            pass

        subscriptions = [await bus.subscribe(f"s.{n}", nothing) for n in range(1500)]
        await bus.flush()
        nats_server.pause()
        with pytest.raises(NatsTransportError):
            while True:
                await bus.publish("filler", bytes(60_000))
        await asyncio.wait_for(asyncio.gather(*(each.unsubscribe() for each in subscriptions)), timeout=20)


async def test_a_flush_waits_for_what_was_published_and_subscribed_before_it(nats_server: NatsServer) -> None:
    async with connected(nats_server) as bus, connected(nats_server) as other:
        for n in range(100):
            await echo_on(bus, f"echo.{n}")
            await bus.flush()
            assert await other.request(f"echo.{n}", b"there", timeout=10) == b"there"


async def test_an_answer_to_a_flush_that_was_given_up_costs_nothing(nats_server: NatsServer) -> None:
    async with connected(nats_server, ping_interval=30) as bus:
        await echo_on(bus)
        nats_server.pause()
        with pytest.raises(NatsTransportError):
            await bus.flush(timeout=0.05)
        nats_server.resume()
        await bus.flush(timeout=10)
        assert await answers(bus)
        assert bus.stats.reconnects == 0


async def test_a_flooded_handler_leaves_the_loop_to_others(nats_server: NatsServer) -> None:
    async with connected(nats_server, ping_interval=10) as bus, connected(nats_server) as sender:
        handled_between_ticks: list[int] = []
        count = 0

        async def busy(message: Message) -> None:
            nonlocal count
            count += 1

        subscription = await bus.subscribe("flood", busy)
        await bus.flush()
        for _ in range(20_000):
            await sender.publish("flood", b"x")
        before = count
        deadline = time.monotonic() + 20
        while count < 20_000 and time.monotonic() < deadline:
            await asyncio.sleep(0)
            handled_between_ticks.append(count - before)
            before = count
        assert count == 20_000
        assert subscription.dropped == 0
        assert max(handled_between_ticks) <= 512


async def test_what_does_not_fit_is_dropped_counted_and_does_not_stop_the_rest(
    nats_server: NatsServer,
) -> None:
    async with connected(nats_server, ping_interval=10) as bus, connected(nats_server) as sender:
        gate, started, seen = asyncio.Event(), asyncio.Semaphore(0), list[bytes]()

        async def waits(message: Message) -> None:
            started.release()
            await gate.wait()
            seen.append(message.data)

        few = await bus.subscribe("flood", waits, pending_messages=10)
        small = await bus.subscribe("flood", waits, pending_bytes=20)
        await bus.flush()
        for n in range(100):
            await sender.publish("flood", b"%03d" % n)
            if n == 0:  # both handlers hold one before the rest fills their queues
                await started.acquire()
                await started.acquire()
        await sender.flush()
        await until(lambda: few.dropped == 89 and small.dropped == 93)
        assert (few.pending, small.pending) == (10, 6)
        assert bus.stats.dropped_messages == 182
        gate.set()
        await until(lambda: len(seen) == 11 + 7)
        assert seen.count(b"000") == 2
        await echo_on(bus)
        assert await answers(bus)


def _users(name: str, permissions: Mapping[str, object] | None = None) -> str:
    user = {
        "user": name,
        "password": "secret",
        "permissions": permissions or {"publish": ">", "subscribe": ">"},
    }
    return f"authorization: {{ users: {json.dumps([user])} }}"
