"""The figures of commits during snapshots and apart from them."""

import pytest

from benchmarks.raft.compaction import filled, summary
from coordinator.state.snapshot import frames


def test_a_commit_counts_as_one_during_a_snapshot_if_it_lay_in_it_even_in_part() -> None:
    snapshots = [(1.0, 2.0)]
    commits = [(0.0, 0.002), (0.5, 0.501), (0.99, 1.01), (1.5, 1.504), (1.999, 2.029), (2.0, 2.001)]
    result = summary(commits, snapshots)
    assert result["during"] == {"commits": 3, "p50_ms": 20.0, "p99_ms": 30.0, "longest_ms": 30.0}
    assert result["apart"] == {"commits": 3, "p50_ms": 1.0, "p99_ms": 2.0, "longest_ms": 2.0}
    assert (result["longest_stall_ms"], result["met"]) == (29.0, True)
    assert not summary([*commits, (1.1, 1.2)], snapshots)["met"]


def test_a_run_without_both_kinds_of_commits_gives_no_figures() -> None:
    with pytest.raises(ValueError, match="raise `seconds`"):
        summary([(0.0, 0.1)], [(5.0, 6.0)])


def test_the_state_has_about_the_size_that_was_asked_for() -> None:
    size = sum(len(part) for part in frames(filled(8)))
    assert 7_000_000 < size < 9_000_000
