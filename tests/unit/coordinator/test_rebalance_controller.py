"""When loads are evened by themselves, and what is told who asks for it."""

from typing import Any

import pytest

from coordinator.controllers.rebalance import MOST, SETTLE, Rebalance
from coordinator.state.commands import MarkWorker
from coordinator.state.rebalance import Move
from coordinator.state.records import WorkerStatus
from proto_schemas.errors import ErrorCode, WireError
from tests.unit.coordinator.stage import Stage


class Rounds(Stage):
    """A stage whose moves are only written down; `refuse` makes them fail from then on."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.moved: list[Move] = []
        self.refuse: WireError | None = None
        self.loop.rebalance = self.controller = Rebalance(
            self.ledger, self.table, self.loop.verdicts, lambda: self.time, self.start_move, **settings
        )

    async def start_move(self, move: Move) -> str:
        if self.refuse is not None:
            raise self.refuse
        self.moved.append(move)
        return f"m-{len(self.moved)}"

    async def filled(self, pipelines: int = 8) -> None:
        """`w1` holds it all, and has settled; `w2` is empty and has just joined."""
        await self.join("w1", room=40)
        await self.create("g", *(f"p{number}" for number in range(pipelines)))
        await self.settle()
        await self.later(SETTLE + 1, "w1")
        await self.join("w2", room=40)

    async def quiet(self) -> None:
        """Also what is in a thread ends."""
        for actions in (self.loop.verdicts, self.loop.pipelines, self.loop.sweeps):
            for task in list(actions._running.values()):
                await task
        await super().quiet()


async def test_a_worker_that_joined_is_given_its_part_once_all_is_settled() -> None:
    stage = Rounds()
    await stage.filled()
    await stage.later(SETTLE - 1, "w1", "w2")
    assert stage.moved == []
    await stage.later(2, "w1", "w2")
    assert len(stage.moved) == 4
    assert {(move.from_worker, move.to_worker) for move in stage.moved} == {("w1", "w2")}


async def test_nothing_moves_by_itself_when_that_is_off_or_nobody_joined() -> None:
    stage = Rounds(automatic=False)
    await stage.filled()
    await stage.later(2 * SETTLE, "w1", "w2")
    assert stage.moved == []
    assert len((await stage.controller.start()).ids) > 0, "but when asked"


async def test_it_waits_for_what_has_no_place_yet() -> None:
    stage = Rounds()
    await stage.filled()
    stage.workers.answers["w1"] = stage.workers.answers["w2"] = WireError(ErrorCode.UNAVAILABLE, "busy")
    await stage.create("late", "p")
    await stage.later(2 * SETTLE, "w1", "w2")
    assert stage.moved == []
    stage.workers.answers.clear()
    await stage.later(8, "w1", "w2")
    assert stage.moved != []


async def test_what_one_round_leaves_comes_after_the_cooldown() -> None:
    stage = Rounds(cooldown=20.0)
    await stage.join("w1", room=400)
    await stage.create("g", *(f"p{number}" for number in range(200)))
    await stage.settle()
    await stage.later(SETTLE + 1, "w1")
    await stage.join("w2", room=400)
    await stage.later(SETTLE + 1, "w1", "w2")
    assert len(stage.moved) == MOST
    await stage.later(15, "w1", "w2")
    assert len(stage.moved) == MOST
    await stage.later(6, "w1", "w2")
    assert len(stage.moved) == 2 * MOST


async def test_a_worker_that_comes_back_counts_as_one_that_joins() -> None:
    stage = Rounds(cooldown=1.0)
    await stage.filled()
    await stage.later(SETTLE + 1, "w1", "w2")
    stage.moved.clear()
    session = stage.machine.state.workers["w2"].session
    for status in (WorkerStatus.UNHEALTHY, WorkerStatus.READY):
        await stage.say(MarkWorker, worker_id="w2", session=session, status=status, reason="test")
        await stage.later(0.25, "w1")
    await stage.later(SETTLE + 1, "w1", "w2")
    assert stage.moved != []


async def test_a_new_leader_looks_once() -> None:
    stage = Rounds()
    await stage.filled()
    await stage.later(SETTLE + 1, "w1", "w2")
    stage.moved.clear()
    stage.time += 100
    stage.controller.forget()
    await stage.later(SETTLE + 1, "w1", "w2")
    assert stage.moved != []


async def test_a_move_that_is_refused_ends_the_round_and_is_told() -> None:
    stage = Rounds(automatic=False)
    await stage.filled()
    stage.refuse = WireError(ErrorCode.QUOTA_EXCEEDED, "no room")
    with pytest.raises(WireError, match="no room"):
        await stage.controller.start()
    assert stage.moved == []


async def test_without_a_way_to_move_the_plan_is_told_and_the_rest_refused() -> None:
    stage = Stage()
    await stage.join("w1", room=40)
    await stage.create("g", *(f"p{number}" for number in range(8)))
    await stage.settle()
    await stage.join("w2", room=40)
    assert len(await stage.loop.rebalance.plan()) > 0
    with pytest.raises(WireError, match="dry_run"):
        await stage.loop.rebalance.start()
