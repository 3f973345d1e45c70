"""How often the leader looks at what, against how much there is: counted, as times would only hint at it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator.controllers.loop import ControlLoop
from coordinator.heartbeats import HeartbeatTable
from coordinator.state.commands import DeleteGroup, RemoveWorker
from coordinator.state.model import State
from coordinator.state.records import Phase, Stray
from proto_schemas.messages.membership import Heartbeat, RunningPipeline
from tests.unit.coordinator.stage import Stage
from transport.errors import ErrorKind, NatsTransportError


class Counted(dict[str, Stray]):
    """Strays that count how many of them were looked at."""

    looked = 0

    def values(self) -> Any:
        self.looked += len(self)
        return super().values()

    def items(self) -> Any:
        self.looked += len(self)
        return super().items()

    def __getitem__(self, key: str) -> Stray:
        self.looked += 1
        return super().__getitem__(key)


async def looks_at_strays(pipelines: int) -> float:
    """For each pipeline of a seed worker that dies, until all run elsewhere."""
    stage = Stage()
    await stage.join("seed", incarnation=None, room=pipelines)
    await stage.create("g", *(f"p{number}" for number in range(pipelines)))
    await stage.settle()
    strays = stage.machine.state.strays = Counted()
    await stage.join("w1", room=pipelines)
    await stage.later(3.5, "w1")
    assert len(strays) == pipelines, "one for each copy that may still run there"
    assert all(stage.placed("g", f"p{number}").worker_id == "w1" for number in range(pipelines))
    return strays.looked / pipelines


async def test_the_strays_of_a_dead_seed_worker_are_looked_at_as_often_each_however_many_there_are() -> None:
    few, many = await looks_at_strays(25), await looks_at_strays(200)
    assert many <= few + 1


async def test_workers_that_run_what_they_should_are_not_compared_again_by_passes_or_heartbeats() -> None:
    stage = Stage()
    names = [f"w{number}" for number in range(20)]
    await stage.join(*names)
    await stage.create("g", *(f"p{number}" for number in range(40)))
    await stage.settle()
    await stage.later(1.0, *names)
    compared = stage.loop.convergence.compared
    await stage.later(5.0, *names)
    assert stage.loop.convergence.compared == compared
    assert all(stage.loop.convergence.stale_copies(name) == [] for name in names)


async def test_a_settled_worker_is_compared_again_once_its_list_or_what_it_holds_changes() -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    await stage.later(1.0, "w1", "w2")
    stray = stage.copy("g", "p")
    stage.beat("w1", *stage.truth("w1"))
    stage.beat("w2", stray)
    assert stage.loop.convergence.stale_copies("w2") == [stray], "it lists what belongs to another"
    stage.beat("w2")
    await stage.later(1.0, "w1", "w2")
    listed = stage.truth("w1")
    await stage.say(DeleteGroup, group="g")
    stage.beat("w1", *listed)
    assert stage.loop.convergence.stale_copies("w1") == [], "it is being removed in order"
    await stage.settle()
    stage.beat("w1", *listed)
    assert stage.loop.convergence.stale_copies("w1") == listed, "its list is the same, the state is not"


async def test_a_copy_on_a_settled_worker_that_was_not_reached_is_ended_once_it_is_listed() -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    await stage.later(1.0, "w1", "w2")
    listed = stage.truth("w1")
    refused = NatsTransportError(ErrorKind.DISCONNECTED, "no connection", subject="https://w1:9000")
    stage.workers.answers["w1"] = refused
    await stage.create("h", "p", worker_affinity="w1")
    await stage.settle()
    made = RunningPipeline(pipeline_id="unheard", group="h", name="p", epoch=stage.placed("h", "p").epoch)
    await stage.later(10, "w1", "w2")
    assert stage.placed("h", "p").worker_id == "w2" and stage.placed("h", "p").epoch > made.epoch
    stage.beat("w1", *listed)
    assert stage.loop.convergence.stale_copies("w1") == [], "what it runs it shall run"
    stage.beat("w1", *listed, made)
    assert stage.loop.convergence.stale_copies("w1") == [made], "it heard the deploy all the same"
    assert stage.placed("g", "p").worker_id == "w1"


async def test_a_worker_that_was_removed_and_came_back_is_compared_anew() -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    await stage.later(1.0, "w1", "w2")
    listed = stage.truth("w1")
    await stage.say(RemoveWorker, worker_id="w1", force=True)
    await stage.join("w1")
    stage.loop.step()
    await stage.quiet()
    stage.beat("w1", *listed)
    await stage.later(1.0, "w2")
    placement = stage.placed("g", "p")
    assert placement.worker_id == "w2" or placement.epoch == listed[0].epoch, "one copy counts"
    if placement.worker_id == "w2":
        assert stage.loop.convergence.stale_copies("w1") == listed


def test_who_is_silent_is_found_without_a_look_at_those_who_are_not() -> None:
    table = HeartbeatTable()
    for at, name in enumerate(("a", "b", "c", "d")):
        table.heard(name, Heartbeat(events_processed=0, pipelines_running=0), float(at))
    table.heard("a", Heartbeat(events_processed=0, pipelines_running=0), 4.0)
    silent = table.silent_since(2.5)
    assert isinstance(silent, Iterator)
    assert [name for name, _ in silent] == ["b", "c"]


def test_an_unchanged_list_of_copies_is_kept_and_is_no_news() -> None:
    def beat(seq: int) -> Heartbeat:
        copies = [RunningPipeline(pipeline_id="p-1", group="g", name="p", epoch=1)]
        return Heartbeat(
            events_processed=seq, pipelines_running=1, incarnation="i", pipelines=copies, seq=seq
        )

    table = HeartbeatTable()
    assert table.heard("w", beat(1), 1.0)
    first = table.get("w")
    assert not table.heard("w", beat(2), 2.0)
    second = table.get("w")
    assert first is not None and second is not None and first.pipelines is second.pipelines
    assert second.count == 2


async def test_placement_starts_nothing_and_looks_no_further_while_as_much_is_under_way_as_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    await stage.join("w1", room=1_000)
    await stage.create("g", *(f"p{number}" for number in range(600)))
    seen = 0
    unsettled = State.unsettled

    def counted(state: State) -> Any:
        nonlocal seen
        for entry in unsettled(state):
            seen += 1
            yield entry

    monkeypatch.setattr(State, "unsettled", counted)
    stage.loop.step()
    first = seen
    stage.loop.step()
    assert stage.loop.pipelines.full and first <= 300 and seen - first <= 1
    await stage.quiet()
    await stage.settle()
    assert all(stage.placed("g", f"p{number}").phase is Phase.RUNNING for number in range(600))


async def test_passes_rest_as_long_as_they_take_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow a pass is, others get the larger part of the event loop."""
    stage = Stage()
    rests: list[float] = []
    ended = asyncio.Event()

    async def slow(loop: ControlLoop) -> None:
        stage.time += 0.5
        loop.wake()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 3:
            ended.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(ControlLoop, "_turn", slow)
    monkeypatch.setattr("coordinator.controllers.loop.asyncio.sleep", rest)
    stage.loop.wake()
    running = asyncio.ensure_future(stage.loop.run())
    async with asyncio.timeout(5):
        await ended.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert rests[1:] == [2.0, 2.0]
