"""Who is alive, under a clock that only the test moves."""

from typing import Any

import msgspec
import pytest

from coordinator.controllers.liveness import verdict
from coordinator.heartbeats import Heard, HeartbeatTable
from coordinator.state.records import Worker, WorkerStatus
from proto_schemas.messages.membership import Heartbeat, RunningPipeline
from tests.unit.coordinator.moving import Moving
from tests.unit.coordinator.sim_workers import SimWorkers
from transport.errors import ErrorKind, NatsTransportError

TIMEOUT = 3.0
READY, UNHEALTHY, DRAINING = WorkerStatus.READY, WorkerStatus.UNHEALTHY, WorkerStatus.DRAINING


def worker(status: WorkerStatus = READY, incarnation: str | None = "i1") -> Worker:
    return Worker(
        id="w1",
        session=1,
        incarnation=incarnation,
        address="a",
        cpu_cores=1,
        max_pipelines=1,
        status=status,
        registered_at=0,
    )


def heard(at: float, *, incarnation: str | None = "i1", draining: bool = False) -> Heard:
    return Heard(at=at, count=1, incarnation=incarnation, draining=draining)


@pytest.mark.parametrize(
    ("status", "last", "since", "now", "expected"),
    [
        (READY, heard(100.0), 0.0, 103.0, None),
        (READY, heard(100.0), 0.0, 103.1, UNHEALTHY),
        (READY, None, 100.0, 103.0, None),
        (READY, None, 100.0, 103.1, UNHEALTHY),
        (READY, heard(10.0), 100.0, 102.0, None),
        (UNHEALTHY, heard(100.0), 0.0, 101.0, READY),
        (UNHEALTHY, heard(100.0), 0.0, 110.0, None),
        (UNHEALTHY, heard(10.0), 100.0, 101.0, None),
        (UNHEALTHY, heard(99.9), 100.0, 101.0, None),
        (UNHEALTHY, None, 100.0, 101.0, None),
        (READY, heard(100.0, draining=True), 0.0, 101.0, DRAINING),
        (DRAINING, heard(100.0, draining=True), 0.0, 101.0, None),
        (DRAINING, heard(100.0), 0.0, 101.0, READY),
        (DRAINING, heard(100.0, draining=True), 0.0, 104.0, UNHEALTHY),
        (UNHEALTHY, heard(100.0, incarnation="i0"), 0.0, 101.0, None),
        (READY, heard(102.9, incarnation="i0"), 100.0, 103.1, UNHEALTHY),
    ],
    ids=[
        "within the timeout",
        "silent",
        "a new leader grants a full timeout",
        "and no more",
        "also when the last word is old",
        "heard again",
        "still silent",
        "an old word does not make it ready",
        "nor one from before a new leader listened",
        "never heard is not back",
        "it drains",
        "it still drains",
        "it drains no more",
        "died while draining",
        "another process's word does not make it ready",
        "nor keep it alive",
    ],
)
def test_the_verdict(
    status: WorkerStatus, last: Heard | None, since: float, now: float, expected: WorkerStatus | None
) -> None:
    found = verdict(worker(status), last, now=now, listening_since=since, timeout=TIMEOUT)
    assert (found[0] if found is not None else None) is expected


def beat(seq: int | None = None, incarnation: str | None = "i1", *copies: str) -> Heartbeat:
    return Heartbeat(
        events_processed=1,
        pipelines_running=len(copies),
        incarnation=incarnation,
        seq=seq,
        pipelines=[RunningPipeline(pipeline_id=copy) for copy in copies],
    )


def test_the_table_tells_news_from_mere_signs_of_life() -> None:
    table = HeartbeatTable()
    assert table.heard("w1", beat(1), 1.0)
    assert not table.heard("w1", beat(2), 2.0)
    assert table.heard("w1", beat(3, "i1", "p-1"), 3.0)
    assert table.heard("w1", beat(1, "i2"), 4.0)


def test_a_heartbeat_out_of_order_is_counted_and_changes_nothing() -> None:
    table = HeartbeatTable()
    table.heard("w1", beat(5, "i1", "p-1"), 1.0)
    assert not table.heard("w1", beat(4), 2.0)
    assert not table.heard("w1", beat(5), 2.0)
    last = table.get("w1")
    assert last is not None and last.at == 1.0 and table.out_of_order == 2


def test_the_count_grows_with_each_heartbeat_of_a_process_and_starts_anew_with_the_next() -> None:
    table = HeartbeatTable()
    for seq in (1, 2, 3):
        table.heard("w1", beat(seq), seq)
    last = table.get("w1")
    assert last is not None and last.count == 3
    table.registered("w1", "i2", 9.0)
    last = table.get("w1")
    assert last is not None and (last.count, last.at) == (0, 9.0)


def test_registering_again_is_a_sign_of_life_and_keeps_what_was_heard() -> None:
    table = HeartbeatTable()
    table.heard("w1", beat(1, "i1", "p-1"), 1.0)
    table.registered("w1", "i1", 5.0)
    last = table.get("w1")
    assert last is not None and last.at == 5.0 and last.pipelines is not None and "p-1" in last.pipelines


def test_a_flood_of_strangers_takes_neither_memory_nor_the_place_of_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coordinator.heartbeats.MAX_STRANGERS", 2)
    table = HeartbeatTable()
    for number in range(5):
        table.heard(f"s{number}", beat(1, "i1", "p-1"), 1.0, member=False)
    assert table.untracked == 3 and [table.get(f"s{number}") is None for number in range(5)].count(True) == 3
    kept = table.get("s0")
    assert kept is not None and kept.pipelines is None, "only that it was heard"
    assert table.heard("w1", beat(1, "i1", "p-1"), 2.0)
    known = table.get("w1")
    assert known is not None and known.pipelines is not None
    assert table.heard("s0", beat(2, "i1", "p-1"), 3.0), "a stranger who is taken in makes room for another"
    table.heard("s9", beat(1), 3.0, member=False)
    assert table.get("s9") is not None


# -- suspects


class Listening(SimWorkers):
    """Workers, some of which nobody listens for."""

    def __init__(self) -> None:
        super().__init__()
        self.absent: set[str] = set()
        self.asked: list[str] = []

    async def request_message(
        self, subject: str, message: msgspec.Struct, reply_type: Any, *, timeout: float
    ) -> Any:
        worker, command = subject.split(".")[3:5]
        if command == "hello":
            self.asked.append(worker)
        if worker in self.absent:
            raise NatsTransportError(ErrorKind.NO_RESPONDERS, "nobody", subject=subject)
        return await super().request_message(subject, message, reply_type, timeout=timeout)


async def on_stage(monkeypatch: pytest.MonkeyPatch) -> tuple[Moving, Listening]:
    """Two workers; `g/p` runs on the first."""
    monkeypatch.setattr("coordinator.controllers.liveness.ASK_AGAIN", 0.0)
    stage, workers = Moving(), Listening()
    stage.play(workers)
    await stage.join("w1", "w2")
    await stage.create("g", "p", worker_affinity="w1")
    await stage.pass_time(2.5)
    return stage, workers


def status(stage: Moving, name: str) -> WorkerStatus:
    return stage.machine.state.workers[name].status


async def test_a_worker_that_nobody_listens_for_is_unhealthy_before_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, workers = await on_stage(monkeypatch)
    stage.sim.frozen.add("w1")
    workers.absent.add("w1")
    await stage.pass_time(2.25)
    assert status(stage, "w1") is UNHEALTHY and workers.asked.count("w1") == 2
    assert stage.placed("g", "p").worker_id == "w2"
    await stage.pass_time(0.5)
    assert status(stage, "w1") is UNHEALTHY, "what it said before does not bring it back"
    stage.sim.frozen.clear()
    workers.absent.clear()
    await stage.pass_time(0.5)
    assert status(stage, "w1") is READY


async def test_a_silent_worker_that_something_listens_for_gets_its_full_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, workers = await on_stage(monkeypatch)
    stage.sim.frozen.add("w1")
    await stage.pass_time(2.75)
    assert status(stage, "w1") is READY and workers.asked
    await stage.pass_time(1)
    assert status(stage, "w1") is UNHEALTHY


async def test_while_our_own_connection_is_down_nobody_is_asked_and_nobody_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, workers = await on_stage(monkeypatch)
    stage.sim.frozen.add("w1")
    workers.absent.add("w1")
    stage.hears = False
    await stage.pass_time(10)
    assert status(stage, "w1") is READY and workers.asked == []


async def test_a_suspect_takes_nothing_new_and_keeps_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _ = await on_stage(monkeypatch)
    stage.sim.frozen.add("w1")
    await stage.pass_time(2.25)
    assert stage.loop.liveness.suspects() == {"w1"}
    await stage.create("h", "q", worker_affinity="w1")
    await stage.pass_time(0.25)
    assert stage.placed("h", "q").worker_id == "w2" and stage.placed("g", "p").worker_id == "w1"
