"""Which pipelines of a group take an event that comes from outside. Never a guess.

Where the group has routes from `_external`, they decide: an event type matches exactly, by `prefix*`, or by
`*`. Where it has none, the event goes to each pipeline whose program consumes its type.

Of a pipeline with replicas one instance takes it: with a partition key the one that owns the event's key, as
every worker would say (`proto_schemas.partition`). Without, any will do; a request that may come again (it
has a key) gets the same one each time, whichever run, or it could be taken twice.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from coordinator.state.model import State
from coordinator.state.records import Phase
from coordinator.state.versions import Group
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.matching import matches
from proto_schemas.partition import Owners, instance_names
from proto_schemas.rest.groups import PipelineSpec
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
        if matches(route.event_types, event_type):
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


class Chooser:
    """Chooses instances for the events of one request; `key`: under which it may come again."""

    def __init__(self, state: State, group: Group, key: str | None) -> None:
        self._state = state
        self._group = group
        self._first = zlib.crc32(key.encode()) if key is not None else next(_TURNS)
        self._repeatable = key is not None
        self._owners: dict[str, Owners] = {}
        self._names: dict[str, tuple[str, ...]] = {}

    def instance(self, pipeline: str, fields: Mapping[str, Any], number: int = 0) -> str:
        """The name of the instance for the `number`-th event of the request.

        Raises:
            WireError: `bad_request`, a key that is nested too deeply.
        """
        spec = self._group.pipelines[pipeline]
        if spec.replicas == 1:
            return pipeline
        names = self._names.get(pipeline)
        if names is None:
            names = self._names[pipeline] = self._candidates(spec)
            self._owners[pipeline] = Owners(spec.replicas)
        if spec.partition_key is None:
            return names[(self._first + number) % len(names)]
        try:
            return names[self._owners[pipeline].of(fields.get(spec.partition_key))]
        except RecursionError:
            raise WireError(
                ErrorCode.BAD_REQUEST, f"{spec.partition_key}: nested too deeply for a key: flatten it"
            ) from None

    def _candidates(self, spec: PipelineSpec) -> tuple[str, ...]:
        names = instance_names(spec.name, spec.replicas)
        if self._repeatable or spec.partition_key is not None:
            return names
        placed = self._state.placements.get(self._group.spec.name, {})
        return tuple(n for n in names if n in placed and placed[n].phase is Phase.RUNNING) or names


def fields_of(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of an event as a worker reads it: in `fields`, in `data`, or beside its type and time."""
    for name in ("fields", "data"):
        if isinstance(event.get(name), dict):
            return dict(event[name])
    return {name: value for name, value in event.items() if name not in ("event_type", "timestamp")}


_TURNS: Final = count()
