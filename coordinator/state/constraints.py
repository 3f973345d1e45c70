"""What a pipeline asks of the worker it runs on.

Three kinds of demand, from hard to soft:

- a **hard** constraint decides who may be chosen at all; one that nobody fits leaves the pipeline pending,
  and the reason says how many workers each constraint excludes;
- instances of one pipeline keep apart: hard when the group says so, else as far as there are workers for it;
- a **soft** constraint prefers: of those who may be chosen, the ones with the least weight unmet.

Instances of a pipeline with replicas also need a worker that knows what an instance is, or each would take
every event: a worker that tells no incarnation (of another program) gets none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from coordinator.state.records import REST, Worker
from coordinator.state.versions import Group
from proto_schemas.rest.groups import Constraint

_encode: Final = msgspec.msgpack.Encoder().encode


def met(constraint: Constraint, labels: Mapping[str, str]) -> bool:
    """Whether a worker with these labels fits; `distinct_workers` is about other instances, so true here."""
    if constraint.label is None:
        return True
    found = labels.get(constraint.label)
    match constraint.op:
        case "=":
            return found == constraint.value
        case "!=":
            return found != constraint.value
        case "in":
            return found in (constraint.values or ())
        case "not_in":
            return found not in (constraint.values or ())
        case "exists":
            return found is not None
        case _:
            return found is None


def words(constraint: Constraint) -> str:
    """How people write it: `zone=eu`, `disk in ssd,nvme`, `not_exists gpu`."""
    label, op = constraint.label, constraint.op
    if op in ("=", "!="):
        return f"{label}{op}{constraint.value}"
    if op in ("in", "not_in"):
        return f"{label} {op} {','.join(constraint.values or ())}"
    return f"{op} {label}"


def fault_of(constraint: Constraint) -> str | None:
    """What is wrong with the shape of a constraint, and what would be right; None when it is sound."""
    if constraint.distinct_workers is not None:
        if constraint.label is not None or constraint.op is not None:
            return "distinct_workers and label are two constraints: write two"
        if constraint != Constraint(distinct_workers=constraint.distinct_workers):
            return '.distinct_workers: "hard" or "soft" says it all: leave the other fields out'
        return None
    if constraint.hard and constraint.weight != 1:
        return '.weight: only a soft constraint has one: say "hard": false, or leave it out'
    if constraint.label is None:
        return 'give a label and an op, or "distinct_workers": "hard" or "soft"'
    if constraint.op is None:
        return ".op: missing: use one of =, !=, in, not_in, exists, not_exists"
    wants_value, wants_values = constraint.op in ("=", "!="), constraint.op in ("in", "not_in")
    if wants_value != (constraint.value is not None):
        return f".value: op {constraint.op} {'needs one' if wants_value else 'takes none: leave it out'}"
    if wants_values != bool(constraint.values):
        return f".values: op {constraint.op} {'needs a list' if wants_values else 'takes none: leave it out'}"
    return None


@dataclass(frozen=True)
class Wants:
    """What one instance asks for. `pipeline`: of its group, when it has further instances; `over_nats`: its
    routes carry events from or to other pipelines, which a worker that speaks REST has no way for."""

    strategy: str | None = None
    affinity: str | None = None
    pipeline: str | None = None
    distinct: bool = False
    over_nats: bool = False
    constraints: tuple[Constraint, ...] = ()

    @classmethod
    def of(cls, group: Group, instance: str, *, new: bool = False) -> "Wants":
        """As the group's spec has it; while it is updated, in the version that the instance is of, or, if
        `new`, is to have.

        Raises:
            KeyError: the group has no such instance.
        """
        group = group.at(instance, new=new)
        pipeline = group.instances[instance].pipeline
        constraints = tuple(pipeline.constraints or ())
        return cls(
            strategy=group.spec.strategy,
            affinity=pipeline.worker_affinity,
            pipeline=pipeline.name if group.several(pipeline) else None,
            distinct=any(each.distinct_workers == "hard" for each in constraints),
            over_nats=pipeline.name in group.over_nats,
            constraints=tuple(each for each in constraints if each.label is not None),
        )

    @cached_property
    def signature(self) -> bytes:
        """The same for all who can use the same workers, in the same order of preference."""
        if not self.constraints and self.pipeline is None and not self.over_nats:
            return b""
        return _encode((self.pipeline is not None, self.over_nats, self.constraints))

    @property
    def hard(self) -> Iterable[Constraint]:
        """The constraints that exclude workers."""
        return (each for each in self.constraints if each.hard)

    def fits(self, worker: Worker) -> bool:
        """Whether the worker may be chosen, as far as its labels and its kind tell."""
        known = not (self.pipeline and worker.incarnation is None)
        return known and self.reaches(worker) and all(met(each, worker.labels) for each in self.hard)

    def reaches(self, worker: Worker) -> bool:
        """Whether the worker has the carrier that the routes need."""
        return not self.over_nats or worker.carrier != REST

    def penalty(self, worker: Worker) -> int:
        """The weight of what the worker does not offer; 0 is best."""
        return sum(each.weight for each in self.constraints if not each.hard and not met(each, worker.labels))


NOTHING: Final = Wants()
"""Any worker will do."""
