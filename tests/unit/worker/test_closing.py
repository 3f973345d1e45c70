"""Windows that the timer closes: all of them, and others have their turns meanwhile."""

import asyncio

import pytest

from proto_schemas.messages.deploys import Deploy
from proto_schemas.subjects import Subjects
from worker.assembly import assemble
from worker.connectors.base import Site
from worker.lease import Lease, Permit
from worker.pipeline import Pipeline

START = 1_700_000_000_000
KEYS = 30_000


async def made(window: str, keys: int = KEYS) -> Pipeline:
    """A pipeline with an open window for each of so many keys, a hundred of which were opened in a ms."""
    source = f"stream Out = In.partition_by(k).window({window}).aggregate(n: count()).emit(n: n)"
    pipeline = await assemble(Deploy(name="p", source=source), None, Subjects(), Permit(Lease()), Site())
    for number in range(keys):
        now = START + number // 100
        pipeline.process("In", {"k": number}, now, now)
    return pipeline


async def turns_during(pipeline: Pipeline, now: int) -> int:
    """How often another task had its turn while all was closed that is over at `now`."""
    turns = 0
    closing = asyncio.create_task(pipeline.tick(now))
    while not closing.done():
        await asyncio.sleep(0)
        turns += 1
    await closing
    return turns


@pytest.mark.parametrize("window", ["10s", "session: 10s"])
async def test_many_windows_that_are_over_are_closed_with_turns_for_others_in_between(
    window: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.pipeline.TURN_SECS", 0.0)
    pipeline = await made(window)
    assert await turns_during(pipeline, START + 3_600_000) > 16
    assert pipeline.events_out == KEYS
    assert pipeline.engine.next_deadline() is None


async def test_what_is_not_over_yet_stays_open() -> None:
    pipeline = await made("10s", 1000)
    await pipeline.tick(START + 10_004)
    assert pipeline.events_out == 500
    await pipeline.tick(START + 10_009)
    assert pipeline.events_out == 1000


async def test_windows_that_were_due_at_any_time_in_the_past_are_all_closed() -> None:
    pipeline = await made("10s", 10)
    for hours in range(1, 200):
        now = START + hours * 3_600_000
        pipeline.process("In", {"k": -hours}, now, now)
    await pipeline.tick(START + 200 * 3_600_000)
    assert pipeline.events_out == 10 + 199


async def test_a_timer_makes_up_for_no_rounds_that_nobody_waited_for() -> None:
    source = "stream Beat = timer(1s).emit(at: 1)"
    pipeline = await assemble(Deploy(name="p", source=source), None, Subjects(), Permit(Lease()), Site())
    assert not pipeline.is_due(START)
    await pipeline.tick(START + 3_600_000)
    assert pipeline.events_out == 1
