"""Whatever is said to the state, in whatever order: its invariants hold after each command."""

from typing import Any

import google_crc32c
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.machine import ClusterMachine
from coordinator.state.commands import (
    BeginRestore,
    Command,
    CommitRestore,
    CreateGroup,
    DeleteGroup,
    Displace,
    Explain,
    ForgetStray,
    LetGo,
    MarkWorker,
    Place,
    PutPart,
    RaiseEpochs,
    RegisterWorker,
    RemoveWorker,
    ReportFailed,
    ReportRunning,
    encode_command,
)
from coordinator.state.model import HOLDING, MAX_FOREIGN_EPOCH, Phase, Restored, WorkerStatus
from coordinator.state.restore import PART_BYTES
from coordinator.state.strategy import Room
from coordinator.state.views import Observed, group_status, group_view, worker_view
from proto_schemas.messages import RunningPipeline
from proto_schemas.rest import GroupSpec, PipelineSpec

GROUPS = st.sampled_from(["g", "h"])
PIPELINES = st.sampled_from(["a", "b", "c"])
WORKERS = st.sampled_from(["w1", "w2", "w3"])
EPOCHS_BACK = st.integers(0, 2)
FOREIGN_EPOCHS = st.integers(0, 50) | st.just(2**63 - 1)


class Histories(RuleBasedStateMachine):
    """Two machines hear the same commands; one of them is snapshotted and restored now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.machine, self.other = ClusterMachine(), ClusterMachine()
        self.index = 0
        self.copy = b"".join(self.machine.snapshot())

    def say(self, kind: type[Command], **fields: Any) -> None:
        self.index += 1
        data = encode_command(kind(at=self.index, by="x", **fields))
        before = self.machine.state.epochs
        assert self.machine.apply(self.index, data) == self.other.apply(self.index, data)
        told = kind in (RaiseEpochs, RegisterWorker, CommitRestore)
        assert self.machine.state.epochs in (before, before + 1) or (
            told and self.machine.state.epochs > before
        )

    def epoch(self, group: str, pipeline: str, back: int) -> int:
        placement = self.machine.state.placement(group, pipeline)
        return max(placement.epoch - back, 0) if placement is not None else 0

    @rule(
        worker=WORKERS,
        incarnation=st.sampled_from(["i1", "i2", None]),
        room=st.integers(0, 2),
        copies=st.lists(st.builds(RunningPipeline, pipeline_id=GROUPS, epoch=FOREIGN_EPOCHS), max_size=2),
    )
    def register(
        self, worker: str, incarnation: str | None, room: int, copies: list[RunningPipeline]
    ) -> None:
        self.say(
            RegisterWorker,
            worker_id=worker,
            incarnation=incarnation,
            address="a",
            cpu_cores=1,
            max_pipelines=room,
            pipelines=copies,
        )

    @rule(epoch=FOREIGN_EPOCHS)
    def raise_epochs(self, epoch: int) -> None:
        self.say(RaiseEpochs, epoch=epoch)
        assert self.machine.state.epochs <= MAX_FOREIGN_EPOCH + self.index

    @rule(worker=WORKERS, force=st.booleans())
    def remove_worker(self, worker: str, force: bool) -> None:
        self.say(RemoveWorker, worker_id=worker, force=force)

    @rule(worker=WORKERS, status=st.sampled_from(list(WorkerStatus)))
    def mark(self, worker: str, status: WorkerStatus) -> None:
        known = self.machine.state.workers.get(worker)
        session = known.session if known is not None else 1
        self.say(MarkWorker, worker_id=worker, session=session, status=status, reason="x")

    @rule(group=GROUPS, names=st.sets(PIPELINES, min_size=1))
    def create(self, group: str, names: set[str]) -> None:
        spec = GroupSpec(
            name=group, pipelines=[PipelineSpec(name=name, source="s") for name in sorted(names)]
        )
        self.say(CreateGroup, spec=spec, consumes={})

    @rule(group=GROUPS)
    def delete(self, group: str) -> None:
        self.say(DeleteGroup, group=group)

    @rule(group=GROUPS, pipeline=PIPELINES, back=EPOCHS_BACK)
    def place_as_the_strategy_says(self, group: str, pipeline: str, back: int) -> None:
        worker = Room(self.machine.state).choose(group)
        if worker is not None:
            self.say(
                Place,
                group=group,
                pipeline=pipeline,
                epoch=self.epoch(group, pipeline, back),
                worker_id=worker,
            )

    @rule(group=GROUPS, pipeline=PIPELINES, worker=WORKERS)
    def place_anywhere(self, group: str, pipeline: str, worker: str) -> None:
        epoch = self.epoch(group, pipeline, 0)
        before = len(self.machine.state.placed_on(worker))
        self.say(Place, group=group, pipeline=pipeline, epoch=epoch, worker_id=worker)
        known = self.machine.state.workers.get(worker)
        if len(self.machine.state.placed_on(worker)) > before:
            assert known is not None and before < known.max_pipelines

    @rule(group=GROUPS, pipeline=PIPELINES, worker=WORKERS, back=EPOCHS_BACK)
    def running(self, group: str, pipeline: str, worker: str, back: int) -> None:
        placement = self.machine.state.placement(group, pipeline)
        worker = placement.worker_id or worker if placement is not None else worker
        known = self.machine.state.workers.get(worker)
        self.say(
            ReportRunning,
            group=group,
            pipeline=pipeline,
            epoch=self.epoch(group, pipeline, back),
            worker_id=worker,
            session=known.session if known is not None else 0,
            pipeline_id=f"{pipeline}-{self.index}",
        )

    @rule(
        group=GROUPS,
        pipeline=PIPELINES,
        back=EPOCHS_BACK,
        kind=st.sampled_from([ReportFailed, Displace, Explain]),
    )
    def speak_of(self, group: str, pipeline: str, back: int, kind: type[Command]) -> None:
        epoch = self.epoch(group, pipeline, back)
        self.say(kind, group=group, pipeline=pipeline, epoch=epoch, reason="x")

    @rule(group=GROUPS, pipeline=PIPELINES, confirmed=st.booleans())
    def let_go(self, group: str, pipeline: str, confirmed: bool) -> None:
        epoch = self.epoch(group, pipeline, 0)
        self.say(LetGo, group=group, pipeline=pipeline, epoch=epoch, confirmed=confirmed)

    @rule()
    def forget_a_stray(self) -> None:
        for stray in list(self.machine.state.strays.values())[:1]:
            self.say(ForgetStray, worker_id=stray.worker_id, pipeline_id=stray.pipeline_id)

    @rule()
    def save(self) -> None:
        self.copy = b"".join(self.machine.snapshot())

    @rule()
    def restore_the_copy(self) -> None:
        data, crc, key = self.copy, google_crc32c.value(self.copy), f"restore {self.index}"
        about = {"cluster": "x", "taken_at": 1, "last_index": 1, "key": key}
        self.say(BeginRestore, upload=key, size=len(data), crc=crc, **about)
        for number, at in enumerate(range(0, len(data), PART_BYTES)):
            self.say(PutPart, upload=key, number=number, data=data[at : at + PART_BYTES])
        before = self.machine.state.workers
        self.say(CommitRestore, upload=key, request_id=key)
        assert isinstance(self.machine.state.remembered[key].result, Restored)
        assert before.items() <= self.machine.state.workers.items(), "nobody who is here is forgotten"

    @rule()
    def restart_the_other(self) -> None:
        restored = ClusterMachine()
        restored.restore(b"".join(self.other.snapshot()))
        self.other = restored

    @invariant()
    def both_are_the_same(self) -> None:
        assert msgspec.msgpack.encode(self.machine.state) == msgspec.msgpack.encode(self.other.state)

    @invariant()
    def each_pipeline_has_at_most_one_place_and_each_live_epoch_is_its_own(self) -> None:
        state = self.machine.state
        epochs = [placement.epoch for _, _, placement in state.each_placement() if placement.epoch]
        assert len(epochs) == len(set(epochs))
        assert all(epoch <= state.epochs for epoch in epochs)
        for _, _, placement in state.each_placement():
            assert (placement.worker_id is not None) == (placement.phase in HOLDING)
            assert placement.worker_id is None or placement.worker_id in state.workers
            if placement.phase is Phase.RUNNING:
                assert placement.pipeline_id is not None

    @invariant()
    def groups_and_placements_belong_together_and_can_be_shown(self) -> None:
        state = self.machine.state
        assert state.groups.keys() == state.placements.keys()
        for name, group in state.groups.items():
            view = group_view(state, group)
            assert view.status == group_status(group, state.placements[name])
            if group.deleting:
                assert {each.phase for each in state.placements[name].values()} == {Phase.REMOVING}
        for worker in state.workers.values():
            worker_view(state, worker, Observed())


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
