"""Which subjects an output goes to, and which a pipeline hears.

Subjects name the group and the pipelines, never a worker, so a pipeline that moves changes no route. An
event type of a route is exact, a `prefix*`, or `*`. Two routes that lead to one subject publish once. What
a type leads to is worked out at its first output and kept: the types a program puts out are its streams, so
the memory is bounded.

A pipeline that shares its events by key hears each of its instances on a subject of its own, and the sender
publishes to the one that owns the event's key. A route with a subject of its own leads to that subject
alone; all instances hear it, and each keeps its keys (`worker.intake`). Instances that share without a key
hear the pipeline's subjects in one queue group, and the sender need not know.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from proto_schemas.matching import matches
from proto_schemas.messages.deploys import Instance, Partition, Route
from proto_schemas.partition import Owners, instance_names
from proto_schemas.subjects import RELAYED, Subjects, check_publishable
from transport.errors import NatsTransportError
from transport.nats import NatsTransport
from worker.connectors.base import OutputDropped, encode_output
from worker.connectors.nats import drop_reason
from worker.inputs import Line


class OutputRoutes:
    """Where the emitted events of pipeline `name` of `group` are published; `partitions`: of the pipelines
    that share by key."""

    def __init__(
        self,
        subjects: Subjects,
        group: str,
        name: str,
        routes: Sequence[Route],
        partitions: Mapping[str, Partition] | None = None,
    ) -> None:
        self._routes = [
            (route.event_types, route.nats_subject or subjects.pipeline(group, name, route.to_pipeline))
            for route in routes
            if route.from_pipeline == name
        ]
        self._shared = {
            subjects.pipeline(group, name, pipeline): _Shared(subjects, group, name, pipeline, partition)
            for pipeline, partition in (partitions or {}).items()
        }
        self._known: dict[str, tuple[str, ...]] = {}
        self._by_key: dict[str, tuple[_Shared, ...]] = {}

    def __bool__(self) -> bool:
        """There are routes at all."""
        return bool(self._routes)

    def subjects_of(self, event_type: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """The subjects an output is published to; often none."""
        known = self._known.get(event_type)
        if known is None:
            known = self._learn(event_type)
        by_key = self._by_key.get(event_type)
        return known if by_key is None else (*known, *(shared.subject_of(fields) for shared in by_key))

    def _learn(self, event_type: str) -> tuple[str, ...]:
        matching = [subject for types, subject in self._routes if matches(types, event_type)]
        by_key = [shared for subject, shared in self._shared.items() if subject in matching]
        if by_key:
            self._by_key[event_type] = tuple(by_key)
        plain = (subject for subject in matching if subject not in self._shared)
        known = self._known[event_type] = tuple(dict.fromkeys(plain))
        return known


class RouteSink:
    """Publishes emitted events on the subjects their types are routed to."""

    def __init__(self, bus: NatsTransport, routes: OutputRoutes) -> None:
        self._bus = bus
        self._routes = routes

    async def send(self, event_type: str, fields: dict[str, Any], ts: int) -> None:
        subjects = self._routes.subjects_of(event_type, fields)
        if not subjects:
            return
        data = encode_output(event_type, fields, ts)
        for subject in subjects:
            try:
                await self._bus.publish(subject, data)
            except NatsTransportError as error:
                raise OutputDropped(drop_reason(error), str(error)) from None


class _Shared:
    """The way to a pipeline whose instances share by key."""

    def __init__(
        self, subjects: Subjects, group: str, name: str, pipeline: str, partition: Partition
    ) -> None:
        self._key = partition.key
        self._owners = Owners(partition.count)
        instances = instance_names(pipeline, partition.count)
        self._subjects = [subjects.pipeline(group, name, instance) for instance in instances]

    def subject_of(self, fields: Mapping[str, Any]) -> str:
        """Where the owner of the event's key hears it."""
        return self._subjects[self._owners.of(fields.get(self._key))]


def input_subjects(
    subjects: Subjects, group: str, name: str, routes: Sequence[Route], instance: Instance | None = None
) -> tuple[str, ...]:
    """What pipeline `name` of `group` subscribes: its inputs in the group, and subjects of its routes' own.

    An `instance` hears what its pipeline is sent, and, where events are shared by key, what itself is sent.

    Raises:
        ValueError: a name or a subject that is none.
    """
    pipeline = instance.of if instance is not None else name
    direct = (subjects.pipeline_inputs(group, name),) if instance is not None and instance.key else ()
    inputs = subjects.pipeline_inputs(group, pipeline)
    before, _, after = inputs.partition("*")
    own = []
    for route in routes:
        if route.nats_subject is None:
            continue
        subject = check_publishable(route.nats_subject, "nats_subject of a route")
        sender = subject.removeprefix(before).removesuffix(after)
        heard_already = subject == f"{before}{sender}{after}" and "." not in sender
        if route.to_pipeline == pipeline and not heard_already:
            own.append(subject)
    return (inputs, *direct, *dict.fromkeys(own))


def lines_of(
    subjects: Subjects, group: str, name: str, routes: Sequence[Route], instance: Instance | None, queue: str
) -> list[Line]:
    """The lines of a copy: its own, and of the further shares that an instance takes. One whose number is
    that of no share hears what others pass on to it, and nothing else.

    Raises:
        ValueError: as `input_subjects`.
    """
    if instance is None or instance.key is None:
        return [Line(queue, input_subjects(subjects, group, name, routes, instance))]
    shares = instance.shares or instance.count
    others = {int(share): line for share, line in instance.lines.items()}
    lines = []
    for share, line in {instance.number: queue, **others}.items():
        taken = f"{instance.of}-{share}"
        if share < shares:
            heard = input_subjects(subjects, group, taken, routes, instance)
            lines.append(Line(line, heard, share))
        else:
            relayed = subjects.pipeline(group, RELAYED, taken)
            lines.append(Line(line, (relayed,), share, sources=False))
    return lines


def needs_nats(name: str, routes: Sequence[Route]) -> str | None:
    """The first route of pipeline `name` that only NATS carries; None when it has none."""
    for route in routes:
        if route.over_nats and name in (route.from_pipeline, route.to_pipeline):
            return f"{route.from_pipeline} -> {route.to_pipeline}"
    return None
