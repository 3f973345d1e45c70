"""`drill`: faults on purpose, on a cluster that exists for that alone."""

from typing import Any

from cli.drills.bed import bed
from cli.drills.catalog import DRILLS, Drill, play
from cli.drills.figures import summary
from cli.drills.load import deploy
from cli.errors import FAILED, OK, UsageError
from cli.invocation import Invocation, Rows


def listing(call: Invocation) -> int:
    """Every drill and what it does."""
    rows = [(drill.name, drill.summary) for drill in DRILLS.values()]
    call.show([{"name": name, "summary": text} for name, text in rows], Rows(("DRILL", "DOES"), rows))
    return OK


def run(call: Invocation) -> int:
    """Do one drill or all, each on a cluster of its own; failure when an objective is missed."""
    name, rounds = call.arguments["name"], call.arguments["rounds"]
    if name != "all" and name not in DRILLS:
        raise UsageError(f"no drill {name!r}: `varpulis drill list` shows them")
    if rounds < 1:
        raise UsageError(f"--rounds {rounds} is out of range: give 1 or more")
    chosen = list(DRILLS.values()) if name == "all" else [DRILLS[name]]
    results = {drill.name: _measured(call, drill, rounds) for drill in chosen}
    call.show(results, *(_table(drill, result) for drill, result in results.items()))
    return OK if all(result["met"] for result in results.values()) else FAILED


def _measured(call: Invocation, drill: Drill, rounds: int) -> dict[str, Any]:
    done = []
    with bed(call.settings["up.nats_server"], drill.shape) as made:
        deploy(made)
        for number in range(1, rounds + 1):
            call.note(f"varpulis: {drill.name}: round {number} of {rounds}")
            done.append(play(drill, made).figures)
    return summary(done, drill.objectives)


def _table(drill: str, result: dict[str, Any]) -> Rows:
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
