"""Looking at the files of one generation, for `raft.verify`.

Three passes, each with its own findings: every segment by itself, record by record; the segments together,
by the very `replay` of a start; the snapshot, and whether the journal goes on from where it ends.

A running node goes on meanwhile. Its newest segment grows, so what is half written looks torn. The journal
is read before the snapshot: a journal only drops what a snapshot holds already, so in this order the two fit
at whatever moments they are read. Files come and go: an error counts only if none did while they were read;
otherwise all is read again, a bounded number of times.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from raft.entries import Entry
from raft.errors import FormatTooNew, JournalCorrupt, RaftError, SnapshotCorrupt
from raft.replay import Replayed, replay
from raft.report import DirectoryReport, Finding, SegmentReport, Severity, SnapshotReport
from raft.segment import Header, SegmentReader, segment_numbers, segment_path
from raft.snapshot import SnapshotFile

_ATTEMPTS = 20
_PIECE = 1024 * 1024


def examine(directory: Path, *, empty_is_fine: bool = False) -> DirectoryReport:
    """Read the files of one generation; damage is reported and never raises."""
    for _ in range(_ATTEMPTS):
        before = _as_it_stands(directory)
        examination = _Examination(directory, empty_is_fine)
        examination.run()
        if examination.report().ok or _as_it_stands(directory) == before:
            return examination.report()
    text = "its files came and went while they were read, each time anew. Read it again, or stop the node"
    examination.found("warning", directory, text)
    return examination.report()


def _as_it_stands(directory: Path) -> list[tuple[str, int]]:
    """Names and inodes: what is found amiss counts only if these stood still meanwhile."""
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.name, entry.inode()) for entry in entries)
    except OSError:
        return []


@dataclass(slots=True)
class _Examination:
    directory: Path
    empty_is_fine: bool
    segments: list[SegmentReport] = field(default_factory=list)
    header: Header | None = None
    """Of the newest segment that has one."""
    replayed: Replayed | None = None
    snapshot: SnapshotReport | None = None
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> None:
        """Read everything."""
        try:
            self._read_segments()
            self._read_journal()
            self._read_snapshot()
            self._look_for_remains()
        except OSError as error:
            where = Path(error.filename or self.directory)
            self.found("error", where, f"it cannot be read: {error}. Check the disk, and who may read it")

    def report(self) -> DirectoryReport:
        """What was found up to now."""
        header, found = self.header, self.replayed
        return DirectoryReport(
            directory=str(self.directory),
            ok=all(finding.severity != "error" for finding in self.findings),
            cluster=header.cluster if header else None,
            node=header.node if header else None,
            generation=header.generation if header else None,
            members=list(header.members) if header else [],
            term=found.vote.term if found else None,
            voted_for=found.vote.voted_for if found else None,
            incarnation=found.vote.incarnation if found else None,
            first_index=found.first_index if found else 0,
            last_index=found.last_index if found else 0,
            segments=self.segments,
            snapshot=self.snapshot,
            findings=self.findings,
        )

    def found(self, severity: Severity, file: Path, text: str, offset: int = 0) -> None:
        """Add a finding, once."""
        finding = Finding(severity, str(file), offset, text)
        if finding not in self.findings:
            self.findings.append(finding)

    # -- the journal -------------------------------------------

    def _read_segments(self) -> None:
        numbers = segment_numbers(self.directory)
        for number in numbers:
            path = segment_path(self.directory, number)
            data = path.read_bytes()
            self._read_segment(SegmentReader(path, data, is_last=number == numbers[-1]), number)
        if not numbers and not self.empty_is_fine:
            text = (
                "there is no journal in it. Either no node ever started here, or its files were lost: then "
                "replace the node under a new id, and never start it on an empty directory under the old one"
            )
            self.found("error", self.directory, text)

    def _read_segment(self, reader: SegmentReader, number: int) -> None:
        header: Header | None = None
        records, indexes = 0, []
        try:
            header = self.header = reader.header()
            records = 1
            for record in reader:
                records += 1
                if isinstance(record, Entry):
                    indexes.append(record.index)
        except (JournalCorrupt, FormatTooNew) as error:
            self.found("error", reader.path, str(error), reader.at)
            torn = 0
        else:
            torn = len(reader.data) - reader.at
        if torn:
            text = (
                f"{torn} bytes at its end are no whole record. They were never acknowledged, or are being "
                "written now; a start cuts them off"
            )
            self.found("note", reader.path, text, reader.at)
        self.segments.append(
            SegmentReport(
                file=str(reader.path),
                number=number,
                bytes=len(reader.data),
                records=records,
                first_index=indexes[0] if indexes else 0,
                last_index=indexes[-1] if indexes else 0,
                torn_bytes=torn,
                stands_alone=header.stands_alone if header else False,
            )
        )

    def _read_journal(self) -> None:
        try:
            self.replayed = replay(self.directory, self._admit)
        except JournalCorrupt as error:
            self.found("error", Path(error.file), str(error), error.offset)
        except FormatTooNew as error:
            self.found("error", Path(error.file), str(error))
        else:
            self._note_superseded()

    def _admit(self, path: Path, header: Header) -> None:
        newest = self.header or header
        for what, found, expected in (
            ("cluster", header.cluster, newest.cluster),
            ("node", header.node, newest.node),
            ("generation", header.generation, newest.generation),
        ):
            if found != expected:
                cause = f"it was written by {what} {found!r}, and the newest segment by {expected!r}"
                raise JournalCorrupt(str(path), 0, cause)

    def _note_superseded(self) -> None:
        """What is wrong in a segment that counts for nothing is no error."""
        if self.replayed is None:
            return
        past = {str(segment_path(self.directory, number)) for number in self.replayed.superseded}
        self.findings = [
            Finding("note", finding.file, finding.offset, f"a later segment replaces it: {finding.text}")
            if finding.file in past
            else finding
            for finding in self.findings
        ]

    # -- the snapshot ------------------------------------------

    def _read_snapshot(self) -> None:
        path = self.directory / "snapshot"
        if path.exists():
            try:
                self._check_snapshot(path, SnapshotFile(path))
            except RaftError as error:
                self.found("error", path, str(error))
        if self.snapshot is None and self.replayed is not None and self.replayed.first_index > 1:
            self._misfit(path, 0)

    def _check_snapshot(self, path: Path, file: SnapshotFile) -> None:
        crc = 0
        for offset in range(0, file.size, _PIECE):
            crc = google_crc32c.extend(crc, file.read(offset, _PIECE))
        if crc != file.crc:
            raise SnapshotCorrupt(str(path), "its checksum does not match")
        last = file.header.last
        self.snapshot = SnapshotReport(str(path), last.index, last.term, file.size)
        if self.header is not None:
            for what, found, expected in (
                ("cluster", file.header.cluster, self.header.cluster),
                ("generation", file.header.generation, self.header.generation),
            ):
                if found != expected:
                    cause = f"it was written by {what} {found!r}, and the journal by {expected!r}"
                    raise SnapshotCorrupt(str(path), cause)
        if self.replayed is None:
            return
        if not self.replayed.entries:
            raise SnapshotCorrupt(str(path), "the journal beside it is missing, and with it the vote")
        if self.replayed.first_index > last.index + 1:
            self._misfit(path, last.index)
        elif self.replayed.last_index < last.index:
            text = f"it goes on to entry {last.index}, past the journal's end; a start takes over its state"
            self.found("note", path, text)

    def _misfit(self, path: Path, end: int) -> None:
        assert self.replayed is not None
        first = self.replayed.first_index
        cause = f"the journal begins at entry {first}, but the snapshot ends at {end}"
        self.found("error", path, str(SnapshotCorrupt(str(path), cause)))

    def _look_for_remains(self) -> None:
        for path in sorted(self.directory.glob("*.tmp")):
            if path.is_file():
                text = "a file that was never finished, or is being written now. It counts for nothing"
                self.found("note", path, text)
