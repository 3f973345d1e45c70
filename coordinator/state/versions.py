"""A group, its versions, and the update that rolls it from one to another.

- An **instance** is what is placed: a pipeline with `replicas` n has n of them, each with a placement of its
  own under its own name; any other pipeline is its only instance.
- A **revision** of a group is one version of its spec. While an **update** rolls it from one to another,
  each of its instances is of the one or of the other (`Group.at`): it is `behind` until a copy of the new one
  is the placement.
"""

from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from coordinator.state.records import Record
from proto_schemas.partition import instance_names
from proto_schemas.rest.groups import GroupSpec, PipelineSpec


class UpdatePhase(StrEnum):
    """How far the update of a group is. `rolling` becomes `rolling_back` when the new version fails."""

    ROLLING = "rolling"
    ROLLING_BACK = "rolling_back"
    DONE = "done"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


class Instance(NamedTuple):
    """The `number`-th instance of a pipeline, from 0."""

    pipeline: PipelineSpec
    number: int


class Revision(Record, frozen=True, kw_only=True, gc=True):
    """One version of a group: the fields of `Group` that an update changes."""

    version: int
    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}


class Part(Record, frozen=True, kw_only=True):
    """One copy that takes part in a division: an old one as it runs, or a new one that is to be.

    `session`: the life of a new one's worker that was meant; `queue`, `lines`: as of its placement.
    """

    instance: str
    worker: str
    epoch: int
    session: int = 0
    pipeline_id: str | None = None
    queue: int = 0
    lines: dict[str, int] = {}


class Division(Record, frozen=True, kw_only=True, gc=True):
    """The instances of a pipeline that share by key become more or fewer: `old` ones hand over to `new` ones;
    see `divisions`. `wanted`: what the group is to be then; `held`: the new copies are there; `reason`: what
    stands in the way."""

    id: str
    pipeline: str
    wanted: Revision
    old: tuple[Part, ...]
    new: tuple[Part, ...]
    held: bool = False
    by: str
    why: str = ""
    reason: str | None = None
    started_at: int


class Update(Record, frozen=True, kw_only=True, gc=True):
    """A group on its way from one version to another, and perhaps back; times in ms since 1970.

    The group itself is of the version that it goes to, `before` is the one it comes from: when it is rolled
    back the two change places. `behind`: instances whose copies are of `before`. `fresh`: those that are new,
    or deployed otherwise, in the version it goes to. `failing`: why it will be rolled back as soon as no
    migration of it is under way. `failures`: by instance, migrations that failed for no reason of the
    program's. `reason`: what stands in the way, or why it was rolled back. What comes before it is empty once
    the update has ended.
    """

    from_version: int
    to_version: int
    phase: UpdatePhase = UpdatePhase.ROLLING
    before: Revision | None = None
    behind: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()
    failing: str | None = None
    failures: dict[str, int] = {}
    reason: str | None = None
    started_at: int
    ended_at: int | None = None


class Edition(Record, frozen=True, kw_only=True, gc=True):
    """A version that a group has, or had: since when (ms since 1970), by whom, why; see `history`.

    `revision`: what the group was, `size` its bytes; None: what it is now. `failed`: why it was rolled back.
    """

    version: int
    at: int
    by: str
    why: str = ""
    revision: Revision | None = None
    size: int = 0
    failed: str | None = None


class Group(Record, frozen=True, kw_only=True, gc=True, dict=True):
    """What somebody asked for. `consumes`: the event types each pipeline's program takes from outside;
    `connectors`: the registered ones it names; both by pipeline. `update`: the last one; `newest`: the
    highest version it ever had, 0 for the first. `shared`: for pipelines that once ran alone, the line whose
    queue group all their instances joined; for others with replicas it is named by `created_at`. `history`:
    its last versions, oldest first; empty for one from before they were kept. `shares`: into how many shares
    the events of pipelines with a key are cut, where that is not the number of their replicas any more.

    With garbage collection, as its spec is, to remember what is derived from it.
    """

    spec: GroupSpec
    consumes: dict[str, list[str]]
    connectors: dict[str, list[str]] = {}
    version: int = 1
    created_at: int
    deleting: bool = False
    update: Update | None = None
    newest: int = 0
    shared: dict[str, int] = {}
    history: tuple[Edition, ...] = ()
    shares: dict[str, int] = {}
    division: Division | None = None

    @property
    def rolling(self) -> Update | None:
        """The update that is under way."""
        return self.update if self.update is not None and self.update.before is not None else None

    @cached_property
    def former(self) -> "Group | None":
        """The group as it was before the update that is under way."""
        rolling = self.rolling
        if rolling is None or rolling.before is None:
            return None
        old = rolling.before
        return msgspec.structs.replace(
            self,
            version=old.version,
            spec=old.spec,
            consumes=old.consumes,
            connectors=old.connectors,
            update=None,
        )

    def with_update(self, update: Update) -> "Group":
        """The same group with its update as it is now; what is derived from the same specs is kept, because
        each instance that comes after makes one."""
        group = msgspec.structs.replace(self, update=update)
        kept = ["instances", "pipelines", "over_nats"]
        if self.update is not None and update.before is self.update.before:
            kept.append("former")
        derived: dict[str, Any] = {name: self.__dict__[name] for name in kept if name in self.__dict__}
        group.__dict__.update(derived)
        return group

    @cached_property
    def _behind(self) -> frozenset[str]:
        return frozenset(self.rolling.behind if self.rolling is not None else ())

    def at(self, instance: str, *, new: bool = False) -> "Group":
        """The group as it is for one instance: of the version that its copy is of; `new`: of the version
        that its next copy will be of."""
        former = self.former
        if former is None or instance not in self._behind or (new and instance in self.instances):
            return self
        return former

    @cached_property
    def instances(self) -> dict[str, Instance]:
        """What is to be placed, by name, in the order of the spec."""
        return {
            name: Instance(pipeline, number)
            for pipeline in self.spec.pipelines
            for number, name in enumerate(instance_names(pipeline.name, pipeline.replicas))
        }

    def shares_of(self, pipeline: PipelineSpec) -> int:
        """Into how many shares the events of a pipeline with a key are cut."""
        return self.shares.get(pipeline.name, pipeline.replicas)

    def several(self, pipeline: PipelineSpec) -> bool:
        """Whether a copy must be told which instance it is: it is one of several, or has all their shares."""
        return pipeline.replicas > 1 or pipeline.name in self.shares

    def divides(self, instance: str) -> bool:
        """Whether an instance is being divided."""
        return self.division is not None and any(each.instance == instance for each in self.division.old)

    @cached_property
    def pipelines(self) -> dict[str, PipelineSpec]:
        """The specs by the names of the pipelines."""
        return {pipeline.name: pipeline for pipeline in self.spec.pipelines}

    @cached_property
    def over_nats(self) -> frozenset[str]:
        """The pipelines that routes join to others, or to a subject of their own: only NATS carries those."""
        return frozenset(
            name
            for route in self.spec.routes
            if route.over_nats
            for name in (route.from_pipeline, route.to_pipeline)
        )

    def instance(self, name: str) -> Instance | None:
        """What an instance is, of the version that its copy is of; None for one that is only removed yet."""
        return self.at(name).instances.get(name)

    def pipeline(self, instance: str) -> PipelineSpec:
        """The spec of the pipeline that an instance belongs to.

        Raises:
            KeyError: the group has no instance of that name.
        """
        return self.at(instance).instances[instance].pipeline
