"""A seed worker knows no request ids and no error codes, and lists nothing: what the controllers do."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from coordinator.controllers.deployment import AVOID_FOR, AVOID_SILENT_FOR
from coordinator.controllers.endings import FAILURES_UNTIL_GIVEN_UP
from coordinator.state.commands import DeleteGroup, Displace, MarkWorker, Place
from coordinator.state.records import Event, Phase, WorkerStatus
from coordinator.worker_commands import DEPLOY_TIMEOUT, SEED_DEPLOY_TIMEOUT
from proto_schemas.errors import ErrorCode, ErrorReply, WireError
from proto_schemas.messages.deploys import Deploy
from tests.unit.coordinator.stage import Stage, silent
from transport.errors import ErrorKind, NatsTransportError


async def seeded(*others: str) -> Stage:
    """A stage with the seed worker `seed` and some of ours, and a group `g` that wants to be on the seed."""
    stage = Stage()
    await stage.join("seed", incarnation=None)
    await stage.join(*others)
    await stage.create("g", "p", worker_affinity="seed")
    return stage


def plain() -> WireError:
    """What a seed worker's `{"error": text}` is read as."""
    return WireError.of(ErrorReply(error="Pipeline not found"))


def told(stage: Stage, what: str) -> list[Event]:
    return [event for event in stage.machine.state.audit if event.what == what]


async def pass_time(stage: Stage, seconds: float, *ours: str) -> None:
    """As `later`, with the seed worker alive too."""
    for _ in range(int(seconds / 0.25)):
        stage.beat("seed", incarnation=None)
        await stage.later(0.25, *ours)


# -- undeploy


async def test_a_deletion_ends_when_the_worker_refuses_to_undeploy_for_good_and_says_why() -> None:
    stage = await seeded()
    await stage.settle()
    stage.workers.answers["seed"] = plain()
    await stage.say(DeleteGroup, group="g")
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.REMOVING, "not believed at once"
    await pass_time(stage, 5)
    assert stage.machine.state.groups == {} and stage.machine.state.strays == {}
    assert len(stage.workers.undeploys()) == FAILURES_UNTIL_GIVEN_UP + 1
    (removed,) = told(stage, "pipeline_removed")
    assert "worker seed would not end p-1" in removed.why and "Pipeline not found" in removed.why


async def test_an_answer_that_cannot_be_read_is_given_up_like_a_refusal() -> None:
    stage = await seeded()
    await stage.settle()
    stage.workers.answers["seed"] = NatsTransportError(ErrorKind.BAD_PAYLOAD, "no Ok", subject="cmd")
    await stage.say(DeleteGroup, group="g")
    await pass_time(stage, 5)
    assert stage.machine.state.groups == {}


@pytest.mark.parametrize(
    "answer",
    [
        silent(),
        WireError(ErrorCode.UNAVAILABLE, "busy"),
        WireError(ErrorCode.RATE_LIMITED, "busy", retryable=False),
        WireError("new_code", "busy", retryable=True),
    ],
)
async def test_a_deletion_waits_for_a_worker_that_may_yet_undeploy(answer: Exception) -> None:
    stage = await seeded()
    await stage.settle()
    stage.workers.answers["seed"] = answer
    await stage.say(DeleteGroup, group="g")
    await pass_time(stage, 30)
    assert "g" in stage.machine.state.groups
    del stage.workers.answers["seed"]
    await pass_time(stage, 6)
    assert stage.machine.state.groups == {}


async def test_a_pipeline_our_worker_does_not_know_is_let_go_at_once() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    await stage.settle()
    stage.workers.answers["w1"] = WireError(ErrorCode.PIPELINE_NOT_FOUND, "no such pipeline")
    await stage.say(DeleteGroup, group="g")
    await stage.settle()
    assert stage.machine.state.groups == {} and len(stage.workers.undeploys()) == 1


async def test_a_stray_its_worker_refuses_to_end_is_forgotten_after_a_few_tries() -> None:
    stage = await seeded("w1")
    await stage.settle()
    session = stage.machine.state.workers["seed"].session
    await stage.say(
        MarkWorker, worker_id="seed", session=session, status=WorkerStatus.UNHEALTHY, reason="silent"
    )
    await stage.say(Displace, group="g", pipeline="p", epoch=1, reason="silent")
    assert len(stage.machine.state.strays) == 1
    stage.workers.answers["seed"] = plain()
    await pass_time(stage, 10, "w1")
    assert stage.machine.state.strays == {}
    (forgotten,) = told(stage, "stray_forgotten")
    assert forgotten.about == "seed/p-1" and "would not end" in forgotten.why
    tries = len(stage.workers.undeploys())
    await pass_time(stage, 10, "w1")
    assert len(stage.workers.undeploys()) == tries <= FAILURES_UNTIL_GIVEN_UP + 2


# -- deploy


async def test_a_seed_worker_gets_long_to_answer_and_ours_is_asked_again_soon() -> None:
    stage = await seeded("w1")
    await stage.create("h", "q", worker_affinity="w1")
    allowed: dict[str, float] = {}
    ask = stage.workers.request_message

    async def watch(subject: str, message: Any, reply_type: Any, *, timeout: float) -> Any:
        allowed[message.name] = timeout
        return await ask(subject, message, reply_type, timeout=timeout)

    stage.workers.request_message = watch  # type: ignore[method-assign]
    await stage.settle()
    assert allowed == {"p": SEED_DEPLOY_TIMEOUT, "q": DEPLOY_TIMEOUT}
    assert SEED_DEPLOY_TIMEOUT >= 30


@pytest.mark.parametrize(
    "answer", [silent(), NatsTransportError(ErrorKind.DISCONNECTED, "gone"), WireError("timeout", "slow")]
)
async def test_a_seed_worker_hears_at_most_one_deploy_per_epoch(answer: Exception) -> None:
    stage = await seeded()
    stage.workers.answers["seed"] = answer
    await pass_time(stage, 3 * AVOID_SILENT_FOR)
    heard = Counter((worker, deploy.epoch) for worker, deploy in stage.workers.deploys())
    assert len(heard) >= 2, "it is tried again"
    assert set(heard.values()) == {1}


async def test_a_deploy_a_seed_worker_did_not_answer_is_failed_with_the_doubt_and_asked_again_late() -> None:
    stage = await seeded()
    stage.workers.answers["seed"] = silent()
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.FAILED
    assert "did not answer" in (stage.placed("g", "p").reason or "")
    assert "unknown id" in (stage.placed("g", "p").reason or "")
    assert "unknown id" in told(stage, "pipeline_failed")[0].why
    await pass_time(stage, AVOID_SILENT_FOR - 1)
    assert len(stage.workers.deploys()) == 1
    stage.workers.answers.clear()
    await pass_time(stage, 2)
    assert stage.placed("g", "p").phase is Phase.RUNNING


async def test_a_deploy_a_seed_worker_did_not_answer_goes_to_another_at_once() -> None:
    stage = await seeded("w1")
    stage.workers.answers["seed"] = silent()
    await stage.settle()
    assert [(worker, deploy.epoch) for worker, deploy in stage.workers.deploys()] == [("seed", 1), ("w1", 2)]
    assert stage.placed("g", "p").phase is Phase.RUNNING


@pytest.mark.parametrize(
    "answer",
    [
        NatsTransportError(ErrorKind.NO_RESPONDERS, "nobody", subject="cmd"),
        WireError(ErrorCode.RATE_LIMITED, "later"),
    ],
)
async def test_a_deploy_that_surely_made_no_copy_on_a_seed_worker_leaves_no_doubt(answer: Exception) -> None:
    stage = await seeded()
    stage.workers.answers["seed"] = answer
    await stage.settle()
    assert stage.placed("g", "p").phase is Phase.PENDING
    assert not any("unknown id" in event.why for event in stage.machine.state.audit)
    stage.workers.answers.clear()
    await pass_time(stage, AVOID_FOR + 1)
    assert stage.placed("g", "p").phase is Phase.RUNNING


async def test_the_intent_of_an_earlier_leader_for_a_seed_worker_is_not_sent_a_second_time() -> None:
    stage = await seeded()
    await stage.say(Place, group="g", pipeline="p", epoch=0, worker_id="seed")
    await stage.settle()
    assert stage.workers.deploys() == []
    assert "unknown id" in (stage.placed("g", "p").reason or "")
    await pass_time(stage, AVOID_FOR + 1)
    assert [deploy.epoch for _, deploy in stage.workers.deploys()] == [2]
    assert stage.placed("g", "p").phase is Phase.RUNNING


async def test_a_deletion_meanwhile_waits_for_the_answer_and_ends_the_copy_it_names() -> None:
    stage = await seeded()
    asked, answered = asyncio.Event(), asyncio.Event()
    ask = stage.workers.request_message

    async def slow(subject: str, message: Any, reply_type: Any, *, timeout: float) -> Any:
        if isinstance(message, Deploy):
            asked.set()
            await answered.wait()
        return await ask(subject, message, reply_type, timeout=timeout)

    stage.workers.request_message = slow  # type: ignore[method-assign]
    stage.loop.step()
    await asked.wait()
    await stage.say(DeleteGroup, group="g")
    stage.loop.step()
    assert "g" in stage.machine.state.groups
    answered.set()
    await stage.quiet()
    await stage.settle()
    assert stage.machine.state.groups == {}
    assert stage.workers.undeploys() == [("seed", "p-1")]


async def test_a_deletion_of_what_a_seed_worker_never_answered_tells_of_the_copy_it_may_leave() -> None:
    stage = await seeded()
    await stage.say(Place, group="g", pipeline="p", epoch=0, worker_id="seed")
    await stage.say(DeleteGroup, group="g")
    await stage.settle()
    assert stage.machine.state.groups == {}
    assert "unknown id" in told(stage, "pipeline_removed")[0].why
