"""Free loopback ports outside the range from which the kernel takes source ports.

A client that keeps trying a closed port of that range on loopback sooner or later gets the very port as its
own source, and TCP connects it to itself. A server that is restarted must also find its port still free.
"""

import random
import socket

_FIRST, _LAST = 11_000, 32_000  # Linux and macOS hand out source ports from 32768 on


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on right now."""
    for _ in range(200):
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {_FIRST} and {_LAST}: end what occupies them")
