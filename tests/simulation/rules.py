"""The safety rules of Raft, checked against all machines after each step of one of them.

- **Election safety**: one leader per term and generation, and a member of it.
- **Log matching**: two logs that hold an entry with the same index and term hold the same command there, and
  entries of the same term before it; so by induction all before is the same.
- **Durable majority**: at the moment somebody counts an entry as committed, a majority holds it on its disk,
  *synced*. Checked before a step's sync as well, so a leader that counts a copy of its own which is not on
  its disk yet is found.
- **Nothing committed is lost or changed**: what a machine held durably of the committed log it holds for
  ever, through crashes, in its journal or below its snapshot.
- **Leader completeness**: a new leader holds all that was committed in former terms.
- **Commit never goes back** while a process lives, and nothing leaves before the journal is synced.
- Applied histories are equal at each index (`tests.simulation.store`); what was acknowledged is in the log,
  once; what was refused is not.

A generation has a history of its own, which begins behind a committed entry of the one before; what was
committed behind that entry in the old one is void. The committed log is known from whoever committed first;
the rules hold whatever the others think.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from raft.entries import NOOP_BYTES, EngineEntry
from tests.simulation.store import Applications

if TYPE_CHECKING:
    from raft.journal import Journal
    from raft.succession import Succession


class Violation(AssertionError):
    """A rule broke. The text is the whole report: rule, trace, machines."""


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
        for other in self.records.values():
            if other.log:
                self._follow(other)
        holders = sum(self.match.get(member, 0) >= commit_index for member in self.members)
        if holders <= len(self.members) // 2:
            raise Broken(
                f"{record.name} committed entry {commit_index} of term {self.committed[-1][0]} in term "
                f"{term}, and only {holders} of {len(self.members)} machines hold it on disk"
            )


class Rules:
    """One cluster's history, through its generations. `members` are those of the first."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.histories = {1: History(1, members, 1, [(0, 0)])}
        self.applications = Applications()
        self.acknowledged: dict[bytes, int | None] = {}
        """Command -> the index it was committed at, if it was told."""

    @property
    def newest(self) -> History:
        """Of the newest generation that anybody was seen in."""
        return self.histories[max(self.histories)]

    def started(self, name: str, core: "Succession") -> None:
        """A process has opened the machine's files."""
        if core.failure is None and (history := self._history(name, core)) is not None:
            record = history.records[name] = Record(name)
            history.look(record, core.journal)

    def before_sync(self, name: str, core: "Succession") -> None:
        """The engine has worked, nothing has left yet."""
        history = self._history(name, core) if core.failure is None else None
        if history is None or core.commit_index <= history.end:
            return
        record = history.records.setdefault(name, Record(name))
        record.log, record.durable = entries_of(core.journal), core.journal.synced_index
        alone = len(history.members) == 1 and record.log[-1][0] == NOOP_BYTES
        if not alone:  # a node alone commits the no-op of its election at once, which changes nothing
            history.commit(record, core.commit_index, core.term)

    def after_step(self, name: str, core: "Succession") -> None:
        """All rules, after everything the machine says has left it."""
        if self.applications.broken is not None:
            raise Broken(self.applications.broken)
        history = self._history(name, core) if core.failure is None else None
        if history is None:
            return
        first_seen = name not in history.records
        record, journal = history.records.setdefault(name, Record(name)), core.journal
        if journal.dirty and not first_seen:  # what left in this step was of the generation before
            raise Broken(f"{name} let frames out before its journal was synced")
        if core.commit_index < record.commit_index:
            raise Broken(f"the commit index of {name} went back to {core.commit_index}")
        record.commit_index = core.commit_index
        history.look(record, journal)
        history.log_matching(record)
        if core.is_leader and record.led != core.term:
            history.elected(record, core.term)
        if core.commit_index > history.end:
            history.commit(record, core.commit_index, core.term)

    def at_end(self) -> None:
        """What was acknowledged is there, once; what was refused is not."""
        history = {command: index for index, (command, _) in self.applications.at.items()}
        if len(history) != len(self.applications.at):
            raise Broken("a command was applied twice")
        for command, index in self.acknowledged.items():
            if command not in history or index not in (None, history[command]):
                raise Broken(f"the command acknowledged at index {index} is lost: {command[:40]!r}")
        if wrong := self.applications.refused & history.keys():
            raise Broken(f"a command was applied before it was refused for good: {min(wrong)[:40]!r}")

    def _history(self, name: str, core: "Succession") -> History | None:
        """Of the machine's generation; None while it waits to be invited. A new one begins behind a seal."""
        generation = core.generation
        if generation.number == 0:
            return None
        history = self.histories.get(generation.number)
        if history is None:
            _, base, term = entries_of(core.journal)[-1]
            before = self.histories.get(generation.number - 1)
            if before is None or not before.base <= base <= before.end:
                raise Broken(f"{name} begins generation {generation.number} behind {base}, which is no seal")
            if before.committed[base - before.base][0] != term:
                raise Broken(
                    f"{name} begins generation {generation.number} behind another entry than {base}@{term}"
                )
            history = History(generation.number, generation.members, base, [(term, 0)])
            self.histories[generation.number] = history
        if history.members != generation.members:
            raise Broken(
                f"two generations have the number {generation.number}: {name} has {generation.members}"
            )
        return history
