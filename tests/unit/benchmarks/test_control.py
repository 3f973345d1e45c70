"""`benchmarks control` and `benchmarks cells`: simulated workers, fits, the simulation of a leader."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import WrongUsage, cells, control
from benchmarks.cells.costs import Costs
from benchmarks.cells.leader import Cell, Outcome, simulate
from benchmarks.control import fit, rates, state
from benchmarks.control.fleet import TICK, Simulated
from benchmarks.control.reads import _answer
from coordinator.controllers.loop import INTERVAL as PASS_INTERVAL
from proto_schemas.codec import decode, encode
from proto_schemas.messages.deploys import Deploy, Deployed, Undeploy
from proto_schemas.messages.membership import Heartbeat, Register

COSTS = Costs(
    idle=0.01,
    batch=0.0,
    beat=50e-6,
    beat_pipeline=5e-6,
    pass_worker=1e-6,
    place=400e-6,
    worker_bytes=1000,
    pipeline_bytes=1000,
    worker_stored=300,
    pipeline_stored=300,
)


def deploy(epoch: int) -> bytes:
    return encode(Deploy(name="p", source="-", group="g", epoch=epoch, request_id=f"g.p.{epoch}"))


# -- simulated workers


def test_a_simulated_worker_says_what_the_wire_asks_of_a_real_one() -> None:
    worker = Simulated("w-1", 10)
    worker.answer("deploy", deploy(7))
    register = decode(encode(worker.registration()), Register)
    heartbeat = decode(encode(worker.heartbeat()), Heartbeat)
    assert register.incarnation == heartbeat.incarnation is not None
    assert [(copy.group, copy.name, copy.epoch) for copy in heartbeat.pipelines or ()] == [("g", "p", 7)]
    assert heartbeat.pipeline_metrics and heartbeat.pipeline_metrics[0].connector_health


def test_a_deploy_that_is_repeated_gets_the_copy_it_made_and_the_next_epoch_another_one() -> None:
    worker = Simulated("w-1", 10)
    first, again, next_one = (worker.answer("deploy", deploy(epoch)) for epoch in (1, 1, 2))
    assert isinstance(first, Deployed) and isinstance(next_one, Deployed)
    assert first == again and first.id != next_one.id and len(worker.copies) == 1
    worker.answer("undeploy", encode(Undeploy(pipeline_id=next_one.id)))
    assert worker.copies == {}


def test_a_simulated_seed_worker_tells_neither_incarnation_nor_copies() -> None:
    worker = Simulated("w-1", 10, seed=True)
    worker.answer("deploy", deploy(1))
    heartbeat = worker.heartbeat()
    assert heartbeat.incarnation is None and heartbeat.seq is None and heartbeat.pipelines is None
    assert heartbeat.pipelines_running == 1


# -- figures


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    points = {size: 3.0 * size**power for size in fit.doubled(1_000, 8_000)}
    assert list(points) == [1_000, 2_000, 4_000, 8_000]
    assert fit.exponent(points) == pytest.approx(power)


def test_n_log_n_meets_the_target_of_growth_and_a_square_misses_it() -> None:
    sizes = fit.doubled(1_000, 8_000)
    n_log_n = {size: size * len(bin(size)) / 1e6 for size in sizes}
    square = {size: size**2 / 1e6 for size in sizes}
    assert fit.grows(n_log_n, "-", "s")["targets"]["exponent"]["met"]
    assert not fit.grows(square, "-", "s")["targets"]["exponent"]["met"]


def test_no_exponent_goes_through_one_point_or_through_zero() -> None:
    for points in ({1: 1.0}, {1: 1.0, 2: 0.0}):
        with pytest.raises(ValueError, match="no exponent"):
            fit.exponent(points)


@given(st.lists(st.floats(1e-6, 1e-2), min_size=5, max_size=5), st.sampled_from([0.0, 0.02]))
def test_costs_are_found_in_the_sums_that_they_make(each: list[float], noise: float) -> None:
    costs = dict(zip(("idle", "pass_worker", "batch", "beat", "beat_pipeline"), each, strict=True))
    points = []
    for number, (workers, batches, beats, listed) in enumerate(
        [
            (1_000, 50, 200, 0),
            (1_000, 50, 1_000, 0),
            (1_000, 600, 1_000, 0),
            (1_000, 600, 1_000, 4_000),
            (8_000, 50, 1_600, 800),
            (8_000, 200, 3_200, 1_600),
        ]
    ):
        share = (
            costs["idle"]
            + costs["pass_worker"] * workers / PASS_INTERVAL
            + costs["batch"] * batches
            + costs["beat"] * beats
            + costs["beat_pipeline"] * listed
        )
        points.append(
            {
                "workers": workers,
                "batches_per_s": batches,
                "beats_per_s": beats,
                "listed_per_s": listed,
                "leader_percent": 100 * share * (1 + noise * (-1) ** number),
            }
        )
    found = rates.fitted(points)
    assert all(cost >= 0 for cost in found["costs"].values())
    assert max(map(abs, found["missed_percent"])) <= 100 * noise * 5 + 0.1


def test_a_cost_is_never_below_nothing_and_what_nothing_tells_apart_is_refused() -> None:
    assert fit.shares([{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}], [2.0, 1.0])["b"] == 0.0
    with pytest.raises(ValueError, match="tell the costs apart"):
        fit.shares([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 4.0}], [1.0, 2.0])


def test_the_costs_of_the_state_are_measured_at_each_size_and_none_is_zero() -> None:
    found = state.measure(largest=800)
    assert set(found["growth"]) >= {"apply_register", "apply_place", "apply_displace"}
    assert found["snapshot_bytes"]["worker"] > 100 and found["memory_bytes"]["pipeline"] > 100
    assert found["passes"]["us_per_worker"] > 0


async def test_a_read_that_is_refused_is_no_figure() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n"
    )
    assert await _answer(reader) == 2
    with pytest.raises(RuntimeError, match="503"):
        await _answer(reader)


def test_a_part_that_does_not_exist_is_refused_before_anything_starts() -> None:
    with pytest.raises(WrongUsage, match="no part 'deploy': use some of registrations,"):
        control.run(parts="deploy")


# -- a leader, simulated


def simulated(cell: Cell, costs: Costs = COSTS, seed: int = 1) -> Outcome:
    return simulate(cell, costs, seed=seed, seconds=10.0, deaths=2, pipelines_of_dead=300)


def test_a_seed_gives_the_same_simulation_again_and_another_seed_another() -> None:
    cell = Cell(500, 2.0)
    assert simulated(cell) == simulated(cell)
    assert simulated(cell).detected != simulated(cell, seed=2).detected


def test_utilisation_is_heartbeats_and_passes_and_what_an_idle_leader_takes() -> None:
    costs = replace(COSTS, pass_worker=0.0)
    assert simulated(Cell(2_000, 2.0), costs).utilisation == pytest.approx(0.01 + 1_000 * 55e-6, rel=0.05)
    with_passes = simulated(Cell(2_000, 2.0)).utilisation
    assert with_passes == pytest.approx(0.01 + 1_000 * 55e-6 + 4 * 2_000 * 1e-6, rel=0.05)


def test_a_leader_that_sleeps_is_woken_once_for_all_that_comes_in_a_tick() -> None:
    costs = replace(COSTS, pass_worker=0.0, batch=100e-6)
    unwoken = simulated(Cell(4_000, 2.0), replace(costs, batch=0.0)).utilisation
    assert simulated(Cell(4_000, 2.0), costs).utilisation - unwoken == pytest.approx(100e-6 / TICK, rel=0.05)


def test_a_death_is_found_after_two_missed_heartbeats_and_all_it_held_is_placed() -> None:
    outcome = simulated(Cell(500, 2.0))
    assert len(outcome.detected) == len(outcome.placed) == 2 and outcome.unplaced == 0
    assert all(2.0 <= each <= 2 * 2.0 + 0.5 for each in outcome.detected)
    assert all(each >= 300 * COSTS.place for each in outcome.placed)


def test_a_leader_that_has_more_to_do_than_it_can_answers_late_and_is_shown_as_full() -> None:
    calm, full = simulated(Cell(2_000, 1.0)), simulated(Cell(30_000, 1.0))
    assert calm.answer_p99 < 0.1 < 1.0 < full.answer_p99
    assert full.utilisation >= 1.0


def test_cells_of_half_the_workers_take_half_each_and_the_base_twice() -> None:
    whole, half = (simulated(Cell(count, 2.0)).utilisation - COSTS.idle for count in (8_000, 4_000))
    assert half == pytest.approx(whole / 2, rel=0.05)


def test_parts_of_several_runs_are_put_together() -> None:
    one: dict[str, Any] = {"heartbeats": {"a": 1, "targets": {"a": 1}}}
    two: dict[str, Any] = {"heartbeats": {"b": 2, "targets": {"b": 2}}, "reads": {}}
    assert cells.merged([one, two]) == {
        "heartbeats": {"a": 1, "b": 2, "targets": {"a": 1, "b": 2}},
        "reads": {},
    }
