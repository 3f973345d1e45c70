"""`drill`: faults on purpose, on a cluster that exists for that alone, or on one that runs elsewhere."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from cli.client import ClusterClient
from cli.drills import report
from cli.drills.against import REMOTE
from cli.drills.against import play as play_elsewhere
from cli.drills.bed import bed
from cli.drills.catalog import DRILLS, Drill, Played, play
from cli.drills.figures import summary
from cli.drills.load import deploy
from cli.errors import FAILED, OK, UsageError
from cli.invocation import Invocation, Rows

_NO_PREVIOUS = "it needs the release before: give a checkout of it with --previous DIR"


def listing(call: Invocation) -> int:
    """Every drill and what it does."""
    summaries = {name: one.summary for name, one in REMOTE.items()}
    summaries |= {name: one.summary for name, one in DRILLS.items()}
    rows = [
        (name, ["local"] * (name in DRILLS) + ["URL"] * (name in REMOTE), summaries[name])
        for name in dict.fromkeys((*DRILLS, *REMOTE))
    ]
    document = [{"name": name, "against": where, "summary": text} for name, where, text in rows]
    call.show(document, Rows(("DRILL", "AGAINST", "DOES"), rows))
    return OK


def run(call: Invocation) -> int:
    """Do one drill or all; failure when an objective is missed."""
    if call.arguments["against"] != "local":
        return _run_elsewhere(call)
    name, rounds, previous = (call.arguments[each] for each in ("name", "rounds", "previous"))
    if name != "all" and name not in DRILLS:
        raise UsageError(f"no drill {name!r}: `varpulis drill list` shows them")
    if rounds < 1:
        raise UsageError(f"--rounds {rounds} is out of range: give 1 or more")
    if previous and not (Path(previous) / "cli" / "main.py").is_file():
        raise UsageError(
            f"--previous {previous} is no checkout of varpulis: give the directory that holds `cli`"
        )
    if name != "all" and DRILLS[name].upgrades and not previous:
        raise UsageError(f"{name}: {_NO_PREVIOUS}")
    results: dict[str, dict[str, Any]] = {}
    first: dict[str, Played] = {}
    for drill in DRILLS.values() if name == "all" else [DRILLS[name]]:
        if drill.upgrades and not previous:
            results[drill.name] = {**summary([], ()), "met": None, "skipped": _NO_PREVIOUS}
            continue
        played = _played(call, drill, rounds, previous)
        first[drill.name] = played[0]
        results[drill.name] = summary([one.figures for one in played], drill.objectives)
    return _shown(call, results, first)


def _run_elsewhere(call: Invocation) -> int:
    name, rounds, against = (call.arguments[key] for key in ("name", "rounds", "against"))
    if name != "all" and name not in REMOTE:
        raise UsageError(f"no drill {name!r} against {against}: `varpulis drill list` shows them")
    if rounds < 1:
        raise UsageError(f"--rounds {rounds} is out of range: give 1 or more")
    chosen = list(REMOTE) if name == "all" else [name]
    call.confirm(f"{', '.join(chosen)}, {rounds} times, against {against}: its users will feel it", "drill")

    def client() -> ClusterClient:
        return call.client([against], call.settings["client.timeout"], foreign=True)

    results: dict[str, dict[str, Any]] = {}
    first: dict[str, Played] = {}
    for each in chosen:
        played = []
        for number in range(1, rounds + 1):
            call.note(f"varpulis: {each}: round {number} of {rounds}")
            played.append(play_elsewhere(REMOTE[each], client))
        first[each] = played[0]
        results[each] = summary([one.figures for one in played], REMOTE[each].objectives)
    return _shown(call, results, first)


def _shown(call: Invocation, results: dict[str, dict[str, Any]], first: dict[str, Played]) -> int:
    if call.output == "html":
        sys.stdout.write(report.page(results, first))
    else:
        call.show(results, *(_table(drill, result) for drill, result in results.items()))
    return FAILED if any(result["met"] is False for result in results.values()) else OK


def _played(call: Invocation, drill: Drill, rounds: int, previous: str | None) -> list[Played]:
    shape = replace(drill.shape, previous=Path(previous)) if drill.upgrades and previous else drill.shape
    done = []
    with bed(call.settings["up.nats_server"], shape) as made:
        if not drill.alone:
            deploy(made)
        for number in range(1, rounds + 1):
            call.note(f"varpulis: {drill.name}: round {number} of {rounds}")
            done.append(play(drill, made))
    return done


def _table(drill: str, result: dict[str, Any]) -> Rows:
    if "skipped" in result:
        return Rows(("FIGURE", "MEDIAN", "MAX", "AT MOST", ""), [], f"{drill}: skipped: {result['skipped']}")
    objectives = {one["figure"]: one for one in result["objectives"]}
    rows = []
    for figure, values in result["figures"].items():
        seen = [f"{values[kind]:.3g}" for kind in ("median", "max")] if values else ["never", "never"]
        objective = objectives.get(figure)
        verdict = ("", "") if objective is None else (f"{objective['most']:g}", _word(objective["met"]))
        rows.append((figure, *seen, *verdict))
    return Rows(("FIGURE", "MEDIAN", "MAX", "AT MOST", ""), rows, f"{drill}: {_word(result['met'])}")


def _word(met: bool) -> str:
    return "met" if met else "MISSED"
