"""Leaving a queue group: what the server gave to the one that leaves, it handles."""

import asyncio

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.config import NatsConfig
from transport.nats import Message, NatsTransport


async def test_of_two_in_a_queue_group_one_leaves_and_no_message_is_lost(nats_server: NatsServer) -> None:
    """Twenty times, while messages come as fast as they can."""
    config = NatsConfig(servers=(nats_server.url,))
    stays, goes, sender = [await NatsTransport.connect(config) for _ in range(3)]
    heard: list[bytes] = []
    went = 0
    sent = 0
    sending = True

    async def hear(message: Message) -> None:
        heard.append(message.data)

    async def hear_and_go(message: Message) -> None:
        nonlocal went
        went += 1
        heard.append(message.data)

    async def send() -> None:
        nonlocal sent
        while sending:
            for _ in range(100):
                await sender.publish("s", b"%d" % sent)
                sent += 1
            await asyncio.sleep(0.001)
        await sender.flush()

    try:
        await stays.subscribe("s", hear, queue="q")
        await stays.flush()
        task = asyncio.create_task(send())
        for _ in range(20):
            subscription = await goes.subscribe("s", hear_and_go, queue="q")
            before = went
            await until(lambda before=before: went > before + 50, what="it has its share")
            await goes.leave([subscription], 5.0)
            last = went
            await asyncio.sleep(0)
            assert went == last and subscription.pending == 0, "and nothing comes after it has left"
        sending = False
        await task
        await until(lambda: len(heard) >= sent, what=f"{sent} messages")
        assert len(heard) == len(set(heard)) == sent
    finally:
        for each in (stays, goes, sender):
            await each.close()


async def test_leaving_without_a_connection_takes_no_time_and_raises_nothing(nats_server: NatsServer) -> None:
    bus = await NatsTransport.connect(NatsConfig(servers=(nats_server.url,)))

    async def hear(message: Message) -> None:
        """Nothing."""

    try:
        subscription = await bus.subscribe("s", hear)
        nats_server.stop()
        await until(lambda: not bus.connected)
        await bus.leave([subscription], 5.0)
        await bus.leave([subscription], 5.0)
    finally:
        await bus.close()
