"""Whether a route takes an event type: exactly, by `prefix*`, or by `*`. One rule for senders, receivers and
the coordinators' door."""

from collections.abc import Iterable


def matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of `patterns` takes the type."""
    return any(
        event_type.startswith(pattern[:-1]) if pattern.endswith("*") else event_type == pattern
        for pattern in patterns
    )


def fault_of(pattern: str) -> str | None:
    """What is wrong with a pattern, and what would be right; None when it is one."""
    if not pattern:
        return "empty: name an event type, a 'prefix*', or '*'"
    if "*" in pattern[:-1]:
        return f"{pattern[:80]!r}: a '*' stands only at the end, as in 'Door*'"
    return None
