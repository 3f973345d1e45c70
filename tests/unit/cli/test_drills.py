"""Figures of drills: what counts as lost, as doubled, and as good enough."""

import re

import pytest

from cli.drills import report
from cli.drills.catalog import DRILLS, Played
from cli.drills.figures import Objective, lost_and_doubled, summary
from cli.drills.load import Load
from tests.support.cluster import ROOT


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


def test_every_drill_has_a_chapter_and_every_chapter_a_drill() -> None:
    text = (ROOT / "docs" / "drills.md").read_text()
    assert re.findall(r"^### (\S+)$", text, re.MULTILINE) and set(
        re.findall(r"^### (\S+)$", text, re.MULTILINE)
    ) == set(DRILLS)


def test_every_drill_says_what_it_does_and_has_objectives() -> None:
    for drill in DRILLS.values():
        assert drill.summary and drill.objectives, drill.name
        assert any(one.figure.endswith("_doubled") for one in drill.objectives), drill.name


def test_a_report_shows_verdicts_figures_and_how_it_went_and_fetches_nothing() -> None:
    seen = Load()
    seen.sent = {number: number / 100 for number in range(100)}
    seen.received = [(number, number / 100 + 0.001) for number in range(100)]
    seen.acknowledged = [(0.1, 0.12), (0.5, 0.9)]
    played = Played({"first_write_s": 0.4, "events_doubled": 1}, seen, 0.45)
    drill = DRILLS["leader-kill"]
    text = report.page({drill.name: summary([played.figures], drill.objectives)}, {drill.name: played})
    assert "1 of 1 drills missed an objective" in text
    assert text.count("<svg") == 2 and text.count("<circle") == 2 and "<polyline" in text
    assert "http" not in text and "<script" not in text
    assert '<td class="missed">missed</td>' in text


def test_a_skipped_drill_is_never_passed() -> None:
    skipped = {**summary([], ()), "met": None, "skipped": "no <release> before"}
    text = report.page({"rolling-upgrade": skipped}, {})
    assert "skipped: no &lt;release&gt; before" in text
    assert '<td class="met">' not in text


def test_of_the_writes_only_those_count_that_began_after_the_fault() -> None:
    seen = Load()
    seen.acknowledged = [(0.0, 5.0), (3.0, 4.5)]
    assert seen.first_write(2.0) == 2.5
    assert seen.next_write(4.8) == pytest.approx(0.2)
    assert seen.longest_write(4.6) == 5.0
    assert seen.writes_within(2.0, 4.6) == 1
