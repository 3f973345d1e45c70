"""The plan of a rebalance: as good as the best of all plans, on every small case; and what it never does."""

from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.state.constraints import Wants
from coordinator.state.model import State
from coordinator.state.rebalance import HOT, Board, Move, plan, survey
from coordinator.state.records import Cause, Migration, Phase, Placement, Worker, WorkerStatus
from coordinator.state.versions import Group
from proto_schemas.rest.groups import Constraint, GroupSpec, PipelineSpec

ZONES = ("eu", "us")


@dataclass
class Town:
    """A state in few words; `n` pipelines `p0`.. of group `g` (and one of replicas), placed as told."""

    state: State = field(default_factory=State)

    def worker(self, name: str, room: int, zone: str = "eu", incarnation: str | None = "i") -> None:
        self.state.workers[name] = Worker(
            id=name,
            session=1,
            incarnation=incarnation,
            address="a",
            cpu_cores=1,
            max_pipelines=room,
            labels={"zone": zone},
            registered_at=0,
        )

    def group(self, name: str, pipelines: list[PipelineSpec], places: list[str]) -> None:
        group = Group(spec=GroupSpec(name=name, pipelines=pipelines), consumes={}, created_at=0)
        self.state.groups[name] = group
        self.state.placements[name] = {}
        for instance, worker in zip(group.instances, places, strict=True):
            self.state.epochs += 1
            self.state.write_placement(
                name,
                instance,
                Placement(
                    phase=Phase.RUNNING,
                    epoch=self.state.epochs,
                    worker_id=worker,
                    pipeline_id=instance,
                    queue=1,
                ),
            )

    def many(self, name: str, count: int, worker: str, **fields: object) -> None:
        pipelines = [
            PipelineSpec(name=f"p{number}", source="-", **fields)  # type: ignore[arg-type]
            for number in range(count)
        ]
        self.group(name, pipelines, [worker] * count)

    def after(self, moves: list[Move]) -> dict[str, int]:
        """How many each worker holds after the moves."""
        counts = {name: self.state.count_on(name) for name in self.state.workers}
        for move in moves:
            counts[move.from_worker] -= 1
            counts[move.to_worker] += 1
        return counts


def zone(name: str, *, hard: bool = True) -> Constraint:
    return Constraint(label="zone", op="=", value=name, hard=hard)


def test_a_worker_that_joined_gets_its_part_and_no_more() -> None:
    town = Town()
    for name in ("w1", "w2", "w3"):
        town.worker(name, 10)
    town.many("a", 6, "w1")
    town.many("b", 6, "w2")
    moves = plan(town.state, {}, tolerance=0.0)
    assert town.after(moves) == {"w1": 4, "w2": 4, "w3": 4}
    assert len(moves) == 4
    assert {move.to_worker for move in moves} == {"w3"}


def test_the_part_of_a_worker_goes_by_the_places_it_has() -> None:
    town = Town()
    town.worker("small", 10)
    town.worker("large", 90)
    town.many("a", 10, "small")
    assert town.after(plan(town.state, {}, tolerance=0.0)) == {"small": 1, "large": 9}


def test_what_is_within_the_tolerance_stays() -> None:
    town = Town()
    town.worker("w1", 10)
    town.worker("w2", 10)
    town.many("a", 5, "w1")
    town.many("b", 3, "w2")
    assert plan(town.state, {}, tolerance=0.25) == []
    assert len(plan(town.state, {}, tolerance=0.0, gain=0.0)) == 1


def test_nothing_moves_for_less_than_the_gain() -> None:
    town = Town()
    town.worker("w1", 100)
    town.worker("w2", 100)
    town.many("a", 7, "w1")
    town.many("b", 5, "w2")
    assert plan(town.state, {}, tolerance=0.0, gain=0.2) == []
    assert len(plan(town.state, {}, tolerance=0.0, gain=0.1)) == 1


@pytest.mark.parametrize("status", [WorkerStatus.UNHEALTHY, WorkerStatus.DRAINING])
def test_nothing_goes_to_a_worker_that_is_not_ready(status: WorkerStatus) -> None:
    town = Town()
    town.worker("w1", 10)
    town.worker("w2", 10)
    town.many("a", 8, "w1")
    worker = town.state.workers["w2"]
    town.state.workers["w2"] = Worker(
        id=worker.id,
        session=1,
        incarnation="i",
        address="a",
        cpu_cores=1,
        max_pipelines=10,
        status=status,
        registered_at=0,
    )
    assert plan(town.state, {}) == []


def test_a_worker_measured_to_be_busy_or_of_another_program_gets_nothing() -> None:
    town = Town()
    for name in ("w1", "w2", "w3"):
        town.worker(name, 10, incarnation="i" if name != "w3" else None)
    town.many("a", 8, "w1")
    assert plan(town.state, {"w2": HOT}) == []
    assert {move.to_worker for move in plan(town.state, {"w2": 0.5})} == {"w2"}


def test_what_was_wished_for_a_worker_stays_there() -> None:
    town = Town()
    town.worker("w1", 10)
    town.worker("w2", 10)
    town.many("a", 8, "w1", worker_affinity="w1")
    assert plan(town.state, {}) == []


def test_what_stands_where_it_must_not_moves_however_even_the_loads_are() -> None:
    town = Town()
    town.worker("w1", 10, "us")
    town.worker("w2", 10, "eu")
    town.many("a", 1, "w1", constraints=[zone("eu")])
    town.many("b", 1, "w2")
    moves = plan(town.state, {}, tolerance=1.0)
    assert [move[:2] + move[3:] for move in moves] == [("a", "p0", "w1", "w2")]


def test_what_moves_counts_where_it_goes_and_is_left_alone() -> None:
    town = Town()
    for name in ("w1", "w2"):
        town.worker(name, 10)
    town.many("a", 8, "w1")
    first = plan(town.state, {})
    assert len(first) == 4
    for number, move in enumerate(first, start=100):
        town.state.migrations[f"m-{number}"] = Migration(
            id=f"m-{number}",
            group=move.group,
            pipeline=move.pipeline,
            cause=Cause.REBALANCE,
            from_worker=move.from_worker,
            from_epoch=move.epoch,
            to_worker=move.to_worker,
            to_epoch=number,
            to_session=1,
            queue=1,
            from_pipeline_id="p",
            started_at=0,
        )
    assert plan(town.state, {}) == [], "asked again it finds nothing left to do"


def test_what_an_older_version_placed_and_what_a_cordon_keeps_out_does_not_move() -> None:
    town = Town()
    for name in ("w1", "w2"):
        town.worker(name, 10)
    town.many("a", 8, "w1")
    town.state.workers["w2"] = replace(town.state.workers["w2"], cordoned=True)
    assert plan(town.state, {}) == []
    town.state.workers["w2"] = replace(town.state.workers["w2"], cordoned=False)
    for name, placement in list(town.state.placements["a"].items()):
        town.state.write_placement("a", name, replace(placement, queue=0))
    assert plan(town.state, {}) == [], "it cannot be handed over"


def test_no_move_costs_a_soft_constraint() -> None:
    town = Town()
    town.worker("w1", 10, "eu")
    town.worker("w2", 10, "us")
    town.many("a", 8, "w1", constraints=[zone("eu", hard=False)])
    assert plan(town.state, {}) == []


def test_a_chain_is_found_where_no_single_move_helps() -> None:
    """w1 is full of what may only go to w2, which is full of what may go to w3."""
    town = Town()
    town.worker("w1", 4, "a")
    town.worker("w2", 4, "b")
    town.worker("w3", 4, "c")
    first = Constraint(label="zone", op="in", values=["a", "b"])
    second = Constraint(label="zone", op="in", values=["b", "c"])
    town.many("one", 4, "w1", constraints=[first])
    town.many("two", 2, "w2", constraints=[second])
    moves = plan(town.state, {}, tolerance=0.0)
    assert town.after(moves) == {"w1": 2, "w2": 2, "w3": 2}
    assert len(moves) == 4


def test_balance_asks_no_worker_for_more_than_it_takes() -> None:
    """More pipelines than places: as after a worker came back with a smaller limit."""
    town = Town()
    town.worker("w1", 2)
    town.worker("w2", 2)
    town.many("one", 6, "w1")
    board = survey(town.state, {}, 0.0)
    assert board.low == board.high == board.limits


# -- against every plan there is ----------------------------------------------------------------------------


@st.composite
def towns(draw: st.DrawFn) -> Town:
    town = Town()
    workers = [f"w{number}" for number in range(draw(st.integers(2, 3)))]
    for name in workers:
        town.worker(name, draw(st.integers(2, 6)), draw(st.sampled_from(ZONES)))
    place = st.sampled_from(workers)
    constraints = st.sampled_from([None, [zone("eu")], [zone("us")], [zone("eu", hard=False)]])
    pipelines = [
        PipelineSpec(
            name=f"p{number}",
            source="-",
            constraints=draw(constraints),
            worker_affinity=draw(st.sampled_from([None, None, "w0"])),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    replicas = draw(st.integers(1, 3))
    pipelines.append(PipelineSpec(name="r", source="-", replicas=replicas, constraints=draw(constraints)))
    places: list[str] = []
    for _ in range(len(pipelines) - 1 + replicas):
        free = [name for name in workers if places.count(name) < town.state.workers[name].max_pipelines]
        places.append(draw(place.filter(free.__contains__)) if free else workers[0])
    town.group("g", pipelines, places)
    return town


def cost(board: Board, town: Town, where: dict[tuple[str, str], str], moves: int) -> tuple[int, int, int]:
    """(misplaced, out of balance, moves) when every pipeline stands as told."""
    misplaced, counts, twins = 0, dict.fromkeys(board.limits, 0), dict[tuple[str | None, str], int]()
    for (group, pipeline), worker in where.items():
        wants = Wants.of(town.state.groups[group], pipeline)
        counts[worker] += 1
        misplaced += not wants.fits(town.state.workers[worker])
        if wants.pipeline is not None:
            twins[wants.pipeline, worker] = twins.get((wants.pipeline, worker), 0) + 1
    misplaced += sum(count - 1 for count in twins.values())
    misplaced += sum(max(0, counts[name] - limit) for name, limit in board.limits.items())
    out = sum(max(0, counts[n] - board.high[n]) + max(0, board.low[n] - counts[n]) for n in counts)
    return misplaced, out, moves


@given(town=towns(), tolerance=st.sampled_from([0.0, 0.1, 0.3]))
@settings(max_examples=400)
def test_no_plan_is_better_than_ours(town: Town, tolerance: float) -> None:
    board = survey(town.state, {}, tolerance)
    now = {(g, p): placement.worker_id or "" for g, p, placement in town.state.each_placement()}
    best = None
    for places in product(*({item.worker, *item.kind.targets} for item in board.items)):
        where, moves = dict(now), 0
        for item, worker in zip(board.items, places, strict=True):
            where[item.group, item.pipeline] = worker
            moves += worker != item.worker
        found = cost(board, town, where, moves)
        best = found if best is None else min(best, found)
    planned = plan(town.state, {}, tolerance=tolerance, gain=-1.0)
    ours = now | {(move.group, move.pipeline): move.to_worker for move in planned}
    allowed = {(item.group, item.pipeline): item.kind.targets for item in board.items}
    assert all(move.to_worker in allowed[move.group, move.pipeline] for move in planned)
    assert all(move.from_worker != move.to_worker for move in planned)
    assert len({move[:2] for move in planned}) == len(planned)
    assert cost(board, town, ours, len(planned)) == best or best is None


@given(
    counts=st.lists(st.integers(0, 60), min_size=2, max_size=12), tolerance=st.sampled_from([0.0, 0.05, 0.2])
)
@settings(max_examples=100)
def test_without_constraints_each_pipeline_too_many_or_missing_is_one_move(
    counts: list[int], tolerance: float
) -> None:
    town = Town()
    for number, count in enumerate(counts):
        town.worker(f"w{number:02}", 60)
        town.many(f"g{number}", count, f"w{number:02}")
    board = survey(town.state, {}, tolerance)
    above = sum(max(0, board.counts[n] - board.high[n]) for n in board.counts)
    below = sum(max(0, board.low[n] - board.counts[n]) for n in board.counts)
    moves = plan(town.state, {}, tolerance=tolerance, gain=-1.0, exact=0)
    assert len(moves) == max(above, below)
    after = town.after(moves)
    assert all(board.low[n] <= after[n] <= board.high[n] for n in after)
    for move in moves:
        placement = town.state.placements[move.group][move.pipeline]
        assert (placement.worker_id, placement.epoch) == (move.from_worker, move.epoch)
