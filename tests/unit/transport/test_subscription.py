"""A subscription without a server: order, bounds, handlers that fail, and its end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.poll import until
from transport.replies import Replies
from transport.subscription import BURST, OWN_BYTES, STEP, Handler, Message, Room, Subscription
from transport.turns import TURN_SECS

Make = Callable[..., Subscription]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Subscription] = []

    async def detach(subscription: Subscription) -> None:
        pass

    def build(handler: Handler, messages: int = 1000, size: int = 1_000_000) -> Subscription:
        made.append(Subscription("s", handler, detach, pending_messages=messages, pending_bytes=size))
        return made[-1]

    yield build
    for subscription in made:
        await subscription.end()


def collect(seen: list[bytes]) -> Handler:
    async def handler(message: Message) -> None:
        seen.append(message.data)

    return handler


def offer(subscription: Subscription, count: int) -> list[bytes]:
    sent = [b"%d" % number for number in range(count)]
    for data in sent:
        subscription.offer(Message("s", data))
    return sent


async def test_messages_are_handled_in_order_however_many_there_are(make: Make) -> None:
    seen: list[bytes] = []
    subscription = make(collect(seen))
    sent = offer(subscription, 3 * BURST)
    await subscription.join()
    assert seen == sent
    assert (subscription.handled, subscription.pending, subscription.dropped) == (3 * BURST, 0, 0)


async def test_the_loop_gets_its_turn_in_the_middle_of_a_flood(make: Make) -> None:
    seen: list[bytes] = []
    subscription = make(collect(seen), messages=10 * BURST)
    offer(subscription, 10 * BURST)
    turns = 0
    while len(seen) < 10 * BURST:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10


async def test_the_loop_gets_its_turn_after_each_message_that_takes_long(make: Make) -> None:
    seen: list[bytes] = []

    async def slow(message: Message) -> None:
        until = time.monotonic() + TURN_SECS
        while time.monotonic() <= until:
            pass
        seen.append(message.data)

    subscription = make(slow)
    offer(subscription, 20)
    turns = 0
    while len(seen) < 20:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 20
    assert subscription.handled == 20


async def test_of_many_that_take_long_one_works_in_a_turn_of_the_loop(make: Make) -> None:
    handled = 0

    async def slow(message: Message) -> None:
        nonlocal handled
        until = time.monotonic() + TURN_SECS
        while time.monotonic() <= until:
            pass
        handled += 1

    for subscription in [make(slow) for _ in range(10)]:
        offer(subscription, 4)
    most = 0
    while handled < 40:
        before = handled
        await asyncio.sleep(0)
        most = max(most, handled - before)
    assert most == 1


async def test_floods_share_one_room_and_who_keeps_up_needs_none_of_it() -> None:
    """Three subscriptions whose handlers do not come on, a room of four steps, and one that is quiet."""

    async def detach(subscription: Subscription) -> None:
        pass

    may_go_on, seen = asyncio.Event(), []

    async def stuck(message: Message) -> None:
        await may_go_on.wait()
        seen.append(message.data)

    room = Room(4 * STEP)
    limits = {"pending_messages": 1000, "pending_bytes": 3 * STEP}
    floods = [Subscription("s", stuck, detach, room=room, **limits) for _ in range(3)]
    quiet = Subscription("s", stuck, detach, room=room, **limits)
    data = bytes(STEP // 4)
    for _ in range(100):
        for flood in floods:
            flood.offer(Message("s", data))
    kept = sum(flood.pending for flood in floods)
    assert kept * len(data) == 3 * OWN_BYTES + 4 * STEP
    assert sum(flood.dropped for flood in floods) == 300 - kept
    for _ in range(OWN_BYTES // len(data)):
        quiet.offer(Message("s", data))
    assert quiet.dropped == 0
    may_go_on.set()
    for each in (*floods, quiet):
        await each.join()
    assert room.free == 4 * STEP and len(seen) == kept + quiet.handled
    for _ in range(12):
        quiet.offer(Message("s", data))
    assert quiet.dropped == 0, "what others gave back may be borrowed"
    await quiet.unsubscribe()
    assert room.free == 4 * STEP
    for each in (*floods, quiet):
        await each.end()
    assert room.free == 4 * STEP


@pytest.mark.parametrize("error", [ValueError("bad"), asyncio.CancelledError(), TimeoutError()])
async def test_a_handler_that_raises_costs_one_message_counted_and_logged(
    make: Make, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[bytes] = []

    async def fails_once(message: Message) -> None:
        if message.data == b"1":
            raise error
        seen.append(message.data)

    subscription = make(fails_once)
    with caplog.at_level(logging.ERROR):
        offer(subscription, 4)
        await until(lambda: len(seen) == 3)
    assert seen == [b"0", b"2", b"3"]
    assert (subscription.handled, subscription.failed) == (3, 1)
    assert "handler of s failed" in caplog.text


async def test_a_handler_that_always_fails_does_not_flood_the_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(message: Message) -> None:
        raise ValueError

    subscription = make(fails)
    offer(subscription, 500)
    await subscription.join()
    assert subscription.failed == 500
    assert len(caplog.records) < 50


async def test_what_does_not_fit_is_dropped_newest_first_and_counted(make: Make) -> None:
    seen: list[bytes] = []
    subscription = make(collect(seen), messages=3)
    offer(subscription, 5)
    assert (subscription.pending, subscription.dropped) == (3, 2)
    await subscription.join()
    assert seen == [b"0", b"1", b"2"]
    assert subscription.take_counts() == (2, 0)
    assert subscription.take_counts() == (0, 0)


async def test_bytes_are_bounded_too_and_room_comes_back(make: Make) -> None:
    seen: list[bytes] = []
    subscription = make(collect(seen), size=100)
    for _ in range(2):
        subscription.offer(Message("s", bytes(60)))
        subscription.offer(Message("s", bytes(60)))
        await subscription.join()
    assert (len(seen), subscription.dropped) == (2, 2)


async def test_unsubscribing_throws_the_queue_away_and_lets_the_running_handler_finish(make: Make) -> None:
    gate, finished = asyncio.Event(), list[bytes]()

    async def waits(message: Message) -> None:
        await gate.wait()
        finished.append(message.data)

    subscription = make(waits)
    offer(subscription, 5)
    await until(lambda: subscription.pending == 4)
    await subscription.unsubscribe()
    await subscription.unsubscribe()
    gate.set()
    await subscription.join()
    assert finished == [b"0"]
    subscription.offer(Message("s", b"late"))
    assert subscription.pending == 0


async def test_a_handler_may_unsubscribe_itself(make: Make) -> None:
    seen: list[bytes] = []
    unsubscribe: list[Callable[[], Awaitable[None]]] = []

    async def only_one(message: Message) -> None:
        await unsubscribe[0]()
        await asyncio.sleep(0)
        seen.append(message.data)

    subscription = make(only_one)
    unsubscribe.append(subscription.unsubscribe)
    offer(subscription, 3)
    await until(lambda: seen == [b"0"])


async def test_an_answer_goes_to_its_request_and_strangers_are_counted() -> None:
    replies = Replies()
    with replies.expect(timeout=60) as (first, one), replies.expect(timeout=60) as (second, two):
        assert first != second
        replies.deliver(Message(second, b"2"))
        replies.deliver(Message(first, b"1"))
        replies.deliver(Message(first, b"again"))
        replies.deliver(Message("guessed", b"x"))
        assert ((await one).data, (await two).data) == (b"1", b"2")
    assert replies.late == 2
    assert replies.waiting == 0


async def test_requests_that_wait_fail_together_when_the_connection_is_gone() -> None:
    replies = Replies()
    with replies.expect(timeout=60) as (_, one), replies.expect(timeout=60) as (_, two):
        replies.fail_all()
        for future in (one, two):
            with pytest.raises(ConnectionError):
                await future


def test_no_responders_is_an_empty_message_with_status_503() -> None:
    assert Message("s", b"", "", {"Status": "503"}).no_responders
    assert not Message("s", b"x", "", {"Status": "503"}).no_responders
    assert not Message("s", b"", "", {"Status": "404"}).no_responders
    assert not Message("s", b"").no_responders
