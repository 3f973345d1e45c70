"""What the API shows, computed from the state; what only heartbeats know comes in as `Observed`."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.state.model import Group, Phase, Placement, State, Worker, WorkerStatus
from proto_schemas.rest import (
    GroupView,
    PlacementView,
    RouteView,
    SummaryView,
    TopologyView,
    WorkerView,
)
from proto_schemas.subjects import EXTERNAL, Subjects

WAITING: Final = "the leader has not chosen a worker yet: it will within seconds, or say here why not"
"""The reason of a placement that is pending and has no other."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was last heard of a worker; `age_ms` is None when nothing was."""

    age_ms: int | None = None
    pipelines_running: int | None = None
    events_processed: int = 0


def group_status(group: Group, placements: Mapping[str, Placement]) -> str:
    """`deploying`, `running`, `partially_running`, `failed` or `torn_down`.

    A group some of whose pipelines run is `deploying` while nothing stands in the way of the others, and
    `partially_running` when one of them has a reason not to run.
    """
    if group.deleting:
        return "torn_down"
    phases = Counter(placement.phase for placement in placements.values())
    if phases[Phase.RUNNING] == len(placements):
        return "running"
    if phases[Phase.FAILED] == len(placements):
        return "failed"
    if phases[Phase.RUNNING] and any(placement.reason for placement in placements.values()):
        return "partially_running"
    return "deploying"


def worker_view(state: State, worker: Worker, observed: Observed) -> WorkerView:
    """One worker. `assigned_pipelines` names them as `group/pipeline`."""
    assigned = sorted(f"{group}/{pipeline}" for group, pipeline, _ in state.placed_on(worker.id))
    return WorkerView(
        id=worker.id,
        address=worker.address,
        status=worker.status.value,
        pipelines_running=(
            observed.pipelines_running if observed.pipelines_running is not None else len(assigned)
        ),
        max_pipelines=worker.max_pipelines,
        cpu_cores=worker.cpu_cores,
        assigned_pipelines=assigned,
        events_processed=observed.events_processed,
        labels=worker.labels,
        cordoned=False,
        last_heartbeat_age_ms=observed.age_ms,
        incarnation=worker.incarnation,
        carrier=worker.carrier,
    )


def group_view(state: State, group: Group) -> GroupView:
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
            _placement_view(state, pipeline.name, placements[pipeline.name])
            for pipeline in group.spec.pipelines
            if pipeline.name in placements
        ],
        sources={pipeline.name: pipeline.source for pipeline in group.spec.pipelines},
        routes=group.spec.routes,
        delivery=group.spec.delivery,
    )


def _placement_view(state: State, pipeline: str, placement: Placement) -> PlacementView:
    worker = state.workers.get(placement.worker_id) if placement.worker_id is not None else None
    return PlacementView(
        pipeline_name=pipeline,
        worker_id=placement.worker_id,
        worker_address=worker.address if worker is not None else None,
        pipeline_id=placement.pipeline_id,
        status=placement.phase.value,
        epoch=placement.epoch,
        reason=placement.reason or (WAITING if placement.phase is Phase.PENDING else None),
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
