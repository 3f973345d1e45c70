"""What takes the short way, what is left to nats-py, and that nothing overtakes anything."""

import asyncio
import random

import pytest

from transport.shortcut import Shortcut
from transport.subscription import Message

FRAMES = (
    b"MSG a.b 1 2\r\nhi\r\n",
    b"MSG a.c 1 _INBOX.x 5\r\nhello\r\n",
    b"MSG a.empty 2 0\r\n\r\n",
    b"MSG a.lines 2 11\r\nMSG x 1 2\r\n\r\n",
)
HEARD = [
    ("a.b", b"hi", ""),
    ("a.c", b"hello", "_INBOX.x"),
    ("a.empty", b"", ""),
    ("a.lines", b"MSG x 1 2\r\n", ""),
]
FOREIGN = (
    b"PING\r\n",
    b"+OK\r\n",
    b"HMSG a.b 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
    b"MSG a.b 9 2\r\nhi\r\n",  # a subscription without a sink
    b"MSG a.b one 2\r\nhi\r\n",
    b"MSG a.b 1 r s 2\r\nhi\r\n",
    b"MSG\ta.b 1 2\r\nhi\r\n",
    b"MSG " + b"a" * 5000,
)


class Stream(asyncio.Protocol):
    """Stands for nats-py's stream: it keeps what it is given."""

    def __init__(self) -> None:
        self.given = b""

    def data_received(self, data: bytes) -> None:
        self.given += data


class Ends:
    """Both ends of a shortcut; nats-py waits for more."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes, str]] = []
        self.stream, self.malformed = Stream(), 0
        sinks = {1: self._sink, 2: self._sink}
        self.way = Shortcut(self.stream, sinks, self._count)
        self.way.open = True

    def _sink(self, message: Message) -> None:
        self.heard.append((message.subject, message.data, message.reply))

    def _count(self) -> None:
        self.malformed += 1


@pytest.mark.parametrize("seed", range(50))
def test_messages_cut_anywhere_arrive_whole_and_in_order_and_the_stream_sees_none_of_them(seed: int) -> None:
    dice, ends, data = random.Random(seed), Ends(), b"".join(FRAMES)
    while data:
        size = dice.choice((1, 2, 3, 7, 20, 100))
        ends.way.data_received(data[:size])
        data = data[size:]
    assert ends.heard == HEARD
    assert ends.stream.given == b""


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_is_not_for_a_sink_is_the_streams_with_all_that_follows(foreign: bytes) -> None:
    ends = Ends()
    ends.way.data_received(FRAMES[0] + foreign + FRAMES[1])
    assert ends.heard == HEARD[:1]
    assert ends.stream.given == foreign + FRAMES[1]


def test_nothing_overtakes_what_the_stream_has_not_read_yet() -> None:
    ends = Ends()
    ends.way.data_received(b"PING\r\n")
    ends.way.data_received(FRAMES[0])
    assert not ends.heard
    assert ends.stream.given == b"PING\r\n" + FRAMES[0]
    ends.way.open = True  # it was read
    ends.way.data_received(FRAMES[1])
    assert ends.heard == HEARD[1:2]


def test_nothing_overtakes_what_nats_py_has_read_by_halves() -> None:
    ends = Ends()
    ends.way.open = False
    ends.way.data_received(FRAMES[0])
    assert not ends.heard
    assert ends.stream.given == FRAMES[0]


def test_a_subject_that_cannot_be_read_costs_one_message() -> None:
    ends = Ends()
    ends.way.data_received(b"MSG \xff 1 2\r\nhi\r\n" + FRAMES[0])
    assert (ends.malformed, ends.heard) == (1, HEARD[:1])
