"""Free loopback ports outside the range from which the kernel takes source ports.

A client that keeps trying a closed port of that range on loopback sooner or later gets the very port as its
own source, and TCP connects it to itself. A server that is restarted must also find its port still free, and
where nobody listens nobody should begin to: tests that run side by side each take from a share of their own.
"""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_FIRST, _LAST = 11_000, 32_000  # Linux and macOS hand out source ports from 32768 on
_ABREAST = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_SHARE = (_LAST - _FIRST) // _ABREAST
_BEGIN = _FIRST + _SHARE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on right now."""
    for _ in range(200):
        port = random.randrange(_BEGIN, _BEGIN + _SHARE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {_BEGIN} and {_BEGIN + _SHARE}: end what occupies them")


@contextmanager
def closed_port() -> Iterator[int]:
    """A TCP port on 127.0.0.1 on which nobody listens, nor begins to during the block."""
    with socket.socket() as taken:
        for _ in range(200):
            port = free_port()
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:  # somebody was faster
                continue
            yield port
            return
    raise RuntimeError("no free port: end what occupies them")
