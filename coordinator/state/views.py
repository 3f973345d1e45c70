"""What the API shows, computed from the state; what only heartbeats know comes in as `Observed`."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from coordinator.state import history
from coordinator.state.model import State
from coordinator.state.records import Drain, Migration, Phase, Placement, Worker, WorkerStatus
from coordinator.state.updates import waits_for
from coordinator.state.versions import Group
from proto_schemas.rest.cluster import RouteView, SummaryView, TopologyView
from proto_schemas.rest.groups import (
    EditionView,
    GroupView,
    HistoryView,
    PlacementView,
    TrafficView,
    UpdateView,
)
from proto_schemas.rest.jobs import DrainView, MigrationView
from proto_schemas.rest.workers import WorkerView
from proto_schemas.subjects import EXTERNAL, Subjects

T = TypeVar("T")

WAITING: Final = "the leader has not chosen a worker yet: it will within seconds, or say here why not"
"""The reason of a placement that is pending and has no other."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was last heard of a worker; `age_ms` is None when that is nothing. `suspect`: it is late."""

    age_ms: int | None = None
    pipelines_running: int | None = None
    events_processed: int = 0
    suspect: bool = False


SUSPECT: Final = "suspect"
"""The status of a ready worker whose heartbeat is late: it takes nothing new until it is heard."""


def group_status(group: Group, placements: Mapping[str, Placement]) -> str:
    """`deploying`, `running`, `partially_running`, `failed` or `torn_down`.

    A group some of whose pipelines run is `deploying` while nothing stands in the way of the others, and
    `partially_running` when one of them has a reason not to run.
    """
    if group.deleting:
        return "torn_down"
    phases = Counter(placement.phase for placement in placements.values())
    staying = len(placements) - phases[Phase.REMOVING]  # an update removes what the new version does not have
    if phases[Phase.RUNNING] == staying:
        return "running"
    if phases[Phase.FAILED] == staying:
        return "failed"
    if phases[Phase.RUNNING] and any(
        placement.reason for placement in placements.values() if placement.phase is not Phase.RUNNING
    ):
        return "partially_running"
    return "deploying"


def worker_view(state: State, worker: Worker, observed: Observed) -> WorkerView:
    """One worker. `assigned_pipelines` names them as `group/pipeline`."""
    assigned = sorted(f"{group}/{pipeline}" for group, pipeline, _ in state.placed_on(worker.id))
    return WorkerView(
        id=worker.id,
        address=worker.address,
        status=SUSPECT if observed.suspect and worker.status is WorkerStatus.READY else worker.status.value,
        pipelines_running=(
            observed.pipelines_running if observed.pipelines_running is not None else len(assigned)
        ),
        max_pipelines=worker.max_pipelines,
        cpu_cores=worker.cpu_cores,
        assigned_pipelines=assigned,
        events_processed=observed.events_processed,
        labels=worker.labels,
        cordoned=worker.cordoned,
        last_heartbeat_age_ms=observed.age_ms,
        incarnation=worker.incarnation,
        carrier=worker.carrier,
    )


LossWindows = Callable[[str | None, str | None], int | None]
"""Worker and pipeline id to the seconds whose events would be lost with the copy; None: not known."""
Traffic = Callable[[str | None, str | None], TrafficView | None]
"""Worker and pipeline id to the events of the copy; None: not known."""


def group_view(
    state: State,
    group: Group,
    losses: LossWindows = lambda *_: None,
    traffic: Traffic = lambda *_: None,
) -> GroupView:
    """One group with its placements, in the order of its spec."""
    name = group.spec.name
    placements = state.placements.get(name, {})
    return GroupView(
        id=name,
        name=name,
        status=group_status(group, placements),
        version=group.version,
        pipeline_count=len(group.spec.pipelines),
        placements=[
            _placement_view(state, group, instance, placements[instance])
            for instance in _in_order(group, placements)
        ],
        sources={pipeline.name: pipeline.source for pipeline in group.spec.pipelines},
        routes=group.spec.routes,
        delivery=group.spec.delivery,
        strategy=group.spec.strategy,
        update=_update_view(state, group),
        loss_windows=_known(placements, losses),
        traffic=_known(placements, traffic),
    )


def _known(
    placements: Mapping[str, Placement], ask: Callable[[str | None, str | None], T | None]
) -> dict[str, T]:
    found = {name: ask(each.worker_id, each.pipeline_id) for name, each in placements.items()}
    return {name: known for name, known in found.items() if known is not None}


def history_view(group: Group) -> HistoryView:
    """The versions of a group that are kept, newest first."""
    views = [
        EditionView(
            version=edition.version,
            status="present"
            if edition.version == group.version
            else "failed"
            if edition.failed is not None
            else "former",
            at=edition.at,
            by=edition.by,
            why=edition.why,
            reason=edition.failed,
            pipelines=[each.name for each in (edition.revision or group).spec.pipelines],
        )
        for edition in reversed(history.known(group))
    ]
    return HistoryView(id=group.spec.name, versions=views)


def _in_order(group: Group, placements: Mapping[str, Placement]) -> list[str]:
    """As in the spec; at the end those that it does not have any more."""
    names = [name for name in group.instances if name in placements]
    return names + [name for name in placements if name not in group.instances]


def _update_view(state: State, group: Group) -> UpdateView | None:
    update = group.update
    if update is None:
        return None
    return UpdateView(
        from_version=update.from_version,
        to_version=update.to_version,
        status=update.phase.value,
        instances=len(update.fresh),
        done=len(update.fresh) - len(waits_for(state, group)) if not group.deleting else 0,
        reason=update.reason,
        started_at=update.started_at,
        ended_at=update.ended_at,
    )


def _placement_view(state: State, group: Group, name: str, placement: Placement) -> PlacementView:
    instance, moving = group.instance(name), state.moving(group.spec.name, name)
    worker = state.workers.get(placement.worker_id) if placement.worker_id is not None else None
    return PlacementView(
        pipeline_name=name,
        worker_id=placement.worker_id,
        worker_address=worker.address if worker is not None else None,
        pipeline_id=placement.pipeline_id,
        status=placement.phase.value,
        epoch=placement.epoch,
        reason=placement.reason or (WAITING if placement.phase is Phase.PENDING else None),
        instance_of=instance.pipeline.name if instance is not None else name,
        instance=instance.number if instance is not None else 0,
        moving=moving.id if moving is not None else None,
        version=group.at(name).version,
    )


def migration_view(move: Migration) -> MigrationView:
    """One migration."""
    return MigrationView(
        id=move.id,
        group_id=move.group,
        pipeline=move.pipeline,
        cause=move.cause.value,
        status=move.phase.value,
        from_worker=move.from_worker,
        from_epoch=move.from_epoch,
        to_worker=move.to_worker,
        to_epoch=move.to_epoch,
        reason=move.reason,
        started_at=move.started_at,
        ended_at=move.ended_at,
    )


def drain_view(state: State, drain: Drain) -> DrainView:
    """One drain. While it is under way, `left` is what the worker holds now."""
    left = state.count_on(drain.worker_id) if drain.ended_at is None else drain.total - drain.moved
    return DrainView(
        id=drain.id,
        worker_id=drain.worker_id,
        cause=drain.cause.value,
        status=drain.phase.value,
        total=drain.total,
        moved=max(drain.total - left, 0),
        left=left,
        failed=drain.failures,
        reason=drain.reason,
        started_at=drain.started_at,
        deadline_at=drain.deadline_at,
        ended_at=drain.ended_at,
    )


def topology_view(state: State, observed: Mapping[str, Observed], subjects: Subjects) -> TopologyView:
    """What runs where and how events flow."""
    groups = [state.groups[name] for name in sorted(state.groups)]
    return TopologyView(
        workers=[
            worker_view(state, state.workers[name], observed.get(name, Observed()))
            for name in sorted(state.workers)
        ],
        groups=[group_view(state, group) for group in groups],
        routes=[route for group in groups for route in _routes(group, subjects)],
    )


def _routes(group: Group, subjects: Subjects) -> Iterable[RouteView]:
    """The routes as asked for; where none leads in from outside, one from `_external` to each consumer."""
    name = group.spec.name
    for route in group.spec.routes:
        subject = route.nats_subject or subjects.pipeline(name, route.from_pipeline, route.to_pipeline)
        yield RouteView(
            group=name,
            from_pipeline=route.from_pipeline,
            to_pipeline=route.to_pipeline,
            event_types=route.event_types,
            subject=subject,
        )
    if any(route.from_pipeline == EXTERNAL for route in group.spec.routes):
        return
    for pipeline, types in sorted(group.consumes.items()):
        if types:
            yield RouteView(
                group=name,
                from_pipeline=EXTERNAL,
                to_pipeline=pipeline,
                event_types=sorted(types),
                subject=subjects.pipeline(name, EXTERNAL, pipeline),
            )


def summary_view(
    state: State, observed: Mapping[str, Observed], *, cluster_id: str, leader_id: str | None, term: int
) -> SummaryView:
    """The cluster in a few numbers; every status is there, also with 0."""
    workers = Counter(worker.status.value for worker in state.workers.values())
    groups = Counter(
        group_status(group, state.placements.get(name, {})) for name, group in state.groups.items()
    )
    phases = Counter(placement.phase.value for _, _, placement in state.each_placement())
    statuses = ("deploying", "running", "partially_running", "failed", "torn_down")
    return SummaryView(
        cluster_id=cluster_id,
        leader_id=leader_id,
        term=term,
        workers={status.value: workers[status.value] for status in WorkerStatus},
        pipeline_groups={status: groups[status] for status in statuses},
        pipelines={phase.value: phases[phase.value] for phase in Phase},
        events_processed=sum(entry.events_processed for entry in observed.values()),
    )
