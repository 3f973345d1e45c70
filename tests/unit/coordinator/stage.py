"""The controllers on a stage: a Raft of one, workers that answer as told, a clock moved by hand."""

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec

from coordinator.controllers.loop import ControlLoop
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.machine import ClusterMachine
from coordinator.state.commands import Command, CreateGroup, RegisterWorker
from coordinator.state.records import Phase, Placement
from coordinator.worker_commands import WorkerCommands
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.membership import Heartbeat, HeartbeatId, RunningPipeline
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from proto_schemas.subjects import Subjects
from transport.errors import ErrorKind, NatsTransportError


@dataclass
class Commit:
    result: bytes


class SoloLog:
    """Raft with one member: every proposal is committed at once; `fail` makes the next one raise."""

    def __init__(self, machine: ClusterMachine) -> None:
        self._machine = machine
        self.is_leader = True
        self.leader_id: str | None = "c0"
        self.term = 1
        self.index = 0
        self.barriers = 0
        self.fail: list[Exception] = []
        self.applied_before_failing = False

    async def propose(self, command: bytes, *, timeout: float) -> Commit:
        await asyncio.sleep(0)
        error = self.fail.pop(0) if self.fail else None
        if error is not None and not self.applied_before_failing:
            raise error
        self.index += 1
        result = self._machine.apply(self.index, command)
        if error is not None:
            raise error
        return Commit(result)

    async def barrier(self, *, timeout: float) -> int:
        await asyncio.sleep(0)
        self.barriers += 1
        return self.index


class FakeWorkers:
    """Answers commands per worker. `answers[worker]` is an exception to raise, or nothing for a plain yes;
    `begun` is what copies say they began from, `listed_from` the heartbeat from which on they are listed."""

    max_payload = 1024 * 1024

    def __init__(self) -> None:
        self.sent: list[tuple[str, msgspec.Struct]] = []
        self.answers: dict[str, Exception] = {}
        self.begun: str | None = None
        self.listed_from: HeartbeatId | None = None

    async def request_message(
        self, subject: str, message: msgspec.Struct, reply_type: Any, *, timeout: float
    ) -> Any:
        await asyncio.sleep(0)
        worker = subject.split(".")[3]
        self.sent.append((worker, message))
        if worker in self.answers:
            raise self.answers[worker]
        if isinstance(message, Deploy):
            made = f"{message.name}-{message.epoch}"
            return Deployed(
                id=made,
                name=message.name,
                status="running",
                begun=self.begun,
                listed_from=self.listed_from,
            )
        return Ok(ok=True)

    def deploys(self) -> list[tuple[str, Deploy]]:
        return [(worker, each) for worker, each in self.sent if isinstance(each, Deploy)]

    def undeploys(self) -> list[tuple[str, str]]:
        return [(worker, each.pipeline_id) for worker, each in self.sent if isinstance(each, Undeploy)]


def silent() -> NatsTransportError:
    return NatsTransportError(ErrorKind.TIMEOUT, "no answer", subject="cmd")


class Stage:
    """All controllers of a leader. `settle` runs passes until nothing is under way."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.machine = ClusterMachine()
        self.log = SoloLog(self.machine)
        self.ledger = Ledger(self.log, self.machine)
        self.workers = FakeWorkers()
        self.table = HeartbeatTable()
        self.hears = True
        self.loop = ControlLoop(
            self.ledger,
            WorkerCommands(self.workers, Subjects(), heartbeats=self.table),
            self.table,
            clock=lambda: self.time,
            hears=lambda: self.hears,
            heartbeat_timeout=3.0,
        )
        self._seq: dict[str, int] = {}

    async def say(self, kind: type[Command], **fields: Any) -> None:
        await self.ledger.propose(kind(by="test", **fields))

    async def join(self, *names: str, incarnation: str | None = "i1", room: int = 10) -> None:
        for name in names:
            await self.say(
                RegisterWorker,
                worker_id=name,
                incarnation=incarnation,
                address="a",
                cpu_cores=1,
                max_pipelines=room,
            )
            self.table.registered(name, incarnation, self.time)

    async def create(self, name: str, *pipelines: str, **fields: Any) -> None:
        specs = [PipelineSpec(name=each, source="-", **fields) for each in pipelines]
        await self.say(CreateGroup, spec=GroupSpec(name=name, pipelines=specs), consumes={})

    def beat(
        self, name: str, *copies: RunningPipeline, incarnation: str | None = "i1", **fields: Any
    ) -> None:
        """A heartbeat that lists what runs; a seed worker's (no incarnation) lists nothing."""
        seq = self._seq[name] = self._seq.get(name, 0) + 1
        ours = incarnation is not None
        heartbeat = Heartbeat(
            events_processed=0,
            pipelines_running=len(copies),
            incarnation=incarnation,
            seq=seq if ours else None,
            pipelines=list(copies) if ours else None,
        )
        self.table.heard(name, heartbeat, self.time)

    def placed(self, group: str, pipeline: str) -> Placement:
        placement = self.machine.state.placement(group, pipeline)
        assert placement is not None
        return placement

    def copy(self, group: str, pipeline: str, **changes: Any) -> RunningPipeline:
        """What a worker reports that runs the current placement."""
        placement = self.placed(group, pipeline)
        fields = {"pipeline_id": f"{pipeline}-{placement.epoch}", "epoch": placement.epoch}
        return RunningPipeline(**{"group": group, "name": pipeline, **fields, **changes})

    async def settle(self, passes: int = 30) -> None:
        """Passes, each followed by what it started, until one starts nothing."""
        for _ in range(passes):
            self.loop.step()
            if not self.in_flight:
                return
            await self.quiet()

    @property
    def in_flight(self) -> int:
        loop = self.loop
        return loop.verdicts.in_flight + loop.pipelines.in_flight + loop.sweeps.in_flight

    async def quiet(self) -> None:
        """Until all that was started has ended."""
        while self.in_flight:
            await asyncio.sleep(0)

    async def later(self, seconds: float, *beating: str) -> None:
        """Time passes in small steps, with passes as the loop would make them; some workers beat meanwhile,
        and list exactly what runs on them."""
        for _ in range(max(int(seconds / 0.25), 1)):
            self.time += 0.25
            for name in beating:
                self.beat(name, *self.truth(name))
            await self.settle()

    def truth(self, name: str) -> list[RunningPipeline]:
        """What runs on a worker by the state."""
        placed = self.machine.state.placed_on(name)
        return [
            self.copy(group, pipeline, pipeline_id=placement.pipeline_id)
            for group, pipeline, placement in placed
            if placement.phase is Phase.RUNNING
        ]
