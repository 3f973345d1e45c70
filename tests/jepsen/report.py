"""What a trial found, for people and for programs.

The figure that matters for each fault is the *gap*: the longest time without an acknowledged write from the
moment the fault began until writes went on after its healing. A cluster that bears a fault shows a gap of an
election; one that cannot (NATS is away) shows how long the fault was held, and what it needs to come back.
"""

import bisect
import itertools
import statistics
from collections import defaultdict
from typing import Any

from tests.jepsen.nemesis import Harm
from tests.jepsen.trial import Trial


def gap(harm: Harm, acknowledged: list[float]) -> float:
    """Seconds of the longest interval between acknowledged writes that touches the harm's time."""
    first = max(bisect.bisect_right(acknowledged, harm.began) - 1, 0)
    last = bisect.bisect_left(acknowledged, harm.recovered)
    times = acknowledged[first : last + 1] or [harm.began]
    if last >= len(acknowledged):
        times = [*times, harm.recovered]  # no write since
    return max((after - before for before, after in itertools.pairwise(times)), default=0.0)


def gaps(trial: Trial) -> dict[str, list[float]]:
    """The gaps of each kind of fault."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for harm in trial.harms:
        found[harm.kind].append(gap(harm, trial.acknowledged))
    return dict(sorted(found.items()))


def as_json(trial: Trial) -> dict[str, Any]:
    """The figures of a trial."""
    return {
        "seed": trial.seed,
        "ok": not trial.complaints,
        "linearizable": trial.linearizable,
        "seconds": round(trial.seconds, 1),
        "check_seconds": round(trial.check_seconds, 2),
        "operations": trial.operations,
        "acknowledged_writes": len(trial.acknowledged),
        "outcomes": trial.outcomes,
        "terms": trial.terms,
        "refused_starts": trial.refused_starts,
        "faults": {
            kind: {
                "times": len(each),
                "gap_median_ms": round(statistics.median(each) * 1000),
                "gap_max_ms": round(max(each) * 1000),
            }
            for kind, each in gaps(trial).items()
        },
        "history": str(trial.history),
        "complaints": trial.complaints,
    }


def as_text(trial: Trial) -> str:
    """The same to read."""
    lines = [
        f"seed {trial.seed}: {trial.seconds:.0f} s, {trial.operations} operations in the history, "
        f"{len(trial.acknowledged)} acknowledged writes, {len(trial.harms)} faults, {trial.terms} terms, "
        f"checked in {trial.check_seconds:.1f} s",
    ]
    for what, counts in trial.outcomes.items():
        lines.append(f"  {what:<7}" + "".join(f" {outcome} {count}" for outcome, count in counts.items()))
    lines.append(f"  {'longest time without an acknowledged write':<44}{'times':>6}{'median':>9}{'max':>9}")
    for kind, each in gaps(trial).items():
        median, most = statistics.median(each) * 1000, max(each) * 1000
        lines.append(f"    {kind:<42}{len(each):>6}{median:>6.0f} ms{most:>6.0f} ms")
    lines += [f"FOUND: {complaint}" for complaint in trial.complaints]
    if trial.complaints:
        lines.append(f"history and logs: {trial.directory}; the faults again: --seed {trial.seed}")
    else:
        lines.append("linearizable; nothing acknowledged was lost")
    return "\n".join(lines)
