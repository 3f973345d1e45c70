"""Answers on their way: one inbox for all requests of a connection, one future for each request.

Each request has a reply subject with 64 random bits under a prefix of 96, so a stranger cannot answer for the
receiver. Whatever comes for a request that is over (late, second, invented) is counted and dropped.
"""

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from transport.deadlines import Deadlines
from transport.subscription import Message

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def new_inbox(name: str = "varpulis") -> str:
    """A subject nobody else knows. It begins with `name` (one token), so that a server's permissions can hold
    each process to its own inboxes."""
    return f"{inbox_prefix(name)}.{secrets.token_hex(12)}"


def inbox_prefix(name: str) -> str:
    """What all inboxes of a process called `name` begin with; a name that is no token gives `varpulis`."""
    return f"_INBOX.{name if _TOKEN.fullmatch(name) else 'varpulis'}"


class Replies:
    """Attributes:
    subject: what to subscribe to.
    late: answers that came for no request that waits.
    """

    def __init__(self, name: str = "varpulis") -> None:
        self._prefix = new_inbox(name) + "."
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._loop = asyncio.get_running_loop()
        self._deadlines = Deadlines(lambda wait: _fail(wait, TimeoutError))
        self.subject = self._prefix + "*"
        self.late = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @contextmanager
    def expect(self, timeout: float) -> "Iterator[tuple[str, asyncio.Future[Message]]]":
        """A reply subject and the future of its answer; it raises `TimeoutError` after `timeout` seconds."""
        reply = self._prefix + secrets.token_hex(8)
        future: asyncio.Future[Message] = self._loop.create_future()
        self._deadlines.add(future, timeout)
        self._waiting[reply] = future
        try:
            yield reply, future
        finally:
            self._deadlines.remove(future)
            del self._waiting[reply]
            if not future.cancel() and not future.cancelled():
                future.exception()  # seen, also when the request was given up before it looked

    def deliver(self, message: Message) -> None:
        """Take an answer; called from the read loop."""
        future = self._waiting.get(message.subject)
        if future is None or future.done():
            self.late += 1
        else:
            future.set_result(message)

    def close(self) -> None:
        """No request is made any more."""
        self._deadlines.close()

    def fail_all(self) -> None:
        """The connection is gone, and the answers with it: raise `ConnectionError` in each that waits."""
        for future in self._waiting.values():
            _fail(future, ConnectionError)


def _fail(future: "asyncio.Future[Message]", error: type[Exception]) -> None:
    if not future.done():
        future.set_exception(error())
