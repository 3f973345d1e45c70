"""What the rules know of one generation: its committed log, its leaders, and who holds how much of it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from raft.entries import NOOP_BYTES, SEAL, EngineEntry, from_engine
from raft.generation import Sealed, decode_seal

if TYPE_CHECKING:
    from raft.journal import Journal


class Broken(Exception):
    """A rule broke, in a few words; whoever runs the cluster makes a `Violation` of it."""


def entries_of(journal: "Journal") -> list[EngineEntry]:
    """A copy of the log in memory."""
    entries = journal[:]
    assert isinstance(entries, list)
    return entries


@dataclass
class Record:
    """What the rules remember of one machine, in the generation it is in."""

    name: str
    log: list[EngineEntry] = field(default_factory=list)
    """As of its last step."""
    durable: int = 0
    """The last index that is on its disk."""
    commit_index: int = 0
    verified: tuple[int, int] = (0, 0)
    """(index, term) of the last entry that log matching was checked for."""
    led: int = 0
    """The last term it led."""


@dataclass
class History:
    """What is known of one generation. Its log begins with entry `base`, on which its members agree without
    a vote: the seal of the generation before, or entry 1 of term 0.
    """

    number: int
    members: tuple[str, ...]
    base: int
    committed: list[tuple[int, int]]
    """From `base` on: (term of the entry, term of the leader that committed it)."""
    records: dict[str, Record] = field(default_factory=dict)
    match: dict[str, int] = field(default_factory=dict)
    """Machine -> the last index up to which its durable log agrees with the committed one."""
    leaders: dict[int, str] = field(default_factory=dict)
    served: set[int] = field(default_factory=set)
    """Terms in which a leader with all that was committed applied took calls."""
    seal: Sealed | None = None
    """Where it ends, once that is committed."""
    entries: dict[tuple[int, int], bytes] = field(default_factory=dict)
    before: dict[tuple[int, int], int] = field(default_factory=dict)
    """(index, term) -> term of the entry before it."""

    @property
    def end(self) -> int:
        """The last committed index."""
        return self.base + len(self.committed) - 1

    # -- checks ------------------------------------------------

    def look(self, record: Record, journal: "Journal") -> None:
        """Take a new look at a machine's log, and at how much of the committed one it has durably."""
        record.log, record.durable = entries_of(journal), journal.synced_index
        self._follow(record)

    def _follow(self, record: Record) -> None:
        """How much of the committed log the machine has durably never becomes less."""
        first, index = record.log[0][1], min(record.durable, self.end)
        lowest = max(first, self.base)
        while index >= lowest and record.log[index - first][2] != self.committed[index - self.base][0]:
            index -= 1
        index = max(index, min(first - 1, self.end))
        if index < self.match.get(record.name, 0):
            held = self.match[record.name]
            raise Broken(f"{record.name} held committed entry {held} and now agrees only to {index}")
        self.match[record.name] = index

    def log_matching(self, record: Record) -> None:
        """Entries with the same index and term are the same, and so are all before them."""
        first, (index, term) = record.log[0][1], record.verified
        known = 0 <= index - first < len(record.log) and record.log[index - first][2] == term
        start = index - first if known else 0
        for (_, _, former), (command, index, term) in pairwise(record.log[start:]):
            at = (index, term)
            if self.entries.setdefault(at, command) != command:
                raise Broken(f"{record.name} holds another command at {index}@{term} than somebody before")
            if self.before.setdefault(at, former) != former:
                raise Broken(f"{record.name} holds {index}@{term} behind an entry of term {former}")
        record.verified = record.log[-1][1:]

    def elected(self, record: Record, term: int) -> None:
        """One leader per term, and it holds all that was committed before."""
        record.led = term
        if self.leaders.setdefault(term, record.name) != record.name:
            raise Broken(f"two leaders in term {term}: {self.leaders[term]} and {record.name}")
        if record.name not in self.members:
            raise Broken(f"{record.name} leads generation {self.number} and is no member of it")
        first = record.log[0][1]
        for index in range(self.end, max(first, self.base, self.match.get(record.name, 0)) - 1, -1):
            entry_term, committed_in = self.committed[index - self.base]
            inside = index - first < len(record.log)
            if committed_in < term and not (inside and record.log[index - first][2] == entry_term):
                raise Broken(
                    f"{record.name} leads term {term} and lacks committed entry {index}@{entry_term}"
                )

    def commit(self, record: Record, commit_index: int, term: int) -> None:
        """Entries up to `commit_index` count as committed: a majority must hold them durably."""
        first = record.log[0][1]
        for index in range(self.end + 1, commit_index + 1):
            if not 0 <= index - first < len(record.log):
                raise Broken(f"{record.name} committed entry {index}, which its log does not hold")
            self.committed.append((record.log[index - first][2], term))
            self._note_seal(record.log[index - first])
        for other in self.records.values():
            if other.log:
                self._follow(other)
        holders = sum(self.match.get(member, 0) >= commit_index for member in self.members)
        if holders <= len(self.members) // 2:
            raise Broken(
                f"{record.name} committed entry {commit_index} of term {self.committed[-1][0]} in term "
                f"{term}, and only {holders} of {len(self.members)} machines hold it on disk"
            )

    def _note_seal(self, entry: EngineEntry) -> None:
        """The first seal that names the next generation ends this one."""
        if self.seal is not None or entry[0] == NOOP_BYTES:
            return
        typed = from_engine(entry)
        successor = decode_seal(typed.payload) if typed.kind == SEAL else None
        if successor is not None and successor.number == self.number + 1:
            self.seal = Sealed(typed.index, typed.term, successor)
