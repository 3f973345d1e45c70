"""Seeds that must hold. Each weather stands for a family of faults; `tests.simulation.cluster` states the
rules.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.cluster import Simulation, Weather

CALM = Weather(loss=0, double=0, late=0, faults=0)
STORM = Weather()
FIVE = Weather(nodes=5)
LARGE = Weather(largest_command=2_000, snapshot_every=60, loss=0.05, late=0.05)
COMPACTING = Weather(snapshot_every=12, retained=0, faults=4.0)
SINGLE = Weather(nodes=1, faults=2.0)
SPLIT_VOTES = Weather(
    nodes=3,
    loss=0.0,
    double=0.2,
    late=0.1,
    faults=30.0,
    longest_outage=0.006,
    election_spread=0.004,
    commands=30.0,
)
SEEDS = [
    *((f"storm-{seed}", seed, STORM) for seed in range(4)),
    *((f"five-{seed}", seed, FIVE) for seed in range(2)),
    *((f"large-{seed}", seed, LARGE) for seed in range(3)),
    *((f"compacting-{seed}", seed, COMPACTING) for seed in range(4)),
    ("single", 0, SINGLE),
]


@pytest.mark.parametrize(("seed", "weather"), [case[1:] for case in SEEDS], ids=[case[0] for case in SEEDS])
def test_nothing_acknowledged_is_lost_and_no_two_nodes_disagree(
    seed: int, weather: Weather, tmp_path: Path, set_clock: Callable[[Callable[[], float]], None]
) -> None:
    simulation = Simulation(seed, tmp_path, weather, set_clock)
    simulation.run(8.0)
    assert len(simulation.ledger.acknowledged) > 20
    assert simulation.ledger.barriers > 0
