"""What controllers do stands in the trace of the request that led to it, as far as that is remembered."""

import pytest

from coordinator.causes import MOST, SECONDS, Causes
from tests.support.spans import trace_of, traced
from tests.unit.coordinator.stage import Stage
from transport import tracing


async def test_the_deploy_of_a_group_is_in_the_trace_of_the_request_that_made_it() -> None:
    stage = Stage()
    with traced() as spans:
        await stage.join("w")
        with tracing.span("POST"):
            await stage.create("g", "p")
            trace = tracing.trace_id()
        await stage.settle()
        (command,) = spans.named("command deploy")
        assert trace_of(command) == trace
        way = ["POST", "raft propose", "control pipeline"]
        assert spans.way_to(command) == [*way, "deploy", "command deploy"]
        proposed = {
            str((span.attributes or {})["command"]): spans.way_to(span)
            for span in spans.of(trace)
            if span.name == "raft propose"
        }
        assert proposed["CreateGroup"] == ["POST", "raft propose"]
        assert proposed["Place"] == proposed["ReportRunning"] == [*way, "raft propose"]


async def test_what_nobody_asked_for_is_a_trace_of_its_own() -> None:
    stage = Stage()
    with traced() as spans:
        await stage.join("w")
        with tracing.span("POST"):
            await stage.create("g", "p")
            trace = tracing.trace_id()
        stage.ledger.causes._of.clear()  # as another leader, or this one later
        await stage.settle()
        (command,) = spans.named("command deploy")
        assert trace_of(command) != trace
        assert spans.way_to(command) == ["control pipeline", "deploy", "command deploy"]


async def test_without_tracing_nothing_is_remembered() -> None:
    stage = Stage()
    await stage.join("w")
    await stage.create("g", "p")
    await stage.settle()
    assert stage.ledger.causes.of("g") is None and not stage.ledger.causes._of


def test_a_cause_is_forgotten_in_time_and_when_there_are_too_many() -> None:
    now = [100.0]
    causes = Causes(lambda: now[0])
    with traced(), tracing.span("POST"):
        for number in range(MOST + 1):
            causes.note(f"g{number}/p")
        assert causes.of("g0") is None and causes.of("g1") is not None
        assert len(causes._of) == MOST
        now[0] += SECONDS
        assert causes.of("g1") is None


def test_what_a_controller_does_is_no_cause() -> None:
    causes = Causes()
    with traced():
        with causes.acting("control pipeline", "g/p"):
            causes.note("g")
        assert causes.of("g") is None


async def test_a_failure_is_told_in_the_span_by_its_code() -> None:
    stage = Stage()
    with traced() as spans:
        with pytest.raises(Exception, match="boom"), tracing.span("POST"):
            stage.log.fail = [RuntimeError("boom")]
            await stage.create("g", "p")
        (span,) = spans.named("raft propose")
        assert (span.attributes or {})["error.type"] == "RuntimeError"
