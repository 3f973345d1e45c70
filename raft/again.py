"""Calls that are kept while one generation has ended and the next not begun, bounded by count and by bytes.

They came behind the seal, or would: they had no effect, so they may be made again.
"""

from collections.abc import Callable

MOST = 4_096
MOST_BYTES = 32 * 1024 * 1024


class Again:
    """Calls in the order in which they were kept."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._bytes = 0

    def keep(self, call: Callable[[], None], size: int) -> bool:
        """Keep a call, of a command of `size` bytes; whether there is room."""
        if len(self._calls) >= MOST or self._bytes + size > MOST_BYTES:
            return False
        self._calls.append(call)
        self._bytes += size
        return True

    def make(self) -> None:
        """Make all of them."""
        calls, self._calls, self._bytes = self._calls, [], 0
        for call in calls:
            call()
