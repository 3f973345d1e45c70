"""The life of a placement: every pair of phase and command, and what guards each step."""

import pytest

from coordinator.state.commands import (
    Displace,
    Explain,
    LetGo,
    Place,
    PlacementCommand,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.phases import TRANSITIONS
from coordinator.state.records import Phase, WorkerStatus
from coordinator.state.results import Done, Placed
from tests.unit.coordinator.worlds import World, command_for, in_phase, refused

KINDS: list[type[PlacementCommand]] = [Place, ReportRunning, ReportFailed, Displace, Explain, LetGo]
EXPECTED = {
    (Phase.PENDING, Place): "deploying",
    (Phase.PENDING, ReportRunning): "running",
    (Phase.PENDING, Explain): "pending",
    (Phase.DEPLOYING, ReportRunning): "running",
    (Phase.DEPLOYING, ReportFailed): "failed",
    (Phase.DEPLOYING, Displace): "pending",
    (Phase.DEPLOYING, Explain): "deploying",
    (Phase.RUNNING, ReportRunning): "running",
    (Phase.RUNNING, ReportFailed): "failed",
    (Phase.RUNNING, Displace): "pending",
    (Phase.FAILED, Place): "deploying",
    (Phase.FAILED, Explain): "failed",
    (Phase.REMOVING, ReportRunning): "removing",
    (Phase.REMOVING, ReportFailed): "gone",
    (Phase.REMOVING, Explain): "removing",
    (Phase.REMOVING, LetGo): "gone",
}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", KINDS)
def test_each_phase_takes_exactly_the_commands_of_the_table(
    phase: Phase, kind: type[PlacementCommand]
) -> None:
    world = in_phase(phase)
    before = world.placement("g", "p")
    applied = world.step(kind, "g", "p", **command_for(kind, world))
    expected = EXPECTED.get((phase, kind))
    if expected is None:
        assert refused(applied) == "conflict"
        assert world.placement("g", "p") == before
        return
    assert isinstance(applied.result, Done | Placed)
    after = world.state.placement("g", "p")
    assert (after.phase.value if after is not None else "gone") == expected


def test_the_table_has_no_row_that_no_test_knows() -> None:
    rows = {(phase, kind) for phase, moves in TRANSITIONS.items() for kind in moves}
    assert rows == set(EXPECTED)


@pytest.mark.parametrize("kind", KINDS)
def test_a_command_of_an_older_epoch_is_refused_and_changes_nothing(kind: type[PlacementCommand]) -> None:
    world = in_phase(Phase.RUNNING)
    world.step(Displace, "g", "p", reason="moved")
    world.place("g", "p", "w1")
    before = world.placement("g", "p")
    applied = world.step(kind, "g", "p", **{**command_for(kind, world), "epoch": before.epoch - 1})
    assert refused(applied) == "stale_epoch"
    assert world.placement("g", "p") == before


def test_epochs_are_never_used_again_not_even_by_another_group() -> None:
    world = World()
    world.worker("w1")
    world.group("g", "a", "b")
    first, second = world.run("g", "a", "w1"), world.run("g", "b", "w1")
    world.step(Displace, "g", "a", reason="moved")
    third = world.run("g", "a", "w1")
    world.group("h", "a")
    assert first < second < third < world.run("h", "a", "w1")


def test_a_full_worker_is_never_given_one_more() -> None:
    world = World()
    world.worker("w1", room=1)
    world.group("g", "a", "b")
    world.place("g", "a", "w1")
    assert refused(world.step(Place, "g", "b", worker_id="w1")) == "quota_exceeded"


@pytest.mark.parametrize("status", [WorkerStatus.UNHEALTHY, WorkerStatus.DRAINING])
def test_a_worker_that_is_not_ready_is_not_placed_on(status: WorkerStatus) -> None:
    world = in_phase(Phase.PENDING)
    world.mark("w1", status)
    assert refused(world.step(Place, "g", "p", worker_id="w1")) == "conflict"


def test_an_answer_from_before_a_restart_of_its_worker_does_not_count() -> None:
    world = in_phase(Phase.DEPLOYING)
    old_session = world.state.workers["w1"].session
    world.worker("w1", incarnation="i2")
    assert world.placement("g", "p").phase is Phase.PENDING
    assert refused(world.report("g", "p", "w1", session=old_session)) == "conflict"


def test_a_running_pipeline_has_no_reason_left_and_a_displaced_one_says_why() -> None:
    world = in_phase(Phase.RUNNING)
    assert world.placement("g", "p").reason is None
    world.step(Displace, "g", "p", reason="worker w1 is unhealthy")
    assert world.placement("g", "p").reason == "worker w1 is unhealthy"
    world.place("g", "p", "w1")
    assert world.placement("g", "p").reason == "worker w1 is unhealthy"
    world.report("g", "p", "w1")
    assert world.placement("g", "p").reason is None


def test_a_displaced_copy_is_written_down_until_it_is_gone() -> None:
    world = in_phase(Phase.RUNNING)
    copy = world.placement("g", "p").pipeline_id
    world.step(Displace, "g", "p", reason="moved")
    assert list(world.state.strays) == [f"w1/{copy}"]
    world.report("g", "p", "w1", pipeline_id=copy)
    assert world.state.strays == {}
