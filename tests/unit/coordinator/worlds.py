"""Short words for building states: each makes a command and applies it."""

from typing import Any

from coordinator.state.apply import Applied, apply
from coordinator.state.commands import (
    Command,
    CreateGroup,
    DeleteGroup,
    Displace,
    Explain,
    LetGo,
    MarkWorker,
    Place,
    RegisterWorker,
    RemoveWorker,
    ReportFailed,
    ReportRunning,
)
from coordinator.state.model import State
from coordinator.state.records import Phase, Placement, WorkerStatus
from coordinator.state.results import Done, Joined, Placed, Refused
from proto_schemas.messages.membership import RunningPipeline
from proto_schemas.rest.groups import GroupSpec, PipelineSpec


class World:
    """A state and the commands one says to it; `at` counts up by itself."""

    def __init__(self) -> None:
        self.state = State()
        self.now = 0

    def do(self, kind: type[Command], request_id: str = "", **fields: Any) -> Applied:
        """Apply one command."""
        self.now += 1
        return apply(self.state, kind(at=self.now, by="test", request_id=request_id, **fields))

    def worker(
        self,
        name: str,
        *,
        incarnation: str | None = "i1",
        room: int = 10,
        pipelines: list[RunningPipeline] | None = None,
        labels: dict[str, str] | None = None,
    ) -> int:
        """Register; the session."""
        applied = self.do(
            RegisterWorker,
            worker_id=name,
            incarnation=incarnation,
            address="http://x",
            cpu_cores=2,
            max_pipelines=room,
            pipelines=pipelines or [],
            labels=labels or {},
        )
        assert isinstance(applied.result, Joined)
        return applied.result.session

    def mark(self, name: str, status: WorkerStatus) -> None:
        session = self.state.workers[name].session
        applied = self.do(MarkWorker, worker_id=name, session=session, status=status, reason="test")
        assert isinstance(applied.result, Done)

    def group(self, name: str, *pipelines: str, request_id: str = "") -> Applied:
        spec = GroupSpec(name=name, pipelines=[PipelineSpec(name=each, source="-") for each in pipelines])
        return self.do(CreateGroup, request_id, spec=spec, consumes={each: ["In"] for each in pipelines})

    def placement(self, group: str, pipeline: str) -> Placement:
        placement = self.state.placement(group, pipeline)
        assert placement is not None
        return placement

    def place(self, group: str, pipeline: str, worker: str) -> int:
        """Intent; the epoch."""
        applied = self.step(Place, group, pipeline, worker_id=worker)
        assert isinstance(applied.result, Placed)
        return applied.result.epoch

    def run(self, group: str, pipeline: str, worker: str) -> int:
        """Intent and outcome; the epoch."""
        epoch = self.place(group, pipeline, worker)
        applied = self.report(group, pipeline, worker)
        assert isinstance(applied.result, Done)
        return epoch

    def report(self, group: str, pipeline: str, worker: str, **changes: Any) -> Applied:
        epoch = self.placement(group, pipeline).epoch
        session = self.state.workers[worker].session
        fields = {"worker_id": worker, "session": session, "pipeline_id": f"{pipeline}-{epoch}"}
        return self.step(ReportRunning, group, pipeline, **{**fields, **changes})

    def step(self, kind: type[Command], group: str, pipeline: str, **fields: Any) -> Applied:
        """A command about a placement, under its current epoch unless told otherwise."""
        placement = self.state.placement(group, pipeline)
        epoch = fields.pop("epoch", placement.epoch if placement is not None else 0)
        return self.do(kind, group=group, pipeline=pipeline, epoch=epoch, **fields)


def refused(applied: Applied) -> str:
    """The code of a refusal."""
    assert isinstance(applied.result, Refused), applied.result
    assert applied.events == ()
    return applied.result.code


def in_phase(phase: Phase) -> World:
    """A world whose pipeline `g/p` is in that phase, with worker `w1` ready."""
    world = World()
    world.worker("w1")
    world.group("g", "p")
    if phase is Phase.PENDING:
        return world
    world.place("g", "p", "w1")
    if phase is Phase.RUNNING:
        world.report("g", "p", "w1")
    elif phase is Phase.FAILED:
        world.step(ReportFailed, "g", "p", reason="no")
    elif phase is Phase.REMOVING:
        world.report("g", "p", "w1")
        world.do(DeleteGroup, group="g")
    assert world.placement("g", "p").phase is phase
    return world


def command_for(kind: type[Command], world: World) -> dict[str, Any]:
    """Fields that fit a placement command, in a world of `in_phase`."""
    extra: dict[type[Command], dict[str, Any]] = {
        Place: {"worker_id": "w1"},
        ReportRunning: {
            "worker_id": "w1",
            "session": world.state.workers["w1"].session,
            "pipeline_id": "p-x",
        },
        ReportFailed: {"reason": "it says no"},
        Displace: {"reason": "moved"},
        Explain: {"reason": "waiting"},
        LetGo: {"confirmed": True},
        RemoveWorker: {},
    }
    return extra[kind]
