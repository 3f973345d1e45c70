"""One cluster of many workers, and many clusters, simulated: `python -m benchmarks cells runs=control.json`.

`runs` are outputs of `python -m benchmarks control -o json`, from which the costs are taken; several, with a
part each, are put together. The same simulation is first held against what those runs measured at 1,000 and
10,000 workers, and says by how much it is wrong. Then it goes where no machine of ours goes: one cell with up
to 100,000 workers, and the same workers in cells. Cells share nothing but NATS, which carries events between
them and no control traffic, so each is a leader of its own.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import WrongUsage
from benchmarks.cells.costs import Costs
from benchmarks.cells.leader import Cell, Outcome, simulate
from benchmarks.raft import numbers
from benchmarks.raft.figures import at_most, percentile

DEATHS: Final = 5
TARGET_ERROR: Final = 35.0
"""Percent by which the simulated share of a core may miss the measured one."""


def run(
    runs: str,
    sizes: str = "1000,2000,5000,10000,20000,50000,100000",
    cells: str = "1,2,5,10,20,50",
    interval: float = 5.0,
    pipelines: float = 1.0,
    held: int = 100,
    seconds: float = 20.0,
    seed: int = 1,
) -> dict[str, Any]:
    """Utilisation, and latencies of detection and placement.

    Args:
        runs: files, comma-separated.
        sizes: workers of one cell; cells: numbers of cells that share the last of these sizes.
        interval: seconds between heartbeats; pipelines: of each worker; held: of one that dies.

    Raises:
        WrongUsage: the runs lack a part that is needed.
    """
    result = merged(json.loads(Path(name).read_text())["result"] for name in runs.split(","))
    try:
        costs = Costs.of(result)
    except KeyError as missing:
        raise WrongUsage(f"the runs have no {missing}: run `benchmarks control` with all parts") from None
    once = partial(simulate, costs=costs, seed=seed, seconds=seconds, deaths=DEATHS, pipelines_of_dead=held)
    one = {str(size): figures(once(Cell(size, interval, pipelines))) for size in numbers(sizes)}
    last = numbers(sizes)[-1]
    many = {
        str(count): figures(once(Cell(last // count, interval, pipelines))) | {"workers_each": last // count}
        for count in numbers(cells)
    }
    checked = validated(result, costs, seed)
    return {
        "costs": {name: getattr(costs, name) for name in costs.__slots__},
        "interval_s": interval,
        "pipelines_per_worker": pipelines,
        "pipelines_of_dead": held,
        "one_cell": one,
        "cells": many,
        "validation": checked,
        "targets": {
            name: at_most(
                abs(each["error_percent"]),
                TARGET_ERROR,
                f"{name}: simulated against measured, percent of error, at most",
            )
            for name, each in checked.items()
            if each["judged"]
        },
    }


def merged(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Parts of several runs as of one; a part that is in two has what either has."""
    whole: dict[str, Any] = {}
    for result in results:
        for name, part in result.items():
            if isinstance(part, dict) and isinstance(whole.get(name), dict):
                whole[name] = merged([whole[name], part])
            else:
                whole[name] = part
    return whole


def figures(outcome: Outcome) -> dict[str, Any]:
    """As they are printed; a latency of what never happened is None."""
    return {
        "leader_percent": round(100 * outcome.utilisation, 2),
        "answer_p99_ms": round(1e3 * outcome.answer_p99, 2),
        "detected_p50_s": round(percentile(outcome.detected, 0.5), 3) if outcome.detected else None,
        "detected_max_s": round(max(outcome.detected), 3) if outcome.detected else None,
        "placed_max_s": round(max(outcome.placed), 3) if outcome.placed else None,
        "deaths_not_dealt_with": outcome.unplaced,
    }


def validated(result: dict[str, Any], costs: Costs, seed: int) -> dict[str, Any]:
    """Simulated beside measured, wherever something was measured that the costs were not taken from."""
    checked: dict[str, Any] = {}
    for name, each in result.get("heartbeats", {}).items():
        if name == "targets":
            continue
        cell = Cell(each["workers"], each["interval_s"], each["pipelines"] / each["workers"])
        outcome = simulate(cell, costs, seed=seed, seconds=20.0, deaths=0, pipelines_of_dead=0)
        checked[f"leader's percent of a core, {name}"] = _beside(
            100 * outcome.utilisation, each["leader_percent"], judged=True
        )
    if "deaths" in result:
        dead = result["deaths"]
        cell = Cell(dead["takers"] + 1, 1.0, dead["pipelines"] / dead["takers"])
        outcome = simulate(
            cell, costs, seed=seed, seconds=1.0, deaths=DEATHS, pipelines_of_dead=dead["pipelines"]
        )
        placed = percentile(outcome.placed, 0.5)
        found = percentile(outcome.detected, 0.5)
        checked["s to detect a death"] = _beside(found, dead["ours"]["detected_s"], judged=False)
        checked[f"s to place {dead['pipelines']} pipelines"] = _beside(
            placed, dead["ours"]["placed_s"], judged=False
        )
    return checked


def _beside(simulated: float, measured: float, *, judged: bool) -> dict[str, Any]:
    return {
        "simulated": round(simulated, 3),
        "measured": measured,
        "error_percent": round(100 * (simulated - measured) / measured, 1),
        "judged": judged,
    }
