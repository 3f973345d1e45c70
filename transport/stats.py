"""Counters of a connection: plain integers, cheap on the hot path; a collector exports them."""

from collections import Counter
from dataclasses import dataclass, field

from transport.errors import ErrorKind


@dataclass(slots=True)
class Stats:
    """What happened on a connection since it was made."""

    publishes: int = 0
    refused_publishes: int = 0
    requests: int = 0
    request_errors: Counter[ErrorKind] = field(default_factory=Counter)
    late_replies: int = 0
    reconnects: int = 0
    server_errors: int = 0
    dropped_messages: int = 0
    handler_errors: int = 0
    malformed_messages: int = 0
    refused_signatures: Counter[str] = field(default_factory=Counter)
