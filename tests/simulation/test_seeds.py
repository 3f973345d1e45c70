"""Seeds that must hold. Each weather is a family of faults; `tests.simulation.rules` states the rules.

A fixed set guards against what once broke; fresh seeds are drawn at each run and printed, so that every run
of the tests looks where none has looked before, one of each weather at least and more while its share of
`FRESH_SECONDS` lasts. `make simulate` plays thousands.
"""

import os
import secrets
import subprocess
import sys
import time

import pytest

from tests.simulation.play import play
from tests.simulation.weather import CALM, WEATHERS

FIXED = [(name, seed) for name in WEATHERS for seed in range(2)]
FRESH_SECONDS = 12.0
"""Of processor time, for the fresh seeds of all weathers."""


@pytest.mark.parametrize(("weather", "seed"), FIXED, ids=[f"{name}-{seed}" for name, seed in FIXED])
def test_nothing_acknowledged_is_lost_and_no_two_nodes_disagree(weather: str, seed: int) -> None:
    simulation = play(seed, WEATHERS[weather])
    assert len(simulation.rules.acknowledged) > 5, "the weather leaves time to commit something"
    assert simulation.reads > 3


@pytest.mark.parametrize("weather", WEATHERS)
def test_fresh_seeds_hold(weather: str) -> None:
    end = time.process_time() + FRESH_SECONDS / len(WEATHERS)
    while True:
        seed = secrets.randbelow(2**31)
        print(f"weather {weather}, seed {seed}")
        play(seed, WEATHERS[weather])
        if time.process_time() > end:
            break


def test_in_calm_weather_a_leader_stays_and_every_client_is_served() -> None:
    simulation = play(1, CALM)
    assert len(simulation.rules.newest.leaders) == 1
    assert len(simulation.rules.acknowledged) > 300 and simulation.reads > 200


def test_a_seed_replays_exactly_in_another_process() -> None:
    """Down to each frame and its time: the trace is the same, whatever order a set of strings has there."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", "3", "--weather", "everything"]
    command += ["--trace", "all"]
    outputs = [
        subprocess.run(
            command,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=60,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0].splitlines()) > 1_000
