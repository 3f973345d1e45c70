"""Divisions in the state: what is begun, what breaks it, and whose the lines are afterwards."""

from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.state import snapshot
from coordinator.state.commands import (
    AdvanceDivision,
    DeleteGroup,
    Displace,
    FailDivision,
    FinishDivision,
    LetGo,
    RemoveWorker,
    RollbackGroup,
    StartMigration,
    UpdateGroup,
)
from coordinator.state.next_version import updated
from coordinator.state.records import Cause, Phase
from coordinator.state.results import Done, Refused
from coordinator.state.room import Room
from coordinator.state.update_plan import plan
from coordinator.state.versions import Division, UpdatePhase
from coordinator.state.views import history_view
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from tests.unit.coordinator.test_updates import group, put, running, spec
from tests.unit.coordinator.worlds import World


def keyed(replicas: int, **fields: Any) -> GroupSpec:
    return spec(
        PipelineSpec(name="p", source="-", replicas=replicas, partition_key="k"),
        PipelineSpec(name="q", source="-"),
        **fields,
    )


def division(world: World) -> Division:
    found = group(world).division
    assert found is not None
    return found


def say(world: World, kind: Any, **fields: Any) -> Any:
    return world.do(kind, group="g", division=division(world).id, **fields).result


def held(world: World) -> None:
    copies = {each.instance: f"{each.instance}-{each.epoch}" for each in division(world).new}
    assert say(world, AdvanceDivision, copies=copies) == Done()


def divided(world: World, replicas: int) -> None:
    assert put(world, keyed(replicas)) == Done()
    held(world)
    assert say(world, FinishDivision) == Done()
    for name, placement in list(world.state.placements["g"].items()):
        if placement.phase is Phase.REMOVING:
            world.step(LetGo, "g", name, confirmed=True)


def lines(world: World) -> dict[str, tuple[int, dict[str, int]]]:
    return {
        name: (placement.queue, placement.lines)
        for name, placement in world.state.placements["g"].items()
        if name != "q"
    }


def test_until_it_is_finished_the_group_is_what_it_was_and_then_all_of_it_is_so_at_once() -> None:
    world = running(keyed(2))
    before = dict(world.state.placements["g"])
    assert put(world, keyed(3), why="more customers") == Done()
    assert group(world).version == 1 and world.state.placements["g"] == before
    assert say(world, FinishDivision).code == "conflict", "there are no copies yet"
    held(world)
    assert world.state.placements["g"] == before
    assert say(world, FinishDivision) == Done()
    now = world.state.placements["g"]
    assert set(now) == {"p-0", "p-1", "p-2", "q"} and now["q"] == before["q"]
    assert {each.phase for each in now.values()} == {Phase.RUNNING}
    assert len({each.epoch for each in now.values()}) == 4 and group(world).version == 2
    assert [(each.version, each.why) for each in history_view(group(world)).versions] == [
        (2, "more customers"),
        (1, ""),
    ]
    assert group(world).update is not None and group(world).update.phase is UpdatePhase.DONE  # type: ignore[union-attr]


def test_lines_stay_and_go_to_whoever_takes_the_share() -> None:
    world = running(keyed(3))
    first = {name: queue for name, (queue, _) in lines(world).items()}
    divided(world, 2)
    assert group(world).shares == {"p": 3}
    assert lines(world) == {"p-0": (first["p-0"], {"2": first["p-2"]}), "p-1": (first["p-1"], {})}
    divided(world, 5)
    now = lines(world)
    assert {name: now[name][0] for name in first} == first, "each share has its own instance again"
    assert all(not further for _, further in now.values()) and group(world).shares == {"p": 3}
    divided(world, 4)
    assert {name: lines(world)[name][0] for name in first} == first
    divided(world, 3)
    assert {name: queue for name, (queue, _) in lines(world).items()} == first
    assert group(world).shares == {}, "there are as many instances as shares"


def test_one_becomes_several_and_one_again_and_the_lines_stay() -> None:
    """The only share of the one that was alone is called as it was, and goes to the first instance."""
    world = running(keyed(1))
    ((_, (first, _)),) = lines(world).items()
    divided(world, 3)
    now = lines(world)
    assert set(now) == {"p-0", "p-1", "p-2"} and group(world).shares == {"p": 1}
    assert now["p-0"] == (first, {}) and all(not further for _, further in now.values())
    divided(world, 2)
    assert lines(world)["p-0"] == (first, {}) and group(world).shares == {"p": 1}
    divided(world, 1)
    assert lines(world) == {"p": (first, {})} and group(world).shares == {}
    divided(world, 4)
    assert lines(world)["p-0"] == (first, {})


def test_several_become_one_that_takes_all_their_lines() -> None:
    world = running(keyed(3))
    first = {name: queue for name, (queue, _) in lines(world).items()}
    divided(world, 1)
    assert lines(world) == {"p": (first["p-0"], {"1": first["p-1"], "2": first["p-2"]})}
    assert group(world).shares == {"p": 3}
    divided(world, 2)
    assert lines(world) == {"p-0": (first["p-0"], {"2": first["p-2"]}), "p-1": (first["p-1"], {})}
    divided(world, 3)
    assert {name: queue for name, (queue, _) in lines(world).items()} == first and not group(world).shares


def test_one_that_is_alone_may_be_given_its_key_with_its_replicas_and_one_that_took_all_keeps_it() -> None:
    world = running(spec(PipelineSpec(name="p", source="-"), PipelineSpec(name="q", source="-")))
    divided(world, 2)
    assert set(lines(world)) == {"p-0", "p-1"} and group(world).pipelines["p"].partition_key == "k"
    world = running(keyed(2))
    divided(world, 1)
    other = spec(PipelineSpec(name="p", source="-", replicas=2, partition_key="x"), "q")
    refused = put(world, other)
    assert isinstance(refused, Refused) and "cannot go from 1 replica by key 'k'" in refused.error


def test_one_that_is_placed_anew_begins_new_lines_for_all_it_takes() -> None:
    world = running(keyed(3))
    divided(world, 2)
    world.step(Displace, "g", "p-0", reason="x")
    epoch = world.run("g", "p-0", "w2")
    assert lines(world)["p-0"] == (epoch, {})


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (spec(PipelineSpec(name="p", source="+", replicas=3, partition_key="k"), "q"), "nothing else"),
        (spec(PipelineSpec(name="p", source="-", replicas=1), "q"), "cannot go from 2 replicas by key"),
        (spec(PipelineSpec(name="p", source="-", replicas=3, partition_key="x"), "q"), "cannot go from"),
    ],
)
def test_only_the_number_may_change(wanted: GroupSpec, told: str) -> None:
    world = running(keyed(2))
    result = put(world, wanted)
    assert isinstance(result, Refused) and told in result.error and group(world).division is None


def test_a_state_that_cannot_be_divided_is_refused_with_the_reason() -> None:
    world = running(keyed(2))
    result = put(world, keyed(3), undivided={"p": "stream S has a window over all events together"})
    assert isinstance(result, Refused) and "stream S has a window over all events" in result.error


def test_nothing_else_happens_to_the_instances_meanwhile() -> None:
    world = running(keyed(2))
    put(world, keyed(3))
    assert "being divided" in put(world, keyed(4)).error
    result = world.do(RollbackGroup, group="g").result
    assert isinstance(result, Refused)
    moved = world.step(StartMigration, "g", "p-0", cause=Cause.MANUAL).result
    assert isinstance(moved, Refused) and "being divided" in moved.error and moved.retryable


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        (lambda world: world.step(Displace, "g", "p-1", reason="worker w1 is unhealthy"), "w1 is unhealthy"),
        (lambda world: world.do(RemoveWorker, worker_id="w2", force=True), "worker w2 was removed"),
        (lambda world: world.worker("w2", incarnation="i2"), "worker w2 restarted"),
        (lambda world: world.do(DeleteGroup, group="g"), "deleted"),
    ],
)
def test_whatever_breaks_it_fails_it_and_the_old_instances_stay(breaks: Any, told: str) -> None:
    world = running(keyed(2))
    world.worker("w2", room=50)
    put(world, keyed(3))
    assert "w2" in {each.worker for each in division(world).new}
    held(world)
    breaks(world)
    now = group(world)
    assert now.division is None and now.update is not None and not world.state.dividing
    assert now.update.phase is UpdatePhase.ROLLED_BACK and told in (now.update.reason or "")
    assert now.version == 1 and "p-2" not in world.state.placements["g"]


def test_where_a_new_copy_may_still_listen_the_old_ones_begin_new_lines() -> None:
    world = running(keyed(2))
    put(world, keyed(3))
    held(world)
    epoch = division(world).new[0].epoch
    assert say(world, FailDivision, reason="no", new_line=True) == Done()
    assert lines(world) == {"p-0": (epoch, {}), "p-1": (epoch, {})}
    assert [(each.version, each.status) for each in history_view(group(world)).versions] == [
        (2, "failed"),
        (1, "present"),
    ]
    divided(world, 3)
    assert group(world).version == 3, "a number is not used again"


def test_it_survives_a_snapshot_in_the_middle() -> None:
    world = running(keyed(2))
    put(world, keyed(3))
    held(world)
    world.state.become(snapshot.read(b"".join(snapshot.frames(world.state))))
    assert say(world, FinishDivision) == Done() and set(lines(world)) == {"p-0", "p-1", "p-2"}


def test_slots_of_new_instances_are_reserved_and_where_none_is_left_nothing_begins() -> None:
    world = running(keyed(2), workers=1)
    world.state.workers["w1"] = replace(world.state.workers["w1"], max_pipelines=4)
    assert put(world, keyed(4)).code == "unavailable" and group(world).division is None
    assert put(world, keyed(3)) == Done()
    assert world.state.slots_taken("w1") == 4


def test_a_rollback_divides_back() -> None:
    world = running(keyed(2))
    divided(world, 3)
    assert world.do(RollbackGroup, group="g").result == Done()
    assert len(division(world).new) == 2
    held(world)
    assert say(world, FinishDivision) == Done() and group(world).version == 3


def test_a_dry_run_tells_of_each_instance() -> None:
    world = running(keyed(3))
    command = UpdateGroup(at=9, by="x", spec=keyed(2), consumes={})
    wanted = updated(world.state, command)
    assert wanted is not None and group(world).division is None
    steps = {step.instance: step.change for step in plan(world.state, wanted, Room(world.state))}
    assert steps == {"q": "unchanged", "p-0": "updated", "p-1": "updated", "p-2": "removed"}


def since(world: World) -> dict[str, int]:
    return {name: placement.since for name, placement in world.state.placements["g"].items()}


def test_a_checkpoint_of_another_number_of_instances_is_for_none_of_the_new_ones() -> None:
    world = running(keyed(2))
    assert since(world) == {"p-0": 0, "p-1": 0, "q": 0}
    divided(world, 3)
    assert since(world) == {"p-0": 2, "p-1": 2, "p-2": 2, "q": 0}
    divided(world, 2)
    assert since(world) == {"p-0": 3, "p-1": 3, "q": 0}, "as many as at first, of other checkpoints"
    world.state.become(snapshot.read(b"".join(snapshot.frames(world.state))))
    world.step(Displace, "g", "p-0", reason="x")
    world.run("g", "p-0", "w2")
    assert since(world)["p-0"] == 3, "wherever it is placed later"


def test_where_the_old_instances_stay_their_checkpoints_are_still_theirs() -> None:
    world = running(keyed(2))
    put(world, keyed(3))
    held(world)
    assert say(world, FailDivision, reason="no") == Done()
    assert since(world) == {"p-0": 0, "p-1": 0, "q": 0}


def test_an_instance_that_an_update_brings_back_is_not_the_one_that_was_there_before() -> None:
    world = running(spec(PipelineSpec(name="p", source="-", replicas=2), "q"))
    put(world, spec(PipelineSpec(name="p", source="-", replicas=3), "q"))
    assert since(world) == {"p-0": 0, "p-1": 0, "p-2": 2, "q": 0}
