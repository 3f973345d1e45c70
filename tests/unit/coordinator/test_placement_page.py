"""The pictures of docs/placement.md are what happens."""

import re
from pathlib import Path

import pytest

from coordinator.state.rebalance import plan
from coordinator.state.room import Room
from tests.unit.coordinator.test_rebalance import Town
from tests.unit.coordinator.worlds import World

PAGE = (Path(__file__).parents[3] / "docs" / "placement.md").read_text()
LINE = re.compile(r"^(?P<name>[a-z_:]+)(?: \(default\))? +(?P<workers>w1 .*)$", re.MULTILINE)
WORKER = re.compile(r"(w\d)(?: (north|south))?(?: busy (0\.\d))? ([#a-d]*)")


def pictures() -> dict[str, list[tuple[str, str, str, str]]]:
    """By strategy: (worker, zone, measured load, what it holds) as the page shows it."""
    return {match["name"]: WORKER.findall(match["workers"] + " ") for match in LINE.finditer(PAGE)}


@pytest.mark.parametrize("name", ["least_loaded", "spread", "spread:zone", "binpack", "round_robin"])
def test_each_strategy_places_as_its_picture_shows(name: str) -> None:
    shown = pictures()[name]
    world = World()
    for worker, zone, _, _ in shown:
        world.worker(worker, room=10, labels={"zone": zone} if zone else {})
    for worker, _, _, held in shown:
        for number in range(held.count("#")):
            world.group(f"{worker}-{number}", "p")
            world.place(f"{worker}-{number}", "p", worker)
    measured = {worker: float(load) for worker, _, load, _ in shown if load}
    room = Room(world.state, strategy=name, measured=measured)
    placed = {worker: "#" * held.count("#") for worker, _, _, held in shown}
    for pipeline in "abcd":
        chosen = room.choose("new")
        assert chosen is not None
        room.take(chosen, "new")
        placed[chosen] += pipeline
    assert placed == {worker: held for worker, _, _, held in shown}


def test_the_rebalance_is_as_its_picture_shows() -> None:
    before, after = (
        dict(re.findall(r"(w\d) (#*)", line)) for line in re.findall(r"^(?:before|after) .*$", PAGE, re.M)
    )
    town = Town()
    for worker, held in before.items():
        town.worker(worker, 10)
        town.many(worker, len(held), worker)
    moves = plan(town.state, {})
    assert town.after(moves) == {worker: len(held) for worker, held in after.items()}
    assert f"{len(moves)} moves, and no plan takes fewer" in PAGE
