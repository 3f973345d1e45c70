"""Where the copies of an update go: the plan that a dry run shows, and the choice for one instance."""

from collections.abc import Callable
from typing import NamedTuple

from coordinator.state.constraints import Wants
from coordinator.state.model import State
from coordinator.state.room import Room, twins_of
from coordinator.state.versions import Group


class Step(NamedTuple):
    """What an update does to one instance; `worker` None: nowhere now, for a `reason`."""

    instance: str
    change: str
    worker: str | None
    reason: str = ""


def plan(state: State, group: Group, room: Room) -> list[Step]:
    """What the update of a group as `updated` gives it would do, were it begun now. `room` is used up."""
    division = group.division
    if division is not None:
        old = {each.instance: each.worker for each in division.old}
        coming = {each.instance: each.worker for each in division.new}
        others = [name for name in group.instances if name not in old]
        return [
            *(Step(name, "unchanged", state.placements[group.spec.name][name].worker_id) for name in others),
            *(Step(name, "updated" if name in old else "added", worker) for name, worker in coming.items()),
            *(Step(name, "removed", worker) for name, worker in old.items() if name not in coming),
        ]
    placements, fresh = state.placements[group.spec.name], set(group.rolling.fresh if group.rolling else ())
    steps: list[Step] = []
    for name in group.instances:
        here = placements[name].worker_id if name in placements else None
        if name not in fresh:
            steps.append(Step(name, "unchanged", here))
            continue
        wants = Wants.of(group, name, new=True)
        if here is not None:
            choice, why = choose(state, group, name, here, lambda: room)
        else:
            choice = room.choose(group.spec.name, wants=wants)
            why = "" if choice is not None else room.why_none(group=group.spec.name, wants=wants)
        if choice is not None and choice != here:
            room.take(choice, group.spec.name, wants.pipeline)
        steps.append(Step(name, "updated" if name in placements else "added", choice, why))
    gone = (name for name in placements if name not in group.instances)
    return steps + [Step(name, "removed", placements[name].worker_id) for name in gone]


def choose(
    state: State, group: Group, instance: str, source: str, room: Callable[[], Room]
) -> tuple[str | None, str]:
    """The worker for the new copy of an instance that runs on `source`: that one again, unless it does not
    fit any more or another is wished for. Or None, and why."""
    wants = Wants.of(group, instance, new=True)
    stays = _can_stay(state, group, instance, wants, source)
    if stays and wants.affinity in (None, source):
        return source, ""
    name, free = group.spec.name, room()
    choice = free.choose(name, avoid={source}, wants=wants)
    if stays and choice != wants.affinity:
        return source, ""
    return choice, "" if choice is not None else free.why_none({source}, group=name, wants=wants)


def _can_stay(state: State, group: Group, instance: str, wants: Wants, source: str) -> bool:
    worker, name = state.ready(source), group.spec.name
    if worker is None or not wants.fits(worker):
        return False
    return not wants.distinct or not any(
        other != instance and placement.worker_id == source and twins_of(state, name, other) == wants.pipeline
        for other, placement in state.placements[name].items()
    )
