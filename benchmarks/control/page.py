"""`python -m benchmarks.control.page FILE.json... DIRECTORY`: figures and tables of docs/scale.md.

The files are outputs of `benchmarks control` and `benchmarks cells`, whole runs or parts; those of a part
that was run twice are put together. Writes SVG files into DIRECTORY and replaces what stands between the
markers in `DIRECTORY/../scale.md`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks import tables
from benchmarks.cells import merged
from benchmarks.chart import Chart, logarithmic, number
from benchmarks.control.fit import EXPONENT
from benchmarks.plot import replaced

PAGE: Final = "scale.md"
GROWTH: Final = {
    "by_workers": ("joining", "beating"),
    "by_pipelines": ("deploying", "resting"),
    "by_deaths": ("death_ours", "death_seed"),
}
LABELS: Final = {
    "joining": "join",
    "beating": "beat every 5 s (percent of a core)",
    "deploying": "are deployed",
    "resting": "run (percent of a core)",
    "death_ours": "placed anew, worker of ours",
    "death_seed": "placed anew, seed worker",
}
LEFT, TOP, WIDTH, HEIGHT, GAP = 64, 84, 250, 250, 70


def main(argv: list[str] | None = None) -> int:
    """Read, draw, write; 2 when the page has no place for the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control.page")
    parser.add_argument("files", type=Path, nargs="+", help="what the benchmarks printed with -o json")
    parser.add_argument("directory", type=Path, help="where the figures go; the page is beside it")
    arguments = parser.parse_args(argv)
    runs = [json.loads(file.read_text()) for file in arguments.files]
    arguments.directory.mkdir(parents=True, exist_ok=True)
    drawn = figures(runs)
    for name, chart in drawn.items():
        (arguments.directory / name).write_text(chart.svg())
    links = {name: f"![{chart.title}]({arguments.directory.name}/{name})" for name, chart in drawn.items()}
    page = arguments.directory.parent / PAGE
    try:
        page.write_text(replaced(page.read_text(), written(runs, links)))
    except ValueError as error:
        print(f"{page}: {error}", file=sys.stderr)
        return 2
    return 0


def _of(runs: Sequence[dict[str, Any]], benchmark: str) -> dict[str, Any]:
    return tables.measured(merged(run["result"] for run in runs if run["benchmark"] == benchmark))


def figures(runs: Sequence[dict[str, Any]]) -> dict[str, Chart]:
    """File name to figure, for what was run."""
    control = _of(runs, "control")
    drawn = {}
    if all(part in control for part in GROWTH):
        drawn["control-growth.svg"] = growth(control)
    cells = merged(run["result"] for run in runs if run["benchmark"] == "cells")
    if cells:
        drawn["cells.svg"] = leader(cells)
    return drawn


def growth(control: dict[str, Any]) -> Chart:
    """Costs against sizes, a panel for each thing that there may be many of."""
    heads = ("workers", "pipelines", "pipelines of a dead worker")
    chart = Chart(
        LEFT + len(heads) * (WIDTH + GAP),
        TOP + HEIGHT + 96,
        "What the leader pays, by how many there are",
        "Processor seconds, or percent of a core; both axes logarithmic, so a line of slope 1 is linear.",
    )
    chart.text(20, 24, chart.title, kind="head")
    chart.text(20, 42, chart.description, kind="faint")
    for panel, (part, names) in enumerate(GROWTH.items()):
        left = LEFT + panel * (WIDTH + GAP)
        series = [control[part][name] for name in names]
        points = [(int(size), cost) for each in series for size, cost in each["points"].items()]
        across = logarithmic([size for size, _ in points], left, left + WIDTH)
        up = logarithmic([cost for _, cost in points], TOP + HEIGHT, TOP)
        chart.text(left + WIDTH / 2, TOP - 14, heads[panel], anchor="middle", kind="head")
        chart.left_axis(up, left, left + WIDTH, "")
        sizes = sorted({size for size, _ in points})
        for size in sizes:
            chart.text(across(size), TOP + HEIGHT + 18, number(size), anchor="middle", kind="faint")
        for place, (name, each) in enumerate(zip(names, series, strict=True)):
            _line(chart, 2 * place, [(across(int(s)), up(c)) for s, c in each["points"].items()])
            y = TOP + HEIGHT + 42 + 18 * place
            chart.legend(left - 20, y, [(2 * place, f"{LABELS[name]}: n^{each['exponent']:.2f}")])
    return chart


def leader(cells: dict[str, Any]) -> Chart:
    """Utilisation of one leader by workers, and of the busiest of several cells."""
    chart = Chart(
        LEFT + 2 * (WIDTH + GAP),
        TOP + HEIGHT + 60,
        "Percent of a core that a leader takes, simulated",
        f"Heartbeats every {cells['interval_s']:g} s; logarithmic axes; the dashed line is a whole core.",
    )
    chart.text(20, 24, chart.title, kind="head")
    chart.text(20, 42, chart.description, kind="faint")
    for panel, (head, rows) in enumerate(
        (("one cell, by workers", cells["one_cell"]), ("the last of these, by cells", cells["cells"]))
    ):
        left = LEFT + panel * (WIDTH + GAP)
        points = {int(size): each["leader_percent"] for size, each in rows.items()}
        across = logarithmic(list(points), left, left + WIDTH)
        up = logarithmic([*points.values(), 100.0], TOP + HEIGHT, TOP)
        chart.text(left + WIDTH / 2, TOP - 14, head, anchor="middle", kind="head")
        chart.left_axis(up, left, left + WIDTH, "")
        chart.line(left, up(100.0), left + WIDTH, up(100.0), "rule")
        for size in points:
            chart.text(across(size), TOP + HEIGHT + 18, _short(size), anchor="middle", kind="faint")
        _line(chart, 0, [(across(size), up(share)) for size, share in points.items()])
    return chart


def _line(chart: Chart, series: int, points: Sequence[tuple[float, float]]) -> None:
    for (x1, y1), (x2, y2) in pairwise(points):
        chart.line(x1, y1, x2, y2, f"s{series}")
    for x, y in points:
        chart.dot(x, y, series)


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 else str(size)


def written(runs: Sequence[dict[str, Any]], links: dict[str, str]) -> str:
    """All that is generated."""
    control = _of(runs, "control")
    cells = merged(run["result"] for run in runs if run["benchmark"] == "cells")
    first = next(run for run in runs if run["benchmark"] == "control")
    blocks = [tables.conditions(first | {"parameters": {}}).replace("Parameters: defaults.", "").strip()]
    blocks += ["### Targets", tables.targets(_flat(control) | ({"cells": cells} if cells else {}))]
    if cells:
        blocks += ["### Cost model", costs(cells["costs"], control)]
    if "state" in control:
        blocks += ["### Commands and state", commands(control["state"])]
    if "heartbeats" in control:
        blocks += ["### Heartbeats", heartbeats(control["heartbeats"])]
    if "rates" in control:
        blocks += ["### A heartbeat, taken apart", rates(control["rates"])]
    if "reads" in control:
        blocks += ["### Reads from a follower", reads(control["reads"])]
    if "control-growth.svg" in links:
        blocks += ["### Growth", links["control-growth.svg"], exponents(control)]
    if cells:
        blocks += ["### Simulated", validation(cells["validation"]), links["cells.svg"], *simulated(cells)]
    return "\n\n".join(blocks) + "\n"


def _flat(control: dict[str, Any]) -> dict[str, Any]:
    """Parts, with the targets of their growth as their own."""
    flat = {}
    for name, part in control.items():
        inner = {**part, **part.get("growth", {})}
        found = dict(part.get("targets", {}))
        for each, value in inner.items():
            if isinstance(value, dict) and each != "targets":
                found |= {f"{each}.{key}": target for key, target in value.get("targets", {}).items()}
        flat[name] = {"targets": found}
    return flat


def costs(each: dict[str, float], control: dict[str, Any]) -> str:
    """What one of each costs."""
    rows: list[list[object]] = [
        ["leader, whoever is there", f"{100 * each['idle']:.2f} % of a core", ""],
        ["being woken to read what has come", f"{1e6 * each['batch']:.0f} us", ""],
        ["heartbeat", f"{1e6 * each['beat']:.1f} us", ""],
        ["each pipeline that it lists", f"{1e6 * each['beat_pipeline']:.1f} us", ""],
        ["worker, in each pass (4 a second)", f"{1e6 * each['pass_worker']:.2f} us", ""],
        ["worker that is there", "", f"{each['worker_bytes']:,.0f} / {each['worker_stored']:,.0f}"],
        ["pipeline that is there", "", f"{each['pipeline_bytes']:,.0f} / {each['pipeline_stored']:,.0f}"],
        ["pipeline placed anew after a death", f"{1e6 * each['place']:.0f} us", ""],
    ]
    if "registrations" in control:
        part = control["registrations"]
        cpu = f"{part['first']['leader_us_each']:.0f} us, a follower {part['first']['followers_us_each']:.0f}"
        rows.append(["registration", cpu, f"{part['leader_memory_bytes_each']:,} (resident)"])
        rows.append(["registration, in the journal", "", f"{part['disk_bytes_each']:,} on disk"])
    if "deploys" in control:
        rows.append(["pipeline deployed", f"{control['deploys']['leader_us_each']:,.0f} us", ""])
    return tables.table(["of each", "CPU of the leader", "bytes: memory / snapshot"], rows)


def commands(state: dict[str, Any]) -> str:
    """Each command of the state, as one node applies it."""
    rows = [[name, each["us"], each["bytes"]] for name, each in state["commands"].items()]
    head = [f"command, applied to a state of {state['size']:,}", "CPU us", "bytes in the journal"]
    beside = (
        f"A snapshot takes {state['snapshot_us_per_kb']} us of CPU for each 1,000 bytes. A pass over workers "
        f"that run what they should takes {state['passes']['us_per_worker']} us for each (by size, in s: "
        + ", ".join(f"{int(size):,}: {cost}" for size, cost in state["passes"]["points"].items())
        + ")."
    )
    return tables.table(head, rows) + "\n\n" + beside


def heartbeats(part: dict[str, Any]) -> str:
    """Each fleet."""
    rows = [
        [
            name,
            f"{each['pipelines']:,}",
            f"{each['per_second']:,}",
            each["leader_percent"],
            each["followers_percent"],
            each["nats_percent"],
            f"{each['answer_p50_ms']} / {each['answer_p99_ms']}",
            each["memory_mb"]["leader"],
        ]
        for name, each in part.items()
        if name != "targets"
    ]
    head = ["workers", "pipelines", "heartbeats/s", "leader % of a core", "a follower %", "nats-server %"]
    return tables.table([*head, "answer p50 / p99 ms", "leader MB"], rows)


def rates(part: dict[str, Any]) -> str:
    """Each point, and how far the sum of the fitted costs is from it."""
    rows = [
        [
            f"{each['workers']:,.0f} every {each['interval_s']:g} s",
            f"{1e3 * each['tick_s']:g}",
            f"{each['batches_per_s']:,.0f}",
            f"{each['beats_per_s']:,.0f}",
            f"{each['listed_per_s']:,.0f}",
            each["leader_percent"],
            f"{missed:+} %",
        ]
        for each, missed in zip(part["points"], part["missed_percent"], strict=True)
    ]
    head = ["workers", "tick ms", "wakes/s", "heartbeats/s", "pipelines listed/s", "leader % of a core"]
    return tables.table([*head, "the sum is off by"], rows)


def reads(part: dict[str, Any]) -> str:
    """Each route."""
    rows = [
        [name, f"{each['per_second']:,}", f"{each['p50_ms']} / {each['p99_ms']}", f"{each['bytes']:,}"]
        for name, each in part.items()
        if isinstance(each, dict) and "per_second" in each
    ]
    return tables.table(["answer", "reads/s", "p50 / p99 ms", "bytes"], rows)


def exponents(control: dict[str, Any]) -> str:
    """Of each growth, with its points."""
    rows = []
    for part, names in GROWTH.items():
        for name in names:
            each = control[part][name]
            points = ", ".join(f"{int(size):,}: {cost:g}" for size, cost in each["points"].items())
            rows.append([each["what"], each["unit"], points, each["exponent"]])
    return tables.table(["cost", "unit", "by n", f"exponent (at most {EXPONENT})"], rows)


def validation(checked: dict[str, Any]) -> str:
    """Simulated beside measured."""
    rows = [
        [name, each["simulated"], each["measured"], f"{each['error_percent']:+} %"]
        for name, each in checked.items()
    ]
    return tables.table(["", "simulated", "measured", "error"], rows)


def simulated(cells: dict[str, Any]) -> list[str]:
    """One cell, and many."""
    head = ["leader % of a core", "answer p99 ms", "detection p50 s", "placement s"]
    keys = ("leader_percent", "answer_p99_ms", "detected_p50_s", "placed_max_s")
    one = [[f"{int(size):,}", *(each[key] for key in keys)] for size, each in cells["one_cell"].items()]
    many = [
        [count, f"{each['workers_each']:,}", *(each[key] for key in keys)]
        for count, each in cells["cells"].items()
    ]
    return [
        tables.table(["workers of one cell", *head], one),
        tables.table(["cells", "workers of each", *head], many),
    ]


if __name__ == "__main__":
    sys.exit(main())
