"""A remark on a program with the line it is about and a mark below the place, as compilers print it.

doors.vpl:3:23: error: unknown function `contain`
    stream Held = Door.where(contain(site, "a"))
                             ^ did you mean `contains`?
"""

from rich.cells import cell_len

from vpl import Diagnostic

WIDTH = 100
_BEFORE = 40
"""Characters kept before the place, of a line that is too long to be shown."""


def excerpt(where: str, source: str, remark: Diagnostic) -> str:
    """The remark in up to three lines; `where` names the program."""
    hint = f" {remark.hint}" if remark.hint else ""
    head = f"{where}:{remark.line}:{remark.column}: {remark.severity}: {remark.message}"
    lines = source.split("\n")
    if not 0 < remark.line <= len(lines):
        return f"{head}\n    {hint.strip()}" if hint else head
    line, place = _shortened(lines[remark.line - 1].rstrip("\r"), remark.column - 1)
    mark = " " * cell_len(line[:place])
    return f"{head}\n    {line.rstrip()}\n    {mark}^{hint}"


def _shortened(line: str, place: int) -> tuple[str, int]:
    """The part of a line around a place, blanks for what moves the cursor, and the place in it."""
    line = "".join(character if character.isprintable() else " " for character in line)
    if len(line) <= WIDTH:
        return line, place
    first = max(0, place - _BEFORE)
    part = line[first : first + WIDTH]
    before, after = "..." if first else "", "..." if first + WIDTH < len(line) else ""
    return before + part + after, place - first + len(before)
