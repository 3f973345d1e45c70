"""What feeds did, as numbers that only grow, for metrics."""

from typing import NamedTuple


class Counts(NamedTuple):
    """Outputs and batches stored; attempts to store one that failed; outputs that a copy before had stored;
    those that went through connectors again; messages that were removed from the stream unread; copies that
    were fenced off."""

    outputs: int = 0
    batches: int = 0
    attempts_failed: int = 0
    replayed: int = 0
    sent_again: int = 0
    expired: int = 0
    fenced: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """The sums of both."""
        return Counts(*(one + more for one, more in zip(self, other, strict=True)))
