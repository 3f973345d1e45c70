"""Scaling advice: what a moment needs, when that becomes advice, and who is told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.scaling import Scaling
from coordinator.state.model import State
from coordinator.state.records import Cause, Drain, Migration, Phase, Placement, Worker, WorkerStatus
from coordinator.state.scaling import DOWN, HOLD, UP, Advisor, Need, Thresholds, need
from coordinator.state.versions import Group
from coordinator.webhook import Webhook
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.support.poll import until
from tests.unit.coordinator.stage import Stage


def cluster(workers: int, running: int, pending: int = 0, *, slots: int = 10, reason: str = "full") -> State:
    """`running` pipelines spread over ready workers of `slots` each, and some that wait."""
    state = State()
    for number in range(workers):
        state.workers[f"w{number}"] = Worker(
            id=f"w{number}", session=1, address="a", cpu_cores=2, max_pipelines=slots, registered_at=1
        )
    placements = {
        f"r{n}": Placement(phase=Phase.RUNNING, worker_id=f"w{n % workers}") for n in range(running)
    } | {f"p{n}": Placement(reason=reason) for n in range(pending)}
    if placements:
        spec = GroupSpec(name="g", pipelines=[PipelineSpec(name=name, source="-") for name in placements])
        state.groups["g"] = Group(spec=spec, consumes={}, created_at=1)
        state.placements["g"] = placements
    return state


def asked(state: State, loads: dict[str, float] | None = None, **limits: Any) -> tuple[str, int, str]:
    now = need(state, loads or {}, Thresholds(**limits))
    return now.advice, now.wanted, now.reason


def test_slots_and_cores_are_kept_between_low_and_high() -> None:
    assert asked(cluster(2, 12))[:2] == (HOLD, 2)
    assert asked(cluster(2, 17)) == (UP, 3, "17 of 20 slots are taken")
    assert asked(cluster(2, 10), {"w0": 0.9, "w1": 0.95}) == (UP, 3, "1.85 of 2 workers' cores are in use")
    advice, wanted, reason = asked(cluster(4, 10))
    assert (advice, wanted) == (
        DOWN,
        3,
    ) and reason == "10 of 40 slots and 0.00 of 4 workers' cores are in use"
    assert asked(cluster(4, 10), {f"w{n}": 0.4 for n in range(4)})[:2] == (HOLD, 4), "their cores are needed"


def test_what_waits_for_room_asks_for_more_and_says_why_it_waits() -> None:
    advice, wanted, reason = asked(cluster(1, 10, 6))
    assert (advice, wanted) == (UP, 2) and "6 pipelines wait" in reason and "g/p0: full" in reason


def test_what_waits_although_there_is_room_asks_for_nothing_that_would_not_help() -> None:
    """It would ask for one more for ever."""
    advice, wanted, reason = asked(cluster(4, 4, 1, reason="no worker has zone=b"))
    assert (advice, wanted) == (HOLD, 4) and "although 36 slots are free" in reason and "zone=b" in reason


def test_a_cordoned_worker_is_no_room_and_what_is_to_leave_it_wants_some() -> None:
    state = cluster(2, 10, slots=10)
    state.workers["w0"] = replace(state.workers["w0"], cordoned=True)
    now = need(state, {}, Thresholds())
    assert (now.ready, now.capacity, now.assigned, now.pending) == (1, 10, 5, 0), "what it has may stay"
    state.drains["d-1"] = Drain(
        id="d-1", worker_id="w0", session=1, cause=Cause.MANUAL, total=5, reason="no room", started_at=1
    )
    assert asked(state)[:2] == (UP, 2) and "g/r0: no room" in asked(state)[2]
    state.migrations["m-9"] = Migration(
        id="m-9",
        group="g",
        pipeline="r0",
        cause=Cause.DRAIN,
        from_worker="w0",
        from_epoch=0,
        to_worker="w1",
        to_epoch=9,
        to_session=1,
        queue=1,
        from_pipeline_id="r0",
        started_at=1,
    )
    now = need(state, {}, Thresholds())
    assert (now.assigned, now.pending) == (6, 4), "what moves has its place"


def test_without_any_worker_one_is_wanted_and_bounds_hold() -> None:
    assert asked(State()) == (UP, 1, "0 workers are ready, fewer than the least wanted")
    assert asked(State(), min_workers=0)[:2] == (HOLD, 0)
    assert asked(cluster(3, 0), min_workers=2)[:2] == (DOWN, 2)
    assert asked(cluster(2, 20, 50), max_workers=3)[:2] == (UP, 3)
    assert asked(cluster(3, 30, 50), max_workers=3)[:2] == (HOLD, 3)


def test_a_worker_that_is_not_ready_is_no_capacity() -> None:
    state = cluster(3, 15)
    worker = state.workers["w2"]
    state.workers["w2"] = Worker(
        **{f: getattr(worker, f) for f in worker.__struct_fields__ if f != "status"},
        status=WorkerStatus.UNHEALTHY,
    )
    now = need(state, {"w2": 1.0}, Thresholds())
    assert (now.ready, now.capacity, now.load) == (2, 20, 0.0)


@given(st.integers(1, 40), st.integers(0, 300), st.integers(1, 20), st.floats(0, 1))
def test_following_the_advice_leads_to_hold(workers: int, running: int, slots: int, load: float) -> None:
    """No advice calls for its own opposite."""
    running = min(running, workers * slots)
    total = load * workers
    now = need(cluster(workers, running, slots=slots), {f"w{n}": load for n in range(workers)}, Thresholds())
    after = cluster(now.wanted, running, slots=slots)
    again = need(after, {f"w{n}": min(total / now.wanted, 1) for n in range(now.wanted)}, Thresholds())
    assert again.advice == HOLD, (now, again)


@pytest.mark.parametrize(
    "wrong",
    [{"low": 0.8}, {"high": 1.1}, {"low": 0}, {"up_after": -1}, {"min_workers": 5, "max_workers": 4}],
)
def test_thresholds_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give"):
        Thresholds(**wrong)


def look(advice: str, wanted: int) -> Need:
    return Need(
        advice=advice, wanted=wanted, reason="r", ready=2, capacity=20, assigned=1, pending=0, load=0.0
    )


def test_advice_needs_a_whole_window_that_agrees_and_takes_the_most_modest_number() -> None:
    advisor = Advisor(Thresholds(up_after=3, down_after=6))
    looks = [(HOLD, 2)] * 2 + [(UP, 9), (UP, 4), (HOLD, 2), (UP, 9), (UP, 4), (UP, 7)]
    for second, (advice, wanted) in enumerate(looks):
        assert not advisor.look(look(advice, wanted), second * 1000)
    assert advisor.look(look(UP, 8), 8000) and advisor.advice is not None
    assert (advisor.advice.advice, advisor.advice.wanted, advisor.advice.since) == (UP, 4, 8000)
    assert not advisor.look(look(UP, 8), 9000), "4 is still in the window"
    assert advisor.look(look(UP, 8), 10_000) and advisor.advice.wanted == 7
    assert advisor.advice.since == 8000, "more of the same since then"
    for second in range(11, 17):
        assert not advisor.look(look(DOWN, 1), second * 1000) and advisor.advice.advice == UP
    assert advisor.look(look(DOWN, 1), 17_000) and advisor.advice.advice == DOWN


async def test_only_the_leader_advises_and_a_new_one_begins_anew() -> None:
    stage = Stage()
    leads, time, told = True, 0, []

    class Teller:
        def tell(self, news_id: str, news: dict[str, Any]) -> None:
            told.append((news_id, news))

    scaling = Scaling(
        cluster_id="c",
        ledger=stage.ledger,
        table=stage.table,
        limits=Thresholds(up_after=2, min_workers=1),
        leads=lambda: leads,
        teller=Teller(),
        clock=lambda: time,
    )
    for time in range(0, 10_000, 1000):  # noqa: B007 - the clock reads it
        scaling.step()
    ((news_id, news),) = told
    assert news_id == "c.1.1" and news["advice"] == UP and news["workers_wanted"] == 1
    assert scaling.view().advice == UP and scaling.view().since_ms == 2000
    leads = False
    scaling.step()
    assert scaling.view().advice == HOLD and "does not lead" in scaling.view().reason
    leads = True
    scaling.step()
    assert scaling.view().advice == HOLD and len(told) == 1


@contextlib.asynccontextmanager
async def receiver(*statuses: int) -> AsyncIterator[tuple[str, list[tuple[str, Any]]]]:
    """A server that answers with these statuses in turn, the last one for ever; 0 closes without a word."""
    got: list[tuple[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            body = await reader.readexactly(int(fields["content-length"]))
            status = statuses[min(len(got), len(statuses) - 1)]
            got.append((fields["idempotency-key"], json.loads(body)))
            if status:
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", got
    finally:
        server.close()


async def test_news_is_posted_until_it_is_taken_under_one_id() -> None:
    async with receiver(503, 0, 200) as (url, got):
        hook = Webhook(url, lambda: True, first_pause=0.01)
        hook.tell("c.1.1", {"advice": UP})
        await until(lambda: hook.ended["taken"], what="it was taken")
        assert got == [("c.1.1", {"id": "c.1.1", "advice": UP})] * 3
        assert hook.ended == {"failed": 2, "taken": 1}
        await hook.close()


async def test_news_is_given_up_when_it_is_refused_overtaken_or_this_node_leads_no_longer() -> None:
    async with receiver(404) as (url, got):
        hook = Webhook(url, lambda: True, first_pause=0.01)
        hook.tell("1", {})
        await until(lambda: hook.ended["refused"], what="it was refused")
        await hook.close()
        assert len(got) == 1
    async with receiver(503, 200) as (url, got):
        hook = Webhook(url, lambda: True, first_pause=30)
        hook.tell("1", {})
        await until(lambda: got, what="the first try")
        hook.tell("2", {})
        await until(lambda: hook.ended["taken"], what="the second is taken")
        assert [key for key, _ in got] == ["1", "2"] and hook.ended["superseded"] == 1
        await hook.close()
    leads = [True, False]
    hook = Webhook("http://127.0.0.1:9/", lambda: leads.pop(0), first_pause=0.01)
    hook.tell("1", {})
    await until(lambda: not leads, what="asked whether it still leads")
    await hook.close()
    assert hook.ended == {"failed": 1}
