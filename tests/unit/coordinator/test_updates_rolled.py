"""Updates on a stage: what workers hear, what a version that fails leaves behind, and leaders that die."""

from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.controllers.moves import OPEN_PATIENCE
from coordinator.controllers.updates import AT_ONCE, GRACE, PATIENCE
from coordinator.state.commands import CreateGroup, DeleteGroup, StartMigration, UpdateGroup
from coordinator.state.records import Cause, Phase
from coordinator.state.versions import Group, UpdatePhase
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy, Undeploy
from proto_schemas.messages.moves import CheckpointRequest, Restore
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec
from tests.unit.coordinator.moving import Moving, only_live

ENDED = (UpdatePhase.DONE, UpdatePhase.ROLLED_BACK, UpdatePhase.FAILED)


def spec(**programs: str) -> GroupSpec:
    """Pipelines by name with their programs."""
    return GroupSpec(
        name="g", pipelines=[PipelineSpec(name=name, source=programs[name]) for name in programs]
    )


async def running(wanted: GroupSpec, *workers: str) -> Moving:
    stage = Moving()
    await stage.join(*(workers or ("w1", "w2")))
    await stage.say(CreateGroup, spec=wanted, consumes={})
    await stage.pass_time(2)
    assert all(each.phase is Phase.RUNNING for each in stage.machine.state.placements["g"].values())
    stage.sim.sent.clear()
    return stage


async def put(stage: Moving, wanted: GroupSpec) -> None:
    await stage.say(UpdateGroup, spec=wanted, consumes={})


def group(stage: Moving) -> Group:
    return stage.machine.state.groups["g"]


def phase(stage: Moving) -> UpdatePhase | None:
    update = group(stage).update
    return update.phase if update is not None else None


def why(stage: Moving) -> str:
    update = group(stage).update
    return (update.reason if update is not None else None) or ""


def live(stage: Moving) -> dict[str, str]:
    """The program of the one live copy of each pipeline."""
    programs = {}
    for name in stage.machine.state.placements["g"]:
        ((_, copy),) = stage.sim.live("g", name)
        programs[name] = copy.source
    return programs


def ids(stage: Moving) -> dict[str, str | None]:
    return {name: each.pipeline_id for name, each in stage.machine.state.placements["g"].items()}


async def test_what_an_update_does_not_touch_hears_nothing_of_it() -> None:
    stage = await running(spec(a="1", b="1", c="1"))
    before = ids(stage)
    await put(stage, spec(a="1", b="2", d="1"))
    await stage.pass_time(GRACE + 3)
    assert phase(stage) is UpdatePhase.DONE
    assert live(stage) == {"a": "1", "b": "2", "d": "1"}
    after = ids(stage)
    assert after["a"] == before["a"] and after["b"] != before["b"]
    about_a = [each for _, each in stage.sim.sent if getattr(each, "pipeline_id", None) == before["a"]]
    assert about_a == []
    gone = [each for _, each in stage.sim.sent if isinstance(each, Undeploy) and each.drain]
    assert {each.pipeline_id for each in gone} == {before["c"]}, "it handles what it was sent, and goes"


async def test_state_goes_along_where_the_program_is_the_same_and_begins_anew_where_it_is_not() -> None:
    stage = await running(spec(a="1", b="1"))
    memory_a, memory_b = only_live(stage, "a")[1], only_live(stage, "b")[1]
    one, two = spec(a="1", b="2").pipelines
    nowhere_else = [Constraint(label="x", op="not_exists")]
    await put(stage, GroupSpec(name="g", pipelines=[replace(one, constraints=nowhere_else), two]))
    await stage.pass_time(GRACE + 3)
    assert phase(stage) is UpdatePhase.DONE
    assert only_live(stage, "a")[1] == memory_a and only_live(stage, "b")[1] != memory_b
    resumed = {each.anew for _, each in stage.sim.sent if isinstance(each, Restore)}
    assert resumed == {True, False}
    moves = stage.machine.state.ended_migrations.values()
    assert {each.pipeline: "without state" in (each.reason or "") for each in moves} == {
        "a": False,
        "b": True,
    }


async def test_the_first_one_goes_alone_and_then_a_few_at_a_time() -> None:
    names = [f"p{number}" for number in range(10)]
    stage = await running(spec(**dict.fromkeys(names, "1")))
    await put(stage, spec(**dict.fromkeys(names, "2")))
    most: list[int] = []
    ask = stage.sim.request_message

    async def count(*args: Any, **kwargs: Any) -> Any:
        most.append(len(stage.machine.state.migrations))
        return await ask(*args, **kwargs)

    stage.sim.request_message = count  # type: ignore[method-assign]
    await stage.pass_time(GRACE + 10)
    assert phase(stage) is UpdatePhase.DONE and set(live(stage).values()) == {"2"}
    assert most[:4] == [1, 1, 1, 1] and max(most) == AT_ONCE


async def test_a_program_that_a_worker_refuses_is_rolled_back_and_the_old_copies_never_stopped() -> None:
    stage = await running(spec(a="1", b="1"))
    before = ids(stage)
    stage.sim.broken.add("2")
    await put(stage, spec(a="2", b="2"))
    await stage.pass_time(5)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and group(stage).version == 1
    assert "its connector does not open" in why(stage)
    assert ids(stage) == before and live(stage) == {"a": "1", "b": "1"}
    assert not any(isinstance(each, CheckpointRequest | Restore) for _, each in stage.sim.sent)


async def test_connectors_of_a_new_version_that_do_not_open_for_a_while_are_taken_for_wrong() -> None:
    stage = await running(spec(a="1"))
    before = ids(stage)
    away = WireError(ErrorCode.ENGINE_ERROR, "nobody listens at that address", retryable=True)
    stage.sim.refusals = {("w1", Deploy): away, ("w2", Deploy): away}
    await put(stage, spec(a="2"))
    await stage.pass_time(OPEN_PATIENCE - 2)
    assert phase(stage) is UpdatePhase.ROLLING and "nobody listens" in move_reason(stage)
    await stage.pass_time(15)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and "nobody listens" in why(stage)
    assert ids(stage) == before and live(stage) == {"a": "1"}


def move_reason(stage: Moving) -> str:
    (move,) = stage.machine.state.migrations.values()
    return move.reason or ""


async def test_what_was_rolled_already_goes_back_by_the_same_path() -> None:
    stage = await running(spec(a="1", b="1"))
    stage.sim.broken.add("2!")
    await put(stage, spec(a="2", b="2!"))
    await stage.pass_time(8)
    assert phase(stage) is UpdatePhase.ROLLED_BACK
    assert live(stage) == {"a": "1", "b": "1"}
    causes = [each.cause for each in stage.machine.state.ended_migrations.values()]
    assert causes == [Cause.UPDATE] * 3, "a there, b in vain, a back"


async def test_a_copy_that_fails_within_the_grace_turns_the_update_round() -> None:
    stage = await running(spec(a="1", b="1"))
    await put(stage, spec(a="2", b="1", c="2"))
    await stage.pass_time(GRACE / 2)
    assert phase(stage) is UpdatePhase.ROLLING and live(stage) == {"a": "2", "b": "1", "c": "2"}
    ((_, copy),) = stage.sim.live("g", "a")
    copy.state, copy.fault = "failed", "100 events in a row failed"
    await stage.pass_time(5)
    assert phase(stage) is UpdatePhase.ROLLED_BACK
    assert "a: 100 events in a row failed" in why(stage)
    assert live(stage) == {"a": "1", "b": "1"}


async def test_an_added_pipeline_that_nobody_can_take_is_given_up_with_its_reason() -> None:
    stage = await running(spec(a="1"))
    (one,) = spec(a="1").pipelines
    nowhere = PipelineSpec(name="b", source="1", constraints=[Constraint(label="zone", op="=", value="mars")])
    await put(stage, GroupSpec(name="g", pipelines=[one, nowhere]))
    await stage.pass_time(PATIENCE + 5)
    assert phase(stage) is UpdatePhase.ROLLED_BACK and live(stage) == {"a": "1"}
    assert "lack zone=mars" in why(stage)


async def test_a_worker_that_dies_in_the_middle_only_delays_it() -> None:
    stage = await running(spec(a="1", b="1", c="1"))
    stage.sim.refusals["w2", Deploy] = WireError(ErrorCode.TIMEOUT, "later")
    await put(stage, spec(a="2", b="2", c="2"))
    await stage.pass_time(1)
    stage.sim.frozen.add("w2")
    stage.sim.refusals.clear()
    await stage.pass_time(15)
    assert phase(stage) is UpdatePhase.DONE, group(stage).update
    assert live(stage) == {"a": "2", "b": "2", "c": "2"}


async def test_pipelines_of_a_seed_worker_are_replaced_though_it_cannot_hand_them_over() -> None:
    stage = Moving()
    await stage.join("w1", incarnation=None)
    await stage.say(CreateGroup, spec=spec(a="1"), consumes={})

    async def beats(seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            stage.time += 0.25
            stage.beat("w1", incarnation=None)
            await stage.settle()

    await beats(1)
    await put(stage, spec(a="2"))
    await beats(GRACE + 5)
    assert phase(stage) is UpdatePhase.DONE and live(stage) == {"a": "2"}


async def test_pipelines_of_workers_of_an_older_version_are_taken_away_and_placed_anew() -> None:
    stage = await running(spec(a="1", b="1"))
    stage.sim.old |= {"w1", "w2"}
    await put(stage, spec(a="2", b="2"))
    await stage.pass_time(GRACE + 6)
    assert phase(stage) is UpdatePhase.DONE and live(stage) == {"a": "2", "b": "2"}
    assert sum(map(len, stage.sim.copies.values())) == 2


async def test_a_group_that_is_deleted_in_the_middle_of_an_update_is_gone_whole() -> None:
    stage = await running(spec(a="1", b="1", c="1"))
    stage.sim.refusals["w1", Restore] = WireError(ErrorCode.TIMEOUT, "later")
    await put(stage, spec(a="2", b="2", d="1"))
    await stage.pass_time(1)
    await stage.say(DeleteGroup, group="g")
    await stage.pass_time(4)
    assert stage.machine.state.groups == {} and stage.machine.state.migrations == {}
    assert [copies for copies in stage.sim.copies.values() if copies] == []


async def test_instances_come_and_go_while_the_others_run_on_in_the_queue_group_they_share() -> None:
    def replicas(count: int) -> GroupSpec:
        return GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source="1", replicas=count)])

    stage = await running(replicas(2))
    before = ids(stage)
    await put(stage, replicas(4))
    await stage.pass_time(GRACE + 2)
    assert phase(stage) is UpdatePhase.DONE
    lines = {copy.line for name in ids(stage) for _, copy in stage.sim.live("g", name)}
    assert len(lines) == 1 and len(ids(stage)) == 4
    await put(stage, replicas(2))
    await stage.pass_time(3)
    assert phase(stage) is UpdatePhase.DONE and ids(stage) == before
    first: dict[str, bool] = {}
    for _, each in stage.sim.sent:
        if isinstance(each, Undeploy):
            first.setdefault(each.pipeline_id, each.drain)
    assert list(first.values()) == [True, True], "each handles what it was sent before it goes"
    assert len(stage.sim.live("g", "p-2") + stage.sim.live("g", "p-3")) == 0


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
@pytest.mark.parametrize("works", [True, False])
async def test_the_old_and_the_new_copies_share_one_queue_group_when_one_becomes_several(
    before: int, after: int, works: bool
) -> None:
    """Else each event would reach both kinds, or neither."""

    def replicas(count: int, source: str) -> GroupSpec:
        return GroupSpec(name="g", pipelines=[PipelineSpec(name="p", source=source, replicas=count)])

    stage = await running(replicas(before, "1"))
    await put(stage, replicas(after, "1" if works else "2!"))
    if not works:
        stage.sim.broken.add("2!")
    seen: list[int] = []
    for _ in range(int((GRACE + 9) / 0.25)):
        await stage.pass_time(0.25)
        lines = {copy.line for copies in stage.sim.copies.values() for copy in copies.values()}
        assert len(lines) == 1
        seen.append(sum(map(len, stage.sim.copies.values())))
    assert phase(stage) is (UpdatePhase.DONE if works else UpdatePhase.ROLLED_BACK)
    assert seen[-1] == (after if works else before)
    assert not works or max(seen) == 4, "all of them at once, for a while"


@pytest.mark.parametrize("works", [True, False])
@pytest.mark.parametrize("cut", range(1, 26))
async def test_a_new_leader_goes_on_wherever_the_last_one_stopped(cut: int, works: bool) -> None:
    """The command number `cut` is carried out; the leader dies before it hears of that."""
    stage = await running(spec(a="1", b="1", c="1"))
    before = ids(stage)
    if not works:
        stage.sim.broken.add("2!")
    await put(stage, spec(a="2", b="2" if works else "2!", d="2"))
    ask = stage.sim.request_message
    count = 0

    async def die(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        try:
            return await ask(*args, **kwargs)
        finally:
            if count == cut:
                stage.new_leader()

    stage.sim.request_message = die  # type: ignore[method-assign]
    await stage.pass_time(15)
    assert phase(stage) is (UpdatePhase.DONE if works else UpdatePhase.ROLLED_BACK), group(stage).update
    assert live(stage) == ({"a": "2", "b": "2", "d": "2"} if works else {"a": "1", "b": "1", "c": "1"})
    if not works:
        assert {name: ids(stage)[name] for name in "bc"} == {name: before[name] for name in "bc"}
    assert sum(map(len, stage.sim.copies.values())) == 3, "nothing is left of the other version"


@pytest.mark.parametrize("at", [0.25, 0.5, 1.0, 1.5, 2.0, 2.5])
async def test_drains_in_the_middle_lose_no_copy(at: float) -> None:
    stage = await running(spec(a="1", b="1", c="1"), "w1", "w2", "w3")
    await put(stage, spec(a="2", b="2", c="2"))
    await stage.pass_time(at)
    await stage.drain("w1")
    await stage.pass_time(20)
    assert phase(stage) is UpdatePhase.DONE and set(live(stage).values()) == {"2"}
    assert not stage.machine.state.placed_on("w1")


async def test_a_move_by_hand_while_it_is_rolled_is_of_the_version_of_its_copy() -> None:
    stage = await running(spec(a="1", b="1"))
    stage.sim.refusals["w1", Deploy] = stage.sim.refusals["w2", Deploy] = WireError(
        ErrorCode.TIMEOUT, "later"
    )
    await put(stage, spec(a="2", b="2"))
    await stage.pass_time(0.5)
    await stage.say(StartMigration, group="g", pipeline="b", epoch=0, cause=Cause.MANUAL)
    stage.sim.refusals.clear()
    await stage.pass_time(GRACE + 10)
    assert phase(stage) is UpdatePhase.DONE and live(stage) == {"a": "2", "b": "2"}
