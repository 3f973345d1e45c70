"""Figures of drills: what counts as lost, as doubled, and as good enough."""

from cli.drills.figures import Objective, lost_and_doubled, summary


def test_what_never_came_out_is_lost_and_each_repeat_is_one_too_many() -> None:
    assert lost_and_doubled(range(5), [0, 1, 1, 1, 4, 4]) == (2, 3)


def test_the_order_of_outputs_neither_loses_nor_doubles() -> None:
    assert lost_and_doubled(range(4), [3, 1, 0, 2]) == (0, 0)


def test_one_round_above_the_objective_misses_it() -> None:
    objective = Objective("election_s", 1.0)
    assert objective.met([{"election_s": 1.0}, {"election_s": 0.2}])
    assert not objective.met([{"election_s": 0.1}, {"election_s": 1.1}])


def test_what_never_came_back_misses_every_objective() -> None:
    assert not Objective("election_s", 1e9).met([{"election_s": None}])
    assert not Objective("election_s", 1e9).met([{}])
    assert not Objective("election_s", 1e9).met([])


def test_a_summary_gives_median_and_maximum_and_fails_as_a_whole_when_one_objective_is_missed() -> None:
    rounds = [{"a_s": 0.1, "lost": 0}, {"a_s": 0.3, "lost": 1}, {"a_s": 0.2, "lost": 0}]
    made = summary(rounds, [Objective("a_s", 0.5), Objective("lost", 0)])
    assert made["figures"]["a_s"] == {"median": 0.2, "max": 0.3}
    assert [one["met"] for one in made["objectives"]] == [True, False]
    assert not made["met"]
