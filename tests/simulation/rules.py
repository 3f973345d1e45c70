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

Across generations, each of which has a history of its own:

- **One successor**: a generation begins behind the committed seal of the one before, with the members that
  the first seal there names; no id that was retired is among them.
- **The state goes on**: whoever enters has a base that holds all that was applied up to it, by anybody, and
  nothing else. At each step a machine's state ends with the last command at or below its applied index.
- **Nothing behind a seal**: no machine's state, and no snapshot, goes on in a generation behind its seal.
- **Never two served**: who serves a later generation has a higher term than whoever served an older one.
- **One life, one number**: no process has the incarnation of a former one, whatever its clock says.
- **Removed for good**: a machine that learned of its removal takes no part after a restart either.

The committed log is known from whoever committed first; the rules hold whatever the others think.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from raft.entries import NOOP_BYTES, SEAL, EngineEntry, from_engine
from raft.generation import Generation, Sealed, decode_seal
from tests.simulation.store import Applications, Store

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


class Rules:
    """One cluster's history, through its generations. `members` are those of the first."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.histories = {1: History(1, members, 1, [(0, 0)])}
        self.applications = Applications()
        self.acknowledged: dict[bytes, int | None] = {}
        """Command -> the index it was committed at, if it was told."""
        self.removed: set[str] = set()
        """Machines that said that they were removed."""
        self._incarnations: dict[str, int] = {}

    @property
    def newest(self) -> History:
        """Of the newest generation that anybody was seen in."""
        return self.histories[max(self.histories)]

    def started(self, name: str, core: "Succession") -> None:
        """A process has opened the machine's files."""
        if core.failure is not None:
            return
        if name in self.removed:
            raise Broken(f"{name} was removed, and takes part again")
        incarnation, former = core.letters.incarnation, self._incarnations.get(name, 0)
        if incarnation <= former:
            raise Broken(f"{name} starts as incarnation {incarnation}, and was {former} before")
        self._incarnations[name] = incarnation
        if (history := self._history(name, core)) is not None:
            self._not_behind_seal(history, name, core.applied_index)
            record = history.records[name] = Record(name)
            history.look(record, core.journal)

    def forget(self, name: str) -> None:
        """Another machine will come under this name, which is no member's; or the member lost its disk."""
        self.removed.discard(name)
        self._incarnations.pop(name, None)
        for history in self.histories.values():
            history.records.pop(name, None)
            history.match.pop(name, None)

    def acknowledge(self, command: bytes, index: int | None) -> None:
        """A caller is told that its command is committed; it is the one that was applied there."""
        self.acknowledged[command] = index
        if index is not None and self.applications.at.get(index, (b"",))[0] != command:
            self.applications.contradiction(
                f"a command was acknowledged at index {index}, and another one, or none, counts there"
            )

    def refuse(self, command: bytes, why: object) -> None:
        """A caller is told that its command surely is not and never will be applied."""
        self.applications.refused.add(command)
        if command in self.applications.commands:
            self.applications.contradiction(
                f"a command was applied before it was refused for good ({why!r}): {command[:40]!r}"
            )

    def before_sync(self, name: str, core: "Succession") -> None:
        """The engine has worked, nothing has left yet."""
        history = self._history(name, core) if core.failure is None else None
        if history is None:
            return
        self._not_behind_seal(history, name, core.applied_index)
        if core.commit_index <= history.end:
            return
        record = history.records.setdefault(name, Record(name))
        record.log, record.durable = entries_of(core.journal), core.journal.synced_index
        alone = len(history.members) == 1 and record.log[-1][0] == NOOP_BYTES
        if not alone:  # a node alone commits the no-op of its election at once, which changes nothing
            history.commit(record, core.commit_index, core.term)

    def after_step(self, name: str, core: "Succession", store: Store) -> None:
        """All rules, after everything the machine says has left it."""
        if self.applications.broken is not None:
            raise Broken(self.applications.broken)
        if core.failure is not None and "was removed from the cluster" in core.failure:
            self.removed.add(name)
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
        self._not_behind_seal(history, name, core.applied_index)
        last = self.applications.last_before(core.applied_index)
        if store.last != last:
            raise Broken(
                f"the state of {name} ends with entry {store.last}, and at {core.applied_index} it must end "
                f"with {last}"
            )
        if core.leads_applied and core.term not in history.served:
            self._served(history, name, core.term)

    def at_end(self) -> None:
        """What was acknowledged is there, once."""
        if self.applications.broken is not None:
            raise Broken(self.applications.broken)
        history = {command: index for index, (command, _) in self.applications.at.items()}
        if len(history) != len(self.applications.at):
            raise Broken("a command was applied twice")
        for command, index in self.acknowledged.items():
            if command not in history or index not in (None, history[command]):
                raise Broken(f"the command acknowledged at index {index} is lost: {command[:40]!r}")

    def _history(self, name: str, core: "Succession") -> History | None:
        """Of the machine's generation; None while it waits to be invited. A new one begins behind a seal."""
        generation = core.generation
        if generation.number == 0:
            return None
        history = self.histories.get(generation.number)
        if history is None:
            _, base, term = entries_of(core.journal)[-1]
            self._check_successor(name, generation, base, term)
            history = History(generation.number, generation.members, base, [(term, 0)])
            self.histories[generation.number] = history
        if history.members != generation.members:
            raise Broken(
                f"two generations have the number {generation.number}: {name} has {generation.members}"
            )
        return history

    def _check_successor(self, name: str, generation: Generation, base: int, term: int) -> None:
        before = self.histories.get(generation.number - 1)
        seal = None if before is None else before.seal
        if before is None or seal is None or (seal.index, seal.term) != (base, term):
            raise Broken(f"{name} begins generation {generation.number} behind {base}@{term}, and not {seal}")
        if generation != seal.successor:
            raise Broken(f"{name} begins {generation}, and the seal names {seal.successor}")
        former = {member for history in self.histories.values() for member in history.members}
        if back := sorted((former - set(before.members)) & set(generation.members)):
            raise Broken(f"{', '.join(back)} came back in generation {generation.number}")

    def _not_behind_seal(self, history: History, name: str, applied: int) -> None:
        if history.seal is not None and applied > history.seal.index:
            raise Broken(
                f"{name} has applied {applied} in generation {history.number}, which ended at "
                f"{history.seal.index}"
            )

    def _served(self, history: History, name: str, term: int) -> None:
        history.served.add(term)
        for other in self.histories.values():
            for at in other.served:
                if other is not history and (other.number < history.number) != (at < term):
                    raise Broken(
                        f"{name} serves generation {history.number} in term {term}, and generation "
                        f"{other.number} was served in term {at}"
                    )
