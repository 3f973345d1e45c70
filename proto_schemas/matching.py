"""Whether a route takes an event type: exactly, by `prefix*`, or by `*`. One rule for senders, receivers and
the coordinators' door."""

from collections.abc import Iterable


class Patterns:
    """What some patterns take, made ready to be asked for every event."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, patterns: Iterable[str]) -> None:
        given = list(patterns)
        self._exact = frozenset(pattern for pattern in given if not pattern.endswith("*"))
        self._prefixes = tuple(pattern[:-1] for pattern in given if pattern.endswith("*"))

    def take(self, event_type: str) -> bool:
        """Whether one of them takes the type."""
        return event_type in self._exact or event_type.startswith(self._prefixes)


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of `patterns` takes the type."""
    return Patterns(patterns).take(event_type)


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, and what would be right; None when it is one."""
    if not pattern:
        return "empty: name an event type, a 'prefix*', or '*'"
    if "*" in pattern[:-1]:
        return f"{pattern[:80]!r}: a '*' stands only at the end, as in 'Door*'"
    return None
