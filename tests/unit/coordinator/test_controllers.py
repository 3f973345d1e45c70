"""Placement and convergence on a stage without a network: who is told what, and what is committed."""

import asyncio
from itertools import pairwise

import pytest
from msgspec import structs

from coordinator.controllers.actions import LONGEST_PAUSE, Actions
from coordinator.controllers.relapses import CALM
from coordinator.state.commands import MAX_REASON, DeleteGroup, LetGo, Place
from coordinator.state.records import Phase, WorkerStatus
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import HeartbeatId, RunningPipeline
from raft.errors import Unavailable
from tests.unit.coordinator.stage import Stage, silent
from transport.errors import ErrorKind, NatsTransportError


async def running(*workers: str, pipelines: tuple[str, ...] = ("p",)) -> Stage:
    """A stage whose group `g` runs."""
    stage = Stage()
    await stage.join(*workers)
    await stage.create("g", *pipelines)
    await stage.settle()
    assert all(stage.placed("g", each).phase is Phase.RUNNING for each in pipelines)
    return stage


async def test_the_intent_is_committed_before_the_worker_hears_of_it() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    seen: list[Phase] = []
    ask = stage.workers.request_message

    async def watch(*args: object, **kwargs: object) -> object:
        seen.append(stage.placed("g", "p").phase)
        return await ask(*args, **kwargs)  # type: ignore[arg-type]

    stage.workers.request_message = watch  # type: ignore[method-assign]
    await stage.settle()
    assert seen == [Phase.DEPLOYING]
    ((_, deploy),) = stage.workers.deploys()
    assert (deploy.term, deploy.epoch, deploy.request_id) == (1, 1, "g.p.1")


async def test_an_intent_that_could_not_be_committed_tells_no_worker() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    stage.log.fail = [Unavailable("no leader") for _ in range(1_000)]
    stage.loop.step()
    stage.log.is_leader = False
    await asyncio.sleep(0.05)
    assert stage.workers.sent == []
    await stage.loop.close()


async def test_an_intent_of_an_earlier_leader_is_sent_again_with_the_same_id() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    await stage.say(Place, group="g", pipeline="p", epoch=0, worker_id="w1")
    await stage.settle()
    assert [deploy.request_id for _, deploy in stage.workers.deploys()] == ["g.p.1"]
    assert stage.placed("g", "p").phase is Phase.RUNNING


async def test_a_silent_worker_is_asked_again_with_the_same_id_after_a_pause_and_says_why() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    stage.workers.answers["w1"] = silent()
    await stage.settle()
    await stage.later(2, "w1")
    assert stage.placed("g", "p").phase is Phase.DEPLOYING
    assert "did not answer" in (stage.placed("g", "p").reason or "")
    asked = stage.workers.deploys()
    assert 2 <= len(asked) <= 8, "with pauses that grow"
    assert {deploy.request_id for _, deploy in asked} == {"g.p.1"}
    del stage.workers.answers["w1"]
    await stage.later(LONGEST_PAUSE, "w1")
    assert stage.placed("g", "p").phase is Phase.RUNNING


def unreached(kind: ErrorKind) -> NatsTransportError:
    return NatsTransportError(kind, "no connection (CERTIFICATE_VERIFY_FAILED)", subject="https://w1:9000")


UNREACHED = [ErrorKind.DISCONNECTED, ErrorKind.UNAUTHORIZED, ErrorKind.NO_RESPONDERS]


@pytest.mark.parametrize("kind", UNREACHED)
async def test_a_worker_that_beats_and_is_not_reached_loses_what_it_was_to_run(kind: ErrorKind) -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    stage.workers.answers["w1"] = unreached(kind)
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    assert stage.placed("g", "p").worker_id == "w1", "it may be back in a moment"
    await stage.later(10, "w1", "w2")
    assert stage.placed("g", "p").worker_id == "w2" and stage.placed("g", "p").phase is Phase.RUNNING
    asked = len(stage.workers.deploys())
    await stage.create("h", "p", worker_affinity="w1")
    await stage.settle()
    assert stage.placed("h", "p").worker_id == "w2", "and it is not tried again with the next one"
    assert len(stage.workers.deploys()) == asked + 1


async def test_when_no_other_worker_is_left_the_reason_says_why_this_one_is_not_reached() -> None:
    stage = Stage()
    await stage.join("w1")
    stage.workers.answers["w1"] = unreached(ErrorKind.DISCONNECTED)
    await stage.create("g", "p")
    await stage.later(10, "w1")
    placement = stage.placed("g", "p")
    assert placement.phase is Phase.PENDING and placement.worker_id is None
    assert "refused it lately" in (placement.reason or "")
    assert "CERTIFICATE_VERIFY_FAILED" in (placement.reason or "")
    stage.workers.answers.clear()
    await stage.join("w1", incarnation="i2")
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.RUNNING, "a restart is a new chance at once"


async def test_a_worker_that_only_beats_cannot_keep_a_group_from_being_removed() -> None:
    stage = await running("w1")
    copy = stage.copy("g", "p")
    stage.workers.answers["w1"] = unreached(ErrorKind.DISCONNECTED)
    await stage.say(DeleteGroup, group="g")
    await stage.later(15, "w1")
    state = stage.machine.state
    assert "g" not in state.groups and [stray.pipeline for stray in state.strays.values()] == ["p"]
    stage.beat("w1", copy)
    assert stage.loop.convergence.stale_copies("w1") == [copy], "the answer to its heartbeat ends it"


@pytest.mark.parametrize("code", [ErrorCode.PARSE_ERROR, ErrorCode.ENGINE_ERROR, ErrorCode.BAD_REQUEST])
async def test_a_program_a_worker_cannot_run_is_failed_and_tried_again_slowly(code: ErrorCode) -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    await stage.create("g", "p")
    stage.workers.answers = {name: WireError(code, "no such thing") for name in ("w1", "w2")}
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.FAILED
    assert "no such thing" in (stage.placed("g", "p").reason or "")
    await stage.later(2)
    assert len(stage.workers.deploys()) == 1
    stage.workers.answers.clear()
    await stage.later(8, "w1", "w2")
    assert stage.placed("g", "p").phase is Phase.RUNNING
    assert stage.placed("g", "p").epoch > 1


async def test_a_reason_as_long_as_a_book_is_cut_and_still_committed() -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    stage.workers.answers["w1"] = WireError(ErrorCode.QUOTA_EXCEEDED, "x" * 100_000)
    stage.workers.answers["w2"] = WireError(ErrorCode.ENGINE_ERROR, "y" * 100_000)
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.FAILED
    assert len(stage.placed("g", "p").reason or "") == MAX_REASON


@pytest.mark.parametrize("code", [ErrorCode.QUOTA_EXCEEDED, ErrorCode.UNAVAILABLE, ErrorCode.STALE_EPOCH])
async def test_a_worker_that_takes_none_now_is_left_for_another(code: ErrorCode) -> None:
    stage = Stage()
    await stage.join("w1", "w2")
    stage.workers.answers["w1"] = WireError(code, "not here")
    await stage.create("g", "p", worker_affinity="w1")
    await stage.settle()
    assert stage.placed("g", "p").worker_id == "w2"
    assert stage.placed("g", "p").epoch == 2
    assert [worker for worker, _ in stage.workers.deploys()] == ["w1", "w2"]


async def test_when_nobody_can_take_it_the_reason_is_there_once_and_not_each_pass() -> None:
    stage = Stage()
    await stage.join("w1", room=1)
    await stage.create("g", "a", "b")
    await stage.settle()
    index = stage.log.index
    await stage.later(2)
    waiting = [each for each in ("a", "b") if stage.placed("g", each).phase is Phase.PENDING]
    assert len(waiting) == 1
    assert "1 full" in (stage.placed("g", waiting[0]).reason or "")
    assert stage.log.index == index, "nothing is proposed while nothing changes"


async def test_one_pass_never_overfills_a_worker() -> None:
    stage = Stage()
    await stage.join("w1", "w2", room=3)
    await stage.create("g", *(f"p{number}" for number in range(6)))
    stage.loop.step()
    await stage.quiet()
    assert len(stage.machine.state.placed_on("w1")) == len(stage.machine.state.placed_on("w2")) == 3
    assert len(stage.workers.deploys()) == 6


async def test_a_slot_that_is_promised_but_not_yet_committed_is_taken() -> None:
    stage = Stage()
    await stage.join("w1", "w2", room=1)
    await stage.create("g", "a")
    stage.loop.step()
    await stage.create("h", "b")
    stage.loop.step()
    await stage.quiet()
    assert stage.loop.pipelines.ended == {"done": 2}
    assert {stage.placed("g", "a").worker_id, stage.placed("h", "b").worker_id} == {"w1", "w2"}


async def test_the_pipelines_of_an_unhealthy_worker_are_placed_elsewhere_and_the_copy_is_ended_later() -> (
    None
):
    stage = await running("w1", "w2")
    stage.beat("w1", stage.copy("g", "p"))
    old = stage.placed("g", "p")
    await stage.later(3.5, "w2")
    assert stage.machine.state.workers["w1"].status is WorkerStatus.UNHEALTHY
    assert stage.placed("g", "p").worker_id == "w2" and stage.placed("g", "p").phase is Phase.RUNNING
    assert stage.workers.undeploys() == [], "nobody waits for the dead"
    stage.beat("w1")
    await stage.later(0.5)
    assert (old.worker_id, old.pipeline_id) in stage.workers.undeploys()
    assert stage.machine.state.strays == {}


async def test_a_stale_copy_is_ended_and_a_foreign_one_left_alone() -> None:
    stage = await running("w1")
    stale = RunningPipeline(pipeline_id="p-old", group="g", name="p", epoch=99)
    unknown = RunningPipeline(pipeline_id="q-1", group="gone", name="q", epoch=3)
    foreign = RunningPipeline(pipeline_id="manual-1", name="manual")
    stage.beat("w1", stage.copy("g", "p"), stale, unknown, foreign)
    ended = {copy.pipeline_id for copy in stage.loop.convergence.stale_copies("w1")}
    assert ended == {"p-old", "q-1"}
    await stage.settle(1)
    assert {pipeline_id for _, pipeline_id in stage.workers.undeploys()} == {"p-old", "q-1"}


async def test_a_copy_of_the_current_epoch_is_adopted_when_its_answer_was_lost() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    stage.workers.answers["w1"] = silent()
    await stage.settle()
    stage.beat("w1", stage.copy("g", "p", pipeline_id="p-real"))
    await stage.later(0.25)
    assert stage.placed("g", "p").phase is Phase.RUNNING
    assert stage.placed("g", "p").pipeline_id == "p-real"


async def test_a_heartbeat_from_before_the_deploy_does_not_make_a_copy_missing() -> None:
    stage = await running("w1")
    epoch = stage.placed("g", "p").epoch
    stage.beat("w1")
    await stage.settle()
    stage.beat("w1")
    await stage.settle()
    assert stage.placed("g", "p").epoch == epoch, "one may have been on its way, the next not yet"
    stage.beat("w1", stage.copy("g", "p"))
    await stage.settle()
    stage.beat("w1")
    await stage.settle()
    assert stage.placed("g", "p").epoch == epoch, "and the count begins anew"


async def test_a_copy_that_two_more_heartbeats_do_not_list_is_deployed_again() -> None:
    stage = await running("w1")
    epoch = stage.placed("g", "p").epoch
    for _ in range(4):
        stage.beat("w1")
        await stage.settle()
    assert stage.placed("g", "p").epoch > epoch
    assert len(stage.workers.deploys()) == 2


@pytest.mark.parametrize(
    ("first", "late"),
    [(HeartbeatId(incarnation="i1", seq=9), 8), (HeartbeatId(incarnation="i0", seq=9), 0)],
    ids=["of this process", "of one before it"],
)
async def test_heartbeats_that_were_sent_before_a_copy_was_made_do_not_miss_it_however_late_they_come(
    first: HeartbeatId, late: int
) -> None:
    """As when a flood of others fills the queue in which they wait."""
    stage = Stage()
    stage.workers.listed_from = first
    await stage.join("w1")
    await stage.create("g", "p")
    await stage.settle()
    epoch = stage.placed("g", "p").epoch
    for _ in range(late):
        stage.beat("w1")
        await stage.settle()
    assert stage.placed("g", "p").epoch == epoch
    stage.workers.listed_from = None
    for _ in range(2):
        stage.beat("w1")
        await stage.settle()
        assert stage.placed("g", "p").epoch == epoch, "two more, as ever"
    stage.beat("w1")
    await stage.settle()
    assert stage.placed("g", "p").epoch > epoch, "but now it is gone"
    assert not stage.table.expected("w1")
    stage.table.forget("w1")
    stage.table.expect("w1", "late", HeartbeatId(incarnation="i1", seq=99))
    assert not stage.table.expected("w1"), "of a worker that was removed meanwhile nothing is kept"


async def test_heartbeats_of_a_process_that_is_not_registered_prove_nothing() -> None:
    stage = await running("w1")
    epoch = stage.placed("g", "p").epoch
    for _ in range(6):
        stage.beat("w1", incarnation="other")
        await stage.settle()
    assert stage.placed("g", "p").epoch == epoch
    assert stage.workers.undeploys() == []


async def test_a_seed_worker_that_lists_nothing_keeps_its_pipelines() -> None:
    stage = Stage()
    await stage.join("seed", incarnation=None)
    await stage.create("g", "p")
    await stage.settle()
    for _ in range(6):
        stage.beat("seed", incarnation=None)
        await stage.settle()
    assert len(stage.workers.deploys()) == 1


async def test_a_copy_that_runs_and_fails_again_is_left_alone_for_longer_each_time() -> None:
    stage = await running("w1")
    began, starts, reasons = stage.time, [], []
    while stage.time - began < 180:
        copies = [structs.replace(copy, state="failed", reason="boom") for copy in stage.truth("w1")]
        starts += [stage.time] * len(copies)
        stage.beat("w1", *copies)
        await stage.settle()
        if copies:
            assert stage.placed("g", "p").phase is Phase.FAILED
            reasons.append(stage.placed("g", "p").reason)
        stage.time += 0.25
        await stage.settle()
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert 3.5 <= gaps[0] <= 7 and 7 <= gaps[1] <= 13 and 14 <= gaps[2] <= 26
    assert len(starts) <= 8, "it is not started in a tight loop"
    assert reasons[0] == "boom"
    assert reasons[2] == "boom (failed 3 times in a row: tried again in about 20 s)"


async def test_a_copy_that_ran_well_for_long_is_tried_again_as_soon_as_at_first() -> None:
    stage = await running("w1")
    for _ in range(3):
        stage.beat("w1", *(structs.replace(each, state="failed") for each in stage.truth("w1")))
        await stage.settle()
        assert stage.placed("g", "p").phase is Phase.FAILED
        await stage.later(8, "w1")
        assert stage.placed("g", "p").phase is Phase.RUNNING
        await stage.later(CALM, "w1")


async def test_a_copy_that_says_it_failed_is_failed_with_its_reason_and_ended() -> None:
    stage = await running("w1")
    stage.beat("w1", stage.copy("g", "p", state="failed", reason="100 errors in a row"))
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.FAILED
    assert stage.placed("g", "p").reason == "100 errors in a row"
    assert stage.workers.undeploys()


async def test_a_group_is_gone_when_its_workers_have_let_go() -> None:
    stage = await running("w1", "w2", pipelines=("a", "b"))
    ids = {stage.placed("g", each).pipeline_id for each in ("a", "b")}
    await stage.say(DeleteGroup, group="g")
    await stage.settle()
    assert stage.machine.state.groups == {}
    assert {pipeline_id for _, pipeline_id in stage.workers.undeploys()} == ids


async def test_a_worker_that_does_not_answer_holds_a_deletion_up_only_until_it_is_unhealthy() -> None:
    stage = await running("w1")
    stage.workers.answers["w1"] = silent()
    await stage.say(DeleteGroup, group="g")
    await stage.later(1)
    assert "g" in stage.machine.state.groups
    await stage.later(stage.loop.liveness.timeout + LONGEST_PAUSE)
    assert not stage.machine.state.ready("w1")
    assert stage.machine.state.groups == {}
    assert len(stage.machine.state.strays) == 1


async def test_a_deploy_that_is_answered_after_its_group_is_gone_is_undone() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    ask = stage.workers.request_message

    async def slow(*args: object, **kwargs: object) -> object:
        answer = await ask(*args, **kwargs)  # type: ignore[arg-type]
        if len(stage.workers.deploys()) == 1 and "g" in stage.machine.state.groups:
            placement = stage.placed("g", "p")
            await stage.say(DeleteGroup, group="g")
            await stage.ledger.propose(let_go(placement.epoch))
        return answer

    stage.workers.request_message = slow  # type: ignore[method-assign]
    await stage.settle()
    assert stage.machine.state.groups == {}
    assert stage.workers.undeploys() == [("w1", "p-1")]


def let_go(epoch: int) -> LetGo:
    return LetGo(by="test", group="g", pipeline="p", epoch=epoch, confirmed=True)


async def test_leading_begins_with_a_barrier_and_everybody_gets_a_full_timeout() -> None:
    stage = await running("w1")
    stage.time += 100
    stage.loop.leads = False
    running_loop = asyncio.create_task(stage.loop.run())
    while not stage.loop.leads:
        await asyncio.sleep(0.001)
    running_loop.cancel()
    await asyncio.gather(running_loop, return_exceptions=True)
    assert stage.log.barriers == 1
    assert stage.machine.state.workers["w1"].status is WorkerStatus.READY
    assert stage.loop.liveness.listening_since == stage.time


async def test_a_process_that_was_frozen_blames_nobody() -> None:
    stage = await running("w1")
    stage.beat("w1", stage.copy("g", "p"))
    stage.time += 60
    await stage.settle()
    assert stage.machine.state.workers["w1"].status is WorkerStatus.READY


async def test_nobody_is_judged_while_our_own_connection_is_down() -> None:
    stage = await running("w1")
    stage.hears = False
    await stage.later(10)
    assert stage.machine.state.ready("w1")
    stage.hears = True
    await stage.later(2.5)
    assert stage.machine.state.ready("w1")
    await stage.later(1)
    assert not stage.machine.state.ready("w1")


async def test_a_pass_that_raises_is_counted_and_the_loop_goes_on() -> None:
    stage = await running("w1")
    stage.loop.leads = False

    def broken() -> None:
        raise RuntimeError("a defect")

    stage.loop.liveness.step = broken  # type: ignore[method-assign]
    running_loop = asyncio.create_task(stage.loop.run())
    while stage.loop.failed_passes < 3:
        stage.loop.wake()
        await asyncio.sleep(0.001)
    running_loop.cancel()
    await asyncio.gather(running_loop, return_exceptions=True)


async def test_actions_are_one_per_key_and_so_many_together() -> None:
    ended: list[int] = []
    actions = Actions(lambda: 0.0, lambda: ended.append(1), limit=2)
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    assert actions.start(("worker", "a"), wait) and not actions.start(("worker", "a"), wait)
    assert actions.start(("worker", "b"), wait) and not actions.start(("worker", "c"), wait)
    gate.set()
    while actions.in_flight:
        await asyncio.sleep(0)
    assert actions.start(("worker", "c"), wait) and len(ended) == 2
    await actions.close()


async def finish(actions: Actions) -> None:
    while actions.in_flight:
        await asyncio.sleep(0)


async def test_the_pause_of_an_action_grows_to_its_bound_and_a_success_clears_it() -> None:
    now = [0.0]
    actions = Actions(lambda: now[0], lambda: None)
    answers = [WireError(ErrorCode.TIMEOUT, "late")]

    async def act() -> None:
        for answer in answers:
            raise answer

    tries = 0
    while now[0] < 60:
        tries += actions.start(("worker", "a"), act)
        await finish(actions)
        now[0] += 0.05
    assert 12 <= tries <= 35
    actions._pauses["worker", "a"].failures = 5_000
    now[0] += LONGEST_PAUSE
    actions.start(("worker", "a"), act)
    await finish(actions)
    assert actions._pauses["worker", "a"].until <= now[0] + LONGEST_PAUSE
    answers.clear()
    now[0] += LONGEST_PAUSE
    assert actions.start(("worker", "a"), act)
    await finish(actions)
    assert actions.free(("worker", "a")) and actions.ended["done"] == 1
