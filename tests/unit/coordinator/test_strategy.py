"""Which worker takes a pipeline: the rules as a table, and what never happens."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.state.commands import CordonWorker, StartMigration
from coordinator.state.constraints import NOTHING, Wants
from coordinator.state.model import State
from coordinator.state.records import Cause, WorkerStatus
from coordinator.state.room import Room
from proto_schemas.rest.groups import Constraint
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


# -- strategies ---------------------------------------------------------------------------------------------


def town(*workers: str, room: int = 10, **zones: str) -> World:
    """Workers by name; `zones`: their label `zone`."""
    world = World()
    for name in workers:
        labels = {"zone": zones[name]} if name in zones else {}
        world.worker(name, room=room, labels=labels)
    return world


def filled(world: World, *placed: str) -> World:
    """One pipeline of a group of its own on each of the workers named, in that order."""
    for number, worker in enumerate(placed):
        world.group(f"old{number}", "p")
        world.place(f"old{number}", "p", worker)
    return world


def chosen(room: Room, count: int, group: str = "new", wants: Wants = NOTHING) -> list[str | None]:
    names = []
    for _ in range(count):
        name = room.choose(group, wants=wants)
        names.append(name)
        if name is not None:
            room.take(name, group, wants.pipeline)
    return names


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("least_loaded", ["w3", "w2", "w3", "w1"]),
        ("spread", ["w3", "w2", "w1", "w3"]),
        ("binpack", ["w1", "w1", "w1", "w1"]),
        ("round_robin", ["w3", "w1", "w2", "w3"]),
    ],
)
def test_each_strategy_on_workers_that_hold_two_one_and_nothing(strategy: str, expected: list[str]) -> None:
    world = filled(town("w1", "w2", "w3"), "w1", "w1", "w2")
    assert chosen(Room(world.state, strategy=strategy), 4) == expected


def test_the_groups_strategy_comes_before_the_clusters() -> None:
    world = filled(town("w1", "w2"), "w1")
    room = Room(world.state, strategy="least_loaded")
    assert room.choose("new", wants=Wants(strategy="binpack")) == "w1"
    assert room.choose("new") == "w2"


def test_binpack_fills_one_worker_before_it_begins_another() -> None:
    room = Room(town("w1", "w2", "w3", room=2).state, strategy="binpack")
    assert chosen(room, 7) == ["w1", "w1", "w2", "w2", "w3", "w3", None]


def test_round_robin_goes_on_where_the_last_leader_was() -> None:
    world = town("w1", "w2", "w3")
    seen = []
    for number in range(7):
        name = Room(world.state, strategy="round_robin").choose("g")
        assert name is not None
        filled_group = f"g{number}"
        world.group(filled_group, "p")
        world.place(filled_group, "p", name)
        seen.append(name)
    assert seen == ["w1", "w2", "w3", "w1", "w2", "w3", "w1"]


def test_spread_counts_only_the_group_however_loaded_a_worker_is() -> None:
    world = filled(town("w1", "w2"), *["w1"] * 6)
    assert chosen(Room(world.state, strategy="spread"), 4) == ["w2", "w1", "w2", "w1"]


def test_spread_over_a_label_fills_the_zones_evenly_and_within_them_the_workers() -> None:
    world = town("w1", "w2", "w3", "w4", w1="a", w2="a", w3="a", w4="b")
    names = chosen(Room(world.state, strategy="spread:zone"), 6)
    assert names == ["w1", "w4", "w2", "w4", "w3", "w4"]


def test_spread_passes_over_a_zone_that_is_full() -> None:
    world = town("w1", "w2", room=2, w1="a", w2="b")
    filled(world, "w2", "w2")
    assert chosen(Room(world.state, strategy="spread:zone"), 3) == ["w1", "w1", None]


def test_measured_load_counts_beside_what_is_declared() -> None:
    world = filled(town("w1", "w2"), "w2", "w2")
    assert Room(world.state).choose("new") == "w1"
    assert Room(world.state, measured={"w1": 0.5}).choose("new") == "w2"


# -- constraints --------------------------------------------------------------------------------------------


def label(op: str, *, value: str | None = None, values: list[str] | None = None, **more: Any) -> Constraint:
    return Constraint(label="zone", op=op, value=value, values=values, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("constraint", "fitting"),
    [
        (label("=", value="eu"), {"w1"}),
        (label("!=", value="eu"), {"w2", "w3"}),
        (label("in", values=["eu", "us"]), {"w1", "w2"}),
        (label("not_in", values=["eu", "us"]), {"w3"}),
        (label("exists"), {"w1", "w2"}),
        (label("not_exists"), {"w3"}),
    ],
)
def test_what_each_op_lets_through_of_eu_us_and_a_worker_without_the_label(
    constraint: Constraint, fitting: set[str]
) -> None:
    world = town("w1", "w2", "w3", w1="eu", w2="us")
    wants = Wants(constraints=(constraint,))
    assert set(chosen(Room(world.state), 6, wants=wants)) == fitting


def test_a_hard_constraint_comes_before_affinity_and_a_soft_one_after_it() -> None:
    world = town("w1", "w2", w1="eu", w2="us")
    hard, soft = label("=", value="us"), label("=", value="us", hard=False)
    assert Room(world.state).choose("g", affinity="w1", wants=Wants(constraints=(hard,))) == "w2"
    assert Room(world.state).choose("g", affinity="w1", wants=Wants(constraints=(soft,))) == "w1"


def test_soft_constraints_prefer_by_weight_and_give_way_when_there_is_no_room() -> None:
    world = town("w1", "w2", "w3", room=1, w1="eu", w2="us")
    eu, us = label("=", value="eu", hard=False), label("=", value="us", hard=False, weight=5)
    assert chosen(Room(world.state), 4, wants=Wants(constraints=(eu, us))) == ["w2", "w1", "w3", None]


def test_instances_keep_apart_as_far_as_there_are_workers() -> None:
    wants = Wants(pipeline="p", strategy="binpack")
    assert chosen(Room(town("w1", "w2").state), 5, wants=wants) == ["w1", "w2", "w1", "w2", "w1"]
    assert chosen(Room(town("w1").state), 2, wants=wants) == ["w1", "w1"]


def test_instances_that_must_be_apart_wait_rather_than_share() -> None:
    room = Room(town("w1", "w2").state)
    wants = Wants(pipeline="p", distinct=True)
    assert chosen(room, 3, wants=wants) == ["w1", "w2", None]
    assert "2 hold another instance of p" in room.why_none(group="new", wants=wants)


def test_of_replicas_the_wished_for_worker_takes_one() -> None:
    wants = Wants(pipeline="p", affinity="w2")
    assert chosen(Room(town("w1", "w2", "w3").state), 3, wants=wants) == ["w2", "w1", "w3"]


def test_a_worker_of_another_program_gets_no_replica_but_any_other_pipeline() -> None:
    world = World()
    world.worker("seed", incarnation=None)
    room = Room(world.state)
    assert room.choose("g", wants=Wants(pipeline="p")) is None
    assert "1 know no replicas" in room.why_none(group="g", wants=Wants(pipeline="p"))
    assert room.choose("g") == "seed"


def test_the_reason_says_how_many_workers_each_thing_in_the_way_excludes() -> None:
    world = town("w1", "w2", "w3", room=1, w1="eu", w2="us")
    filled(world, "w1")
    wants = Wants(constraints=(label("=", value="eu"),))
    reason = Room(world.state).why_none(wants=wants)
    assert reason.startswith("no worker can take it: 3 workers: 1 full, 2 lack zone=eu;")


def test_a_large_group_is_spread_evenly_whoever_is_loaded() -> None:
    """Half of the workers are loaded: each choice looks past them, until the group has a heap of its own."""
    names = [f"w{number:03}" for number in range(80)]
    world = filled(town(*names, room=9), *names[40:])
    assert chosen(Room(world.state, strategy="spread"), 160) == names * 2
    assert chosen(Room(world.state), 40) == names[:40]


@given(
    rooms=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    turns=st.lists(
        st.tuples(
            st.sampled_from(["g", "h", "i"]),
            st.sampled_from([None, "least_loaded", "spread", "binpack", "round_robin", "spread:zone"]),
            st.sampled_from([(), (label("exists"),), (label("=", value="a", hard=False),)]),
            st.sampled_from([None, "p"]),
        ),
        max_size=25,
    ),
)
@settings(max_examples=200)
def test_heaps_choose_what_a_look_at_every_worker_would(
    rooms: list[int], turns: list[tuple[str, str | None, tuple[Constraint, ...], str | None]]
) -> None:
    world = World()
    for number, places in enumerate(rooms):
        labels = {"zone": "ab"[number % 2]} if number % 3 else {}
        world.worker(f"w{number}", room=places, labels=labels)
    room = Room(world.state)
    log: list[tuple[str, str, str | None]] = []
    for group, strategy, constraints, pipeline in turns:
        wants = Wants(strategy=strategy, constraints=constraints, pipeline=pipeline)
        name = room.choose(group, wants=wants)
        assert name == _by_looking(world.state, log, group, wants)
        if name is not None:
            room.take(name, group, pipeline)
            log.append((name, group, pipeline))


def _by_looking(state: State, log: list[tuple[str, str, str | None]], group: str, wants: Wants) -> str | None:
    """The rules of `state.strategy`, word by word."""
    found = []
    zone_of = {name: worker.labels.get("zone", "") for name, worker in state.workers.items()}
    for name, worker in state.workers.items():
        held = [entry for entry in log if entry[0] == name]
        if len(held) >= worker.max_pipelines or not wants.fits(worker):
            continue
        load, mine = len(held) / worker.max_pipelines, sum(entry[1] == group for entry in held)
        twins = sum(entry[1:] == (group, wants.pipeline) for entry in held) if wants.pipeline else 0
        zone = sum(entry[1] == group and zone_of[entry[0]] == zone_of[name] for entry in log)
        turn = max((place for place, entry in enumerate(log, start=1) if entry[0] == name), default=0)
        rank: dict[str | None, tuple[float, ...]] = {
            "least_loaded": (load, mine),
            "spread": (mine, load),
            "spread:zone": (zone, mine, load),
            "binpack": (-load,),
            "round_robin": (turn,),
        }
        found.append(((twins, wants.penalty(worker), *rank[wants.strategy or "least_loaded"]), name))
    return min(found)[1] if found else None


def test_what_is_on_its_way_to_a_worker_takes_its_room_and_counts_as_of_its_group() -> None:
    world = cluster(("w1", 2, 0), ("w2", 2, 0), ("w3", 10, 0))
    world.group("g", "p")
    world.run("g", "p", "w3")
    world.step(StartMigration, "g", "p", to_worker="w1", cause=Cause.MANUAL)
    room = Room(world.state, strategy="binpack")
    assert room.slots["w1"].assigned == 1 and room.of_group("w1", "g") == 1
    assert room.choose("g") == "w1"
    room.take("w1", "g")
    assert room.choose("g") == "w3", "w1 is full"


@pytest.mark.parametrize("affinity", [None, "w1"])
def test_a_cordoned_worker_is_never_chosen_and_what_stands_in_the_way_is_told_apart(
    affinity: str | None,
) -> None:
    world = cluster(("w1", 10, 0), ("w2", 10, 0), ("w3", 10, 0))
    world.do(CordonWorker, worker_id="w1", cordoned=True)
    room = Room(world.state)
    assert room.choose("g", affinity=affinity) == "w2"
    why = room.why_none({"w2"}, suspects={"w3"})
    assert "3 workers: 1 cordoned, 1 late with their heartbeat, 1 refused it lately;" in why
