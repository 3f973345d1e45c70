"""Updates of groups in the state: what is touched, what turns them round, and what is refused."""

import random
from typing import Any

import pytest
from msgspec.structs import replace

from coordinator.state import snapshot
from coordinator.state.commands import (
    AdvanceMigration,
    CancelMigration,
    CreateGroup,
    DeleteGroup,
    Displace,
    EndUpdate,
    FailUpdate,
    FinishMigration,
    LetGo,
    Place,
    ReportFailed,
    SaveConnector,
    StartMigration,
    UpdateGroup,
)
from coordinator.state.next_version import updated
from coordinator.state.records import Cause, MovePhase, Phase
from coordinator.state.results import Done, Refused, Started
from coordinator.state.room import Room
from coordinator.state.update_plan import plan
from coordinator.state.updates import MAX_FAILURES, waits_for
from coordinator.state.versions import Group, UpdatePhase
from proto_schemas.messages.deploys import Route
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec
from tests.unit.coordinator.worlds import World, refused

NAMES = ("a", "b", "c")


def spec(*pipelines: Any, **fields: Any) -> GroupSpec:
    """Each a name (its program is "-"), a (name, program), or a spec."""
    made = [
        each
        if isinstance(each, PipelineSpec)
        else PipelineSpec(name=each, source="-")
        if isinstance(each, str)
        else PipelineSpec(name=each[0], source=each[1])
        for each in pipelines
    ]
    return GroupSpec(name="g", pipelines=made, **fields)


def running(first: GroupSpec | None = None, *, workers: int = 2) -> World:
    """All instances of `g` run on w1."""
    world = World()
    for number in range(1, workers + 1):
        world.worker(f"w{number}", room=50)
    first = first or spec(*NAMES)
    world.do(CreateGroup, spec=first, consumes={})
    for name in list(world.state.placements["g"]):
        world.run("g", name, "w1")
    return world


def put(world: World, wanted: GroupSpec, **fields: Any) -> Any:
    return world.do(UpdateGroup, spec=wanted, consumes={}, **fields).result


def group(world: World) -> Group:
    return world.state.groups["g"]


def phase(world: World) -> UpdatePhase | None:
    update = group(world).update
    return update.phase if update is not None else None


def move(world: World, name: str) -> str:
    result = world.step(StartMigration, "g", name, cause=Cause.UPDATE).result
    assert isinstance(result, Started), result
    return result.id


def roll(world: World, name: str) -> None:
    """A copy of the group's version takes over from the one that runs."""
    move_id = move(world, name)
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=move_id, phase=step, pipeline_id=f"{name}-new")
    assert world.do(FinishMigration, migration_id=move_id).result == Done()


def end(world: World) -> Any:
    update = group(world).update
    assert update is not None
    return world.do(EndUpdate, group="g", version=update.to_version).result


def fail(world: World, reason: str = "no") -> Any:
    update = group(world).update
    assert update is not None
    return world.do(FailUpdate, group="g", version=update.to_version, reason=reason).result


def sources(world: World) -> dict[str, str]:
    """The program of each copy that there is."""
    return {name: group(world).pipeline(name).source for name in world.state.placements["g"]}


def test_only_what_is_deployed_otherwise_is_touched_and_all_else_stays_as_it_is() -> None:
    world = running()
    before = dict(world.state.placements["g"])
    assert put(world, spec("a", ("b", "+"), "d")) == Done()
    update = group(world).update
    assert update is not None and group(world).version == 2
    assert set(update.fresh) == {"b", "d"} and set(update.behind) == {"b", "c"}
    assert {name: world.placement("g", name) for name in NAMES} == before
    assert world.placement("g", "d").phase is Phase.PENDING
    assert sources(world) == {"a": "-", "b": "-", "c": "-", "d": "-"}


def test_an_update_ends_when_all_it_touched_runs_and_then_removes_what_is_gone() -> None:
    world = running()
    put(world, spec("a", ("b", "+"), "d"))
    world.run("g", "d", "w2")
    assert isinstance(end(world), Refused)
    roll(world, "b")
    assert world.placement("g", "c").phase is Phase.RUNNING, "until the end the way back is open"
    assert end(world) == Done()
    assert phase(world) is UpdatePhase.DONE and not world.state.rolling
    assert world.placement("g", "c").phase is Phase.REMOVING
    assert group(world).instance("c") is None
    assert sources_of_running(world) == {"a": "-", "b": "+", "d": "-"}


def sources_of_running(world: World) -> dict[str, str]:
    return {
        name: group(world).pipeline(name).source
        for name, placement in world.state.placements["g"].items()
        if placement.phase is Phase.RUNNING
    }


def test_the_group_is_not_gone_with_the_last_placement_that_an_update_removes() -> None:
    world = running(spec("a"))
    world.step(Displace, "g", "a", reason="r")
    put(world, spec("b"))
    world.run("g", "b", "w1")
    assert end(world) == Done()
    assert list(world.state.placements["g"]) == ["b"]


def test_a_new_version_that_fails_turns_round_and_all_runs_as_before_under_the_old_number() -> None:
    world = running()
    put(world, spec(("a", "+"), ("b", "+"), "d"))
    roll(world, "a")
    world.run("g", "d", "w2")
    world.step(ReportFailed, "g", "a", reason="100 events in a row failed")
    assert phase(world) is UpdatePhase.ROLLING_BACK and group(world).version == 1
    assert world.placement("g", "d").phase is Phase.REMOVING, "what only the new one had"
    assert waits_for(world.state, group(world)) == ["a"], "b was never touched"
    assert isinstance(end(world), Refused)
    world.run("g", "a", "w1")
    assert end(world) == Done()
    assert phase(world) is UpdatePhase.ROLLED_BACK
    assert sources_of_running(world) == dict.fromkeys(NAMES, "-")
    update = group(world).update
    assert update is not None and "a: 100 events in a row failed" in (update.reason or "")


def test_versions_are_never_used_again() -> None:
    world = running()
    put(world, spec(("a", "+"), "b", "c"))
    fail(world)
    assert end(world) == Done() and group(world).version == 1
    put(world, spec(("a", "*"), "b", "c"))
    assert group(world).version == 3


def test_it_turns_round_only_when_no_migration_of_it_is_under_way() -> None:
    world = running()
    put(world, spec(("a", "+"), ("b", "+"), "c"))
    first, second = move(world, "a"), move(world, "b")
    world.do(CancelMigration, migration_id=first, reason="engine_error", refused=True)
    assert phase(world) is UpdatePhase.ROLLING
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=second, phase=step, pipeline_id="b-new")
    world.do(FinishMigration, migration_id=second)
    assert phase(world) is UpdatePhase.ROLLING_BACK
    assert waits_for(world.state, group(world)) == ["b"]
    assert sources(world) == {"a": "-", "b": "+", "c": "-"}
    roll(world, "b")
    assert end(world) == Done() and sources(world) == dict.fromkeys(NAMES, "-")


def test_a_migration_that_failed_for_another_reason_is_tried_again_but_not_for_ever() -> None:
    world = running()
    put(world, spec(("a", "+"), "b", "c"))
    for count in range(MAX_FAILURES):
        assert phase(world) is UpdatePhase.ROLLING, count
        world.do(CancelMigration, migration_id=move(world, "a"), reason="worker w1 is silent")
    assert phase(world) is UpdatePhase.ROLLING_BACK


def test_the_failure_of_a_pipeline_it_does_not_touch_or_of_an_old_copy_fails_no_update() -> None:
    world = running()
    put(world, spec(("a", "+"), "b", "c"))
    world.step(ReportFailed, "g", "b", reason="its own")
    world.step(ReportFailed, "g", "a", reason="the old one")
    assert phase(world) is UpdatePhase.ROLLING
    world.run("g", "a", "w1")
    assert sources(world)["a"] == "+", "what must be placed anew is of the new version"
    assert end(world) == Done()


def test_a_drain_in_the_middle_moves_a_copy_as_it_is() -> None:
    world = running()
    put(world, spec(("a", "+"), "b", "c"))
    result = world.step(StartMigration, "g", "a", cause=Cause.DRAIN).result
    assert isinstance(result, Started)
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=result.id, phase=step, pipeline_id="a-new")
    world.do(FinishMigration, migration_id=result.id)
    assert world.placement("g", "a").worker_id == "w2" and sources(world)["a"] == "-"


def test_a_version_that_was_not_looked_at_is_refused_with_the_present_one() -> None:
    world = running()
    answer = put(world, spec(("a", "+"), "b", "c"), if_version=4)
    assert (
        isinstance(answer, Refused) and answer.code == "conflict" and "has version 1, not 4" in answer.error
    )
    assert put(world, spec(("a", "+"), "b", "c"), if_version=1) == Done()


def test_one_update_at_a_time_and_the_same_spec_is_no_update() -> None:
    world = running()
    assert put(world, spec(*NAMES)) == Done() and group(world).version == 1
    put(world, spec(("a", "+"), "b", "c"))
    answer = put(world, spec(("a", "*"), "b", "c"))
    assert isinstance(answer, Refused) and "from version 1 to 2" in answer.error


def test_an_update_that_touches_nothing_is_done_at_once() -> None:
    world = running()
    put(world, spec(*NAMES, strategy="binpack"))
    assert phase(world) is UpdatePhase.DONE and group(world).version == 2


def test_a_group_that_is_deleted_in_the_middle_goes_whole() -> None:
    world = running()
    put(world, spec(("a", "+"), "d"))
    move(world, "a")
    world.do(DeleteGroup, group="g")
    assert not world.state.migrations and not world.state.rolling
    assert {each.phase for each in world.state.placements["g"].values()} == {Phase.REMOVING}
    assert set(world.state.placements["g"]) == set(NAMES)
    assert refused(world.do(UpdateGroup, spec=spec("a"), consumes={})) == "conflict"


def test_routes_and_connectors_touch_the_pipelines_they_belong_to() -> None:
    world = running()
    world.do(SaveConnector, name="Bus", connector_type="memory", params={}, new=True)
    route = Route(from_pipeline="a", to_pipeline="b", event_types=["X"])
    assert put(world, spec(*NAMES, routes=[route])) == Done()
    update = group(world).update
    assert update is not None and set(update.fresh) == {"a", "b"}
    roll(world, "a")
    roll(world, "b")
    end(world)
    put(world, spec(("a", "+"), "b", "c", routes=[route]), connectors={"a": ["Bus"]})
    assert world.state.users_of("Bus") == ["g/a"]
    fail(world)
    assert world.state.users_of("Bus") == ["g/a"], "until none of its copies is left"


def replicas(count: int, key: str | None = None, source: str = "-") -> PipelineSpec:
    return PipelineSpec(name="p", source=source, replicas=count, partition_key=key)


def test_replicas_without_a_key_come_and_go_and_the_others_are_not_touched() -> None:
    world = running(spec(replicas(2)))
    before = dict(world.state.placements["g"])
    put(world, spec(replicas(4)))
    update = group(world).update
    assert update is not None and set(update.fresh) == {"p-2", "p-3"}
    for name in ("p-2", "p-3"):
        world.run("g", name, "w2")
    assert end(world) == Done()
    assert {name: world.placement("g", name) for name in before} == before
    put(world, spec(replicas(3)))
    assert end(world) == Done(), "nothing is to be deployed"
    assert world.placement("g", "p-3").phase is Phase.REMOVING
    assert sorted(world.state.placements["g"]) == ["p-0", "p-1", "p-2", "p-3"]
    answer = put(world, spec(replicas(4)))
    assert isinstance(answer, Refused) and answer.retryable and "still being removed" in answer.error


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (replicas(2, "k"), replicas(1), "from 2 replicas by key 'k' to 1 replica"),
        (replicas(2, "k"), replicas(3, "x"), "keys would have another owner"),
        (replicas(2), replicas(2, "k"), "from 2 replicas to 2 replicas by key 'k'"),
    ],
)
def test_changes_that_would_lose_or_double_events_are_refused_by_name(
    before: PipelineSpec, after: PipelineSpec, why: str
) -> None:
    world = running(spec(before))
    answer = put(world, spec(after))
    assert isinstance(answer, Refused) and answer.code == "conflict" and why in answer.error
    assert "'p'" in answer.error and "another name" in answer.error
    assert group(world).version == 1


def test_one_of_a_kind_becomes_several_and_back_in_one_line() -> None:
    world = running(spec(replicas(1)))
    line = world.placement("g", "p").queue
    assert put(world, spec(replicas(2))) == Done()
    world.step(Displace, "g", "p", reason="its worker died")
    for name in ("p-0", "p-1", "p"):
        world.run("g", name, "w2")
        assert world.placement("g", name).queue == line, "also when it is placed again in the middle"
    assert end(world) == Done()
    assert group(world).shared == {"p": line}
    world.report("g", "p", "w2")
    world.step(LetGo, "g", "p", confirmed=True)
    assert put(world, spec(replicas(1))) == Done()
    assert world.run("g", "p", "w1") > line and world.placement("g", "p").queue == line
    assert end(world) == Done()
    world.step(Displace, "g", "p", reason="its worker died")
    assert world.run("g", "p", "w2") == world.placement("g", "p").queue, "alone it begins a line again"


def test_a_move_whose_source_died_leaves_it_in_the_line_that_the_others_share() -> None:
    world = running(spec(replicas(1)))
    line = world.placement("g", "p").queue
    put(world, spec(replicas(2)))
    result = world.step(StartMigration, "g", "p", cause=Cause.DRAIN).result
    assert isinstance(result, Started)
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=result.id, phase=step, pipeline_id="p-new")
    assert world.do(FinishMigration, migration_id=result.id, new_line=True).result == Done()
    assert world.placement("g", "p").queue == line


def test_one_that_cannot_share_is_not_split() -> None:
    world = World()
    world.worker("w1", incarnation=None)
    world.do(CreateGroup, spec=spec(replicas(1)), consumes={})
    world.run("g", "p", "w1")
    answer = put(world, spec(replicas(2)))
    assert isinstance(answer, Refused) and "knows no replicas" in answer.error


def test_instances_with_a_key_are_updated_one_by_one() -> None:
    world = running(spec(replicas(2, "k")))
    assert put(world, spec(replicas(2, "k", "+"))) == Done()
    roll(world, "p-0")
    assert sources(world) == {"p-0": "+", "p-1": "-"}


def test_a_copy_stays_on_its_worker_unless_that_does_not_fit_or_another_is_wished_for() -> None:
    world = running(spec("a"))
    world.worker("w3", labels={"zone": "eu"})
    for wanted, worker in (
        (PipelineSpec(name="a", source="+"), "w1"),
        (PipelineSpec(name="a", source="+", worker_affinity="w2"), "w2"),
        (PipelineSpec(name="a", source="+", worker_affinity="gone"), "w2"),
        (
            PipelineSpec(name="a", source="+", constraints=[Constraint(label="zone", op="=", value="eu")]),
            "w3",
        ),
    ):
        put(world, spec(wanted))
        result = world.state.migrations[move(world, "a")].to_worker
        assert result == worker, wanted
        roll_on(world)


def roll_on(world: World) -> None:
    (move_id,) = world.state.migrations
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=move_id, phase=step, pipeline_id="a-new")
    world.do(FinishMigration, migration_id=move_id)
    assert end(world) == Done()


def test_a_plan_tells_each_change_and_its_worker_or_why_there_is_none_and_changes_nothing() -> None:
    world = running(spec(*NAMES))
    nowhere = [Constraint(label="zone", op="=", value="mars")]
    wanted = spec(
        "a",
        ("b", "+"),
        PipelineSpec(name="d", source="-", worker_affinity="w2"),
        PipelineSpec(name="e", source="-", constraints=nowhere),
    )
    before = snapshot.frames(world.state)
    command = UpdateGroup(by="test", spec=wanted, consumes={})
    new = updated(world.state, command)
    assert new is not None
    steps = {step.instance: step for step in plan(world.state, new, Room(world.state))}
    assert {name: (step.change, step.worker) for name, step in steps.items()} == {
        "a": ("unchanged", "w1"),
        "b": ("updated", "w1"),
        "c": ("removed", "w1"),
        "d": ("added", "w2"),
        "e": ("added", None),
    }
    assert "lack zone=mars" in steps["e"].reason
    assert b"".join(snapshot.frames(world.state)) == b"".join(before)


def test_a_snapshot_in_the_middle_goes_on_as_if_it_had_not_been_taken() -> None:
    world = running()
    put(world, spec(("a", "+"), ("b", "+"), "d"))
    roll(world, "a")
    world.state = snapshot.read(b"".join(snapshot.frames(world.state)))
    assert [each.spec.name for each in world.state.rolling] == ["g"]
    assert sources(world) == {"a": "+", "b": "-", "c": "-", "d": "-"}
    fail(world)
    assert phase(world) is UpdatePhase.ROLLING_BACK and waits_for(world.state, group(world)) == ["a"]


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_it_ends_with_every_copy_of_one_version(seed: int) -> None:
    """Random commands, then whatever a controller would do until nothing is left."""
    rng = random.Random(seed)
    world = running()
    programs = {name: rng.choice("-+") for name in rng.sample("abcdef", rng.randint(1, 5))}
    before = spec(*NAMES)
    wanted = spec(*programs.items())
    put(world, wanted)
    for _ in range(rng.randint(0, 25)):
        name = rng.choice(sorted(world.state.placements["g"]))
        worker = rng.choice(["w1", "w2"])
        kind = rng.randrange(7)
        if kind == 0:
            world.step(ReportFailed, "g", name, reason="failed")
        elif kind == 1:
            world.step(Displace, "g", name, reason="gone")
        elif (
            kind == 2 and isinstance(world.step(Place, "g", name, worker_id=worker).result, Refused) is False
        ):
            world.report("g", name, worker) if rng.random() < 0.8 else None
        elif kind == 3:
            world.step(StartMigration, "g", name, cause=rng.choice([Cause.UPDATE, Cause.DRAIN]))
        elif kind == 4 and world.state.migrations:
            move_id = rng.choice(sorted(world.state.migrations))
            world.do(CancelMigration, migration_id=move_id, reason="no", refused=rng.random() < 0.3)
        elif kind == 5 and rng.random() < 0.2 and group(world).rolling:
            fail(world)
        elif world.state.migrations:
            finish(world, rng.choice(sorted(world.state.migrations)))
        check(world)
    complete(world)
    update = group(world).update
    assert group(world).rolling is None
    went = update is None or update.phase is UpdatePhase.DONE
    assert group(world).spec == (wanted if went else before)
    assert group(world).version == (1 if wanted == before or not went else 2)
    left = {name for name, each in world.state.placements["g"].items() if each.phase is not Phase.REMOVING}
    assert left == set(group(world).instances)


def finish(world: World, move_id: str) -> None:
    for step in (MovePhase.HELD, MovePhase.HANDED_OVER):
        world.do(AdvanceMigration, migration_id=move_id, phase=step, pipeline_id=f"{move_id}-new")
    world.do(FinishMigration, migration_id=move_id)


def complete(world: World) -> None:
    for _ in range(10):
        for move_id in list(world.state.migrations):
            finish(world, move_id)
        for name, placement in list(world.state.placements["g"].items()):
            if placement.phase in (Phase.PENDING, Phase.FAILED):
                world.run("g", name, "w1")
            elif placement.phase is Phase.DEPLOYING:
                world.report("g", name, placement.worker_id or "")
        update = group(world).rolling
        for name in update.behind if update is not None else ():
            if name in group(world).instances and not world.state.moving("g", name):
                finish(world, move(world, name))
        if update is not None:
            end(world)
        check(world)


def check(world: World) -> None:
    """What holds after every command."""
    present = group(world)
    placements = world.state.placements["g"]
    assert set(present.instances) <= set(placements), "everything it wants has a placement"
    assert world.state.rolling == ([present] if present.rolling is not None else [])
    update = present.rolling
    if update is None:
        return
    assert set(update.behind) <= set(placements) | set(present.former.instances if present.former else ())
    for name in placements:
        assert present.instance(name) is not None, "each copy has a spec"
    assert not (update.phase is UpdatePhase.ROLLING_BACK and update.failing)


def test_an_older_snapshot_without_updates_is_read() -> None:
    world = running()
    plain = replace(group(world), update=None, newest=0)
    assert b"update" not in b"".join(snapshot.frames(world.state))
    assert group(world) == plain
