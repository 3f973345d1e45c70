"""Migrations and drains on a stage: which commands go to whom in which order, and that nothing hangs."""

import random
from typing import Any

import pytest

from coordinator.controllers.moves import HOLD_PATIENCE, PATIENCE
from coordinator.state.commands import (
    CordonWorker,
    DeleteGroup,
    EndDrain,
    FinishMigration,
    MarkWorker,
    StartDrain,
    StartMigration,
)
from coordinator.state.records import Cause, DrainPhase, MovePhase, Phase, WorkerStatus
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.moves import CheckpointRequest, Hold, Restore
from tests.unit.coordinator.moving import Moving, only_live, running


async def test_the_source_holds_before_the_target_joins_and_hands_over_before_it_goes_live() -> None:
    stage = await running()
    memory = only_live(stage)[1]
    move = await stage.migrate()
    await stage.settle()
    steps = ["Deploy@w2", "Hold@w1", "Hold@w2", "CheckpointRequest@w1", "Restore@w2", "Undeploy@w1"]
    assert stage.sim.kinds()[:6] == steps
    assert set(stage.sim.kinds()[6:]) <= {"Undeploy@w1"}, "convergence sees to it as well"
    assert stage.move(move).phase is MovePhase.DONE
    assert only_live(stage) == ("w2", memory)
    assert stage.sim.copies["w1"] == {}


async def test_each_step_is_committed_before_the_next_worker_hears_of_it() -> None:
    stage = await running()
    move = await stage.migrate()
    seen: list[tuple[str, str]] = []
    ask = stage.sim.request_message

    async def watch(subject: str, message: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((type(message).__name__, stage.move(move).phase.value))
        return await ask(subject, message, *args, **kwargs)

    stage.sim.request_message = watch  # type: ignore[method-assign]
    await stage.settle()
    assert seen[:6] == [
        ("Deploy", "started"),
        ("Hold", "held"),
        ("Hold", "held"),
        ("CheckpointRequest", "held"),
        ("Restore", "handed_over"),
        ("Undeploy", "done"),
    ]


@pytest.mark.parametrize("cut", range(1, 7))
async def test_a_new_leader_goes_on_wherever_the_last_one_stopped(cut: int) -> None:
    """The command number `cut` is carried out; the leader dies before it hears of that."""
    stage = await running()
    memory = only_live(stage)[1]
    move = await stage.migrate()
    ask = stage.sim.request_message
    count = 0

    async def die(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        answer = await ask(*args, **kwargs)
        if count == cut:
            stage.new_leader()
        return answer

    stage.sim.request_message = die  # type: ignore[method-assign]
    await stage.pass_time(2)
    assert count >= cut
    assert stage.move(move).phase is MovePhase.DONE and stage.move(move).reason is None
    assert only_live(stage) == ("w2", memory)


@pytest.mark.parametrize("kind", [Deploy, Hold, Restore])
async def test_a_target_that_refuses_leaves_the_source_live_with_all_it_had(kind: Any) -> None:
    stage = await running()
    before = only_live(stage)
    stage.sim.refusals["w2", kind] = WireError(ErrorCode.CONFLICT, "it does not fit")
    move = await stage.migrate()
    await stage.pass_time(2)
    after_hand_over = kind is Restore
    assert stage.move(move).phase is (MovePhase.FAILED if after_hand_over else MovePhase.CANCELLED)
    assert "it does not fit" in (stage.move(move).reason or "")
    assert only_live(stage) == before
    assert not stage.sim.copies.get("w2")


async def test_a_source_that_refuses_to_hand_over_goes_on() -> None:
    stage = await running()
    before = only_live(stage)
    stage.sim.refusals["w1", CheckpointRequest] = WireError(ErrorCode.CONFLICT, "not now")
    move = await stage.migrate()
    await stage.pass_time(2)
    assert stage.move(move).phase is MovePhase.CANCELLED and only_live(stage) == before


@pytest.mark.parametrize("phase", [MovePhase.STARTED, MovePhase.HELD, MovePhase.HANDED_OVER])
async def test_a_target_that_dies_leaves_the_source_live_in_a_line_that_the_dead_one_does_not_share(
    phase: MovePhase,
) -> None:
    stage = await running()
    before = only_live(stage)
    move = await stop_in(stage, phase, "w2")
    stage.sim.frozen.add("w2")
    await stage.pass_time(10)
    assert stage.move(move).phase in (MovePhase.CANCELLED, MovePhase.FAILED), stage.move(move)
    assert only_live(stage) == before
    lines = {copy.line for copy in stage.sim.copies.get("w2", {}).values() if copy.joined}
    assert f"g.p.{stage.placed('g', 'p').queue}" not in lines
    stage.sim.frozen.clear()
    await stage.pass_time(3)
    assert only_live(stage) == before and not stage.sim.copies.get("w2"), "a zombie is ended"


@pytest.mark.parametrize("phase", [MovePhase.HELD, MovePhase.HANDED_OVER])
async def test_a_source_that_dies_leaves_the_target_live_without_its_state_and_says_so(
    phase: MovePhase,
) -> None:
    stage = await running()
    move = await stop_in(stage, phase, "w1")
    stage.sim.frozen.add("w1")
    stage.new_leader()
    await stage.pass_time(10)
    assert stage.move(move).phase is MovePhase.DONE
    assert "without its state" in (stage.move(move).reason or "")
    told = [each.restore_from for worker, each in stage.sim.sent if worker == "w2" and type(each) is Restore]
    assert "latest" in told, "it is told to look for a checkpoint"
    assert only_live(stage) == ("w2", "")
    assert stage.placed("g", "p").queue == stage.move(move).to_epoch, "the dead one's line is left"
    stage.sim.frozen.clear()
    await stage.pass_time(3)
    assert only_live(stage)[0] == "w2" and stage.sim.copies["w1"] == {}


async def test_both_ends_dead_the_pipeline_is_placed_anew() -> None:
    stage = await running(workers=("w1", "w2", "w3"))
    move = await stop_in(stage, MovePhase.HELD, "w2")
    stage.sim.frozen |= {"w1", "w2"}
    await stage.pass_time(10)
    assert stage.move(move).phase in (MovePhase.CANCELLED, MovePhase.FAILED)
    assert only_live(stage)[0] == "w3"


async def stop_in(stage: Moving, phase: MovePhase, deaf: str) -> str:
    """A migration that stays in `phase` because a worker does not answer the next step; its id."""
    refusals: dict[MovePhase, Any] = {
        MovePhase.STARTED: [("w2", Deploy)],
        MovePhase.HELD: [(deaf, Hold)] if deaf == "w2" else [(deaf, CheckpointRequest)],
        MovePhase.HANDED_OVER: [("w2", Restore)],
    }
    later = WireError(ErrorCode.TIMEOUT, "later")
    stage.sim.refusals = dict.fromkeys(refusals[phase], later)
    move = await stage.migrate()
    await stage.settle()
    assert stage.move(move).phase is phase
    stage.sim.refusals = {} if deaf == "w1" else stage.sim.refusals
    return move


async def test_a_migration_that_goes_nowhere_is_given_up_in_the_end() -> None:
    stage = await running()
    before = only_live(stage)
    move = await stop_in(stage, MovePhase.STARTED, "w2")
    await stage.pass_time(PATIENCE + 10)
    assert stage.move(move).phase is MovePhase.CANCELLED
    assert "later" in (stage.move(move).reason or "")
    assert only_live(stage) == before


async def test_a_source_is_not_kept_waiting_for_a_target_that_does_not_join() -> None:
    stage = await running()
    before = only_live(stage)
    move = await stop_in(stage, MovePhase.HELD, "w2")
    await stage.pass_time(HOLD_PATIENCE + 6)
    assert stage.move(move).phase is MovePhase.CANCELLED and only_live(stage) == before


async def test_a_group_that_is_deleted_in_the_middle_is_gone_from_both() -> None:
    stage = await running()
    await stop_in(stage, MovePhase.HELD, "w2")
    await stage.say(DeleteGroup, group="g")
    await stage.pass_time(3)
    assert stage.machine.state.groups == {} and stage.machine.state.migrations == {}
    assert stage.sim.copies == {"w1": {}, "w2": {}}


async def test_a_target_of_an_older_version_is_found_out_and_left() -> None:
    stage = await running()
    before = only_live(stage)
    stage.sim.old.add("w2")
    move = await stage.migrate()
    await stage.pass_time(2)
    assert "does not know how to hold" in (stage.move(move).reason or "")
    assert only_live(stage) == before and not stage.sim.copies.get("w2")


async def test_an_update_replaces_a_copy_on_its_own_worker() -> None:
    stage = await running(workers=("w1",), room=1)
    memory = only_live(stage)[1]
    await stage.say(StartMigration, group="g", pipeline="p", epoch=0, to_worker="w1", cause=Cause.UPDATE)
    await stage.pass_time(2)
    assert only_live(stage) == ("w1", memory)
    assert stage.placed("g", "p").epoch == 2 and len(stage.sim.copies["w1"]) == 1


async def test_what_is_driven_at_once_is_bounded_and_the_others_wait_with_their_slots() -> None:
    names = [f"p{number}" for number in range(8)]
    stage = await running(*names)
    stage.sim.refusals["w2", Deploy] = WireError(ErrorCode.TIMEOUT, "later")
    for name in names:
        await stage.migrate(name)
    await stage.settle()
    assert len([kind for kind in stage.sim.kinds() if kind == "Deploy@w2"]) == 4
    assert stage.machine.state.slots_taken("w2") == 8
    stage.sim.refusals.clear()
    await stage.pass_time(10)
    assert {only_live(stage, name)[0] for name in names} == {"w2"}


async def test_a_leader_that_gives_up_what_another_one_has_completed_leaves_the_source_alone() -> None:
    stage = await running()
    memory = only_live(stage)[1]
    stage.sim.refusals["w2", Restore] = WireError(ErrorCode.CONFLICT, "it does not fit")
    move = await stage.migrate()
    ask = stage.sim.request_message

    async def completed_meanwhile(subject: str, message: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(message, CheckpointRequest) and ".w2." in subject:
            del stage.sim.refusals["w2", Restore]
            (copy,) = stage.sim.copies["w2"].values()
            copy.state, copy.memory = "running", memory
            await stage.say(FinishMigration, migration_id=move)
        return await ask(subject, message, *args, **kwargs)

    stage.sim.request_message = completed_meanwhile  # type: ignore[method-assign]
    await stage.pass_time(4)
    assert stage.move(move).phase is MovePhase.DONE
    assert only_live(stage) == ("w2", memory)
    assert "Restore@w1" not in stage.sim.kinds()


# -- drains


async def test_a_drain_moves_everything_and_ends_when_the_worker_is_empty() -> None:
    names = [f"p{number}" for number in range(6)]
    stage = await running(*names, workers=("w1", "w2", "w3"))
    memories = {name: only_live(stage, name)[1] for name in names}
    drain = await stage.drain()
    await stage.pass_time(5)
    ended = stage.machine.state.ended_drains[drain]
    assert (ended.phase, ended.total, ended.moved) == (DrainPhase.DONE, 6, 6)
    where = {name: only_live(stage, name) for name in names}
    assert {name: memory for name, (_, memory) in where.items()} == memories
    assert {worker for worker, _ in where.values()} == {"w2", "w3"}, "as placement would choose"


async def test_a_drain_without_anywhere_to_go_says_why_and_goes_on_when_there_is() -> None:
    stage = await running()
    await stage.say(CordonWorker, worker_id="w2", cordoned=True)
    drain = await stage.drain()
    await stage.pass_time(2)
    reason = stage.machine.state.drains[drain].reason or ""
    assert "g/p" in reason and "2 cordoned" in reason
    before = stage.log.index
    await stage.pass_time(5)
    assert stage.log.index - before <= 2, "it is said once"
    await stage.say(CordonWorker, worker_id="w2", cordoned=False)
    await stage.pass_time(2)
    assert stage.machine.state.ended_drains[drain].phase is DrainPhase.DONE
    assert only_live(stage)[0] == "w2"


async def test_a_drain_that_takes_too_long_fails_with_its_reason_and_leaves_the_rest_where_it_is() -> None:
    stage = await running(workers=("w1",))
    drain = await stage.drain(timeout_ms=1)
    while drain in stage.machine.state.drains:
        await stage.settle()
    await stage.pass_time(1)
    ended = stage.machine.state.ended_drains[drain]
    assert ended.phase is DrainPhase.FAILED and "1 pipelines are left" in (ended.reason or "")
    assert only_live(stage)[0] == "w1" and stage.machine.state.workers["w1"].cordoned


async def test_a_cancelled_drain_starts_no_more_moves() -> None:
    stage = await running(workers=("w1",))
    drain = await stage.drain()
    await stage.pass_time(1)
    await stage.say(EndDrain, drain_id=drain, phase=DrainPhase.CANCELLED)
    await stage.join("w2")
    await stage.pass_time(3)
    assert only_live(stage)[0] == "w1" and not stage.machine.state.workers["w1"].cordoned


async def test_a_failed_move_of_a_drain_is_tried_elsewhere() -> None:
    stage = await running(workers=("w1", "w2", "w3"))
    stage.sim.refusals["w2", Deploy] = WireError(ErrorCode.ENGINE_ERROR, "its broker is out of reach")
    drain = await stage.drain()
    await stage.pass_time(4)
    assert only_live(stage)[0] == "w3"
    assert stage.machine.state.ended_drains[drain].phase is DrainPhase.DONE


async def test_workers_that_cannot_hold_are_drained_by_placing_their_pipelines_anew() -> None:
    stage = await running()
    stage.sim.old.add("w2")
    drain = await stage.drain()
    await stage.pass_time(4)
    assert stage.machine.state.ended_drains[drain].phase is DrainPhase.DONE
    assert only_live(stage)[0] == "w2"


async def test_a_worker_that_says_it_leaves_is_emptied_and_told_that_it_may_go() -> None:
    stage = await running("p", "q")
    memories = {name: only_live(stage, name)[1] for name in "pq"}
    stage.leaving.add("w1")
    assert not stage.loop.drains.has_nothing_to_wait_for("w1")
    await stage.pass_time(3)
    assert {name: only_live(stage, name) for name in "pq"} == {
        name: ("w2", memory) for name, memory in memories.items()
    }
    assert stage.loop.drains.has_nothing_to_wait_for("w1")
    assert {move.cause for move in stage.machine.state.ended_migrations.values()} == {Cause.LEAVE}


async def test_a_copy_that_a_leaving_worker_has_not_listed_yet_is_moved_not_taken_away() -> None:
    """It went live after that heartbeat; to take it away would lose its state."""
    stage = await running()
    memory = only_live(stage)[1]
    stage.leaving.add("w1")
    copies, stage.sim.copies["w1"] = stage.sim.copies["w1"], {}
    stage.say_alive("w1")
    stage.sim.copies["w1"] = copies
    await stage.settle()
    assert only_live(stage) == ("w2", memory)


async def test_a_worker_that_leaves_and_was_alone_is_told_so_and_runs_on_meanwhile() -> None:
    stage = await running(workers=("w1",))
    stage.leaving.add("w1")
    await stage.pass_time(1)
    assert stage.loop.drains.has_nothing_to_wait_for("w1")
    assert only_live(stage)[0] == "w1"
    started = len(stage.machine.state.ended_drains)
    await stage.pass_time(3)
    assert len(stage.machine.state.ended_drains) == started == 1


async def test_a_drained_worker_that_dies_is_empty_too() -> None:
    stage = await running()
    stage.sim.refusals["w2", Deploy] = WireError(ErrorCode.TIMEOUT, "later")
    drain = await stage.drain()
    await stage.pass_time(1)
    stage.sim.frozen.add("w1")
    stage.sim.refusals.clear()
    await stage.pass_time(12)
    assert stage.machine.state.ended_drains[drain].phase is DrainPhase.DONE
    assert only_live(stage)[0] == "w2"


# -- whatever happens


CAUGHT = ((34, 50), (34, 125), (34, 158), (34, 161))
"""Pairs that once found a fault."""


@pytest.mark.parametrize(("seed", "jitter"), [*((seed, seed) for seed in range(40)), *CAUGHT])
async def test_whatever_is_asked_and_whatever_fails_everything_runs_once_in_the_end(
    seed: int, jitter: int
) -> None:
    """Moves, drains, cordons, frozen workers, lost commands and answers, leaders that die: then peace, and
    each pipeline has exactly one live copy, where the state says, and no job or slot is left behind.
    """
    random.seed(jitter)  # of the pauses between tries, which decide who comes first
    rng = random.Random(seed)
    stage = Moving(rng)
    workers = ("w1", "w2", "w3")
    await stage.join(*workers, room=8)
    await stage.create("g", "a", "b", "c", "d")
    await stage.pass_time(1)
    for _ in range(25):
        stage.sim.trouble = rng.choice([0.0, 0.0, 0.1, 0.4])
        match rng.randrange(7):
            case 0 | 1:
                await tolerant(stage, StartMigration, group="g", pipeline=rng.choice("abcd"), epoch=0)
            case 2:
                await tolerant(stage, StartDrain, worker_id=rng.choice(workers), cause=Cause.MANUAL)
            case 3:
                for drain in list(stage.machine.state.drains):
                    await tolerant(stage, EndDrain, drain_id=drain, phase=DrainPhase.CANCELLED)
            case 4:
                frozen = rng.choice(workers)
                (stage.sim.frozen.discard if frozen in stage.sim.frozen else stage.sim.frozen.add)(frozen)
            case 5:
                stage.new_leader()
            case 6:
                await tolerant(
                    stage, CordonWorker, worker_id=rng.choice(workers), cordoned=rng.random() < 0.5
                )
        await stage.pass_time(rng.choice([0.25, 1, 4]))
    stage.sim.trouble = 0.0
    stage.sim.frozen.clear()
    for drain in list(stage.machine.state.drains):
        await tolerant(stage, EndDrain, drain_id=drain, phase=DrainPhase.CANCELLED)
    for worker in workers:
        await tolerant(stage, CordonWorker, worker_id=worker, cordoned=False)
    await stage.pass_time(50)
    state = stage.machine.state
    assert not state.migrations and not state.drains
    for pipeline in "abcd":
        assert stage.placed("g", pipeline).phase is Phase.RUNNING, stage.placed("g", pipeline)
        only_live(stage, pipeline)
    assert sum(len(copies) for copies in stage.sim.copies.values()) == 4, "and no other copy"
    assert sum(state.slots_taken(worker) for worker in workers) == 4
    await stage.loop.close()


async def tolerant(stage: Moving, kind: Any, **fields: Any) -> None:
    """Say it; a refusal is as good."""
    if kind is StartMigration:
        fields["cause"] = Cause.MANUAL
    try:
        await stage.say(kind, **fields)
    except WireError:
        return


async def test_a_worker_marked_unhealthy_in_the_state_counts_as_gone() -> None:
    stage = await running()
    move = await stop_in(stage, MovePhase.HELD, "w2")
    session = stage.machine.state.workers["w2"].session
    stage.sim.frozen.add("w2")
    stage.time += 3.1
    await stage.say(
        MarkWorker, worker_id="w2", session=session, status=WorkerStatus.UNHEALTHY, reason="silent"
    )
    await stage.pass_time(1)
    assert stage.move(move).reason == "worker w2 is silent"
