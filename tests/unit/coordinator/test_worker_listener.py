"""Heartbeats and their answers: who is answered, when, and what he is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from coordinator import nats_handlers
from coordinator.config import CoordinatorConfig
from coordinator.nats_handlers import WorkerListener
from coordinator.security.door import Door
from coordinator.security.proof import Proof
from coordinator.state.commands import MarkWorker
from coordinator.state.records import WorkerStatus
from coordinator.worker_commands import WorkerCommands
from proto_schemas.codec import encode
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.membership import (
    Heartbeat,
    HeartbeatAck,
    HeartbeatId,
    HeartbeatPart,
    RunningPipeline,
)
from proto_schemas.subjects import Subjects
from tests.unit.coordinator.stage import Stage
from transport.nats import Message


class FakeNats:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, data: bytes) -> None:
        self.published.append((subject, data))


class Ears:
    """A listener on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.nats = FakeNats()
        config = CoordinatorConfig(node_id="c0", members=("c0",), cluster_id="x", data_dir=Path("/nowhere"))
        nats: Any = self.nats
        door = Door(stage.ledger, required=False)
        self.listener = WorkerListener(
            config,
            nats,
            stage.ledger,
            stage.table,
            stage.loop,
            lambda: stage.time,
            door,
            Proof(stage.ledger, WorkerCommands(stage.workers, Subjects()), door),
        )
        stage.loop.leads = True
        self.seq = 0

    async def hear(
        self,
        *copies: RunningPipeline,
        worker: str = "w1",
        incarnation: str | None = "i1",
        reply: str = "inbox",
    ) -> HeartbeatAck | None:
        """The answer to a heartbeat; None when there was none."""
        self.seq += 1
        heartbeat = Heartbeat(
            events_processed=0,
            pipelines_running=len(copies),
            incarnation=incarnation,
            seq=self.seq,
            pipelines=list(copies),
        )
        return await self.raw(f"varpulis.cluster.heartbeat.{worker}", encode(heartbeat))

    async def raw(self, subject: str, data: bytes, reply: str = "inbox") -> HeartbeatAck | None:
        self.nats.published.clear()
        await self.listener._on_heartbeat(Message(subject, data, reply, None))
        if not self.nats.published:
            return None
        ((to, answer),) = self.nats.published
        assert to == reply
        return msgspec.json.decode(answer, type=HeartbeatAck)


async def test_a_heartbeat_renews_the_lease_and_tells_of_stale_copies_only() -> None:
    stage = Stage()
    await stage.join("w1")
    await stage.create("g", "p")
    await stage.settle()
    ears = Ears(stage)
    ack = await ears.hear(stage.copy("g", "p"))
    assert ack == HeartbeatAck(term=1, lease_secs=2.4, judged=1)
    ack = await ears.hear(
        stage.copy("g", "p"), RunningPipeline(pipeline_id="old", group="g", name="p", epoch=77)
    )
    assert ack is not None and ack.directives is not None
    assert [(each.do, each.pipeline_id) for each in ack.directives] == [("undeploy", "old")]


@pytest.mark.parametrize(("worker", "incarnation"), [("stranger", "i1"), ("w1", "i2")])
async def test_who_is_not_registered_is_told_to_register(worker: str, incarnation: str) -> None:
    stage = Stage()
    await stage.join("w1")
    ack = await Ears(stage).hear(worker=worker, incarnation=incarnation)
    assert ack is not None and ack.directives is not None
    assert [each.do for each in ack.directives] == ["register"]
    assert (ack.renews, ack.judged) == (False, 0), "whatever it runs, nobody has looked at that"


async def test_an_answer_that_has_not_room_for_all_stale_copies_renews_no_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nats_handlers, "MAX_DIRECTIVES", 2)
    stage = Stage()
    await stage.join("w1")
    ears = Ears(stage)
    copies = [RunningPipeline(pipeline_id=f"old-{n}", group="g", name=f"p{n}", epoch=7) for n in range(3)]
    ack = await ears.hear(*copies)
    assert ack is not None and not ack.renews and len(ack.directives or ()) == 2
    ack = await ears.hear(*copies[2:])
    assert ack is not None and ack.renews and len(ack.directives or ()) == 1


async def test_of_a_heartbeat_in_parts_the_answer_is_about_the_last_whole_one() -> None:
    stage = Stage()
    await stage.join("w1")
    ears = Ears(stage)
    await ears.hear()
    part = Heartbeat(
        events_processed=0,
        pipelines_running=1,
        incarnation="i1",
        seq=2,
        part=HeartbeatPart(number=0, of=2, pipelines=[]),
    )
    ack = await ears.raw("varpulis.cluster.heartbeat.w1", encode(part))
    assert ack is not None and ack.renews and ack.judged == 1


async def test_a_deploy_tells_which_heartbeat_of_its_worker_was_heard_last() -> None:
    stage = Stage()
    await stage.join("w1")
    commands = WorkerCommands(stage.workers, Subjects(), heartbeats=stage.table)
    await commands.deploy("w1", Deploy(name="p", source="-"))
    ears = Ears(stage)
    for _ in range(3):
        await ears.hear()
    await commands.deploy("w1", Deploy(name="p", source="-"))
    first, second = (deploy for _, deploy in stage.workers.deploys())
    assert first.heard is None and second.heard == HeartbeatId(incarnation="i1", seq=3)


async def test_an_unhealthy_worker_gets_no_new_lease_while_its_pipelines_may_move() -> None:
    stage = Stage()
    await stage.join("w1")
    ears = Ears(stage)
    session = stage.machine.state.workers["w1"].session
    await stage.say(MarkWorker, worker_id="w1", session=session, status=WorkerStatus.UNHEALTHY, reason="x")
    assert await ears.hear() is None
    await stage.settle()
    assert await ears.hear() is not None, "it was heard, so it is ready again"


async def test_a_node_that_does_not_lead_hears_and_does_not_answer() -> None:
    stage = Stage()
    await stage.join("w1")
    ears = Ears(stage)
    stage.loop.leads = False
    assert await ears.hear() is None
    stage.loop.leads, stage.log.is_leader = True, False
    assert await ears.hear() is None
    heard = stage.table.get("w1")
    assert heard is not None and heard.count == 2


async def test_a_seed_heartbeat_without_a_reply_subject_is_heard_and_not_answered() -> None:
    stage = Stage()
    await stage.join("w1", incarnation=None)
    ears = Ears(stage)
    assert (
        await ears.raw(
            "varpulis.cluster.heartbeat.w1", b'{"events_processed":3,"pipelines_running":0}', reply=""
        )
        is None
    )
    heard = stage.table.get("w1")
    assert heard is not None and heard.events_processed == 3


@pytest.mark.parametrize(
    ("subject", "data", "reason"),
    [
        ("varpulis.cluster.heartbeat.w1", b"", "bad_request"),
        ("varpulis.cluster.heartbeat.w1", b"\xff", "bad_request"),
        ("varpulis.cluster.heartbeat.w1", b'{"events_processed":"3","pipelines_running":0}', "bad_request"),
        ("varpulis.cluster.heartbeat.w1", b"[" * 100_000, "bad_request"),
        ("varpulis.cluster.heartbeat.w1", b" " * 1_100_000, "bad_request"),
        ("varpulis.cluster.heartbeat.w$1", b"{}", "bad_subject"),
        ("events.w1", b'{"events_processed":3,"pipelines_running":0}', "bad_subject"),
        ("varpulis.cluster.heartbeat.x.w1", b'{"events_processed":3,"pipelines_running":0}', "bad_subject"),
        ("varpulis.cluster.heartbeat." + "w" * 65, b"{}", "bad_subject"),
    ],
)
async def test_what_cannot_be_read_is_counted_and_changes_nothing(
    subject: str, data: bytes, reason: str
) -> None:
    stage = Stage()
    await stage.join("w1")
    before = stage.table.get("w1")
    ears = Ears(stage)
    assert await ears.raw(subject, data) is None
    assert ears.listener.bad_messages == {("heartbeat", reason): 1}
    assert stage.table.get("w1") == before
