"""Figures and tables made of a run: complete, repeatable, and honest about what was not measured."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import plot
from benchmarks.chart import Scale, even, logarithmic
from benchmarks.raft.figures import at_most

PAGE = f"# Benchmarks\n\nkept above\n\n{plot.BEGIN}{plot.END}\n\nkept below\n"
GAPS = {"rounds": 2, "median_s": 0.4, "min_s": 0.3, "max_s": 0.5, "all_s": [0.3, 0.5]}
SVG = "{http://www.w3.org/2000/svg}"


def cell(p50: float) -> dict[str, Any]:
    return {"p50_ms": p50, "p99_ms": p50 * 4, "per_second": round(1_000 / p50)}


def a_run() -> dict[str, Any]:
    sizes = {"200": 1.0, "65536": 5.0}
    systems = {
        name: {size: {str(n): cell(factor * base * n) for n in (1, 64)} for size, base in sizes.items()}
        for name, factor in (("ours", 1.0), ("ours_via_nats", 1.5), ("etcd", 1.4), ("jetstream", 1.3))
    }
    systems["etcd_json"] = {"200": {str(n): cell(2.0 * n) for n in (1, 64)}}
    floor = {"p50_ms": 0.5, "p99_ms": 1.0, "request_p50_ms": 0.3, "fdatasync_p50_ms": 0.2}
    target = {"target": "as fast as it should be", "value": 1.0, "limit": 1.4, "met": True}
    return {
        "benchmark": "raft",
        "parameters": {},
        "conditions": {
            "cores": 2,
            "processor": "some processor",
            "memory_gb": 8.0,
            "kernel": "6.1",
            "load_average_1m": 0.1,
            "disk": {"directory": "/tmp", "device": "/dev/sda", "filesystem": "ext4"},
            "python": "3.11.7",
            "nats_server": "nats-server: v2.15.1",
            "etcd": None,
        },
        "result": {
            "commit": {
                "rounds": 3,
                "seconds_per_round": 1.0,
                "systems": systems,
                "floor": {"200": floor, "65536": floor},
                "failures": {"jetstream": ["round 1: TimeoutError: slow"]},
                "missing": {},
                "targets": {"one": target, "two": {**target, "target": "faster still", "met": False}},
            },
            "failover": {
                "ours_rest": GAPS,
                "etcd": GAPS,
                "frozen": {"etcd": GAPS},
                "missing": {},
                "targets": {},
            },
            "idle": {"processes": {"nats": {"cpu_percent": 0.7, "rss_mb": 15.0}}, "targets": {}},
            "queue": {
                "proposals": 10,
                "64": {
                    "outcomes": {"Unavailable": 9, "OutcomeUnknown": 1},
                    "slowest_s": 1,
                    "peak_growth_mb": 2,
                },
                "targets": {},
            },
            "compaction": {
                "snapshots": 3,
                "snapshot_mb": 50.0,
                "during": {"commits": 5, "p50_ms": 1, "p99_ms": 2, "longest_ms": 30},
                "apart": {"commits": 5, "p50_ms": 1, "p99_ms": 2, "longest_ms": 3},
                "longest_pause_ms": 29.0,
                "commits_in_it": 4,
                "longest_pause_apart_ms": 3.0,
                "longest_stall_ms": 29.0,
                "targets": {"pause": at_most(29.0, 50.0, "longest pause")},
            },
            "transfer": {
                "transfers": 2,
                "commits": 1_000,
                "longest_gap_ms": [8.0, 9.0],
                "longest_gap_without_transfer_ms": 3.0,
                "retried_calls": 0,
                "failed_calls": 0,
                "targets": {},
            },
            "members": {
                "changes": 2,
                "states": {
                    "50 MB": {
                        "longest_gap_ms": [401.5, 398.0],
                        "longest_gap_without_change_ms": 20.0,
                        "retried_calls": 3,
                        "most_tries": 2,
                        "failed_calls": 0,
                    },
                },
                "targets": {},
            },
        },
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text(json.dumps(a_run()))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").write_text(PAGE)
    return tmp_path


def plotted(place: Path) -> int:
    return plot.main([str(place / "run.json"), str(place / "docs" / "figures")])


def test_a_run_becomes_figures_that_are_xml_and_a_page_that_shows_them(place: Path) -> None:
    assert plotted(place) == 0
    page = (place / "docs" / "benchmarks.md").read_text()
    for name in ("commit-latency.svg", "commit-rate.svg", "failover.svg"):
        assert f"(figures/{name})" in page
        root = ElementTree.fromstring((place / "docs" / "figures" / name).read_text())
        assert root.findtext(f"{SVG}title") and root.findtext(f"{SVG}desc")


def test_every_system_has_a_mark_for_each_size_and_number_of_clients() -> None:
    root = ElementTree.fromstring(plot.latency(a_run()["result"]["commit"]).svg())
    assert len(root.findall(f"{SVG}circle")) == 4 * 2 * 2
    said = [text.text for text in root.findall(f"{SVG}text")]
    assert said.count("floor, 1 client: 0.5") == 2
    assert "200 B" in said and "64 KB" in said


def test_a_longer_latency_is_drawn_higher_and_a_higher_rate_is_a_longer_bar() -> None:
    commit = a_run()["result"]["commit"]
    dots = ElementTree.fromstring(plot.latency(commit).svg()).findall(f"{SVG}circle[@class='f0']")
    heights = [float(dot.attrib["cy"]) for dot in dots]
    assert heights[0] > heights[1]
    bars = ElementTree.fromstring(plot.rate(commit).svg()).findall(f"{SVG}rect[@class='f0']")
    drawn = [float(bar.attrib["height"]) for bar in bars[1:]]  # the first is the legend's
    assert drawn[0] == pytest.approx(drawn[1] * 64, rel=0.05)


def test_a_figure_is_readable_on_light_and_on_dark() -> None:
    drawing = plot.failover(a_run()["result"]["failover"]).svg()
    assert "@media (prefers-color-scheme: dark)" in drawing
    assert drawing.count(".ground { fill:") == 2


def test_a_rerun_replaces_what_stood_there_and_nothing_else(place: Path) -> None:
    plotted(place)
    once = (place / "docs" / "benchmarks.md").read_text()
    plotted(place)
    assert (place / "docs" / "benchmarks.md").read_text() == once
    assert once.startswith("# Benchmarks\n\nkept above\n") and once.endswith("kept below\n")


def test_the_page_tells_what_was_missed_failed_and_not_measured(place: Path) -> None:
    plotted(place)
    page = (place / "docs" / "benchmarks.md").read_text()
    assert "| commit | faster still | 1.0 | 1.4 | missed |" in page
    assert "`jetstream`: round 1: TimeoutError: slow" in page
    assert "no etcd" in page


def test_a_part_that_was_not_run_is_left_out(place: Path) -> None:
    run = a_run()
    run["result"] = {"failover": run["result"]["failover"]}
    (place / "run.json").write_text(json.dumps(run))
    assert plotted(place) == 0
    assert [path.name for path in (place / "docs" / "figures").iterdir()] == ["failover.svg"]
    assert "### Writes" not in (place / "docs" / "benchmarks.md").read_text()


def test_a_part_that_failed_is_named_with_its_cause(place: Path) -> None:
    run = a_run()
    run["result"]["idle"] = {"failed": "TimeoutError: not ready", "met": False}
    (place / "run.json").write_text(json.dumps(run))
    assert plotted(place) == 0
    page = (place / "docs" / "benchmarks.md").read_text()
    assert "`idle` could not be measured: TimeoutError: not ready" in page
    assert "### Doing nothing" not in page


def test_a_page_without_markers_is_left_as_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "docs" / "benchmarks.md").write_text("mine\n")
    assert plotted(place) == 2
    assert (place / "docs" / "benchmarks.md").read_text() == "mine\n"
    assert "benchmarks.md: put" in capsys.readouterr().err


def test_a_scale_keeps_ratios_when_it_is_logarithmic_and_steps_when_it_is_not() -> None:
    scale = Scale(1.0, 100.0, 0.0, 200.0, logarithmic=True)
    assert scale(10.0) == pytest.approx(100.0)
    assert scale.ticks() == pytest.approx([1, 2, 5, 10, 20, 50, 100])
    flat = even([1.0, 47.0], 300.0, 0.0)
    assert (flat(0.0), flat.high) == (300.0, 50.0)
    assert flat.ticks() == pytest.approx([0, 10, 20, 30, 40, 50])
    around = logarithmic([2.0, 20.0], 0.0, 1.0)
    assert around.low < 2.0 and around.high > 20.0
