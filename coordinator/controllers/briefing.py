"""What a copy is told when it is made: its program, routes and connectors, whose checkpoints it goes on from,
and the queue groups in which it hears its events.

A **line** is the succession of copies of one instance that hear in one queue group, which is named by the
epoch under which the first of them began. So the copy that takes over hears what the one before it would have
heard, and one that begins anew hears in a line of its own.
"""

from typing import Final

from coordinator.connectors import for_worker
from coordinator.controllers.target import Target
from coordinator.ledger import Ledger
from coordinator.security.sealing import Sealer
from coordinator.state.next_version import line_for
from coordinator.state.revisions import instance_of, partitions_of, routes_of
from coordinator.state.versions import Group
from proto_schemas.messages.deploys import ConnectorParams, Deploy
from proto_schemas.partition import share_name
from proto_schemas.rest.groups import PipelineSpec

LATEST: Final = "latest"
"""From which checkpoint of its pipeline a copy begins that no other hands anything to."""


class Briefing:
    """What is told, from the state as it is now."""

    def __init__(self, ledger: Ledger, sealer: Sealer) -> None:
        self._ledger = ledger
        self._sealer = sealer

    def message(self, target: Target, queue: int, *, hold: bool = False, new: bool = False) -> Deploy | None:
        """The deploy of a copy in the line `queue`, of the version that the instance is of, or, if `new`, is
        to have; None when its group is gone, or is without it.

        Raises:
            ValueError: a connector that it names is not there, or does not open.
        """
        group = self._ledger.state.groups.get(target.group)
        group = group.at(target.pipeline, new=new) if group is not None else None
        found = group.instances.get(target.pipeline) if group is not None else None
        if group is None or found is None:
            return None
        pipeline, number = found
        return Deploy(
            name=target.pipeline,
            source=pipeline.source,
            group=target.group,
            routes=routes_of(group, pipeline.name) or None,
            connectors=self.connectors_of(group, pipeline.name) or None,
            delivery=group.spec.delivery,
            term=self._ledger.term,
            epoch=target.epoch,
            request_id=target.request_id,
            queue=self.line_of(target, queue),
            hold=hold,
            instance=instance_of(group, pipeline, number, self.lines_of(target, queue)),
            partitions=partitions_of(group, pipeline),
            restore_from=None if hold else LATEST,
            life=self.life_of(target),
            checkpoint_secs=pipeline.checkpoint_secs,
        )

    def line_of(self, target: Target, queue: int) -> str | None:
        """The queue group of the line of copies that began under the epoch `queue`. Instances that share
        their events without a key are all in one, whichever line they are of: one that left it would hear
        every event beside the instance that is given it."""
        group = self._ledger.state.groups.get(target.group)
        found = group.instance(target.pipeline) if group is not None else None
        shared = _shared_queue(group, found.pipeline) if group is not None and found is not None else None
        queue = (line_for(group, target.pipeline) if group is not None else None) or queue
        name = target.pipeline
        if group is not None and found is not None and found.pipeline.partition_key is not None:
            name = share_name(found.pipeline.name, found.number, group.shares_of(found.pipeline))
        return shared or (f"{target.group}.{name}.{queue}" if queue else None)

    def lines_of(self, target: Target, queue: int) -> dict[str, str]:
        """The queue groups of the further shares that an instance by key takes, by their numbers; those that
        it has no line for begin one under the epoch `queue`, as its own does."""
        group = self._ledger.state.groups.get(target.group)
        found = group.instances.get(target.pipeline) if group is not None else None
        placement = self._ledger.state.placement(target.group, target.pipeline)
        if group is None or found is None or placement is None or found.pipeline.partition_key is None:
            return {}
        known = placement.lines if placement.queue == queue else {}
        return lines_named(
            target.group,
            found.pipeline.name,
            {
                str(share): known.get(str(share), queue)
                for share in range(found.number, group.shares_of(found.pipeline), found.pipeline.replicas)
                if share != found.number
            },
            shares=group.shares_of(found.pipeline),
        )

    def life_of(self, target: Target) -> int:
        """Whose checkpoints an instance goes on from, of all that ever had its name: when its group was made
        (ms), plus the version that made it or gave it other keys."""
        placement = self._ledger.state.placement(target.group, target.pipeline)
        return target.life + (placement.since if placement is not None else 0)

    def connectors_of(self, group: Group, pipeline: str) -> list[ConnectorParams]:
        """The registered connectors that a pipeline names, opened.

        Raises:
            ValueError: one is not there, or does not open.
        """
        return for_worker(self._ledger.state, group.connectors.get(pipeline, ()), self._sealer)


def lines_named(group: str, pipeline: str, lines: dict[str, int], *, shares: int) -> dict[str, str]:
    """The queue groups of shares, by their numbers."""
    return {
        share: f"{group}.{share_name(pipeline, int(share), shares)}.{epoch}" for share, epoch in lines.items()
    }


def _shared_queue(group: Group, pipeline: PipelineSpec) -> str | None:
    """The queue group in which the instances of a pipeline share their events, each going to one of them;
    those of an earlier group of that name are not in it. None: its events are not shared so."""
    if pipeline.replicas == 1 or pipeline.partition_key is not None:
        return None
    return f"{group.spec.name}.{pipeline.name}.{group.shared.get(pipeline.name, group.created_at)}"
