"""What `raft.verify` says about a data directory; the field names are those of ``varpulis raft verify -o
json``.
"""

from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, frozen=True):
    """Something to know about a file, with cause and remedy; `offset` in bytes, 0 for the file as a whole.

    **error**: a start would refuse it. **warning**: it may be wrong. **note**: the next start sees to it.
    """

    severity: Severity
    file: str
    offset: int
    text: str


class SegmentReport(msgspec.Struct, frozen=True):
    """One file of the journal, as far as it checks out. Indexes are 0 without entries."""

    file: str
    number: int
    bytes: int
    records: int
    first_index: int
    last_index: int
    torn_bytes: int
    """Bytes at the end that are no whole record: never acknowledged, or being written now."""
    stands_alone: bool


class SnapshotReport(msgspec.Struct, frozen=True):
    """The snapshot: up to which entry its state goes."""

    file: str
    last_index: int
    last_term: int
    bytes: int


class DirectoryReport(msgspec.Struct, frozen=True):
    """The files of one generation. `term` to `last_index` are what a start would go on with."""

    directory: str
    ok: bool
    """Whether there is no error."""
    cluster: str | None
    node: str | None
    generation: int | None
    members: list[str]
    term: int | None
    voted_for: str | None
    incarnation: int | None
    first_index: int
    last_index: int
    segments: list[SegmentReport]
    snapshot: SnapshotReport | None
    findings: list[Finding]


class Report(DirectoryReport, frozen=True):
    """A data directory: its own files, which are those of generation 1, and the later `generations` below.

    `ok` speaks of the newest generation, the one that a start would run.
    """

    generations: list[DirectoryReport]
