"""Reading the journal back: what the segments in a directory add up to. Nothing is changed here.

- Reading begins at the newest segment that stands alone. What is older was superseded by it and may be there
  in part, for a power cut can bring some of the removed names back.
- From there on no number may be missing, and each file's header must say the number that its name says: files
  that were swapped or copied over one another are not taken for the log. It also says how large the segment
  before it was, so that one cannot have lost its end.
- Segments are dropped from the oldest on, as a whole, so the oldest one left need not stand alone. But then
  the log cannot be empty: a directory whose older segments were lost must not pass for a new one.
- Entries follow each other without a gap, but for what a truncation voids. Terms, votes within a term, and
  incarnations never go back; every segment has a vote, so the newest vote outlives all older files.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from raft.entries import EngineEntry, Entry, to_engine
from raft.errors import JournalCorrupt
from raft.segment import (
    Header,
    SegmentReader,
    Truncate,
    VoteState,
    read_header,
    segment_numbers,
    segment_path,
)


@dataclass(slots=True)
class Replayed:
    """What the segments add up to; `sealed` are (number, last index) of all but the newest one."""

    header: Header
    vote: VoteState
    entries: list[EngineEntry] = field(default_factory=list)
    sealed: list[tuple[int, int]] = field(default_factory=list)
    newest: bytes = b""
    """The newest segment, as far as it checks out."""
    superseded: list[int] = field(default_factory=list)
    """Numbers of segments that are there and count for nothing."""

    @property
    def first_index(self) -> int:
        """The first entry's index; 0 without entries."""
        return self.entries[0][1] if self.entries else 0

    @property
    def last_index(self) -> int:
        """The last entry's index; 0 without entries."""
        return self.entries[-1][1] if self.entries else 0


def replay(directory: Path, admit: Callable[[Path, Header], None]) -> Replayed | None:
    """Read the journal in `directory`; None if there is none. `admit` raises on a header it does not like.

    Raises `JournalCorrupt`, `FormatTooNew`, OSError, and what `admit` raises.
    """
    numbers = segment_numbers(directory)
    if not numbers:
        return None
    start = _first_that_counts(directory, numbers)
    found: Replayed | None = None
    for number in numbers[start:]:
        path = segment_path(directory, number)
        reader = SegmentReader(path, path.read_bytes(), is_last=number == numbers[-1])
        found = _read_segment(reader, number, found, admit)
    assert found is not None
    if not found.entries and not read_header(segment_path(directory, numbers[start])).stands_alone:
        cause = "no entry is left, and the segments before it are missing"
        raise JournalCorrupt(str(segment_path(directory, numbers[start])), 0, cause)
    found.superseded = numbers[:start]
    return found


def _first_that_counts(directory: Path, numbers: list[int]) -> int:
    """Position of the newest segment that stands alone; 0 if none does."""
    for position in range(len(numbers) - 1, 0, -1):
        if read_header(segment_path(directory, numbers[position])).stands_alone:
            return position
    return 0


def _read_segment(
    reader: SegmentReader, number: int, found: Replayed | None, admit: Callable[[Path, Header], None]
) -> Replayed:
    header = reader.header()
    admit(reader.path, header)
    if header.number != number:
        raise reader.corrupt(f"it is segment {header.number} under the name of segment {number}")
    if found is not None:
        _check_goes_on(reader, header, found)
    records = iter(reader)
    vote = next(records, None)
    if not isinstance(vote, VoteState):
        raise reader.corrupt("it does not begin with a vote")
    if found is None:
        found = Replayed(header, vote)
    else:
        found.sealed.append((found.header.number, found.last_index))
        found.header = header
        _take_vote(reader, found, vote)
    for record in records:
        match record:
            case VoteState():
                _take_vote(reader, found, record)
            case Entry(index=index):
                if found.entries and index != found.last_index + 1:
                    raise reader.corrupt(f"entry {index} follows entry {found.last_index}")
                found.entries.append(to_engine(record))
            case Truncate(index):
                if found.entries:
                    del found.entries[max(0, index - found.entries[0][1]) :]
            case Header():
                raise reader.corrupt("a second header")
    found.newest = reader.data[: reader.at]
    return found


def _check_goes_on(reader: SegmentReader, header: Header, found: Replayed) -> None:
    before = found.header.number
    if header.number != before + 1:
        raise reader.corrupt(f"segment {before + 1} is missing before it")
    if header.previous_bytes not in (None, len(found.newest)):
        cause = f"segment {before} had {header.previous_bytes} bytes when this one was begun, and now has "
        raise reader.corrupt(f"{cause}{len(found.newest)}")


def _take_vote(reader: SegmentReader, found: Replayed, vote: VoteState) -> None:
    old = found.vote
    changed = vote.term == old.term and old.voted_for not in (None, vote.voted_for)
    if vote.term < old.term or vote.incarnation < old.incarnation or changed:
        raise reader.corrupt(f"{_told(vote)} goes back behind {_told(old)}")
    found.vote = vote


def _told(vote: VoteState) -> str:
    return f"term {vote.term} (vote for {vote.voted_for or 'nobody'}, start {vote.incarnation})"
