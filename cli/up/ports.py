"""Loopback ports: whether one is free, who holds it, and the next free one.

A port that only lingers (TIME_WAIT after a stop) counts as free, as it does for the servers, which all
set SO_REUSEADDR.
"""

import random
import socket
import time
from collections.abc import Collection

import psutil

from cli.errors import CliError

LOOPBACK = "127.0.0.1"
_LINGERS_S = 0.5
_INTERVAL = 0.02


def is_free(port: int) -> bool:
    """Nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def require_free(port: int, what: str, flag: str) -> None:
    """Let nothing start half a cluster because of a port.

    Raises:
        CliError: the port is taken; names who holds it and the flag to change.
    """
    deadline = time.monotonic() + _LINGERS_S
    while not is_free(port):  # of a process that was just killed, threads may still hold it for a moment
        if time.monotonic() < deadline:
            time.sleep(_INTERVAL)
            continue
        raise CliError(
            f"port {port} for {what} is in use{_holder(port)}: stop that process, or choose another {flag}"
        )


def next_free(start: int, taken: Collection[int]) -> int:
    """The first free port from `start` upward that is not in `taken`.

    Raises:
        CliError: there is none within 200 ports.
    """
    for port in range(start, min(start + 200, 65536)):
        if port not in taken and is_free(port):
            return port
    raise CliError(f"no free port from {start} upward for a worker: choose another --http-port")


def free_port_range(length: int = 40) -> int:
    """The first of `length` consecutive ports, all free right now, below the ephemeral range.

    Raises:
        CliError: there are none to be found.
    """
    for _ in range(200):
        first = random.randrange(11_000, 32_000 - length)
        if all(is_free(first + offset) for offset in range(length)):
            return first
    raise CliError(f"no {length} free ports in a row between 11000 and 32000: end what occupies them")


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,) and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""
