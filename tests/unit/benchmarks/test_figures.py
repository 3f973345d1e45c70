"""What is made of measured times: percentiles, medians of rounds, targets, gaps."""

from typing import Any

import pytest

from benchmarks.__main__ import _targets_met
from benchmarks.raft import commit, figures, transfer


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert figures.percentile(values, 0.5) == 51
    assert figures.percentile(values, 0.99) == 100
    assert figures.percentile([7.0], 0.99) == 7
    assert figures.percentile([7.0], 1.0) == 7


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        figures.percentile([], 0.5)


def test_a_figure_of_rounds_is_their_median_beside_the_extremes() -> None:
    rounds = [{"p50_ms": p50, "per_second": rate} for p50, rate in ((1.0, 900), (9.0, 100), (2.0, 500))]
    assert figures.of_rounds(rounds) == {
        "p50_ms": 2.0,
        "per_second": 500,
        "p50_ms_range": [1.0, 9.0],
        "per_second_range": [100, 900],
    }


def test_a_target_is_met_at_its_very_limit() -> None:
    assert figures.at_most(2.0, 2.0, "x")["met"] and figures.at_least(2.0, 2.0, "x")["met"]
    assert not figures.at_most(2.1, 2.0, "x")["met"]
    assert not figures.at_least(1.9, 2.0, "x")["met"]


def test_a_target_without_its_other_figure_is_neither_met_nor_missed() -> None:
    alone = figures.at_most(2.0, figures.times(0.3, None), "x")
    assert "met" not in alone and alone["not_judged"]
    assert _targets_met({"part": {"targets": {"one": alone}}}) == []


def cells(p50: float, rate: int) -> dict[str, Any]:
    return {"200": {"1": {"p50_ms": p50, "per_second": 1}, "64": {"p50_ms": 9.0, "per_second": rate}}}


@pytest.mark.parametrize(
    ("ours", "met"),
    [
        (cells(1.2, 7_500), [True, True, True]),
        (cells(1.3, 7_499), [True, False, False]),
        (cells(2.1, 8_000), [False, False, True]),
    ],
)
def test_a_commit_is_judged_by_etcd_and_the_floor_of_its_run(ours: dict[str, Any], met: list[bool]) -> None:
    result = {"systems": {"ours": ours, "etcd": cells(2.0, 5_000)}, "floor": {"200": {"p50_ms": 0.5}}}
    judged = commit.targets(result, size=200, few=1, many=64)
    assert [each["met"] for each in judged.values()] == met


def test_without_etcd_only_the_floor_judges() -> None:
    result = {"systems": {"ours": cells(1.0, 9_000)}, "floor": {"200": {"p50_ms": 0.5}}}
    judged = commit.targets(result, size=200, few=1, many=64)
    assert [name for name, each in judged.items() if "met" in each] == ["p50_beside_floor"]


def test_a_system_that_gave_no_figure_misses_no_target_by_a_crash() -> None:
    judged = commit.targets({"systems": {}, "floor": {}}, size=200, few=1, many=64)
    assert all("not_judged" in each for each in judged.values())


def test_a_gap_belongs_to_the_transfer_it_touches() -> None:
    commits = [0.0, 0.1, 0.2, 0.9, 1.0, 1.1, 1.15, 1.6, 1.7]
    of_windows, otherwise = transfer.longest_gaps(commits, [(0.25, 0.5), (1.0, 1.12)])
    assert of_windows == pytest.approx([0.7, 0.1])
    assert otherwise == pytest.approx(0.45)


def test_a_load_that_ended_before_the_transfer_tells_nothing() -> None:
    with pytest.raises(ValueError, match="ended before"):
        transfer.longest_gaps([0.0, 0.1, 0.2], [(0.15, 0.4)])
