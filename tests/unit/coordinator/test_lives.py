"""What one life must not inherit from another: a group deployed again, a cluster whose logs were lost."""

import asyncio
from typing import Any

from coordinator.controllers.actions import LONGEST_PAUSE, Actions, Key
from coordinator.ledger import now_ms
from coordinator.state.commands import DeleteGroup, RaiseEpochs
from coordinator.state.limits import MAX_FOREIGN_EPOCH
from coordinator.state.records import Phase
from coordinator.state.views import group_view
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.membership import RunningPipeline
from tests.unit.coordinator.stage import Stage
from tests.unit.coordinator.worlds import World, in_phase
from worker.fence import EpochFence


async def test_a_group_deployed_again_under_its_name_does_not_wait_out_the_old_pause() -> None:
    stage = Stage()
    await stage.join("w1")
    stage.workers.answers["w1"] = WireError(ErrorCode.ENGINE_ERROR, "no such thing")
    await stage.create("g", "p")
    await stage.settle()
    await stage.later(8, "w1")
    assert stage.placed("g", "p").phase is Phase.FAILED
    first = stage.machine.state.groups["g"].created_at
    await stage.say(DeleteGroup, group="g")
    stage.workers.answers.clear()
    while now_ms() == first:
        await asyncio.sleep(0)
    await stage.create("g", "p")
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.RUNNING


async def test_a_worker_that_refused_the_first_group_is_asked_for_the_second_of_the_name() -> None:
    stage = Stage()
    await stage.join("w1")
    stage.workers.answers["w1"] = WireError(ErrorCode.QUOTA_EXCEEDED, "full")
    await stage.create("g", "p")
    await stage.settle()
    first = stage.machine.state.groups["g"].created_at
    await stage.say(DeleteGroup, group="g")
    stage.workers.answers.clear()
    while now_ms() == first:
        await asyncio.sleep(0)
    await stage.create("g", "p")
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.RUNNING


def test_a_pending_pipeline_always_has_a_reason_and_a_running_one_none() -> None:
    for phase, expected in ((Phase.PENDING, True), (Phase.RUNNING, False)):
        world = in_phase(phase)
        (placement,) = group_view(world.state, world.state.groups["g"]).placements
        assert placement.status == phase and bool(placement.reason) is expected


async def test_failures_are_counted_until_long_after_their_pause_and_not_for_ever() -> None:
    now = [0.0]
    actions = Actions(lambda: now[0], lambda: None)

    async def act() -> None:
        raise WireError(ErrorCode.TIMEOUT, "late")

    async def fail(key: Key) -> int:
        actions._sweep_above = 0
        assert actions.start(key, act)
        while actions.in_flight:
            await asyncio.sleep(0)
        return actions.failures(key)

    for tries in (1, 2, 3):
        assert [await fail(("copy", "w1", str(number))) for number in range(5)] == [tries] * 5
        now[0] += 2 * LONGEST_PAUSE
    now[0] += 600
    assert await fail(("copy", "w2", "x")) == 1
    assert len(actions._pauses) == 1


# -- epochs


def copy_of(epoch: int) -> RunningPipeline:
    return RunningPipeline(pipeline_id=f"p-{epoch}", group="g", name="p", epoch=epoch)


def test_epochs_go_on_above_what_a_registering_worker_runs() -> None:
    world = World()
    world.worker("w1", pipelines=[copy_of(480), copy_of(500), copy_of(490)])
    assert [event.about for event in world.state.audit if event.what == "epochs_raised"] == ["0 to 500"]
    world.group("g", "p")
    assert world.place("g", "p", "w1") == 501


def test_epochs_never_go_back_and_never_jump_to_nonsense() -> None:
    world = World()
    for epoch in (7, 3, 0, -1, MAX_FOREIGN_EPOCH + 1, 2**63):
        world.do(RaiseEpochs, epoch=epoch)
    assert world.state.epochs == 7
    world.worker("w1", pipelines=[copy_of(2**63 - 1), copy_of(9)])
    assert world.state.epochs == 9


async def test_an_epoch_a_heartbeat_tells_of_is_passed_and_told_once() -> None:
    stage = Stage()
    await stage.join("w1")
    stage.beat("w1", copy_of(500), copy_of(2**63 - 1))
    await stage.settle(2)
    assert stage.machine.state.epochs == 500
    index = stage.log.index
    stage.loop.step()
    await stage.quiet()
    assert stage.log.index == index


async def test_a_worker_that_has_seen_a_higher_epoch_is_asked_with_a_higher_one_next() -> None:
    stage = Stage()
    await stage.join("w1")
    fence = EpochFence()
    fence.check(1, 500, ("g", "p"))
    ask = stage.workers.request_message

    async def fenced(subject: str, message: Any, reply_type: Any, *, timeout: float) -> Any:
        answer = await ask(subject, message, reply_type, timeout=timeout)
        if isinstance(message, Deploy):
            fence.check(message.term, message.epoch, (message.group or "", message.name))
        return answer

    stage.workers.request_message = fenced  # type: ignore[method-assign]
    await stage.create("g", "p")
    await stage.later(8, "w1")
    assert stage.placed("g", "p").phase is Phase.RUNNING
    assert [deploy.epoch for _, deploy in stage.workers.deploys()] == [1, 501]


async def test_a_refused_term_says_nothing_about_epochs() -> None:
    stage = Stage()
    await stage.join("w1")
    fence = EpochFence()
    fence.check(500, 1, ("g", "p"))
    try:
        fence.check(1, 1, ("g", "p"))
    except WireError as refusal:
        stage.workers.answers["w1"] = refusal
    await stage.create("g", "p")
    await stage.later(8, "w1")
    tries = len(stage.workers.deploys())
    assert tries and stage.machine.state.epochs == tries
