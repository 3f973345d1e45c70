"""Which worker takes a pipeline: the rules as a table, and what never happens."""

import pytest

from coordinator.state.model import State, WorkerStatus
from coordinator.state.strategy import Room
from tests.unit.coordinator.worlds import World


def cluster(*workers: tuple[str, int, int]) -> World:
    """Workers as (name, room, how many pipelines of group `old` it holds)."""
    world = World()
    for name, room, _ in workers:
        world.worker(name, room=room)
    world.group("old", *(f"{name}-{number}" for name, _, held in workers for number in range(held)))
    for name, _, held in workers:
        for number in range(held):
            world.place("old", f"{name}-{number}", name)
    return world


@pytest.mark.parametrize(
    ("workers", "affinity", "expected"),
    [
        ([("w1", 10, 1), ("w2", 10, 0)], None, "w2"),
        ([("w2", 10, 0), ("w1", 10, 0)], None, "w1"),
        ([("w1", 2, 1), ("w2", 100, 10)], None, "w2"),
        ([("w1", 10, 5), ("w2", 10, 0)], "w1", "w1"),
        ([("w1", 1, 1), ("w2", 10, 9)], "w1", "w2"),
        ([("w1", 10, 0)], "nobody", "w1"),
        ([("w1", 1, 1)], None, None),
        ([("w1", 0, 0)], None, None),
        ([], None, None),
    ],
    ids=[
        "least loaded",
        "by id among equals",
        "load is a part of what fits",
        "affinity before load",
        "affinity is soft when full",
        "affinity is soft when unknown",
        "never above max_pipelines",
        "a worker that takes nothing",
        "no worker",
    ],
)
def test_the_choice(workers: list[tuple[str, int, int]], affinity: str | None, expected: str | None) -> None:
    assert Room(cluster(*workers).state).choose("new", affinity=affinity) == expected


@pytest.mark.parametrize("status", [WorkerStatus.UNHEALTHY, WorkerStatus.DRAINING])
@pytest.mark.parametrize("affinity", [None, "w1"])
def test_a_worker_that_is_not_ready_is_never_chosen(status: WorkerStatus, affinity: str | None) -> None:
    world = cluster(("w1", 10, 0), ("w2", 1, 1))
    world.mark("w1", status)
    room = Room(world.state)
    assert room.choose("new", affinity=affinity) is None
    assert "1 full, 1 not ready" in room.why_none()


def test_what_one_pass_has_promised_counts_so_a_group_spreads_and_nobody_is_overfilled() -> None:
    room = Room(cluster(("w1", 2, 0), ("w2", 2, 0)).state)
    chosen = []
    for _ in range(4):
        worker = room.choose("new")
        assert worker is not None
        room.take(worker, "new")
        chosen.append(worker)
    assert chosen == ["w1", "w2", "w1", "w2"]
    assert room.choose("new") is None


def test_among_equally_loaded_workers_the_one_with_less_of_the_group_is_chosen() -> None:
    world = cluster(("w1", 10, 1))
    world.worker("w2")
    world.group("other", "x")
    world.place("other", "x", "w2")
    assert Room(world.state).choose("old") == "w2"
    assert Room(world.state).choose("other") == "w1"


def test_a_worker_that_refused_is_avoided_even_when_it_was_wished_for() -> None:
    room = Room(cluster(("w1", 10, 0), ("w2", 10, 5)).state)
    assert room.choose("new", affinity="w1", avoid={"w1"}) == "w2"
    assert room.choose("new", avoid={"w1", "w2"}) is None
    assert "2 refused" in room.why_none({"w1", "w2"})


def test_an_empty_state_has_no_room() -> None:
    assert Room(State()).choose("g") is None
