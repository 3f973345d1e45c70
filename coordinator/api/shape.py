"""The shape of a group: what is refused before any program is looked at, each with the path of the field."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Final, NoReturn

from coordinator.state.constraints import fault_of
from proto_schemas import matching
from proto_schemas.delivery import AT_MOST_ONCE
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.partition import instance_names, longest_name
from proto_schemas.rest.groups import GroupSpec, PipelineSpec
from proto_schemas.subjects import EXTERNAL, check_id, check_publishable

MAX_INSTANCES: Final = 10_000
"""Instances of all pipelines of a group together."""


def check_shape(spec: GroupSpec, prefix: str) -> None:
    """Check names, replicas, constraints and routes. `prefix`: of the cluster's own subjects.

    Raises:
        WireError: 400, the first thing that does not hold.
    """
    _check_pipelines(spec)
    _check_delivery(spec)
    _check_instances(spec)
    _check_routes(spec, prefix)
    _check_cycles(spec)


def refuse(text: str) -> NoReturn:
    """Answer 400 about the group as it was sent."""
    raise WireError(ErrorCode.BAD_REQUEST, f"GroupSpec: {text}")


def _check_pipelines(spec: GroupSpec) -> None:
    twice = [name for name, count in Counter(p.name for p in spec.pipelines).items() if count > 1]
    if twice:
        refuse(f"$.pipelines: {twice[0]!r} is there twice: give each pipeline a name of its own")
    for number, pipeline in enumerate(spec.pipelines):
        path = f"$.pipelines[{number}]"
        if pipeline.name == EXTERNAL:
            refuse(f"{path}.name: {EXTERNAL} means events from outside: choose another name")
        if pipeline.worker_affinity is not None:
            _checked(f"{path}.worker_affinity", check_id, pipeline.worker_affinity)
        for place, constraint in enumerate(pipeline.constraints or ()):
            if (fault := fault_of(constraint)) is not None:
                gap = "" if fault.startswith(".") else ": "
                refuse(f"{path}.constraints[{place}]{gap}{fault}")


def _check_delivery(spec: GroupSpec) -> None:
    """What a stream cannot be promised for."""
    if spec.delivery == AT_MOST_ONCE:
        return
    for number, pipeline in enumerate(spec.pipelines):
        path = f"$.pipelines[{number}]"
        if pipeline.replicas > 1 and pipeline.partition_key is None:
            refuse(
                f"{path}.partition_key: with delivery {spec.delivery} each instance reads the stream itself: "
                "say by which field they share the events"
            )
        if pipeline.checkpoint_secs == 0:
            refuse(
                f"{path}.checkpoint_secs: 0, and with delivery {spec.delivery} the position in the stream "
                "stands in checkpoints: give more"
            )


def _check_instances(spec: GroupSpec) -> None:
    """The instances of a pipeline run under names of their own, which nobody else may have."""
    total = sum(pipeline.replicas for pipeline in spec.pipelines)
    if total > MAX_INSTANCES:
        refuse(f"$.pipelines: {total} instances together, at most {MAX_INSTANCES}: lower some replicas")
    places = {pipeline.name: number for number, pipeline in enumerate(spec.pipelines)}
    owners = {name: name for name in places}
    for number, pipeline in enumerate(spec.pipelines):
        if pipeline.replicas == 1:
            continue
        longest = longest_name(pipeline.replicas)
        if len(pipeline.name) > longest:
            refuse(
                f"$.pipelines[{number}].name: {len(pipeline.name)} characters, at most {longest} with "
                f"{pipeline.replicas} replicas, whose numbers are added: choose a shorter one"
            )
        for name in instance_names(pipeline.name, pipeline.replicas):
            if (other := owners.setdefault(name, pipeline.name)) != pipeline.name:
                refuse(
                    f"$.pipelines[{places[other]}].name: an instance of {pipeline.name!r} with "
                    f"{pipeline.replicas} replicas is called {name!r} as well: choose another name"
                )


def _check_routes(spec: GroupSpec, prefix: str) -> None:
    names = [pipeline.name for pipeline in spec.pipelines]
    known = set(names)
    for number, route in enumerate(spec.routes):
        path = f"$.routes[{number}]"
        if route.from_pipeline not in known and route.from_pipeline != EXTERNAL:
            _refuse_name(f"{path}.from_pipeline", route.from_pipeline, spec, (*names, EXTERNAL))
        if route.to_pipeline not in known:
            _refuse_name(f"{path}.to_pipeline", route.to_pipeline, spec, names)
        if not route.event_types:
            refuse(f"{path}.event_types: empty: name at least one type, or '*'")
        for place, pattern in enumerate(route.event_types):
            if (fault := matching.fault_of(pattern)) is not None:
                refuse(f"{path}.event_types[{place}]: {fault}")
        if route.nats_subject is not None:
            _checked(f"{path}.nats_subject", check_publishable, route.nats_subject)
            _check_open(f"{path}.nats_subject", route.nats_subject, prefix)


def _refuse_name(path: str, name: str, spec: GroupSpec, known: Iterable[str]) -> NoReturn:
    """No pipeline is called so: hint at the one that looks like it, or whose instance it is."""
    owner = _owner_of(name, spec.pipelines)
    near = get_close_matches(name, list(known), n=1)
    if owner is not None:
        hint = f": routes name the pipeline, {owner!r}, and not one of its instances"
    else:
        hint = f": did you mean {near[0]!r}?" if near else f": there are {', '.join(list(known)[:20])}"
    refuse(f"{path}: there is no pipeline {name!r} in this group{hint}")


def _owner_of(name: str, pipelines: Iterable[PipelineSpec]) -> str | None:
    base, _, number = name.rpartition("-")
    for pipeline in pipelines:
        if pipeline.name == base and re.fullmatch("[0-9]{1,4}", number) and int(number) < pipeline.replicas:
            return base
    return None


def _check_cycles(spec: GroupSpec) -> None:
    if spec.allow_cycles:
        return
    cycle = cycle_in([(route.from_pipeline, route.to_pipeline) for route in spec.routes])
    if cycle:
        refuse(
            f"$.routes: they lead in a circle: {' -> '.join(cycle)}: an event could go round for ever. "
            'Remove a route, or say "allow_cycles": true when its types end the circle'
        )


def cycle_in(arrows: Iterable[tuple[str, str]]) -> list[str]:
    """The names along one cycle, the first one again at its end; empty when there is none."""
    following: dict[str, list[str]] = {}
    for start, end in arrows:
        following.setdefault(start, []).append(end)
    done: set[str] = set()
    for root in sorted(following):
        path: list[str] = [root]
        waiting = [iter(following[root])]
        while waiting:
            step = next(waiting[-1], None)
            if step is None:
                waiting.pop()
                done.add(path.pop())
            elif step in path:
                return [*path[path.index(step) :], step]
            elif step not in done:
                path.append(step)
                waiting.append(iter(following.get(step, ())))
    return []


def _check_open(path: str, subject: str, prefix: str) -> None:
    """An event there would be read as a command, an answer or a call of the server's."""
    if f"{subject}.".startswith((f"{prefix}.", "_INBOX.", "$")):
        refuse(
            f"{path}: {subject[:80]!r} belongs to the cluster or to NATS itself: choose one outside "
            f"{prefix}, _INBOX and $, or leave it out"
        )


def _checked(path: str, check: Callable[[str], str], value: str) -> None:
    try:
        check(value)
    except ValueError as error:
        refuse(f"{path}: {error}")
