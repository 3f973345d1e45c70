"""The link: what is cut is closed, what is frozen is held back and comes later, an end passes always."""

import asyncio
import contextlib
from typing import Self

import pytest

from cli.drills.link import Direction, Link
from tests.support.poll import until


class Echo:
    """A server that sends back what it gets."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.heard = b""
        self.ends = 0
        self.writers: list[asyncio.StreamWriter] = []
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(1024):
                self.heard += data
                writer.write(data)
        self.ends += 1
        writer.close()


async def opened(link: Link) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the link that has carried something."""
    reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
    writer.write(b"hi")
    async with asyncio.timeout(10):
        assert await reader.readexactly(2) == b"hi"
    return reader, writer


async def is_closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(10):
        try:
            return await reader.read(1) == b""
        except OSError:
            return True


async def test_a_cut_link_closes_what_stands_and_what_comes_until_it_is_healed() -> None:
    async with Echo() as echo, Link(echo.port) as link:
        reader, writer = await opened(link)
        link.cut()
        assert await is_closed(reader)
        later, late_writer = await asyncio.open_connection("127.0.0.1", link.port)
        assert await is_closed(later)
        link.heal()
        for each in (writer, late_writer, (await opened(link))[1]):
            each.close()


async def test_a_frozen_link_holds_back_and_delivers_all_in_order_when_it_is_healed() -> None:
    async with Echo() as echo, Link(echo.port) as link:
        reader, writer = await opened(link)
        link.freeze()
        writer.write(b"one")
        await until(lambda: link.taken[Direction.TO_NATS] == 5, what="the link has it")
        writer.write(b"two")
        await until(lambda: link.taken[Direction.TO_NATS] == 8, what="the link has both")
        assert echo.heard == b"hi"
        link.heal()
        async with asyncio.timeout(10):
            assert await reader.readexactly(6) == b"onetwo"
        writer.close()


@pytest.mark.parametrize("frozen", list(Direction))
async def test_a_link_frozen_one_way_passes_the_other(frozen: Direction) -> None:
    async with Echo() as echo, Link(echo.port) as link:
        reader, writer = await opened(link)
        link.freeze(frozen)
        writer.write(b"one")
        if frozen is Direction.TO_NATS:
            echo.writers[0].write(b"word")
            async with asyncio.timeout(10):
                assert await reader.readexactly(4) == b"word"
            assert echo.heard == b"hi"
        else:
            await until(lambda: link.taken[frozen] == 5, what="the answer has come as far as the link")
            assert echo.heard == b"hione" and link.passed[frozen] == 2
        link.heal()
        async with asyncio.timeout(10):
            assert await reader.readexactly(3) == b"one"
        writer.close()


async def test_an_end_passes_though_the_link_is_frozen() -> None:
    async with Echo() as echo, Link(echo.port) as link:
        _, writer = await opened(link)
        link.freeze()
        writer.transport.abort()
        await until(lambda: echo.ends == 1, what="the end was passed on")


async def test_a_slow_link_passes_everything() -> None:
    async with Echo() as echo, Link(echo.port) as link:
        reader, writer = await opened(link)
        link.slow(0.01)
        writer.write(b"x" * 200_000)
        async with asyncio.timeout(20):
            assert await reader.readexactly(200_000) == b"x" * 200_000
        writer.close()
