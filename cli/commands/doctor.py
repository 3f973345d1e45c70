"""`doctor`: examine this machine and the cluster that the settings name; the checks are in `cli.doctor`."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from cli.doctor.examination import examine
from cli.doctor.findings import Check, Examined, Result
from cli.doctor.site import Site
from cli.doctor.table import CHECKS
from cli.errors import FAILED, OK, UsageError
from cli.invocation import Invocation, Rows

_SHORTEST: Final = 1.0
_LONGEST: Final = 600.0


def doctor(call: Invocation) -> int:
    """All checks, or those that are named; fails when one found a fault."""
    checks, within = _wanted(call.arguments["checks"]), float(call.arguments["within"])
    if not _SHORTEST <= within <= _LONGEST:
        raise UsageError(f"--within {within:g} is out of range: give {_SHORTEST:g} to {_LONGEST:g} seconds")
    begun = time.monotonic()
    with _quiet(), _progress() as tell:
        done = examine(Site(call), checks, within=within, tell=tell)
    faults, warnings = _count(done, Result.FAULT), _count(done, Result.WARNING)
    document = {
        "healthy": not faults,
        "faults": faults,
        "warnings": warnings,
        "checks": [_document(one) for one in done],
    }
    rows = [
        (finding.result.value, one.check.name, finding.about, finding.found, finding.remedy)
        for one in done
        for finding in one.findings
    ]
    said = f"{_some(faults, 'fault')}, {_some(warnings, 'warning')}, {time.monotonic() - begun:.1f} s"
    call.show(document, Rows(("RESULT", "CHECK", "ABOUT", "FOUND", "REMEDY"), rows), Rows((), (), said))
    return FAILED if faults else OK


def _wanted(names: list[str]) -> list[Check]:
    known = {check.name: check for check in CHECKS}
    for name in names:
        if name not in known:
            raise UsageError(f"no check {name!r}: there are {', '.join(known)}")
    return [check for check in CHECKS if not names or check.name in names]


def _document(one: Examined) -> dict[str, Any]:
    return {
        "check": one.check.name,
        "looks_at": one.check.looks_at,
        "result": one.result.value,
        "took_ms": round(one.seconds * 1000),
        "findings": [asdict(finding) for finding in one.findings],
    }


def _count(done: list[Examined], result: Result) -> int:
    return sum(finding.result is result for one in done for finding in one.findings)


def _some(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being looked at, on a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:
        yield status.update


@contextmanager
def _quiet() -> Iterator[None]:
    """What the parts log meanwhile is in the findings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
