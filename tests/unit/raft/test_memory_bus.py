"""The fake keeps the contract of the real bus."""

import pytest

from raft.bus import Message
from raft.memory_bus import BusClosed, MemoryBus, subject_matches
from tests.unit.raft.test_node import until


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("*.b", "a.c", False),
    ],
)
def test_wildcards_follow_the_rules_of_nats(pattern: str, subject: str, matches: bool) -> None:
    assert subject_matches(pattern, subject) is matches


async def test_messages_of_one_subscription_arrive_in_order_until_it_ends() -> None:
    bus = MemoryBus()
    heard: list[bytes] = []

    async def hear(message: Message) -> None:
        heard.append(message.data)

    subscription = await bus.connect("one").subscribe("subject", hear)
    sender = bus.connect("two")
    for number in range(100):
        await sender.publish("subject", b"%d" % number)
    await until(lambda: len(heard) == 100)
    assert heard == [b"%d" % number for number in range(100)]
    await subscription.unsubscribe()
    await sender.publish("subject", b"late", reply="nowhere")
    assert len(heard) == 100


async def test_a_request_nobody_hears_is_answered_at_once() -> None:
    connection = MemoryBus().connect("one")
    with pytest.raises(BusClosed, match="nobody listens"):
        await connection.request("subject", b"", timeout=5.0)


async def test_a_request_is_answered_by_who_listens() -> None:
    bus = MemoryBus()
    server = bus.connect("server")

    async def double(message: Message) -> None:
        await server.publish(message.reply, message.data * 2)

    await server.subscribe("double", double)
    assert await bus.connect("client").request("double", b"x", timeout=5.0) == b"xx"


async def test_a_connection_that_is_down_refuses_and_hears_nothing() -> None:
    bus = MemoryBus()
    connection = bus.connect("one")
    changes: list[bool] = []
    connection.on_connection_change(changes.append)
    connection.set_connected(False)
    with pytest.raises(BusClosed, match="down"):
        await connection.publish("subject", b"")
    connection.set_connected(True)
    assert changes == [False, True]
