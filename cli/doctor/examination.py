"""Runs checks side by side, each until its own deadline.

A thread that hangs cannot be ended, so these are daemons: the process leaves without them.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence

from cli.doctor.findings import Check, Examined, Finding, fault
from cli.doctor.site import Site


def examine(
    site: Site, checks: Sequence[Check], *, within: float, tell: Callable[[str], None] = lambda text: None
) -> list[Examined]:
    """What every check found, in the order of the table.

    Args:
        within: seconds for all together; a check has its own bound below that.
        tell: told which checks are not done yet, whenever that changes.
    """
    begun = time.monotonic()
    done: queue.SimpleQueue[Examined] = queue.SimpleQueue()
    runs = [Examined(check) for check in checks]
    waiting = {run.check.name: run for run in runs}
    for run in runs:
        threading.Thread(target=_run, args=(run, site, done), daemon=True, name=run.check.name).start()
    ended: dict[str, Examined] = {}
    while waiting:
        tell(f"looking at {', '.join(waiting)}")
        first = min(waiting.values(), key=lambda run: _bound(run.check, within))
        left = begun + _bound(first.check, within) - time.monotonic()
        try:
            finished = done.get(timeout=max(left, 0.0))
        except queue.Empty:
            finished = _given_up(first, time.monotonic() - begun)
        if waiting.pop(finished.check.name, None):  # else it came after it had been given up
            ended[finished.check.name] = finished
    return [ended[check.name] for check in checks]


def _bound(check: Check, within: float) -> float:
    return min(check.seconds, within)


def _run(run: Examined, site: Site, done: "queue.SimpleQueue[Examined]") -> None:
    begun = time.monotonic()
    try:
        run.findings.extend(run.check.look(site))  # as they come: `extend` takes one by one
    except Exception as error:
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else "?"
        found = f"this check itself failed: {type(error).__name__} at {place}"
        run.findings.append(fault(run.check.name, found, "report it; the other checks count"))
    run.seconds = time.monotonic() - begun
    done.put(run)


def _given_up(run: Examined, seconds: float) -> Examined:
    """What is known of a check that did not end; its thread may go on, and is not listened to."""
    result, remedy = run.check.late
    late = Finding(result, run.check.name, f"not done after {seconds:.1f} s: the rest is not known", remedy)
    return Examined(run.check, [*run.findings, late], seconds)
