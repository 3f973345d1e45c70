"""The verbs against a real nats-server: publish, request, subscribe, and what bad input costs."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import nats
import pytest

from proto_schemas.errors import ErrorCode, WireError
from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.nats import Message, NatsTransport


class Ask(msgspec.Struct):
    number: int


class Answer(msgspec.Struct):
    twice: int


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[NatsTransport]:
    config = NatsConfig(servers=(nats_server.url,), ping_interval=10)  # patient, as a loaded machine is slow
    transport = await NatsTransport.connect(config, wait=5)
    yield transport
    await transport.close()


async def _answer_with(bus: NatsTransport, subject: str, data: bytes) -> None:
    async def answer(message: Message) -> None:
        await bus.publish(message.reply, data)

    await bus.subscribe(subject, answer)


async def test_a_request_gets_the_answer_of_its_receiver(bus: NatsTransport) -> None:
    async def echo(message: Message) -> None:
        await bus.publish(message.reply, message.subject.encode() + b"=" + message.data)

    await bus.subscribe("echo.>", echo)
    answers = await asyncio.gather(
        *(bus.request(f"echo.{n}", str(n).encode(), timeout=5) for n in range(200))
    )
    assert answers == [f"echo.{n}={n}".encode() for n in range(200)]
    assert bus.stats.requests == 200
    assert not bus.stats.request_errors


async def test_a_typed_request_is_encoded_and_its_answer_checked(bus: NatsTransport) -> None:
    async def double(message: Message) -> None:
        number = msgspec.json.decode(message.data, type=Ask).number
        await bus.publish(message.reply, msgspec.json.encode(Answer(twice=2 * number)))

    await bus.subscribe("double", double)
    assert await bus.request_message("double", Ask(number=21), Answer, timeout=5) == Answer(twice=42)
    assert {kind: seen.count for kind, seen in bus.stats.request_seconds.items()} == {"Ask": 1}


async def test_an_error_answer_is_raised_as_the_peers_error(bus: NatsTransport) -> None:
    await _answer_with(bus, "double", b'{"error":"older than 7","code":"stale_epoch","retryable":false}')
    with pytest.raises(WireError, match="older than 7") as caught:
        await bus.request_message("double", Ask(number=1), Answer, timeout=5)
    assert caught.value.code == ErrorCode.STALE_EPOCH
    assert not caught.value.retryable


@pytest.mark.parametrize("answer", [b"", b"\xff\xfe", b"[" * 50_000, b'{"twice":"many"}', b'{"error":5}'])
async def test_an_answer_that_cannot_be_read_is_a_bad_payload(bus: NatsTransport, answer: bytes) -> None:
    await _answer_with(bus, "double", answer)
    with pytest.raises(NatsTransportError) as caught:
        await bus.request_message("double", Ask(number=1), Answer, timeout=5)
    assert caught.value.kind is ErrorKind.BAD_PAYLOAD
    assert not caught.value.retryable
    assert bus.stats.request_errors == {ErrorKind.BAD_PAYLOAD: 1}


async def test_no_responders_is_told_at_once_and_not_at_the_deadline(bus: NatsTransport) -> None:
    with pytest.raises(NatsTransportError, match="nobody") as caught:
        await asyncio.wait_for(bus.request("nobody", b"", timeout=3600), timeout=10)
    assert caught.value.kind is ErrorKind.NO_RESPONDERS
    assert caught.value.retryable
    assert bus.stats.request_errors == {ErrorKind.NO_RESPONDERS: 1}


async def test_an_answer_after_the_deadline_is_counted_and_disturbs_nobody(bus: NatsTransport) -> None:
    asked: list[str] = []

    async def keep(message: Message) -> None:
        asked.append(message.reply)

    await bus.subscribe("late", keep)
    with pytest.raises(NatsTransportError, match=r"0\.05 s.*same request id") as caught:
        await bus.request("late", b"", timeout=0.05)
    assert caught.value.kind is ErrorKind.TIMEOUT
    await until(lambda: asked)
    await bus.publish(asked[0], b"too late")
    await bus.publish(asked[0], b"and twice")
    await until(lambda: bus.stats.late_replies == 2)
    await _answer_with(bus, "soon", b"ok")
    assert await bus.request("soon", b"", timeout=5) == b"ok"


async def test_a_second_answer_to_one_request_is_ignored(bus: NatsTransport) -> None:
    async def twice(message: Message) -> None:
        await bus.publish(message.reply, b"first")
        await bus.publish(message.reply, b"second")

    await bus.subscribe("twice", twice)
    assert await bus.request("twice", b"", timeout=5) == b"first"
    await until(lambda: bus.stats.late_replies == 1)


async def test_a_cancelled_request_leaves_nothing_behind(bus: NatsTransport) -> None:
    async def silent(message: Message) -> None:
        pass

    await bus.subscribe("silent", silent)
    task = asyncio.create_task(bus.request("silent", b"", timeout=3600))
    await bus.flush()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bus._replies.waiting == 0


async def test_a_message_above_the_servers_limit_is_refused_with_both_sizes(bus: NatsTransport) -> None:
    with pytest.raises(
        NatsTransportError, match=rf"{bus.max_payload + 1} bytes.*{bus.max_payload}"
    ) as caught:
        await bus.publish("big", bytes(bus.max_payload + 1))
    assert caught.value.kind is ErrorKind.TOO_LARGE
    assert bus.stats.refused_publishes == 1
    with pytest.raises(NatsTransportError) as caught:
        await bus.request("big", bytes(bus.max_payload), timeout=5, headers={"A": "b"})
    assert caught.value.kind is ErrorKind.TOO_LARGE
    await _answer_with(bus, "big", b"taken")
    assert await bus.request("big", bytes(bus.max_payload), timeout=10) == b"taken"


@pytest.mark.parametrize(
    "subject",
    ["", "a b", "a\r\nPUB x 0", "a..b", ".a", "a.*", "a.>", "x" * 1025, "é" * 600, "\ud800", "a\x00b"],
)
async def test_a_subject_that_cannot_be_published_to_is_refused(bus: NatsTransport, subject: str) -> None:
    with pytest.raises(NatsTransportError) as caught:
        await bus.publish(subject, b"")
    assert caught.value.kind is ErrorKind.BAD_SUBJECT
    assert bus.connected


@pytest.mark.parametrize("subject", ["", "a b", "a..b", "a.>.b"])
async def test_a_subject_that_cannot_be_subscribed_is_refused(bus: NatsTransport, subject: str) -> None:
    async def nothing(message: Message) -> None:
        pass

    with pytest.raises(NatsTransportError) as caught:
        await bus.subscribe(subject, nothing)
    assert caught.value.kind is ErrorKind.BAD_SUBJECT


@pytest.mark.parametrize("headers", [{"a b": "c"}, {"": "c"}, {"a": "b\r\nInjected: yes"}, {"é": "c"}])
async def test_a_header_that_would_break_the_frame_is_refused(
    bus: NatsTransport, headers: dict[str, str]
) -> None:
    with pytest.raises(NatsTransportError) as caught:
        await bus.publish("a", b"", headers=headers)
    assert caught.value.kind is ErrorKind.BAD_PAYLOAD


@pytest.mark.parametrize("data", [None, "text", 5])
async def test_a_payload_that_is_not_bytes_is_refused(bus: NatsTransport, data: object) -> None:
    with pytest.raises(NatsTransportError, match="give bytes"):
        await bus.publish("a", data)  # type: ignore[arg-type]


async def test_headers_unicode_and_empty_payloads_arrive_as_they_were_sent(bus: NatsTransport) -> None:
    seen: list[Message] = []

    async def keep(message: Message) -> None:
        seen.append(message)

    await bus.subscribe("größe.>", keep)
    await bus.publish("größe.日本", b"", reply="r.ö", headers={"Nats-Msg-Id": "7", "Wort": "größe"})
    await bus.publish("größe.b", "日本".encode())
    await until(lambda: len(seen) == 2)
    first, second = seen
    assert (first.subject, first.data, first.reply) == ("größe.日本", b"", "r.ö")
    assert first.headers == {"Nats-Msg-Id": "7", "Wort": "größe"}
    assert not first.no_responders
    assert (second.data.decode(), second.reply, second.headers) == ("日本", "", None)


async def test_one_member_of_a_queue_group_gets_each_message(bus: NatsTransport) -> None:
    seen: list[tuple[int, bytes]] = []

    def keep(member: int) -> "object":
        async def handler(message: Message) -> None:
            seen.append((member, message.data))

        return handler

    for member in range(3):
        await bus.subscribe("work", keep(member), queue="crew")  # type: ignore[arg-type]
    for n in range(60):
        await bus.publish("work", str(n).encode())
    await bus.flush()
    await until(lambda: len(seen) >= 60)
    assert sorted(int(data) for _, data in seen) == list(range(60))
    assert len({member for member, _ in seen}) > 1


@pytest.mark.parametrize(
    "frame",
    [
        b"PUB foo.\xff\xfe 2\r\nhi\r\n",
        b"HPUB foo.x 8 10\r\nNATS/1.0hi\r\n",
        b"HPUB foo.x 16 16\r\nNATS/1.0 \xff\xfe\xfd\r\n\r\n\r\n",
        b"HPUB foo.x 18 18\r\nNATS/1.0\r\n\xff: a\r\n\r\n\r\n",
    ],
)
async def test_foreign_bytes_in_subject_or_headers_do_not_cost_the_connection(
    bus: NatsTransport, nats_server: NatsServer, frame: bytes
) -> None:
    seen: list[bytes] = []

    async def keep(message: Message) -> None:
        seen.append(message.data)

    await bus.subscribe("foo.>", keep)
    await bus.flush()
    _, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    writer.write(
        b'CONNECT {"headers":true,"verbose":false}\r\n' + frame + b"PUB foo.end 3\r\nend\r\nPING\r\n"
    )
    await until(lambda: b"end" in seen)
    assert bus.connected
    assert bus.stats.reconnects == 0
    writer.close()
    await writer.wait_closed()


async def test_jetstream_of_nats_py_works_on_the_connection() -> None:
    with NatsServer(jetstream=True) as server:
        bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5)
        try:
            context = bus.jetstream()
            await context.add_stream(name="events", subjects=["events.>"])
            assert (await context.publish("events.a", b"1")).seq == 1
            subscription = await context.subscribe("events.>", ordered_consumer=True)
            assert (await subscription.next_msg(timeout=5)).data == b"1"
        finally:
            await bus.close()


async def test_a_plain_client_and_ours_understand_each_other(
    bus: NatsTransport, nats_server: NatsServer
) -> None:
    await _answer_with(bus, "ours", b"pong")
    other = await nats.connect(nats_server.url)
    try:
        assert (await other.request("ours", b"ping", timeout=5)).data == b"pong"
    finally:
        await other.close()
