"""The short way in: messages go from the socket to their sinks in the turn of the loop that read them.

nats-py reads through a stream and a task: bytes wait in a buffer, a future wakes the task a turn later, and
each control line meets a regular expression. A `Shortcut` sits before that stream. It takes whole messages
without headers from the front of what was read, as long as their subscription has a sink, and leaves
everything else, and all that follows it, to the stream: headers, PING, INFO, errors, JetStream's messages. So
that nothing overtakes anything, it takes nothing before nats-py has read what was left to it.

A message that is not complete yet is kept here; it dies with the connection.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from transport.subscription import Message

Sink = Callable[[Message], None]
_MESSAGE: Final = b"MSG "
_MOST_LINE: Final = 4096
"""Bytes of a control line; what is longer is nats-py's to refuse."""


class Shortcut(asyncio.Protocol):
    """The protocol of one connection, before nats-py's `stream`.

    `sinks` by the number of their subscription; `malformed` is called for each message whose subject cannot
    be read, which is thrown away.

    Attributes:
        open: nats-py waits for more, with nothing read by halves. Whoever reads there says so when it begins
            to wait; it ends with the bytes that the stream is given, for those are to be read first.
    """

    def __init__(
        self,
        stream: asyncio.Protocol,
        sinks: Mapping[int, Sink],
        malformed: Callable[[], None],
    ) -> None:
        self._stream, self._sinks, self._malformed = stream, sinks, malformed
        self._kept = bytearray()
        self._needed = 0
        self.open = False

    def data_received(self, data: bytes) -> None:
        if self._kept:
            self._kept += data
            if len(self._kept) < self._needed:
                return
            data = bytes(self._kept)
            self._kept.clear()
        rest = self._deliver(data) if self.open else 0
        if rest < len(data):
            self.open = False
            self._stream.data_received(data[rest:])

    def _deliver(self, data: bytes) -> int:
        """Hand the messages at the front of `data` to their sinks; gives where nats-py's part begins."""
        at, end, sinks = 0, len(data), self._sinks
        while at < end:
            if not data.startswith(_MESSAGE, at):
                if _MESSAGE.startswith(data[at:]):
                    return self._keep(data, at, end - at + 1)
                return at
            line_end = data.find(b"\r\n", at, at + _MOST_LINE)
            if line_end < 0:
                return at if end - at >= _MOST_LINE else self._keep(data, at, end - at + 1)
            words = data[at:line_end].split(b" ")
            try:
                sink, size = sinks[int(words[2])], int(words[-1])
            except (KeyError, ValueError, IndexError):
                return at
            if not 4 <= len(words) <= 5:
                return at
            begin = line_end + 2
            if begin + size + 2 > end:
                return self._keep(data, at, begin + size + 2 - at)
            at = begin + size + 2
            try:
                subject, reply = words[1].decode(), words[3].decode() if len(words) == 5 else ""
            except UnicodeDecodeError:
                self._malformed()
                continue
            sink(Message(subject, data[begin : begin + size], reply))
        return end

    def _keep(self, data: bytes, at: int, needed: int) -> int:
        """Wait until there are `needed` bytes from `at` on."""
        self._kept += data[at:]
        self._needed = needed
        return len(data)

    # -- the rest of a protocol is the stream's ----------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._stream.connection_lost(error)

    def eof_received(self) -> bool | None:
        return self._stream.eof_received()

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()
