"""What a trial found, for people and for programs."""

import statistics
from typing import Any

from tests.chaos.calm import BOUND
from tests.chaos.trial import Trial


def _spread(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    return {"median": round(statistics.median(seconds), 2), "max": round(max(seconds), 2)}


def _convergence(trial: Trial) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, dead in (("restarted", False), ("dead stay dead", True)):
        these = [times for times in trial.times if times.stay_dead is dead]
        found[name] = {
            "calms": len(these),
            "converged_s": _spread([times.converged for times in these]),
            "processes_ready_s": _spread([times.ready for times in these]),
            "after_ready_and_answered_s": _spread(
                [max(times.converged - max(times.ready, times.answered), 0.0) for times in these]
            ),
        }
    return found


def as_json(trial: Trial) -> dict[str, Any]:
    """The figures of a trial."""
    return {
        "seed": trial.seed,
        "ok": not trial.complaints,
        "seconds": round(trial.seconds, 1),
        "rounds": trial.rounds,
        "convergence": _convergence(trial),
        "bound_s": BOUND,
        "actions": trial.actions,
        "outcomes": {kind: {str(k): n for k, n in each.items()} for kind, each in trial.outcomes.items()},
        "acknowledged_writes": trial.acknowledged,
        "attempts": trial.attempts,
        "outputs": trial.outputs,
        "successions": trial.handed_on,
        "events_pass_again_s": _spread(trial.passed),
        "terms": trial.terms,
        "refused_starts": trial.refused_starts,
        "rollbacks": trial.rollbacks,
        "coordinators_rss_mb": trial.rss,
        "complaints": trial.complaints,
    }


def as_text(trial: Trial) -> str:
    """The same to read."""
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(trial.actions.items()))
    lines = [
        f"seed {trial.seed}: {trial.seconds:.0f} s, {trial.rounds} rounds, {trial.acknowledged} acknowledged "
        f"writes in {trial.attempts} attempts, {trial.outputs} outputs, {trial.handed_on} "
        f"successions of copies, {trial.terms} terms",
        f"  {faults}",
    ]
    for name, found in _convergence(trial).items():
        lines.append(f"  {name}: {found}")
    lines.append(f"  events passed through all again after: {_spread(trial.passed)}")
    if trial.rss:
        first, last = trial.rss[0], trial.rss[-1]
        lines.append(f"  coordinators: {first} MB after the first round, {last} MB after the last")
    lines += [f"  rolled back: {each}" for each in trial.rollbacks]
    if trial.complaints:
        lines += ["timeline:", *trial.timeline]
        lines += [f"FOUND: {complaint}" for complaint in trial.complaints]
        lines.append(f"logs: {trial.directory}; the same faults and operations: --seed {trial.seed}")
    else:
        lines.append("it came to what was asked of it each time; no two copies put out; nothing was lost")
    return "\n".join(lines)
