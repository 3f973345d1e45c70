"""The one way in: what it tries again, what it gives up, and how it says so."""

import asyncio
import logging
import time

import pytest

from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.machine import ClusterMachine
from coordinator.state.commands import Announce, DeleteGroup, LetGo
from coordinator.state.model import State
from coordinator.state.results import Done
from proto_schemas.errors import WireError
from raft.errors import CommandTooLarge, NotLeader, OutcomeUnknown, RaftError, Unavailable
from tests.unit.coordinator.stage import SoloLog


def make() -> tuple[Ledger, SoloLog, ClusterMachine]:
    machine = ClusterMachine()
    log = SoloLog(machine)
    return Ledger(log, machine), log, machine


def announce(url: str = "u") -> Announce:
    return Announce(by="x", request_id="r1", node_id="c0", url=url)


async def test_the_time_is_stamped_by_the_proposer() -> None:
    ledger, _, machine = make()
    await ledger.propose(announce())
    assert abs(machine.state.audit[0].at - time.time() * 1000) < 60_000


@pytest.mark.parametrize("error", [NotLeader("c1"), Unavailable("an election"), OutcomeUnknown("deposed")])
async def test_a_command_is_tried_again_until_it_counts_and_counts_once(error: RaftError) -> None:
    ledger, log, machine = make()
    log.fail = [error, error]
    log.applied_before_failing = isinstance(error, OutcomeUnknown)
    assert isinstance(await ledger.propose(announce()), Done)
    assert len(machine.state.audit) == 1


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (NotLeader(None), "unavailable", 503),
        (Unavailable("no majority"), "unavailable", 503),
        (OutcomeUnknown("deposed"), "timeout", 504),
    ],
)
async def test_a_command_is_given_up_at_its_deadline_and_says_whether_it_may_count(
    error: RaftError, code: str, status: int
) -> None:
    ledger, log, _ = make()
    log.fail = [error] * 1_000
    with pytest.raises(WireError) as caught:
        await ledger.propose(announce(), timeout=0.2)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (code, status, True)
    assert caught.value.leader == "c0"


async def test_once_the_outcome_was_unknown_it_stays_unknown_when_it_is_given_up() -> None:
    ledger, log, _ = make()
    log.fail = [OutcomeUnknown("deposed"), *[Unavailable("an election")] * 1_000]
    with pytest.raises(WireError) as caught:
        await ledger.propose(announce(), timeout=0.2)
    assert caught.value.code == "timeout"


async def test_a_command_that_is_too_large_is_not_tried_again() -> None:
    ledger, log, _ = make()
    log.fail = [CommandTooLarge(9, 8)]
    with pytest.raises(WireError) as caught:
        await ledger.propose(announce())
    assert caught.value.status == 413 and not caught.value.retryable


async def test_a_number_beyond_64_bits_is_a_bad_request() -> None:
    ledger, _, machine = make()
    with pytest.raises(WireError) as caught:
        await ledger.propose(LetGo(by="x", group="g", pipeline="p", epoch=2**70, confirmed=True))
    assert caught.value.status == 400 and "64 bits" in caught.value.error
    assert machine.state == State()


async def test_a_refusal_of_the_state_is_raised_in_the_wire_s_words() -> None:
    ledger, _, _ = make()
    with pytest.raises(WireError) as caught:
        await ledger.propose(DeleteGroup(by="x", group="nope"))
    assert caught.value.status == 404


async def test_who_waits_is_woken_by_the_change_he_waits_for() -> None:
    ledger, _, machine = make()
    waiting = asyncio.create_task(
        ledger.wait_until(lambda: machine.state.coordinators.get("c0") == "new", timeout=10)
    )
    await ledger.propose(Announce(by="x", node_id="c0", url="old"))
    assert not waiting.done()
    await ledger.propose(Announce(by="x", node_id="c0", url="new"))
    assert await waiting is True


async def test_who_waits_in_vain_is_told_so() -> None:
    ledger, _, _ = make()
    assert await ledger.wait_until(lambda: False, timeout=0.05) is False
    assert await ledger.wait_until(lambda: True, timeout=0) is True


async def test_only_a_leader_logs_and_counts_a_decision(caplog: pytest.LogCaptureFixture) -> None:
    ledger, log, _ = make()
    caplog.set_level(logging.INFO)
    await ledger.propose(announce())
    log.is_leader = False
    await ledger.propose(Announce(by="x", node_id="c1", url="u"))
    assert ledger.decisions == {"coordinator_announced": 1}
    assert len([record for record in caplog.records if "coordinator_announced" in record.message]) == 1


def test_a_log_line_is_one_line_that_can_be_cut_into_fields() -> None:
    text = line("placed", group="g", why="two\nlines = trouble", epoch=3, reason=None, worker="")
    assert text == 'placed group=g why="two\\nlines = trouble" epoch=3'
