"""How late an event loop comes to what is due: the time others of the same process take from everybody.

It has no timer of its own, which would wake an idle process: whoever wakes at a known time anyway says how
late that was. `HttpServer` does, once a second, for the date of its answers.
"""

from transport.durations import LATENCY_BOUNDS, Durations


class LoopLag:
    """Attributes:
    seconds: how late each wake was.
    last: the last one, in seconds.
    """

    def __init__(self) -> None:
        self.seconds = Durations(LATENCY_BOUNDS)
        self.last = 0.0

    def woke(self, due: float, now: float) -> None:
        """A wake that was due at `due` came at `now`, both in the seconds of the loop's clock."""
        self.last = max(now - due, 0.0)
        self.seconds.observe(self.last)
