"""What of a group's spec one of its instances is deployed with, and so which of them another spec touches.

Two versions of a group leave an instance alone when all it is deployed with is the same in both: its program,
the routes that touch it, its connectors, how those it sends to share by key, and where it may run. The count
of replicas is none of that while they share their events without a key: such an instance need not know how
many others there are.
"""

from typing import Any

from coordinator.state.versions import Group
from proto_schemas.messages.deploys import Instance, Partition, Route
from proto_schemas.rest.groups import PipelineSpec
from proto_schemas.subjects import EXTERNAL


def routes_of(group: Group, pipeline: str) -> list[Route]:
    """The routes that lead to or from a pipeline, and all from outside."""
    return [
        route
        for route in group.spec.routes
        if pipeline in (route.from_pipeline, route.to_pipeline) or route.from_pipeline == EXTERNAL
    ]


def instance_of(
    group: Group, pipeline: PipelineSpec, number: int, lines: dict[str, str] | None = None
) -> Instance | None:
    """What an instance is told of itself, and of the `lines` of its further shares; None for one that is and
    was alone."""
    if not group.several(pipeline):
        return None
    return Instance(
        of=pipeline.name,
        number=number,
        count=pipeline.replicas,
        key=pipeline.partition_key,
        shares=group.shares.get(pipeline.name),
        lines=lines or {},
    )


def partitions_of(group: Group, pipeline: PipelineSpec) -> dict[str, Partition] | None:
    """How those it sends to share by key."""
    receivers = {route.to_pipeline for route in group.spec.routes if route.from_pipeline == pipeline.name}
    keyed = (group.pipelines[name] for name in sorted(receivers & group.pipelines.keys()))
    return {
        each.name: Partition(key=each.partition_key, count=group.shares_of(each))
        for each in keyed
        if each.partition_key is not None and group.shares_of(each) > 1
    } or None


def fresh_in(old: Group, new: Group) -> tuple[str, ...]:
    """The instances of `new` that `old` does not have, or deploys otherwise."""
    return tuple(
        name for name in new.instances if name not in old.instances or _shape(old, name) != _shape(new, name)
    )


def fault_of(old: Group, new: Group) -> str | None:
    """Why `old` cannot become `new` while it runs, and what to do instead; None when it can."""
    for name, pipeline in new.pipelines.items():
        before = old.pipelines.get(name)
        if before is None or _key(old, before) is _key(new, pipeline) is None:
            continue
        if (before.replicas, _key(old, before)) != (pipeline.replicas, _key(new, pipeline)):
            return (
                f"pipeline {name!r} cannot go from {_shares(old, before)} to {_shares(new, pipeline)} while "
                "it runs: keys would have another owner, without their state. Another number by the same key "
                f"(by any from one) is possible in an update that changes nothing else; or {_INSTEAD}"
            )
    for name in new.instances.keys() & old.instances.keys():
        owner, other = old.instances[name].pipeline.name, new.instances[name].pipeline.name
        if owner != other:
            return f"{name!r} is an instance of {owner!r} and would be one of {other!r}: {_INSTEAD}"
    return None


_INSTEAD = "give the pipeline another name, or delete the group and deploy it anew"


def splits_or_joins(old: Group, new: Group, pipeline: str) -> bool:
    """Whether a pipeline that runs alone in one is one of several in the other, without a key."""
    before, after = old.pipelines.get(pipeline), new.pipelines.get(pipeline)
    return before is not None and after is not None and (before.replicas == 1) != (after.replicas == 1)


def _key(group: Group, pipeline: PipelineSpec) -> str | None:
    return pipeline.partition_key if group.several(pipeline) else None


def _shares(group: Group, pipeline: PipelineSpec) -> str:
    key = _key(group, pipeline)
    by = f" by key {key!r}" if key is not None else ""
    return f"{pipeline.replicas} replica{'s' if pipeline.replicas > 1 else ''}{by}"


def _shape(group: Group, name: str) -> tuple[Any, ...]:
    pipeline, number = group.instances[name]
    told = instance_of(group, pipeline, number)
    return (
        pipeline.source,
        pipeline.worker_affinity,
        pipeline.constraints or None,
        routes_of(group, pipeline.name),
        sorted(group.connectors.get(pipeline.name, ())),
        group.spec.delivery,
        (told.of, told.number, told.key, told.count if told.key is not None else 0) if told else None,
        partitions_of(group, pipeline),
    )
