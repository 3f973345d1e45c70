"""A registration counts once, however often it is sent, and however late a copy of it arrives."""

from pathlib import Path

import pytest

from coordinator.config import CoordinatorConfig
from coordinator.nats_handlers import register
from coordinator.state.model import State
from proto_schemas.messages.membership import Capacity, Register
from raft.errors import OutcomeUnknown
from tests.unit.coordinator.stage import Stage

CONFIG = CoordinatorConfig(node_id="c0", members=("c0",), cluster_id="x", data_dir=Path("/nowhere"))


async def join(stage: Stage, address: str, request_id: str) -> State:
    """A seed worker, which has no incarnation, registers."""
    capacity = Capacity(cpu_cores=1, pipelines_running=0, max_pipelines=1)
    message = Register(worker_id="w1", address=address, api_key="", capacity=capacity)
    await register(stage.ledger, CONFIG, message, request_id=request_id, displaces=0)
    return stage.ledger.state


@pytest.mark.parametrize("applied", [True, False])
async def test_a_registration_that_is_tried_again_is_one_session(applied: bool) -> None:
    stage = Stage()
    stage.log.fail = [OutcomeUnknown("deposed"), OutcomeUnknown("deposed")]
    stage.log.applied_before_failing = applied
    assert (await join(stage, "a", "r1")).sessions == 1


async def test_a_late_copy_of_a_registration_does_not_undo_the_next_one() -> None:
    stage = Stage()
    await join(stage, "old", "r1")
    await join(stage, "new", "r2")
    state = await join(stage, "old", "r1")
    assert state.workers["w1"].address == "new" and state.sessions == 2
