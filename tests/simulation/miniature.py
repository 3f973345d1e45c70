"""The product's sizes, made small: segments, snapshot chunks and batches of tens to thousands of bytes.

What happens in production once in a gigabyte (a segment that is full, a snapshot of a thousand chunks, a
backlog of many batches) happens here all the time, with commands of a few bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import raft.fetch
import raft.follower
import raft.replication
import raft.transfer
from raft.journal import Journal

SEGMENT_BYTES = 3_000
CHUNK_BYTES = 30
APPEND_BYTES = 1_500
MAX_BYTES_IN_FLIGHT = 6_000


@contextmanager
def in_miniature() -> Iterator[None]:
    """All sizes are small in here."""
    with pytest.MonkeyPatch.context() as patch:
        defaults = Journal.__init__.__kwdefaults__
        assert defaults is not None
        patch.setitem(defaults, "segment_bytes", SEGMENT_BYTES)
        for module in (raft.follower, raft.transfer, raft.fetch):
            patch.setattr(module, "CHUNK_BYTES", CHUNK_BYTES)
        patch.setattr(raft.replication, "APPEND_BYTES", APPEND_BYTES)
        patch.setattr(raft.replication, "MAX_BYTES_IN_FLIGHT", MAX_BYTES_IN_FLIGHT)
        yield
