"""Divisions on a stage: in which order workers hear what, who is live in the end, and leaders that die."""

import random
from typing import Any

import pytest

from coordinator.state.commands import CreateGroup, UpdateGroup
from coordinator.state.records import Phase
from coordinator.state.versions import Group, UpdatePhase
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy, Undeploy
from proto_schemas.messages.moves import CheckpointRequest, Hold, Restore
from proto_schemas.partition import instance_names
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.unit.coordinator.moving import Moving

NO = WireError(ErrorCode.CONFLICT, "no")


def spec(replicas: int) -> GroupSpec:
    return GroupSpec(
        name="g", pipelines=[PipelineSpec(name="p", source="-", replicas=replicas, partition_key="k")]
    )


async def running(replicas: int, rng: random.Random | None = None) -> Moving:
    stage = Moving(rng)
    await stage.join("w1", "w2", "w3", room=20)
    await stage.say(CreateGroup, spec=spec(replicas), consumes={})
    await stage.pass_time(2)
    assert await is_whole(stage, replicas)
    stage.sim.sent.clear()
    return stage


def group(stage: Moving) -> Group:
    return stage.machine.state.groups["g"]


def live(stage: Moving) -> dict[str, str]:
    """What each instance remembers; each has one live copy, which is its placement, in its line."""
    found = {}
    for name, placement in stage.machine.state.placements["g"].items():
        ((worker, copy),) = stage.sim.live("g", name)
        assert (placement.worker_id, placement.epoch) == (worker, copy.epoch)
        shares = group(stage).shares.get("p", len(stage.machine.state.placements["g"]))
        share = "p" if shares == 1 and name in ("p", "p-0") else "p-0" if name == "p" else name
        assert copy.line == f"g.{share}.{placement.queue}"
        found[name] = copy.memory
    return found


async def is_whole(stage: Moving, replicas: int) -> bool:
    placements = stage.machine.state.placements["g"]
    return set(placements) == set(instance_names("p", replicas)) and {
        each.phase for each in placements.values()
    } == {Phase.RUNNING}


async def divide(stage: Moving, replicas: int) -> None:
    await stage.say(UpdateGroup, spec=spec(replicas), consumes={})


def phase(stage: Moving) -> UpdatePhase | None:
    update = group(stage).update
    return update.phase if update is not None else None


@pytest.mark.parametrize(("old", "new"), [(2, 3), (3, 2), (2, 5), (1, 3), (3, 1)])
async def test_each_new_instance_gets_a_piece_of_each_old_one_and_the_old_ones_go(old: int, new: int) -> None:
    stage = await running(old)
    before = live(stage)
    await divide(stage, new)
    await stage.pass_time(4)
    assert phase(stage) is UpdatePhase.DONE and await is_whole(stage, new)
    everything = " ".join(sorted(before.values()))
    assert live(stage) == dict.fromkeys(instance_names("p", new), everything)
    copies = [copy for held in stage.sim.copies.values() for copy in held.values()]
    assert len(copies) == new, "nothing is left of the old ones"


async def test_old_ones_hold_before_new_ones_join_and_hand_over_before_any_is_given_a_piece() -> None:
    stage = await running(2)
    await divide(stage, 3)
    await stage.pass_time(4)
    words = [
        "deploy"
        if isinstance(each, Deploy)
        else f"hold {'old' if each.relayed else 'new'}"
        if isinstance(each, Hold)
        else "hand over"
        if isinstance(each, CheckpointRequest)
        else "piece"
        if isinstance(each, Restore) and each.piece is not None
        else "resume"
        if isinstance(each, Restore)
        else ""
        for _, each in stage.sim.sent
    ]
    steps = [word for at, word in enumerate(words) if word and (at == 0 or words[at - 1] != word)]
    assert steps == ["deploy", "hold old", "hold new", "hand over", "piece", "resume"]
    assert (words.count("piece"), words.count("resume")) == (6, 3)


@pytest.mark.parametrize("refused", [Hold, CheckpointRequest, Restore])
async def test_a_worker_that_says_no_on_the_way_leaves_the_old_instances_live_with_what_they_had(
    refused: Any,
) -> None:
    stage = await running(2)
    before = live(stage)
    asked = stage.placed("g", "p-0").worker_id if refused is CheckpointRequest else "w3"
    assert asked is not None
    stage.sim.refusals[asked, refused] = NO
    await divide(stage, 3)
    assert group(stage).division is not None
    assert "w3" in {each.worker for each in group(stage).division.new}  # type: ignore[union-attr]
    await stage.pass_time(3)
    stage.sim.refusals.clear()
    await stage.pass_time(4)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and await is_whole(stage, 2)
    assert live(stage) == before and group(stage).version == 1
    await divide(stage, 3)
    await stage.pass_time(4)
    assert phase(stage) is UpdatePhase.DONE and await is_whole(stage, 3)


async def test_a_new_copy_s_worker_that_dies_before_the_switch_costs_the_old_ones_nothing() -> None:
    stage = await running(2)
    before = live(stage)
    stage.sim.frozen.add("w3")
    await divide(stage, 3)
    await stage.pass_time(12)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and await is_whole(stage, 2)
    assert live(stage) == before


async def test_where_an_old_copy_is_gone_the_others_go_on_with_what_was_taken_of_their_lines() -> None:
    stage = await running(2)
    before = live(stage)
    worker = stage.placed("g", "p-1").worker_id
    assert worker is not None and stage.placed("g", "p-0").worker_id != worker
    stage.sim.refusals[worker, CheckpointRequest] = WireError(ErrorCode.UNAVAILABLE, "later")
    await divide(stage, 3)
    await stage.pass_time(0.5)
    under_way = group(stage).division
    assert under_way is not None and under_way.held
    stage.sim.frozen.add(worker)
    while group(stage).division is not None:
        await stage.pass_time(0.25)
    stage.sim.frozen.clear()
    stage.sim.refusals.clear()
    await stage.pass_time(6)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and await is_whole(stage, 2)
    assert live(stage)["p-0"] == before["p-0"]
    first = next(
        each
        for _, each in stage.sim.sent
        if isinstance(each, Restore) and each.resume and each.pipeline_id.startswith("p-0")
    )
    assert first.only_held and first.checkpoint is not None, "and not convergence, with nothing"


async def test_an_old_worker_has_to_know_how() -> None:
    stage = await running(2)
    stage.sim.old.add("w3")
    await divide(stage, 3)
    await stage.pass_time(4)
    update = group(stage).update
    assert update is not None and update.phase is UpdatePhase.ROLLED_BACK
    assert "does not know how to divide" in (update.reason or "")
    assert await is_whole(stage, 2) and len(live(stage)) == 2


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_lost_and_whoever_leads_it_ends_with_one_live_copy_of_each(seed: int) -> None:
    rng = random.Random(seed)
    stage = await running(2, rng)
    for count in (3, 2, 4):
        stage.sim.trouble = 0.15
        present = len(stage.machine.state.placements["g"])
        await divide(stage, count)
        for _ in range(rng.randrange(6)):
            await stage.pass_time(0.25 * rng.randrange(1, 4))
            stage.new_leader()
        await stage.pass_time(3)
        stage.sim.trouble = 0.0
        for _ in range(80):
            await stage.pass_time(1)
            replicas = count if phase(stage) is UpdatePhase.DONE else present
            if group(stage).division is None and await is_whole(stage, replicas):
                break
        await stage.pass_time(4)
        assert len(live(stage)) == replicas
        if replicas != count:
            await divide(stage, count)
            await stage.pass_time(6)
            assert await is_whole(stage, count) and len(live(stage)) == count


async def test_no_new_instance_goes_on_from_what_an_old_one_left_in_the_store() -> None:
    stage = await running(3)
    created = group(stage).created_at
    await divide(stage, 2)
    await stage.pass_time(4)
    assert await is_whole(stage, 2)
    made = [each for _, each in stage.sim.sent if isinstance(each, Deploy)]
    assert {(each.name, each.life, each.restore_from) for each in made} == {
        ("p-0", created + 2, None),
        ("p-1", created + 2, None),
    }
    ends = [each for _, each in stage.sim.sent if isinstance(each, Undeploy)]
    assert {each.pipeline_id[:3] for each in ends if each.forget} == {"p-2"}, "the others have a successor"
    stage.sim.sent.clear()
    worker = stage.placed("g", "p-0").worker_id
    assert worker is not None
    stage.sim.frozen.add(worker)
    await stage.pass_time(8)
    again = next(each for _, each in stage.sim.sent if isinstance(each, Deploy) and each.name == "p-0")
    assert (again.life, again.restore_from) == (created + 2, "latest")
