"""Checking a node's files without starting it: `verify` reads every byte of them and changes none.

What a start would refuse is an **error**, with the text of that start; what a start mends by itself is a
**note**, and so is whatever older generations have left, for they are never opened again. So a directory is
`ok` when the node would start on it with all that its files can tell. They cannot tell that the newest files
of all are missing, or the last records of the newest segment: such a directory is an older copy of itself.

Damage never raises here, it is reported. `raft.examination` looks at the files of one generation.
"""

import re
from pathlib import Path

import msgspec

from raft.disk import Disk
from raft.errors import RaftError
from raft.examination import examine
from raft.generation import Shelf
from raft.report import DirectoryReport, Finding, Report

_GENERATION = re.compile(r"generation-(\d{10})")


def verify(directory: Path) -> Report:
    """Read all files of a node, running or not."""
    numbers = _generations(directory)
    own = examine(directory, empty_is_fine=bool(numbers))
    *older, newest = [own, *(_examine_generation(directory, number) for number in numbers)]
    own, *later = [*map(_of_the_past, older), newest]
    return Report(**{**msgspec.structs.asdict(own), "ok": newest.ok, "generations": later})


def _generations(directory: Path) -> list[int]:
    try:
        names = (_GENERATION.fullmatch(path.name) for path in directory.iterdir())
        return sorted(int(name[1]) for name in names if name)
    except OSError:  # the examination of the directory says it
        return []


def _examine_generation(directory: Path, number: int) -> DirectoryReport:
    """The files of a later generation, with the one that says which generation this is."""
    path = directory / f"generation-{number:010d}"
    report = examine(path)
    if report.cluster is None or report.node is None:
        return report
    try:
        Shelf(directory, report.cluster, report.node, Disk()).newest(below=number + 1)
    except (RaftError, OSError) as error:
        finding = Finding("error", str(path / "generation"), 0, str(error))
        return msgspec.structs.replace(report, ok=False, findings=[*report.findings, finding])
    return report


def _of_the_past(report: DirectoryReport) -> DirectoryReport:
    findings = [
        Finding("note", found.file, found.offset, f"of an older generation, no longer opened: {found.text}")
        for found in report.findings
    ]
    return msgspec.structs.replace(report, ok=True, findings=findings)
