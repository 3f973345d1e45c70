"""The way of one process to NATS: a TCP proxy in this process that can be cut, frozen and slowed.

- `cut`: connections are closed, new ones are closed as soon as they are accepted. The port stays ours, so
  nobody else gets it meanwhile.
- `freeze`: connections stand, new ones are accepted, and no byte passes, in both directions or in one. What
  was sent meanwhile is delivered when it ends: late, as TCP would.
- `slow`: each piece that is read waits before it is passed on, so the latency is one to two times the delay.

The end of a connection passes also while it is frozen: a process that is killed is gone for NATS at once, as
it would be without a proxy.
"""

import asyncio
import contextlib
from enum import StrEnum
from typing import Final, Self

_CHUNK: Final = 64 * 1024
_LAST_WORDS: Final = 0.25
"""Seconds in which what was sent before an end is still passed on."""


class Direction(StrEnum):
    """Which way bytes go."""

    TO_NATS = "to_nats"
    FROM_NATS = "from_nats"


BOTH: Final = tuple(Direction)


class Link:
    """One proxied way to `upstream_port`: `async with Link(upstream_port) as link`, then use `link.port`."""

    def __init__(self, upstream_port: int) -> None:
        self.port = 0
        """Known when it is entered."""
        self.taken = dict.fromkeys(Direction, 0)
        self.passed = dict.fromkeys(Direction, 0)
        """Bytes that were read, and those that were passed on."""
        self._upstream_port = upstream_port
        self._passing = {direction: asyncio.Event() for direction in Direction}
        self._connections: set[asyncio.Task[None]] = set()
        self._cut = False
        self._delay = 0.0
        self._server: asyncio.Server | None = None
        self.heal()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Close all connections and let none stand."""
        self._cut = True
        for connection in self._connections:
            connection.cancel()

    def freeze(self, *directions: Direction) -> None:
        """Hold all bytes back, in these directions or in both."""
        for direction in directions or BOTH:
            self._passing[direction].clear()

    def slow(self, seconds: float) -> None:
        """Delay each piece by so much."""
        self._delay = seconds

    def heal(self) -> None:
        """Pass everything again, also what was held back."""
        self._cut, self._delay = False, 0.0
        for passing in self._passing.values():
            passing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._cut:
                await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # cut: only `cut` cancels, and the end of the connection is all it wants
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            nats_reader, nats_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            try:
                pumps = {
                    asyncio.create_task(self._pump(Direction.TO_NATS, reader, nats_writer)),
                    asyncio.create_task(self._pump(Direction.FROM_NATS, nats_reader, writer)),
                }
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)
            finally:
                nats_writer.transport.abort()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass bytes on until one side ends. Reading goes on while bytes are held back, or an end would not
        be seen; what is held back is bounded by what a coordinator and NATS keep for a peer that is stuck.
        """
        held: asyncio.Queue[bytes] = asyncio.Queue(maxsize=1024)
        writing = asyncio.create_task(self._write(direction, held, writer))
        try:
            while data := await reader.read(_CHUNK):
                self.taken[direction] += len(data)
                await held.put(data)
            if self._passing[direction].is_set():  # last words of one who leaves in order
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LAST_WORDS):
                        await held.join()
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(
        self, direction: Direction, held: "asyncio.Queue[bytes]", writer: asyncio.StreamWriter
    ) -> None:
        while True:
            data = await held.get()
            if self._delay:
                await asyncio.sleep(self._delay)
            await self._passing[direction].wait()
            writer.write(data)
            await writer.drain()
            self.passed[direction] += len(data)
            held.task_done()
