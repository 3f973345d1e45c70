"""Each treatment taken away in turn is missed: by seeds, by a scenario, or by both."""

import pytest

from tests.simulation.mutations import ROWS, Row, scenario_finds, seeds_needed

WITH_SEEDS = [row for row in ROWS if row.weather is not None and not row.rare]
WITH_SCENARIO = [row for row in ROWS if row.scenario is not None]


@pytest.mark.parametrize("row", WITH_SEEDS, ids=[row.name for row in WITH_SEEDS])
def test_seeds_find_what_a_treatment_closes(row: Row) -> None:
    assert seeds_needed(row, row.seed) is not None, f"no seed of {row.weather} missed it"


@pytest.mark.parametrize("row", WITH_SCENARIO, ids=[row.name for row in WITH_SCENARIO])
def test_a_scenario_finds_what_a_treatment_closes(row: Row) -> None:
    assert scenario_finds(row), "the scenario holds without the treatment it stands for"


def test_every_treatment_is_in_the_table() -> None:
    assert {row.number for row in ROWS} == set(range(14))
