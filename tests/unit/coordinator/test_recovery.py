"""What the leader asks of workers about checkpoints, and what it shows of what they answer."""

import asyncio

import pytest

from coordinator.heartbeats import HeartbeatTable
from coordinator.state.commands import DeleteGroup
from coordinator.state.records import Phase
from coordinator.state.views import group_status, group_view
from proto_schemas.messages.deploys import Undeploy
from proto_schemas.messages.membership import Heartbeat, PipelineMetrics, RunningPipeline
from proto_schemas.rest.groups import TrafficView
from tests.unit.coordinator.stage import Stage, silent

OLD = "went on from a checkpoint 2.0 s old; what came after it is lost"


async def stage(*workers: str, **fields: float) -> Stage:
    made = Stage()
    await made.join(*workers)
    await made.create("g", "p", **fields)
    return made


async def test_every_copy_is_told_to_begin_from_the_last_checkpoint_of_this_life_of_its_group() -> None:
    world = await stage("w1", checkpoint_secs=2.5)
    await world.settle()
    ((_, deploy),) = world.workers.deploys()
    created = world.machine.state.groups["g"].created_at
    assert (deploy.restore_from, deploy.life, deploy.checkpoint_secs) == ("latest", created, 2.5)


async def test_what_a_copy_began_from_is_the_reason_of_its_placement_and_in_the_audit_trail() -> None:
    world = await stage("w1", "w2")
    await world.settle()
    assert world.placed("g", "p").reason is None
    world.workers.begun = OLD
    world.beat("w1", world.copy("g", "p"))
    await world.later(3.5, "w2")
    placement = world.placed("g", "p")
    assert (placement.phase, placement.worker_id, placement.reason) == (Phase.RUNNING, "w2", OLD)
    assert any(OLD in event.why for event in world.machine.state.audit)


async def test_a_copy_whose_answer_was_lost_tells_by_its_heartbeat() -> None:
    world = await stage("w1")
    world.workers.answers["w1"] = silent()
    await world.settle()
    world.beat("w1", world.copy("g", "p", pipeline_id="p-real", reason=OLD))
    await world.later(0.25)
    assert world.placed("g", "p").reason == OLD


async def test_a_group_with_a_copy_that_lost_some_state_is_not_partially_running_for_it() -> None:
    world = Stage()
    await world.join("w1", room=1)
    await world.create("g", "p", "q")
    world.workers.begun = OLD
    world.loop.step()
    await world.quiet()
    state = world.machine.state
    phases = {placement.phase for placement in state.placements["g"].values()}
    assert phases == {Phase.RUNNING, Phase.PENDING}
    waiting = {name: each for name, each in state.placements["g"].items() if each.phase is Phase.RUNNING}
    assert group_status(state.groups["g"], waiting) == "running"


async def test_only_the_end_of_a_pipeline_forgets_its_checkpoints() -> None:
    world = await stage("w1")
    await world.settle()
    stale = RunningPipeline(pipeline_id="p-old", group="g", name="p", epoch=99)
    world.beat("w1", world.copy("g", "p"), stale)
    await world.settle(1)
    await world.say(DeleteGroup, group="g")
    await world.settle()
    asked = {(each.pipeline_id, each.forget) for _, each in world.workers.sent if isinstance(each, Undeploy)}
    assert ("p-1", True) in asked and ("p-old", False) in asked and ("p-old", True) not in asked


@pytest.mark.parametrize(
    ("told", "shown"),
    [(None, (None, None)), ([], (0, 0)), ([3, 7], (3, 7)), ([3], (3, None))],
)
async def test_loss_windows_are_those_of_the_pipelines_in_their_order(
    told: list[int] | None, shown: tuple[int | None, int | None]
) -> None:
    copies = [RunningPipeline(pipeline_id=name, group="g", name=name, epoch=1) for name in ("a", "b")]
    table = HeartbeatTable()
    beat = Heartbeat(events_processed=0, pipelines_running=2, pipelines=copies, loss_windows=told)
    assert table.heard("w1", beat, 1.0)
    heard = table.get("w1")
    assert heard is not None
    assert (heard.loss_window("a"), heard.loss_window("b")) == shown
    assert heard.loss_window("c") is None
    assert not table.heard("w1", beat, 2.0), "a loss window that grows is no news"
    await asyncio.sleep(0)


def test_what_copies_counted_is_theirs_only_where_each_of_them_told() -> None:
    copies = [RunningPipeline(pipeline_id=f"p-{n}", group="g", name=n, epoch=1) for n in ("a", "b")]
    counts = [PipelineMetrics(pipeline_name=n, events_in=n == "a", events_out=2) for n in ("a", "b")]
    table = HeartbeatTable()
    for at, (told, ids) in enumerate([(counts, {"p-a": 1, "p-b": 0}), (counts[:1], {}), (None, {})]):
        beat = Heartbeat(events_processed=0, pipelines_running=2, pipelines=copies, pipeline_metrics=told)
        table.heard("w1", beat, float(at))
        heard = table.get("w1")
        assert heard is not None
        assert {name: each.events_in for name, each in heard.counted().items()} == ids


async def test_the_view_of_a_group_has_the_loss_window_and_the_events_of_each_copy() -> None:
    world = await stage("w1")
    await world.settle()
    group = world.machine.state.groups["g"]
    shown = group_view(world.machine.state, group, lambda *copy: 5 if copy == ("w1", "p-1") else None)
    assert shown.loss_windows == {"p": 5} and shown.traffic == {}
    events = TrafficView(events_in=3, events_out=2)
    shown = group_view(
        world.machine.state, group, traffic=lambda *copy: events if copy == ("w1", "p-1") else None
    )
    assert shown.traffic == {"p": events}
    assert group_view(world.machine.state, group).loss_windows == {}
