"""Which pipelines of a group take an event that comes from outside. Never a guess.

Where the group has routes from `_external`, they decide: an event type matches exactly, by `prefix*`, or by
`*`. Where it has none, the event goes to each pipeline whose program consumes its type.
"""

from dataclasses import dataclass

from coordinator.state.model import Group, Phase, State
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.subjects import EXTERNAL


@dataclass(frozen=True, slots=True)
class Copy:
    """Where to send what a pipeline is to take."""

    pipeline: str
    worker_id: str
    pipeline_id: str


def takers(group: Group, event_type: str) -> list[str]:
    """The pipelines that take an event type from outside, each once.

    Raises:
        WireError: `no_route`, naming what the group does take.
    """
    external = [route for route in group.spec.routes if route.from_pipeline == EXTERNAL]
    found: dict[str, None] = {}
    for route in external:
        if any(_matches(pattern, event_type) for pattern in route.event_types):
            found[route.to_pipeline] = None
    if not external:
        found = {name: None for name, types in sorted(group.consumes.items()) if event_type in types}
    if found:
        return list(found)
    known = {name for route in external for name in route.event_types} or {
        name for types in group.consumes.values() for name in types
    }
    raise WireError(
        ErrorCode.NO_ROUTE,
        f"group {group.spec.name!r} takes no {event_type[:80]!r} from outside: "
        f"it takes {', '.join(sorted(known)[:20]) or 'nothing'}",
    )


def running_copy(state: State, group: str, pipeline: str) -> Copy:
    """The copy that runs.

    Raises:
        WireError: `unavailable`, with the reason why there is none now.
    """
    placement = state.placement(group, pipeline)
    if (
        placement is None
        or placement.phase is not Phase.RUNNING
        or placement.worker_id is None
        or placement.pipeline_id is None
    ):
        phase = placement.phase if placement is not None else "gone"
        why = placement.reason if placement is not None and placement.reason else "wait until it runs"
        raise WireError(ErrorCode.UNAVAILABLE, f"pipeline {group}/{pipeline} is {phase}: {why}")
    return Copy(pipeline, placement.worker_id, placement.pipeline_id)


def _matches(pattern: str, event_type: str) -> bool:
    if pattern.endswith("*"):
        return event_type.startswith(pattern[:-1])
    return pattern == event_type
