"""Token buckets: how often somebody may, in bounded memory.

A bucket holds `burst` tokens and gets `rate` a second; each request takes one. Nobody's bucket is kept for
longer than it takes to fill up: a full one is a new one. `MOST` buckets at once; beyond that the one used
longest ago is forgotten, so a flood of names costs memory to nobody, and gives at most a fresh burst.

No clock in here: the time comes with the question, in seconds.
"""

from collections import OrderedDict
from typing import Final

MOST: Final = 10_000


class Throttle:
    """The buckets of many names.

    Args:
        rate: tokens a second; 0: no limit.
        burst: tokens of a full bucket, at least 1.

    Attributes:
        refused: how many were held back.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, max(burst, 1.0)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, now: float) -> float:
        """Take a token: 0, or when there is none the seconds until there is one."""
        if not self._rate:
            return 0.0
        tokens = self._tokens(name, now)
        if tokens < 1.0:
            self.refused += 1
            return (1.0 - tokens) / self._rate
        self._put(name, tokens - 1.0, now)
        return 0.0

    def left(self, name: str, now: float) -> float:
        """As `take`, without taking one."""
        tokens = self._tokens(name, now) if self._rate else 1.0
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate

    def _tokens(self, name: str, now: float) -> float:
        tokens, at = self._buckets.get(name, (self._burst, now))
        return min(self._burst, tokens + max(now - at, 0.0) * self._rate)

    def _put(self, name: str, tokens: float, now: float) -> None:
        self._buckets[name] = (tokens, now)
        self._buckets.move_to_end(name)
        while len(self._buckets) > MOST or self._oldest_is_full(now):
            self._buckets.popitem(last=False)

    def _oldest_is_full(self, now: float) -> bool:
        name = next(iter(self._buckets), None)
        return name is not None and self._tokens(name, now) >= self._burst
