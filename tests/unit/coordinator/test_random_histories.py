"""Whatever is said to the state, in whatever order: its invariants hold after each command."""

from collections import Counter
from typing import Any

import google_crc32c
import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.machine import ClusterMachine
from coordinator.state.commands import (
    AdvanceDivision,
    AdvanceMigration,
    BeginRestore,
    CancelMigration,
    Command,
    CommitRestore,
    CordonWorker,
    CreateGroup,
    DeleteConnector,
    DeleteGroup,
    Displace,
    EndDrain,
    EndUpdate,
    Explain,
    FailDivision,
    FailMigration,
    FailUpdate,
    FinishDivision,
    FinishMigration,
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
    RollbackGroup,
    SaveConnector,
    StartDrain,
    StartMigration,
    UpdateGroup,
    encode_command,
)
from coordinator.state.history import MAX_EDITIONS
from coordinator.state.limits import MAX_FOREIGN_EPOCH
from coordinator.state.migrations import MOVES
from coordinator.state.records import HOLDING, Cause, DrainPhase, MovePhase, Phase, WorkerStatus
from coordinator.state.restore import PART_BYTES
from coordinator.state.results import Restored
from coordinator.state.room import Room
from coordinator.state.views import Observed, group_status, group_view, worker_view
from proto_schemas.messages.membership import RunningPipeline
from proto_schemas.partition import instance_names
from proto_schemas.rest.groups import GroupSpec, PipelineSpec

GROUPS = st.sampled_from(["g", "h"])
NAMES = st.sampled_from(["a", "b", "c"])
PIPELINES = st.sampled_from(["a", "b", "c", "a-0", "a-1"])
CONNECTORS = st.sampled_from(["Bus", "Other"])
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
        told = kind in (RaiseEpochs, RegisterWorker, CommitRestore, UpdateGroup, RollbackGroup)
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

    @rule(name=CONNECTORS, new=st.booleans(), kind=st.sampled_from(["nats", "memory"]), keep=st.booleans())
    def save_connector(self, name: str, new: bool, kind: str, keep: bool) -> None:
        secret = {} if keep else {"token": {"$sealed": str(self.index)}}
        self.say(
            SaveConnector,
            name=name,
            connector_type=kind,
            params=secret,
            new=new,
            sealed=list(secret),
            kept=["token"] if keep and not new else [],
        )

    @rule(name=CONNECTORS)
    def delete_connector(self, name: str) -> None:
        self.say(DeleteConnector, name=name)

    @invariant()
    def what_a_program_names_is_registered(self) -> None:
        state = self.machine.state
        named = {
            name for group in state.groups.values() for used in group.connectors.values() for name in used
        }
        assert named <= state.connectors.keys()

    @rule(
        group=GROUPS,
        names=st.sets(NAMES, min_size=1),
        replicas=st.integers(1, 2),
        connectors=st.sets(CONNECTORS),
    )
    def create(self, group: str, names: set[str], replicas: int, connectors: set[str]) -> None:
        used = {name: sorted(connectors) for name in names if connectors}
        spec = GroupSpec(
            name=group,
            pipelines=[
                PipelineSpec(name=name, source="s", replicas=replicas if name == "a" else 1)
                for name in sorted(names)
            ],
        )
        self.say(CreateGroup, spec=spec, consumes={}, connectors=used)

    @rule(
        group=GROUPS,
        names=st.sets(NAMES, min_size=1),
        replicas=st.integers(1, 3),
        source=st.sampled_from("st"),
        connectors=st.sets(CONNECTORS),
    )
    def update(self, group: str, names: set[str], replicas: int, source: str, connectors: set[str]) -> None:
        used = {name: sorted(connectors) for name in names if connectors}
        pipelines = [
            PipelineSpec(name=name, source=source, replicas=replicas if name == "a" else 1)
            for name in sorted(names)
        ]
        before = {name: len(each) for name, each in self.machine.state.placements.items()}
        spec = GroupSpec(name=group, pipelines=pipelines)
        self.say(UpdateGroup, spec=spec, consumes={}, connectors=used)
        now = {name: len(each) for name, each in self.machine.state.placements.items()}
        assert all(now[name] >= count for name, count in before.items()), "nothing is taken away at once"

    @rule(group=GROUPS, source=st.sampled_from("st"), replicas=st.integers(1, 4), key=st.booleans())
    def keyed(self, group: str, source: str, replicas: int, key: bool) -> None:
        """`a` shares by key; said twice with other numbers, its instances are divided."""
        known = self.machine.state.groups.get(group)
        pipelines = [
            PipelineSpec(
                name="a", source=source, replicas=replicas, partition_key="k" if key or replicas > 1 else None
            )
        ]
        spec = GroupSpec(name=group, pipelines=pipelines)
        self.say(CreateGroup if known is None else UpdateGroup, spec=spec, consumes={})

    @rule(
        kind=st.sampled_from([AdvanceDivision, AdvanceDivision, FinishDivision, FailDivision]), data=st.data()
    )
    def speak_of_a_division(self, kind: type[Command], data: st.DataObject) -> None:
        known = [group for group in self.machine.state.groups.values() if group.division is not None]
        if not known:
            return
        group = data.draw(st.sampled_from(known))
        division = group.division
        assert division is not None
        fields: dict[str, Any] = {}
        if kind is AdvanceDivision:
            fields["copies"] = {each.instance: f"d-{self.index}-{each.instance}" for each in division.new}
        elif kind is FailDivision:
            fields = {"reason": "x", "new_line": data.draw(st.booleans())}
        self.say(kind, group=group.spec.name, division=division.id, **fields)

    @invariant()
    def a_division_under_way_is_about_what_runs_and_an_ended_one_leaves_every_line_with_somebody(
        self,
    ) -> None:
        state = self.machine.state
        assert state.dividing == [
            state.groups[name] for name in sorted(state.groups) if state.groups[name].division is not None
        ]
        for group in state.dividing:
            division = group.division
            assert division is not None and group.rolling is None
            for old in division.old:
                placement = state.placements[group.spec.name][old.instance]
                assert (placement.phase, placement.epoch) == (Phase.RUNNING, old.epoch)
            assert all(state.workers[new.worker].session == new.session for new in division.new)
        for name, group in state.groups.items():
            for pipeline in group.spec.pipelines:
                assert group.shares.get(pipeline.name) != pipeline.replicas
                if pipeline.partition_key is None or pipeline.replicas == 1 or group.deleting:
                    continue
                for instance in instance_names(pipeline.name, pipeline.replicas):
                    placement = state.placements[name][instance]
                    number = group.instances[instance].number
                    taken = range(number, group.shares_of(pipeline), pipeline.replicas)
                    assert {int(share) for share in placement.lines} <= set(taken) - {number}

    @rule(group=GROUPS, to=st.none() | st.integers(1, 4))
    def roll_back(self, group: str, to: int | None) -> None:
        before = self.machine.state.groups.get(group)
        self.say(RollbackGroup, group=group, to=to)
        now = self.machine.state.groups.get(group)
        if before is not None and now is not None and now.version != before.version:
            same = [each.revision for each in before.history if each.revision is not None]
            assert now.spec in [each.spec for each in same], "it is what it was"

    @invariant()
    def the_history_of_a_group_is_short_and_tells_of_the_version_that_it_has(self) -> None:
        for group in self.machine.state.groups.values():
            versions = [each.version for each in group.history]
            assert versions == sorted(set(versions)) and len(versions) <= MAX_EDITIONS
            without = [each.version for each in group.history if each.revision is None]
            assert without == [group.version]

    @rule(kind=st.sampled_from([EndUpdate, EndUpdate, FailUpdate]), data=st.data())
    def speak_of_an_update(self, kind: type[Command], data: st.DataObject) -> None:
        known = [group for group in self.machine.state.groups.values() if group.update is not None]
        if not known:
            return
        group = data.draw(st.sampled_from(known))
        assert group.update is not None
        fields = {"reason": "x"} if kind is FailUpdate else {}
        self.say(kind, group=group.spec.name, version=group.update.to_version, **fields)

    @invariant()
    def each_copy_is_of_one_version_and_an_update_under_way_is_known_as_such(self) -> None:
        for machine in (self.machine, self.other):
            state = machine.state
            rolling = [name for name in sorted(state.groups) if state.groups[name].rolling is not None]
            assert [group.spec.name for group in state.rolling] == rolling
            for group_name, pipeline, placement in state.each_placement():
                known = state.groups[group_name].instance(pipeline)
                assert known is not None or placement.phase is Phase.REMOVING
            for name, group in state.groups.items():
                assert group.deleting or group.instances.keys() <= state.placements[name].keys()
                assert group.version <= max(group.newest, 1)

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

    @rule(group=GROUPS, pipeline=PIPELINES, worker=WORKERS | st.just(""), cause=st.sampled_from(list(Cause)))
    def start_a_migration(self, group: str, pipeline: str, worker: str, cause: Cause) -> None:
        epoch, before = self.epoch(group, pipeline, 0), self.machine.state.slots_taken(worker)
        self.say(StartMigration, group=group, pipeline=pipeline, epoch=epoch, to_worker=worker, cause=cause)
        known = self.machine.state.workers.get(worker)
        if self.machine.state.slots_taken(worker) > before:
            assert known is not None and before < known.max_pipelines

    @rule(
        kind=st.sampled_from([AdvanceMigration, FinishMigration, FailMigration, CancelMigration]),
        phase=st.sampled_from(list(MovePhase)),
        new_line=st.booleans(),
        data=st.data(),
    )
    def speak_of_a_migration(
        self, kind: type[Command], phase: MovePhase, new_line: bool, data: st.DataObject
    ) -> None:
        state = self.machine.state
        known = [*state.migrations, *state.ended_migrations][:5]
        if not known:
            return
        fields: dict[str, Any] = {"reason": "x"}
        if kind is AdvanceMigration:
            fields |= {"phase": phase, "pipeline_id": f"m-{self.index}"}
        else:
            fields |= {"new_line": new_line}
        self.say(kind, migration_id=data.draw(st.sampled_from(known)), **fields)

    @rule(worker=WORKERS, cordoned=st.booleans())
    def cordon(self, worker: str, cordoned: bool) -> None:
        self.say(CordonWorker, worker_id=worker, cordoned=cordoned)

    @rule(worker=WORKERS, cause=st.sampled_from([Cause.MANUAL, Cause.LEAVE]))
    def start_a_drain(self, worker: str, cause: Cause) -> None:
        self.say(StartDrain, worker_id=worker, cause=cause)

    @rule(phase=st.sampled_from(list(DrainPhase)), data=st.data())
    def end_a_drain(self, phase: DrainPhase, data: st.DataObject) -> None:
        state = self.machine.state
        known = [*state.drains, *state.ended_drains][:5]
        if known:
            self.say(EndDrain, drain_id=data.draw(st.sampled_from(known)), phase=phase)

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
    def the_index_of_what_workers_hold_is_what_a_walk_finds(self) -> None:
        for machine in (self.machine, self.other):
            state = machine.state
            for worker in ("w1", "w2", "w3"):
                held = sorted((g, p) for g, p, placed in state.each_placement() if placed.worker_id == worker)
                assert [entry[:2] for entry in state.placed_on(worker)] == held
                assert state.count_on(worker) == len(held)

    @invariant()
    def a_migration_under_way_is_about_what_runs_and_can_always_be_ended(self) -> None:
        state = self.machine.state
        moves = list(state.migrations.values())
        assert len({(move.group, move.pipeline) for move in moves}) == len(moves)
        wanted = [placement.epoch for _, _, placement in state.each_placement() if placement.epoch]
        wanted += [move.to_epoch for move in moves]
        for group in state.dividing:
            wanted += [each.epoch for each in group.division.new] if group.division is not None else []
        assert len(wanted) == len(set(wanted)), "no epoch is wanted twice"
        for move in moves:
            placement = state.placement(move.group, move.pipeline)
            assert placement is not None and placement.phase is Phase.RUNNING
            assert (placement.epoch, placement.worker_id) == (move.from_epoch, move.from_worker)
            assert move.from_epoch < move.to_epoch <= state.epochs
            assert state.workers[move.to_worker].session == move.to_session
            assert FailMigration in MOVES[move.phase]
        for move in state.ended_migrations.values():
            assert move.phase not in MOVES and move.ended_at is not None
            assert move.reason is not None or move.phase is MovePhase.DONE

    @invariant()
    def no_slot_is_reserved_but_for_a_migration_under_way(self) -> None:
        state = self.machine.state
        coming = Counter(
            move.to_worker for move in state.migrations.values() if move.to_worker != move.from_worker
        )
        for worker in state.workers:
            apart = sum(there == worker for _, _, there in state.coming_apart())
            assert state.slots_taken(worker) == len(state.placed_on(worker)) + coming[worker] + apart

    @invariant()
    def a_drain_under_way_is_of_a_member_and_of_no_other_drains_worker(self) -> None:
        state = self.machine.state
        names = [drain.worker_id for drain in state.drains.values()]
        assert len(names) == len(set(names)) and set(names) <= state.workers.keys()
        assert all(
            state.workers[drain.worker_id].cordoned
            for drain in state.drains.values()
            if drain.cause is not Cause.LEAVE
        )

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
    max_examples=60, stateful_step_count=40, suppress_health_check=list(HealthCheck)
)
