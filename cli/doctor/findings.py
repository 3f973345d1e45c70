"""What a check says, and what a check is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cli.doctor.site import Site


class Result(StrEnum):
    """How it is; the later, the worse, but for what was not looked at."""

    SKIPPED = "skipped"
    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


_ORDER: Final = (Result.SKIPPED, Result.OK, Result.WARNING, Result.FAULT)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `about`: which; `found`: what was seen; `remedy`: what to do."""

    result: Result
    about: str
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table.

    Attributes:
        name: as it may be asked for.
        looks_at: in words.
        look: yields the findings; what it yielded before it failed or was given up counts.
        seconds: after which it is given up.
        late: what it means that it was, and the remedy.
    """

    name: str
    looks_at: str
    look: "Callable[[Site], Iterable[Finding]]"
    seconds: float = 10.0
    late: tuple[Result, str] = (Result.FAULT, "see what holds it up, and run it again")


@dataclass(slots=True)
class Examined:
    """What became of one check."""

    check: Check
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def result(self) -> Result:
        """The worst of its findings."""
        return worst(finding.result for finding in self.findings)


def worst(results: Iterable[Result]) -> Result:
    """The worst of several; `skipped` of none."""
    return max(results, key=_ORDER.index, default=Result.SKIPPED)


def ok(about: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(Result.OK, about, found)


def warning(about: str, found: str, remedy: str) -> Finding:
    """It works, and might not for ever."""
    return Finding(Result.WARNING, about, found, remedy)


def fault(about: str, found: str, remedy: str) -> Finding:
    """It does not work, or will not when it is needed."""
    return Finding(Result.FAULT, about, found, remedy)


def skipped(about: str, why: str) -> Finding:
    """It was not looked at."""
    return Finding(Result.SKIPPED, about, why)


def judged(about: str, error: Exception) -> Finding:
    """A fault from an error of ours, whose text is `cause: remedy`, as all of them are."""
    cause, colon, remedy = str(error).rpartition(": ")
    return fault(about, cause, remedy) if colon else fault(about, str(error), "correct it")
