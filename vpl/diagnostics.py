"""What the language says about a program, as data.

A diagnostic points at one place (1-based line and column) and pairs what is wrong with what would be right.
All diagnostics of a program travel together in one `VplError`: whoever fixes a program wants the whole list.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

MAX_COMPARED = 500


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One remark: `severity` is "error" (the program is refused) or "warning" (it runs)."""

    severity: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.line}:{self.column}: {self.message}{hint}"


class VplError(Exception):
    """The program is refused; `diagnostics` holds every error found, in source order, and any warnings."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        first = next((d for d in self.diagnostics if d.severity == "error"), self.diagnostics[0])
        more = len(self.diagnostics) - 1
        super().__init__(f"{first} (and {more} more)" if more else str(first))

    def __reduce__(self) -> tuple[type["VplError"], tuple[tuple[Diagnostic, ...]]]:
        return VplError, (self.diagnostics,)


class VplStateError(Exception):
    """A checkpoint cannot be restored; the text gives the cause and the remedy. The engine is as it was."""


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint naming the known word closest to `word`, or None when nothing is close."""
    close = get_close_matches(word, islice(known, MAX_COMPARED), n=1)
    return f"did you mean `{close[0]}`?" if close else None
