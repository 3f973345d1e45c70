"""The figures of commits during snapshots and apart from them."""

import pytest

from benchmarks.raft.compaction import summary, told
from benchmarks.raft.pulse import Standstill
from benchmarks.raft.state import filled
from coordinator.state.snapshot import frames


def test_a_commit_counts_as_one_during_a_snapshot_if_it_lay_in_it_even_in_part() -> None:
    snapshots = [(1.0, 2.0)]
    commits = [(0.0, 0.002), (0.5, 0.501), (0.99, 1.01), (1.5, 1.504), (1.999, 2.029), (2.0, 2.001)]
    result = summary(commits, snapshots)
    assert result["during"] == {"commits": 3, "p50_ms": 20.0, "p99_ms": 30.0, "longest_ms": 30.0}
    assert result["apart"] == {"commits": 3, "p50_ms": 1.0, "p99_ms": 2.0, "longest_ms": 2.0}
    assert result["longest_stall_ms"] == 29.0


def test_a_pause_is_the_time_between_two_commits_and_is_told_with_those_that_waited() -> None:
    commits = [(0.9, 0.999), (0.95, 1.01), (1.0, 1.04), (1.02, 1.045), (1.04, 1.05), (2.5, 2.9), (3.0, 3.2)]
    result = summary(commits, [(1.0, 1.048)])
    assert (result["longest_pause_ms"], result["commits_in_it"]) == (30.0, 2)
    assert result["longest_pause_apart_ms"] == 1850.0
    assert result["targets"]["pause"]["met"]
    assert not summary([*commits[:2], (1.0, 1.07), commits[-1]], [(1.0, 1.048)])["targets"]["pause"]["met"]


def test_a_standstill_is_told_longest_first_with_what_it_was_spent_on() -> None:
    seen = [
        Standstill(at, wall, 0.001, 0.002, 0.003, 0.0) for at, wall in ((0.5, 0.1), (1.5, 0.2), (9.0, 1.0))
    ]
    result = told(seen, [(0.0, 2.0)], [(1.0, 2.0)])
    assert (result["count"], result["longest_own_ms"]) == (2, 198.0)
    assert [(one["during"], one["wall_ms"]) for one in result["longest"]] == [(True, 200.0), (False, 100.0)]
    assert (result["longest"][0]["cpu_ms"], result["longest"][0]["disk_ms"]) == (1.0, 3.0)


def test_a_run_without_both_kinds_of_commits_gives_no_figures() -> None:
    with pytest.raises(ValueError, match="raise `seconds`"):
        summary([(0.0, 0.1)], [(5.0, 6.0)])


def test_the_state_has_about_the_size_that_was_asked_for() -> None:
    size = sum(len(part) for part in frames(filled(8)))
    assert 7_000_000 < size < 9_000_000
