"""Reading and writing a stream on a real nats-server: what is lost on the way is neither lost nor doubled."""

from collections.abc import AsyncIterator, Iterator, Sequence

import pytest

from tests.support.nats_server import NatsServer
from tests.support.poll import until
from transport.config import NatsConfig
from transport.errors import ErrorKind, NatsTransportError
from transport.jetstream import EXPECTED, JetStream, JetStreamRefused, Outgoing, Stored
from transport.nats import NatsTransport
from worker.delivery import reader as reading
from worker.delivery.marks import Closing, Done
from worker.delivery.reader import Reader
from worker.delivery.writer import Fenced, Writer

STREAM, MARKS = "S=g", "marks.p"


class HardOfHearing(JetStream):
    """Does not hear the next answer to a batch."""

    deaf = False

    async def publish_together(self, messages: Sequence[Outgoing]) -> Stored:
        stored = await super().publish_together(messages)
        if self.deaf:
            self.deaf = False
            raise NatsTransportError(ErrorKind.TIMEOUT, "no answer", subject=messages[-1].subject)
        return stored


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer(jetstream=True) as server:
        yield server


@pytest.fixture
async def jetstream(server: NatsServer) -> AsyncIterator[HardOfHearing]:
    bus = await NatsTransport.connect(NatsConfig(servers=(server.url,)), wait=5.0)
    made = HardOfHearing(bus)
    config = {"name": STREAM, "subjects": ["in.>", "out.>", "marks.>"], "allow_atomic": True}
    await made.api(f"STREAM.CREATE.{STREAM}", config)
    yield made
    await bus.close()


async def fill(jetstream: JetStream, count: int) -> None:
    await jetstream.publish_together([Outgoing(f"in.{n % 3}", b"%d" % n) for n in range(count)])


async def read(reader: Reader, count: int) -> list[bytes]:
    found: list[bytes] = []

    async def enough() -> bool:
        found.extend(fetched.data for fetched in await reader.take(100, 0.1))
        return len(found) >= count

    await until(enough, what=f"{count} messages")
    return found


async def outputs(jetstream: JetStream) -> list[bytes]:
    reader = Reader(jetstream, STREAM, ["out.>"], 0)
    found: list[bytes] = []
    while not found or not reader.caught_up:
        found += [fetched.data for fetched in await reader.take(100, 0.2)]
    await reader.stop()
    return found


def out(*names: str) -> list[Outgoing]:
    return [Outgoing(f"out.{name}", name.encode()) for name in names]


async def test_a_reader_whose_consumer_is_gone_goes_on_after_the_last_message_it_gave(
    jetstream: HardOfHearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SILENCE", 0.3)
    monkeypatch.setattr(reading, "PREFETCH", 64)
    await fill(jetstream, 900)
    reader = Reader(jetstream, STREAM, ["in.>"], 0)
    first = await read(reader, 100)
    await jetstream.api(f"CONSUMER.DELETE.{STREAM}.{reader._consumer}")
    rest = await read(reader, 900 - len(first))
    assert first + rest == [b"%d" % n for n in range(900)]
    assert reader.begun == 2 and reader.caught_up
    await reader.stop()


async def test_a_reader_that_waits_while_the_server_is_restarted_reads_on(
    jetstream: HardOfHearing, server: NatsServer
) -> None:
    """Whoever pulls from a consumer that is gone is answered that nobody is there."""
    await fill(jetstream, 30)
    reader = Reader(jetstream, STREAM, ["in.>"], 0)
    for life in range(1, 4):
        await read(reader, 30)
        server.restart()
        await until(lambda life=life: jetstream.bus.stats.reconnects >= life, what="connected again")
        await reader.take(1, 0.1)
        await fill(jetstream, 30)
    assert len(await read(reader, 30)) == 30 and reader.caught_up
    await reader.stop()


async def test_a_reader_holds_no_more_than_it_may_and_tells_how_much_there_is(
    jetstream: HardOfHearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PREFETCH", 64)
    await fill(jetstream, 900)
    reader = Reader(jetstream, STREAM, ["in.0", "in.2"], 0)
    (one,) = await reader.take(1, 5.0)
    await until(lambda: reader.lag == 599, what="the others")
    assert one.data == b"0" and one.sequence == 1 and reader.buffered < 2 * 64
    await reader.stop()


async def test_a_batch_of_which_nothing_was_heard_is_stored_once(jetstream: HardOfHearing) -> None:
    writer = Writer(jetstream, STREAM, MARKS, "p-1", 1)
    assert await writer.claim() is None
    jetstream.deaf = True
    await writer.store(out("a", "b"), Done(1, 0, 2), [])
    await writer.store(out("c"), Done(2, 0, 1), [])
    assert await outputs(jetstream) == [b"a", b"b", b"c"]
    assert writer.repeated == 1 and not writer.error


async def test_without_a_fence_it_may_be_stored_twice_and_never_not(jetstream: HardOfHearing) -> None:
    writer = Writer(jetstream, STREAM, None, "p-1", 1)
    jetstream.deaf = True
    await writer.store(out("a", "b"), Done(1, 0, 2), [])
    assert await outputs(jetstream) == [b"a", b"b", b"a", b"b"]


async def test_after_a_claim_nothing_of_the_copy_before_is_stored(jetstream: HardOfHearing) -> None:
    old, new = (Writer(jetstream, STREAM, MARKS, f"p-{epoch}", epoch) for epoch in (1, 2))
    await old.claim()
    await old.store(out("a"), Done(7, 1, 3), [Closing(7, 1, 1000)])
    assert await new.claim() == Done(7, 1, 3)
    with pytest.raises(Fenced) as caught:
        await old.store(out("b"), Done(8, 0, 1), [])
    assert (caught.value.own, caught.value.seen) == (1, 2)
    await new.store(out("c"), Done(8, 0, 1), [])
    assert await outputs(jetstream) == [b"a", b"c"]
    with pytest.raises(Fenced):
        await old.claim()


async def test_marks_that_have_expired_fence_nobody_off(jetstream: HardOfHearing) -> None:
    writer = Writer(jetstream, STREAM, MARKS, "p-1", 1)
    await writer.claim()
    await jetstream.api(f"STREAM.PURGE.{STREAM}", {"filter": MARKS})
    await writer.store(out("a"), Done(1, 0, 1), [])
    assert await outputs(jetstream) == [b"a"]


async def test_a_stale_expectation_stores_nothing_of_a_batch(jetstream: HardOfHearing) -> None:
    with pytest.raises(JetStreamRefused) as caught:
        await jetstream.publish_together([Outgoing("marks.q", b"x", {EXPECTED: "5"}), *out("a")])
    assert caught.value.code == 10071
    await jetstream.publish(Outgoing("out.z", b"z"))
    assert await outputs(jetstream) == [b"z"]
