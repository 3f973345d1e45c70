"""Migrations, drains and cordons in the state: their tables, their slots, and what ends them."""

from typing import Any

import pytest

from coordinator.state import limits, migrations
from coordinator.state.commands import (
    AdvanceMigration,
    CancelMigration,
    CordonWorker,
    DeleteGroup,
    Displace,
    EndDrain,
    ExplainDrain,
    FailMigration,
    FinishMigration,
    MigrationCommand,
    Place,
    RemoveWorker,
    ReportFailed,
    StartDrain,
    StartMigration,
)
from coordinator.state.records import Cause, Drain, DrainPhase, Migration, MovePhase, Phase, WorkerStatus
from coordinator.state.results import Done, Refused, Started
from coordinator.state.room import Room
from tests.unit.coordinator.worlds import World, refused

S, H, O = MovePhase.STARTED, MovePhase.HELD, MovePhase.HANDED_OVER  # noqa: E741
EXPECTED = {
    (S, AdvanceMigration, S): "started",
    (S, AdvanceMigration, H): "held",
    (S, FailMigration, None): "failed",
    (S, CancelMigration, None): "cancelled",
    (H, AdvanceMigration, H): "held",
    (H, AdvanceMigration, O): "handed_over",
    (H, FailMigration, None): "failed",
    (H, CancelMigration, None): "cancelled",
    (O, AdvanceMigration, O): "handed_over",
    (O, FinishMigration, None): "done",
    (O, FailMigration, None): "failed",
}


def two_workers(*, room: int = 10) -> World:
    """A world whose `g/p` runs on w1; w2 is there as well."""
    world = World()
    world.worker("w1")
    world.worker("w2", room=room)
    world.group("g", "p")
    world.run("g", "p", "w1")
    return world


def start(world: World, to: str = "w2", **fields: Any) -> Migration:
    applied = world.step(StartMigration, "g", "p", to_worker=to, cause=Cause.MANUAL, **fields)
    assert isinstance(applied.result, Started), applied.result
    return world.state.migrations[applied.result.id]


def say(world: World, kind: type[MigrationCommand], move: Migration, **fields: Any) -> Any:
    extra: dict[str, Any] = {"reason": "no"} if issubclass(kind, FailMigration) else {}
    return world.do(kind, migration_id=move.id, **extra | fields).result


def in_move_phase(phase: MovePhase) -> tuple[World, Migration]:
    world = two_workers()
    move = start(world)
    for step in (H, O):
        if phase is not S and world.state.migrations[move.id].phase is not phase:
            assert say(world, AdvanceMigration, move, phase=step, pipeline_id="p-new") == Done()
    return world, world.state.migrations[move.id]


def ended(world: World) -> Migration:
    assert not world.state.migrations
    return list(world.state.ended_migrations.values())[-1]


@pytest.mark.parametrize("phase", [S, H, O])
@pytest.mark.parametrize("kind", [AdvanceMigration, FinishMigration, FailMigration, CancelMigration])
@pytest.mark.parametrize("to", [S, H, O])
def test_each_phase_takes_exactly_the_commands_of_the_table(
    phase: MovePhase, kind: type[MigrationCommand], to: MovePhase
) -> None:
    world, move = in_move_phase(phase)
    advance = kind is AdvanceMigration
    result = say(world, kind, move, **({"phase": to} if advance else {}))
    expected = EXPECTED.get((phase, kind, to if advance else None))
    known = world.state.migrations.get(move.id) or world.state.ended_migrations[move.id]
    assert known.phase == (expected or phase)
    assert isinstance(result, Done) is (expected is not None)


def test_the_table_has_no_row_that_no_test_knows_and_every_phase_can_be_ended() -> None:
    rows = {(phase, kind) for phase, moves in migrations.MOVES.items() for kind in moves}
    assert rows == {(phase, kind) for phase, kind, _ in EXPECTED}
    assert all(FailMigration in moves for moves in migrations.MOVES.values())


def test_a_migration_reserves_its_slot_and_gives_it_back_however_it_ends() -> None:
    for kind, phase in ((FinishMigration, O), (FailMigration, H), (CancelMigration, S)):
        world, move = in_move_phase(phase)
        assert world.state.slots_taken("w2") == 1 and world.state.slots_taken("w1") == 1
        say(world, kind, move)
        arrived = kind is FinishMigration
        assert world.state.slots_taken("w2") == arrived and world.state.slots_taken("w1") == (not arrived)


def test_a_slot_that_is_reserved_is_given_to_nobody_else() -> None:
    world = two_workers(room=1)
    start(world)
    world.group("h", "q")
    assert refused(world.step(Place, "h", "q", worker_id="w2")) == "quota_exceeded"
    assert Room(world.state).choose("h", affinity="w2") == "w1"


def test_a_finished_migration_is_the_placement_in_the_same_line() -> None:
    world, move = in_move_phase(O)
    line = world.placement("g", "p").queue
    assert say(world, FinishMigration, move) == Done()
    placement = world.placement("g", "p")
    assert (placement.phase, placement.worker_id, placement.pipeline_id) == (Phase.RUNNING, "w2", "p-new")
    assert placement.epoch == move.to_epoch and placement.queue == line == move.from_epoch


def test_where_the_other_copy_may_still_listen_a_new_line_begins() -> None:
    world, move = in_move_phase(O)
    say(world, FinishMigration, move, new_line=True, reason="worker w1 died")
    assert world.placement("g", "p").queue == move.to_epoch
    assert ended(world).reason == "worker w1 died"
    world, move = in_move_phase(O)
    say(world, FailMigration, move, new_line=True)
    placement = world.placement("g", "p")
    assert (placement.epoch, placement.queue) == (move.from_epoch, move.to_epoch)


def test_an_older_epoch_of_the_pipeline_is_over_and_no_epoch_means_the_present_one() -> None:
    world = two_workers()
    applied = world.step(StartMigration, "g", "p", epoch=99, to_worker="w2", cause=Cause.MANUAL)
    assert refused(applied) == "stale_epoch"
    start(world, epoch=0)


def test_without_a_target_the_strategy_chooses_one_and_never_the_source() -> None:
    world = two_workers()
    assert start(world, "", epoch=0).to_worker == "w2"
    world = World()
    world.worker("w1")
    world.group("g", "p")
    world.run("g", "p", "w1")
    applied = world.step(StartMigration, "g", "p", cause=Cause.MANUAL)
    assert refused(applied) == "unavailable"
    assert isinstance(applied.result, Refused) and applied.result.retryable


@pytest.mark.parametrize("what", ["cordoned", "unhealthy", "full", "unknown", "seed", "itself", "twice"])
def test_a_target_that_cannot_take_it_is_refused_and_nothing_is_reserved(what: str) -> None:
    world, to = two_workers(room=0 if what == "full" else 10), "w2"
    if what == "cordoned":
        world.do(CordonWorker, worker_id="w2", cordoned=True)
    elif what == "unhealthy":
        world.mark("w2", WorkerStatus.UNHEALTHY)
    elif what == "seed":
        world.worker("w2", incarnation=None)
    elif what == "twice":
        start(world)
    else:
        to = {"unknown": "w9", "itself": "w1"}.get(what, "w2")
    before = (world.state.epochs, dict(world.state.migrations))
    code = refused(world.step(StartMigration, "g", "p", to_worker=to, cause=Cause.MANUAL))
    assert code == {"full": "quota_exceeded", "unknown": "not_found"}.get(what, "conflict")
    assert (world.state.epochs, world.state.migrations) == before


def test_an_update_may_replace_a_copy_on_its_own_full_worker() -> None:
    world = World()
    world.worker("w1", room=1)
    world.group("g", "p")
    world.run("g", "p", "w1")
    world.step(StartMigration, "g", "p", to_worker="w1", cause=Cause.UPDATE)
    assert world.state.slots_taken("w1") == 1


def test_a_pipeline_that_no_line_leads_to_is_not_moved() -> None:
    """It was placed by a version that knew none: its copies do not share their events."""
    world = two_workers()
    placements = world.state.placements["g"]
    placements["p"] = type(placements["p"])(**{**_fields(placements["p"]), "queue": 0})
    assert refused(world.step(StartMigration, "g", "p", to_worker="w2", cause=Cause.MANUAL)) == "conflict"


@pytest.mark.parametrize("phase", [S, H, O])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("group deleted", "group g was deleted"),
        ("source restarted", "worker w1 restarted"),
        ("source removed", "worker w1 was removed"),
        ("target restarted", "worker w2 restarted"),
        ("target removed", "worker w2 was removed"),
        ("displaced", "gone"),
        ("failed", "broken"),
    ],
)
def test_whatever_breaks_a_migration_ends_it_with_its_reason(phase: MovePhase, what: str, why: str) -> None:
    world, _ = in_move_phase(phase)
    worker = "w1" if what.startswith("source") else "w2"
    if what == "group deleted":
        world.do(DeleteGroup, group="g")
    elif what.endswith("restarted"):
        world.worker(worker, incarnation="i2")
    elif what.endswith("removed"):
        world.do(RemoveWorker, worker_id=worker, force=True)
    else:
        world.step(Displace if what == "displaced" else ReportFailed, "g", "p", reason=why)
    move = ended(world)
    assert move.phase is MovePhase.FAILED and move.reason == why
    assert world.state.slots_taken("w2") == 0


def test_a_worker_that_registers_again_as_the_same_process_breaks_nothing() -> None:
    world, move = in_move_phase(H)
    world.worker("w1")
    world.worker("w2")
    assert move.id in world.state.migrations


def test_only_the_newest_that_ended_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_JOBS", 3)
    world = two_workers()
    for _ in range(5):
        last = start(world)
        say(world, CancelMigration, last)
    assert len(world.state.ended_migrations) == 3 and last.id in world.state.ended_migrations


# -- drains


def drained(world: World, **fields: Any) -> Drain:
    applied = world.do(StartDrain, worker_id="w1", **{"cause": Cause.MANUAL, **fields})
    assert isinstance(applied.result, Started)
    return world.state.drains[applied.result.id]


def end(world: World, drain: Drain, phase: DrainPhase) -> Any:
    return world.do(EndDrain, drain_id=drain.id, phase=phase).result


def test_a_drain_cordons_and_is_done_only_when_nothing_is_left() -> None:
    world = two_workers()
    drain = drained(world)
    assert world.state.workers["w1"].cordoned and drain.total == 1
    assert refused(world.do(EndDrain, drain_id=drain.id, phase=DrainPhase.DONE)) == "conflict"
    move = start(world)
    for step in (H, O):
        say(world, AdvanceMigration, move, phase=step, pipeline_id="p-new")
    say(world, FinishMigration, move)
    assert end(world, drain, DrainPhase.DONE) == Done()
    over = world.state.ended_drains[drain.id]
    assert (over.phase, over.moved) == (DrainPhase.DONE, 1)
    assert world.state.workers["w1"].cordoned, "what was emptied stays empty"


@pytest.mark.parametrize("cordoned_before", [True, False])
def test_a_cancelled_drain_takes_back_only_the_cordon_that_it_brought(cordoned_before: bool) -> None:
    world = two_workers()
    world.do(CordonWorker, worker_id="w1", cordoned=cordoned_before)
    end(world, drained(world), DrainPhase.CANCELLED)
    assert world.state.workers["w1"].cordoned is cordoned_before


def test_a_cordon_that_somebody_asked_for_meanwhile_stays() -> None:
    world = two_workers()
    drain = drained(world)
    assert refused(world.do(CordonWorker, worker_id="w1", cordoned=False)) == "conflict"
    world.do(CordonWorker, worker_id="w1", cordoned=True)
    end(world, drain, DrainPhase.CANCELLED)
    assert world.state.workers["w1"].cordoned


def test_a_second_request_to_drain_gets_the_job_that_is_under_way() -> None:
    world = two_workers()
    assert drained(world).id == drained(world).id and len(world.state.drains) == 1


def test_a_drain_remembers_the_last_failure_of_each_pipeline_until_it_has_moved() -> None:
    world = two_workers()
    drain = drained(world)
    say(world, CancelMigration, start(world), reason="no room")
    assert world.state.drains[drain.id].failures == {"g/p": "no room"}
    move = start(world)
    for step in (H, O):
        say(world, AdvanceMigration, move, phase=step, pipeline_id="p-new")
    say(world, FinishMigration, move)
    assert world.state.drains[drain.id].failures == {}


def test_a_drain_ends_with_its_worker_and_one_that_has_ended_takes_no_word() -> None:
    world = two_workers()
    drain = drained(world)
    world.do(RemoveWorker, worker_id="w1", force=True)
    assert world.state.ended_drains[drain.id].reason == "worker w1 was removed"
    assert refused(world.do(ExplainDrain, drain_id=drain.id, reason="x")) == "conflict"
    assert refused(world.do(EndDrain, drain_id=drain.id, phase=DrainPhase.DONE)) == "conflict"
    assert refused(world.do(EndDrain, drain_id="d-0", phase=DrainPhase.DONE)) == "conflict"


def test_a_worker_that_left_and_came_back_is_neither_cordoned_nor_drained() -> None:
    world = two_workers()
    drain = drained(world, cause=Cause.LEAVE)
    assert not world.state.workers["w1"].cordoned
    world.worker("w1", incarnation="i2")
    assert world.state.ended_drains[drain.id].phase is DrainPhase.DONE and not world.state.drains


def test_a_cordoned_worker_keeps_what_it_has_and_its_cordon_through_a_restart() -> None:
    world = two_workers()
    world.do(CordonWorker, worker_id="w1", cordoned=True)
    assert world.placement("g", "p").worker_id == "w1"
    world.worker("w1", incarnation="i2")
    assert refused(world.step(Place, "g", "p", worker_id="w1")) == "conflict"
    assert Room(world.state).choose("g") == "w2"


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}
