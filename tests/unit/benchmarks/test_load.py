"""The load of all systems: closed loops, and probes that do not wait for each other."""

import asyncio

import pytest

from benchmarks.raft.failover import first_acknowledged
from benchmarks.raft.load import closed_loop, connections


async def test_each_client_waits_for_its_answer_before_it_asks_again() -> None:
    asking: set[int] = set()
    most = 0

    async def put(client: int) -> None:
        nonlocal most
        assert client not in asking
        asking.add(client)
        most = max(most, len(asking))
        await asyncio.sleep(0.001)
        asking.remove(client)

    figures = await closed_loop(put, 3, 0.05)
    assert most == 3
    assert figures["per_second"] > 0 and figures["p50_ms"] <= figures["p99_ms"]
    assert "failed" not in figures


async def test_what_is_not_acknowledged_is_counted_and_not_timed() -> None:
    calls = 0

    async def put(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("refused")
        await asyncio.sleep(0.001)

    assert (await closed_loop(put, 1, 0.2))["failed"] == 1


async def test_a_load_that_never_succeeds_raises_its_cause() -> None:
    async def put(_: int) -> None:
        raise RuntimeError("nobody is there")

    with pytest.raises(RuntimeError, match="nobody is there"):
        await closed_loop(put, 2, 0.01)


def test_clients_share_a_connection_until_it_is_full() -> None:
    assert connections(1, 64 * 1024) == connections(64, 200) == connections(64, 4 * 1024) == 1
    assert connections(64, 64 * 1024) == 8


async def test_a_write_that_hangs_does_not_keep_the_next_one_back() -> None:
    asked: list[str] = []
    cancelled: list[str] = []

    async def write(member: str) -> None:
        asked.append(member)
        if member == "dead":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.append(member)
        if member == "refuses":
            raise ConnectionError

    async with asyncio.timeout(10):
        await first_acknowledged(write, ["dead", "refuses", "well"])
    assert asked == ["dead", "refuses", "well"]
    assert cancelled == ["dead"]
