"""Which subjects an output goes to, and which a pipeline hears.

Subjects name the group and the pipelines, never a worker, so a pipeline that moves changes no route. An
event type of a route is exact, a `prefix*`, or `*`. Two routes that lead to one subject publish once. What
a type leads to is worked out at its first output and kept: the types a program puts out are its streams, so
the memory is bounded.
"""

from collections.abc import Sequence

from proto_schemas.messages import Route
from proto_schemas.subjects import Subjects, check_publishable


class OutputRoutes:
    """Where the emitted events of pipeline `name` of `group` are published."""

    def __init__(self, subjects: Subjects, group: str, name: str, routes: Sequence[Route]) -> None:
        self._routes = [
            (route.event_types, route.nats_subject or subjects.pipeline(group, name, route.to_pipeline))
            for route in routes
            if route.from_pipeline == name
        ]
        self._known: dict[str, tuple[str, ...]] = {}

    def __bool__(self) -> bool:
        """There are routes at all."""
        return bool(self._routes)

    def subjects_of(self, event_type: str) -> tuple[str, ...]:
        """The subjects an output of this type is published to; often none."""
        known = self._known.get(event_type)
        if known is None:
            matching = (subject for types, subject in self._routes if _matches(types, event_type))
            known = self._known[event_type] = tuple(dict.fromkeys(matching))
        return known


def input_subjects(subjects: Subjects, group: str, name: str, routes: Sequence[Route]) -> tuple[str, ...]:
    """What pipeline `name` of `group` subscribes: its inputs in the group, and subjects of its routes' own.

    Raises:
        ValueError: a name or a subject that is none.
    """
    inputs = subjects.pipeline_inputs(group, name)
    before, _, after = inputs.partition("*")
    own = []
    for route in routes:
        if route.nats_subject is None:
            continue
        subject = check_publishable(route.nats_subject, "nats_subject of a route")
        sender = subject.removeprefix(before).removesuffix(after)
        heard_already = subject == f"{before}{sender}{after}" and "." not in sender
        if route.to_pipeline == name and not heard_already:
            own.append(subject)
    return (inputs, *dict.fromkeys(own))


def needs_nats(name: str, routes: Sequence[Route]) -> str | None:
    """The first route of pipeline `name` that only NATS carries; None when it has none."""
    for route in routes:
        if route.over_nats and name in (route.from_pipeline, route.to_pipeline):
            return f"{route.from_pipeline} -> {route.to_pipeline}"
    return None


def _matches(event_types: Sequence[str], event_type: str) -> bool:
    return any(
        event_type.startswith(wanted[:-1]) if wanted.endswith("*") else event_type == wanted
        for wanted in event_types
    )
