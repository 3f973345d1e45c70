"""Counters of a connection: plain integers, cheap on the hot path; a collector exports them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from transport.durations import REQUEST_BOUNDS, Durations
from transport.errors import ErrorKind

RAW: Final = "raw"


@dataclass(slots=True)
class Stats:
    """What happened on a connection since it was made.

    Attributes:
        request_seconds: from a request to its answer, by the type of the message that was sent; what is no
            message of the wire is `RAW`.
    """

    publishes: int = 0
    refused_publishes: int = 0
    requests: int = 0
    request_errors: Counter[ErrorKind] = field(default_factory=Counter)
    request_seconds: dict[str, Durations] = field(default_factory=dict)
    late_replies: int = 0
    reconnects: int = 0
    server_errors: int = 0
    dropped_messages: int = 0
    handler_errors: int = 0
    malformed_messages: int = 0
    refused_signatures: Counter[str] = field(default_factory=Counter)

    def answered(self, kind: str, seconds: float) -> None:
        """Count a request that was answered."""
        seen = self.request_seconds.get(kind)
        if seen is None:
            seen = self.request_seconds[kind] = Durations(REQUEST_BOUNDS)
        seen.observe(seconds)
