"""Which of the messages that reach a copy are its own.

NATS brings a copy everything that is sent to its pipeline; these rules say what it keeps:

- **From outside** (`pipeline.{group}._external.{pipeline}`, or the subject of a route from `_external`):
  where the group has such routes, only types that one of them leads here, as for events that come through
  REST. The rest is refused as `no_route`.
- **By key**, for an instance of a pipeline with a `partition_key`: what is sent to the pipeline, or comes
  through a connector, reaches all instances, and each keeps the keys it owns. What is not its own is no loss:
  another instance has it. What is sent to the instance by name was sorted out by its sender, and is kept.
- **By share**, where the number of instances has changed since the pipeline was deployed. Its events are cut
  into as many shares as it had instances then, and stay so: senders know no others, and no event may be
  between two cuts. Share `i` is taken by instance `i`, or, where that is gone, by `i` modulo their count,
  which hears its line beside its own. Whoever takes an event passes it on to the instance that owns its key
  now, unless it is that itself (`worker.relay`); what was passed on is never left to others.
- An event without the key field has an owner too (the one of null), and is counted there.

A copy that no rule concerns has no `Intake`, so that its events pay nothing.
"""

from collections.abc import Sequence
from typing import Any

from proto_schemas.matching import Patterns
from proto_schemas.messages.deploys import Instance, Route
from proto_schemas.partition import Owners
from proto_schemas.subjects import EXTERNAL, Subjects


class Intake:
    """The rules for one copy.

    Attributes:
        pipeline: its name in the group; number: of the instance; 0 where there is but one.
        cut_into: how many shares its events are cut into; 1 where they are not.
        others: messages left to other instances.
        without_key: events kept that have no key field.
        no_route: events from outside that no route leads here.
    """

    def __init__(
        self, subjects: Subjects, group: str, name: str, routes: Sequence[Route], instance: Instance | None
    ) -> None:
        pipeline = self.pipeline = instance.of if instance is not None else name
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
        self.number = instance.number if instance is not None else 0
        self._owners: Owners | None = None
        self._shares: Owners | None = None
        self._passes_on = False
        self._before, _, after = subjects.pipeline_inputs(group, name).partition("*")
        self._after: tuple[str, ...] = (after,)
        self.cut_into = 1
        if instance is not None and self._key is not None:
            self._owners = self._shares = Owners(instance.count)
            self.cut_into = instance.shares or instance.count
            if self.cut_into != instance.count:
                self._shares, self._passes_on = Owners(self.cut_into), True
            self._after = tuple(f".{instance.of}-{share}" for share in (instance.number, *instance.lines))
        self.others = 0
        self.without_key = 0
        self.no_route = 0

    def __bool__(self) -> bool:
        """There is a rule at all."""
        return bool(self._types) or self._owners is not None

    def owner(
        self, subject: str, event_type: str, fields: dict[str, Any], share: int | None = None
    ) -> int | None:
        """The instance that is to handle an event which came on `subject` in the line of a share, by default
        its own; None: it is not for this one to take, and why is counted."""
        types = self._types.get(subject)
        if types is not None and not types.take(event_type):
            self.no_route += 1
            return None
        if self._owners is None or self._shares is None:
            return self.number
        value = fields.get(self._key or "")
        share = self.number if share is None else share
        if not self._is_direct(subject) and self._shares.of(value) != share:
            self.others += 1
            return None
        owner = self._owners.of(value) if self._passes_on else self.number
        if owner == self.number:
            self.note(fields)
        return owner

    @property
    def key(self) -> str | None:
        """The field by which instances share."""
        return self._key

    def owns(self, value: Any) -> bool:
        """Whether this instance owns a value of the key."""
        return self._owners is None or self._owners.of(value) == self.number

    def note(self, fields: dict[str, Any]) -> None:
        """Count an event that is kept, when it has no key."""
        if self._key is not None and self._key not in fields:
            self.without_key += 1

    def _is_direct(self, subject: str) -> bool:
        return subject.startswith(self._before) and subject.endswith(self._after)
