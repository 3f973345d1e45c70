"""What a follower may pass on to the engine of an append, by Raft 5.3.

PySyncObj deletes everything after ``prev_index`` on each append, a heartbeat included, and commits up to
``min(leader's commit, own last)``. Both break Raft: a follower would lack, for a moment, entries it has
acknowledged, or apply what this leader never verified. So the append is rewritten against the log before the
engine sees it:

- ``prev`` is not in our log, or of another term: pass on; the engine answers "reset" and touches nothing.
- ``prev`` lies before our first entry (compacted, therefore committed, therefore agreed): compare from our
  first entry on, when the message reaches that far; else pass on.
- Let V be the last index up to which message and log agree. Entries remain after V: pass on only those,
  behind V (our log ends there, or entry V+1 truly conflicts). None remain and our log goes on: pass on a
  heartbeat at our own last entry, and cap the acknowledgement at V+1, for beyond V nothing was compared.
- In each case commit at most what this message verified.

Pure: a message and a view of the log in, a message and a cap out.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from raft.entries import Entry


class LogView(Protocol):
    """What reconciling needs to know of a log."""

    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    def term_at(self, index: int) -> int:
        """Term of the entry at `index`, which lies between first and last."""
        ...


class AppendView(NamedTuple):
    """An append as the engine is to see it."""

    prev_index: int
    prev_term: int
    commit_index: int
    entries: Sequence[Entry]


class Reconciled(NamedTuple):
    """`append` to pass on; `ack_cap`: the highest next_index the answer may carry (None: no cap);
    `conflict`: the index of the first own entry that passing it on deletes (None: nothing is deleted).
    """

    append: AppendView
    ack_cap: int | None
    conflict: int | None


def reconcile(append: AppendView, log: LogView) -> Reconciled:
    """Rewrite `append` against `log` by the rules above. Entries must continue each other from ``prev_index +
    1``.
    """
    first, last = log.first_index, log.last_index
    verified, term, entries = append.prev_index, append.prev_term, append.entries
    if verified < first:
        if not entries or entries[-1].index < first:
            return Reconciled(append, None, None)
        at_first = entries[first - verified - 1]
        verified, term, entries = at_first.index, at_first.term, entries[first - verified :]
    if verified > last or log.term_at(verified) != term:
        return Reconciled(append, None, None)
    if last == append.prev_index and entries and append.commit_index <= entries[-1].index:
        return Reconciled(append, None, None)  # what the loop below would say of nearly every append

    agreeing = 0
    for entry in entries:
        if entry.index > last or log.term_at(entry.index) != entry.term:
            break
        verified, term, agreeing = entry.index, entry.term, agreeing + 1
    rest = entries[agreeing:]
    if rest:
        commit = min(append.commit_index, rest[-1].index)
        conflict = verified + 1 if verified < last else None
        return Reconciled(AppendView(verified, term, commit, rest), None, conflict)
    heartbeat = AppendView(last, log.term_at(last), min(append.commit_index, verified), ())
    return Reconciled(heartbeat, verified + 1 if verified < last else None, None)
