"""`python -m benchmarks.control.page`: figures and the part of docs/scale.md that is written from runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.control import page
from benchmarks.control.fit import grows
from benchmarks.plot import BEGIN, END

CONDITIONS = {
    "cores": 2,
    "processor": "a processor",
    "memory_gb": 8.0,
    "kernel": "6",
    "disk": {"filesystem": "ext4", "device": "/dev/x"},
    "load_average_1m": 0.1,
    "python": "3.11.7",
    "nats_server": "nats-server: v2",
    "etcd": None,
}


def run(benchmark: str, **result: Any) -> dict[str, Any]:
    return {"benchmark": benchmark, "parameters": {}, "conditions": CONDITIONS, "result": result}


def grown(power: float) -> dict[str, Any]:
    return grows({size: size**power / 1e4 for size in (1_000, 2_000, 4_000)}, f"n^{power}", "CPU s")


def growth_parts(power: float = 1.0) -> dict[str, Any]:
    return {part: {name: grown(power) for name in names} for part, names in page.GROWTH.items()}


def place(
    directory: Path, *runs: dict[str, Any], text: str = f"mine\n{BEGIN}old\n{END}\nstays\n"
) -> list[str]:
    docs = directory / "docs"
    docs.mkdir()
    (docs / page.PAGE).write_text(text)
    files = []
    for number, each in enumerate(runs):
        (directory / f"{number}.json").write_text(json.dumps(each))
        files.append(str(directory / f"{number}.json"))
    return [*files, str(docs / "figures")]


def test_parts_of_several_runs_make_one_page_and_a_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    parts = growth_parts()
    arguments = place(tmp_path, *(run("control", **{name: part}) for name, part in parts.items()))
    assert page.main(arguments) == 0
    written = (tmp_path / "docs" / page.PAGE).read_text()
    figure = (tmp_path / "docs" / "figures" / "control-growth.svg").read_bytes()
    assert written.startswith("mine\n") and written.endswith("stays\n") and "old" not in written
    assert "(figures/control-growth.svg)" in written and "1,000: 0.1" in written
    assert page.main(arguments) == 0
    assert (tmp_path / "docs" / page.PAGE).read_text() == written
    assert (tmp_path / "docs" / "figures" / "control-growth.svg").read_bytes() == figure


@pytest.mark.parametrize(("power", "said"), [(1.0, "| met |"), (2.0, "| missed |")])
def test_a_growth_that_misses_its_target_is_shown_as_missed(tmp_path: Path, power: float, said: str) -> None:
    assert page.main(place(tmp_path, run("control", **growth_parts(power)))) == 0
    targets = [
        row for row in (tmp_path / "docs" / page.PAGE).read_text().splitlines() if "exponent of the" in row
    ]
    assert len(targets) == 6 and all(row.endswith(said) for row in targets)


def test_a_part_that_failed_or_was_not_run_is_left_out(tmp_path: Path) -> None:
    reads = {"one worker": {"per_second": 4_000, "p50_ms": 1.0, "p99_ms": 2.0, "bytes": 300}, "targets": {}}
    arguments = place(tmp_path, run("control", reads=reads, by_workers={"failed": "no", "met": False}))
    assert page.main(arguments) == 0
    written = (tmp_path / "docs" / page.PAGE).read_text()
    assert "| one worker | 4,000 | 1.0 / 2.0 | 300 |" in written and "### Growth" not in written


def test_each_rate_is_shown_with_the_error_of_the_sum_of_the_costs(tmp_path: Path) -> None:
    point = {
        "workers": 1_000,
        "interval_s": 1.0,
        "tick_s": 0.005,
        "beats_per_s": 1_000.25,
        "batches_per_s": 187.0,
        "listed_per_s": 4_000.0,
        "leader_percent": 8.15,
    }
    part = {"points": [point], "costs": {}, "missed_percent": [-6.3], "leader_changed": False}
    assert page.main(place(tmp_path, run("control", rates=part))) == 0
    written = (tmp_path / "docs" / page.PAGE).read_text()
    assert "| 1,000 every 1 s | 5 | 187 | 1,000 | 4,000 | 8.15 | -6.3 % |" in written


def test_a_page_without_a_place_for_the_tables_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert page.main(place(tmp_path, run("control", **growth_parts()), text="mine\n")) == 2
    assert (tmp_path / "docs" / page.PAGE).read_text() == "mine\n"
    assert "put" in capsys.readouterr().err
