"""Which of the messages that reach a copy are its own.

NATS brings a copy everything that is sent to its pipeline; these rules say what it keeps:

- **From outside** (`pipeline.{group}._external.{pipeline}`, or the subject of a route from `_external`):
  where the group has such routes, only types that one of them leads here, as for events that come through
  REST. The rest is refused as `no_route`.
- **By key**, for an instance of a pipeline with a `partition_key`: what is sent to the pipeline, or comes
  through a connector, reaches all instances, and each keeps the keys it owns. What is not its own is no loss:
  another instance has it. What is sent to the instance by name was sorted out by its sender, and is kept.
- An event without the key field has an owner too (the one of null), and is counted there.

A copy that no rule concerns has no `Intake`, so that its events pay nothing.
"""

from collections.abc import Sequence
from typing import Any

from proto_schemas.matching import Patterns
from proto_schemas.messages import Instance, Route
from proto_schemas.partition import Owners
from proto_schemas.subjects import EXTERNAL, Subjects


class Intake:
    """The rules for one copy.

    Attributes:
        others: messages left to other instances.
        without_key: events kept that have no key field.
        no_route: events from outside that no route leads here.
    """

    def __init__(
        self, subjects: Subjects, group: str, name: str, routes: Sequence[Route], instance: Instance | None
    ) -> None:
        pipeline = instance.of if instance is not None else name
        external = [route for route in routes if route.from_pipeline == EXTERNAL]
        types: dict[str, list[str]] = {}
        if external:
            types[subjects.pipeline(group, EXTERNAL, pipeline)] = []
        for route in external:
            if route.to_pipeline == pipeline:
                subject = route.nats_subject or subjects.pipeline(group, EXTERNAL, pipeline)
                types.setdefault(subject, []).extend(route.event_types)
        self._types = {subject: Patterns(patterns) for subject, patterns in types.items()}
        self._key = instance.key if instance is not None else None
        self._owners = Owners(instance.count) if instance is not None and self._key is not None else None
        self._number = instance.number if instance is not None else 0
        before, _, after = subjects.pipeline_inputs(group, name).partition("*")
        self._direct = (before, after) if instance is not None else None
        self.others = 0
        self.without_key = 0
        self.no_route = 0

    def __bool__(self) -> bool:
        """There is a rule at all."""
        return bool(self._types) or self._owners is not None

    def takes(self, subject: str, event_type: str, fields: dict[str, Any]) -> bool:
        """Whether an event that came on `subject` is this copy's; counts why not."""
        types = self._types.get(subject)
        if types is not None and not types.take(event_type):
            self.no_route += 1
            return False
        if self._owners is None:
            return True
        if not self._is_direct(subject) and self._owners.of(fields.get(self._key or "")) != self._number:
            self.others += 1
            return False
        self.note(fields)
        return True

    def note(self, fields: dict[str, Any]) -> None:
        """Count an event that is kept, when it has no key."""
        if self._key is not None and self._key not in fields:
            self.without_key += 1

    def _is_direct(self, subject: str) -> bool:
        before, after = self._direct or ("", "")
        return subject.startswith(before) and subject.endswith(after)
