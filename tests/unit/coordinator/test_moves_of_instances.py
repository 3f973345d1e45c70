"""Moves of instances of a pipeline, and of pipelines with constraints and registered connectors."""

from typing import Any

import pytest

from coordinator.state.commands import (
    CreateGroup,
    DeleteConnector,
    RegisterWorker,
    SaveConnector,
    StartDrain,
    StartMigration,
)
from coordinator.state.model import State
from coordinator.state.records import Cause, MovePhase
from coordinator.state.results import Refused, Started
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.moves import CheckpointRequest, Restore
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec
from tests.unit.coordinator.moving import Moving
from tests.unit.coordinator.worlds import World


async def replicas(key: str | None) -> Moving:
    """Two instances of `p`, on w1 and w2; nothing on w3."""
    stage = Moving()
    await stage.join("w1", "w2", "w3")
    pipeline = PipelineSpec(name="p", source="-", replicas=2, partition_key=key)
    await stage.say(CreateGroup, spec=GroupSpec(name="g", pipelines=[pipeline]), consumes={})
    await stage.pass_time(1)
    assert [stage.placed("g", f"p-{number}").worker_id for number in (0, 1)] == ["w1", "w2"]
    return stage


def lines(stage: Moving) -> set[str]:
    return {copy.line for number in (0, 1) for _, copy in stage.sim.live("g", f"p-{number}")}


@pytest.mark.parametrize("dies", [None, "w1", "w3"])
async def test_instances_without_a_key_stay_in_one_queue_group_however_a_move_ends(dies: str | None) -> None:
    """One that left it would hear each event beside the instance that the server gives it to."""
    stage = await replicas(None)
    (shared,) = lines(stage)
    if dies is not None:
        step: Any = {"w1": CheckpointRequest, "w3": Restore}[dies]
        stage.sim.refusals[dies, step] = WireError(ErrorCode.TIMEOUT, "later")
    move = await stage.migrate("p-0", "w3")
    await stage.settle()
    if dies is not None:
        stage.sim.frozen.add(dies)
        await stage.pass_time(10)
    await stage.pass_time(2)
    phase = {None: MovePhase.DONE, "w1": MovePhase.DONE, "w3": MovePhase.FAILED}[dies]
    assert stage.move(move).phase is phase
    assert stage.placed("g", "p-0").worker_id == ("w1" if dies == "w3" else "w3")
    assert lines(stage) == {shared}
    assert len(stage.sim.live("g", "p-0")) == len(stage.sim.live("g", "p-1")) == 1
    queues = {each.queue for _, each in stage.sim.sent if isinstance(each, Deploy | Restore)}
    assert queues <= {shared, None}


async def test_instances_with_a_key_have_a_line_each_which_moves_with_them() -> None:
    stage = await replicas("k")
    before = lines(stage)
    assert len(before) == 2
    await stage.migrate("p-0", "w3")
    await stage.pass_time(2)
    assert lines(stage) == before and stage.placed("g", "p-0").worker_id == "w3"


def constrained(**fields: Any) -> World:
    world = World()
    for name, zone in (("w1", "a"), ("w2", "b"), ("w3", "a")):
        world.worker(name, labels={"zone": zone})
    pipeline = PipelineSpec(name="p", source="-", **fields)
    world.do(CreateGroup, spec=GroupSpec(name="g", pipelines=[pipeline]), consumes={})
    return world


def start(world: World, pipeline: str, to: str) -> Started | Refused:
    result = world.step(StartMigration, "g", pipeline, to_worker=to, cause=Cause.MANUAL).result
    assert isinstance(result, Started | Refused)
    return result


def target(state: State, started: Started | Refused) -> str:
    assert isinstance(started, Started), started
    return state.migrations[started.id].to_worker


def test_a_move_goes_only_where_the_pipeline_may_be_placed() -> None:
    world = constrained(constraints=[Constraint(label="zone", op="=", value="a")])
    world.run("g", "p", "w1")
    refused = start(world, "p", "w2")
    assert isinstance(refused, Refused) and "'w2' lacks zone=a" in refused.error
    assert target(world.state, start(world, "p", "")) == "w3", "nor is it chosen"


def test_instances_that_are_kept_apart_are_so_by_moves_too() -> None:
    world = constrained(replicas=2, constraints=[Constraint(distinct_workers="hard")])
    world.run("g", "p-0", "w1")
    world.run("g", "p-1", "w2")
    refused = start(world, "p-0", "w2")
    assert isinstance(refused, Refused) and "holds another instance of p" in refused.error
    assert target(world.state, start(world, "p-0", "")) == "w3"


async def test_a_drain_moves_a_pipeline_only_where_it_may_be_and_says_what_it_lacks() -> None:
    stage = Moving()
    for name, zone in (("w1", "a"), ("w2", "b"), ("w3", "a")):
        await stage.say(
            RegisterWorker,
            worker_id=name,
            incarnation="i1",
            address="a",
            cpu_cores=1,
            max_pipelines=1,
            labels={"zone": zone},
        )
        stage.table.registered(name, "i1", stage.time)
    await stage.create("g", "p", constraints=[Constraint(label="zone", op="=", value="a")])
    await stage.pass_time(1)
    assert stage.placed("g", "p").worker_id == "w1"
    await stage.create("full", "p", worker_affinity="w3")
    await stage.pass_time(1)
    drain = await stage.drain("w1")
    await stage.pass_time(2)
    reason = stage.machine.state.drains[drain].reason or ""
    assert "1 full, 1 lack zone=a, 1 cordoned" in reason
    await stage.say(StartDrain, worker_id="w3", cause=Cause.MANUAL)
    await stage.pass_time(2)
    assert stage.placed("full", "p").worker_id == "w2"


async def test_a_move_is_cancelled_where_a_connector_does_not_open_and_the_pipeline_goes_on() -> None:
    stage = Moving()
    await stage.join("w1", "w2")
    await stage.say(SaveConnector, name="Bus", connector_type="memory", params={}, new=True)
    spec = GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="-")])
    await stage.say(CreateGroup, spec=spec, consumes={}, connectors={"p": ["Bus"]})
    await stage.pass_time(1)
    with pytest.raises(WireError, match="is used by"):
        await stage.say(DeleteConnector, name="Bus")
    sealed = {"token": {"$sealed": "k1.AAAA"}}
    await stage.say(
        SaveConnector, name="Bus", connector_type="memory", params=sealed, sealed=["token"], new=False
    )
    move = await stage.migrate("p", "w2")
    await stage.pass_time(2)
    assert stage.move(move).phase is MovePhase.CANCELLED and stage.move(move).reason
    assert len(stage.sim.live("g", "p")) == 1
