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

from typing import TYPE_CHECKING

from raft.entries import NOOP_BYTES
from raft.generation import Generation
from tests.simulation.ledger import Broken, History, Record, entries_of
from tests.simulation.store import Applications, Store

if TYPE_CHECKING:
    from raft.succession import Succession


class Violation(AssertionError):
    """A rule broke. The text is the whole report: rule, trace, machines."""


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

    def answered(self, name: str, core: "Succession") -> None:
        """Answers leave before the engine works, and the power may fail then: the disk holds them."""
        history = self._history(name, core) if core.failure is None else None
        record = history.records.get(name) if history is not None else None
        if history is None or record is None:
            return
        if core.journal.dirty:
            raise Broken(f"{name} answers before its journal was synced")
        history.look(record, core.journal)

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
