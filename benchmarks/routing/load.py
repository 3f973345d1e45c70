"""Events made and heard on plain sockets, so that the machine's time goes to what is measured.

The generator keeps at most `WINDOW` events under way, so nothing is dropped; every event is waited for.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from benchmarks import stage

WINDOW: Final = 20_000
CHUNK: Final = 250
LIMIT: Final = 30_000
"""What `held_ms` of an event must exceed to pass the filter."""


class Chunk(NamedTuple):
    """`CHUNK` events in one write, of which so many come out."""

    data: bytes
    passing: int


def connect(url: str) -> socket.socket:
    """A connection that says nothing but what is written to it."""
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=stage.WAIT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(b'CONNECT {"verbose":false}\r\n')
    return connection


def frame(subject: str, number: int, *, passes: bool = True) -> bytes:
    """One event as it is published."""
    fields = {"badge": f"b-{number}", "held_ms": LIMIT + passes, "site": "hq"}
    event = {"event_type": "Door", "timestamp": 1_760_000_000_000 + number, "fields": fields}
    data = json.dumps(event)
    return f"PUB {subject} {len(data)}\r\n{data}\r\n".encode()


def chunk(to: str | Callable[[int], str], passing_percent: int = 100) -> Chunk:
    """Events of which a part passes. `to`: where they go, or, of a number, where that event goes."""
    passing = CHUNK * passing_percent // 100
    subject_of = to if callable(to) else lambda _: to
    frames = (frame(subject_of(number), number, passes=number < passing) for number in range(CHUNK))
    return Chunk(b"".join(frames), passing)


class Listener(threading.Thread):
    """Counts the messages on a subject until there were `wanted`."""

    def __init__(self, url: str, subject: str, wanted: int) -> None:
        super().__init__(daemon=True)
        self._socket = listening(url, subject)
        self._mark = f"MSG {subject} ".encode()
        self._wanted = wanted
        self.count = 0

    def run(self) -> None:
        with self._socket:
            tail = b""
            while self.count < self._wanted:
                data = tail + self._socket.recv(1 << 18)
                self.count += data.count(self._mark)
                tail = data[len(data) - len(self._mark) + 1 :]


def listening(url: str, subject: str) -> socket.socket:
    """A connection whose subscription the server has."""
    connection = connect(url)
    connection.sendall(f"SUB {subject} 1\r\nPING\r\n".encode())
    seen = b""
    while b"PONG" not in seen:
        seen += connection.recv(4096)
    return connection


def rate(url: str, load: Chunk, out: str, events: int) -> float:
    """Events a second from the first that is sent to the last that comes out."""
    chunks = max(1, events // CHUNK)
    listener = Listener(url, out, chunks * load.passing)
    listener.start()
    with connect(url) as generator:
        start = time.perf_counter()
        for sent in range(chunks):
            while sent * load.passing - listener.count > WINDOW * load.passing / CHUNK:
                time.sleep(0.0005)
                if not listener.is_alive():
                    raise RuntimeError(f"{out}: outputs stopped after {listener.count}")
            generator.sendall(load.data)
        listener.join(timeout=stage.WAIT * 6)
        taken = time.perf_counter() - start
    if listener.is_alive():
        raise RuntimeError(f"{out}: only {listener.count} of {chunks * load.passing} outputs came")
    return chunks * CHUNK / taken


def wait_until_up(url: str, load: Chunk, out: str) -> None:
    """Send chunks until something comes out, and then one that is waited for."""
    listener = Listener(url, out, 1)
    listener.start()
    deadline = time.monotonic() + stage.WAIT
    with connect(url) as generator:
        while listener.is_alive():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing came out on {out} within {stage.WAIT:g} s")
            generator.sendall(load.data)
            listener.join(timeout=0.05)
    rate(url, load, out, CHUNK * 40)


def round_trips(url: str, subject: str, out: str, count: int) -> list[float]:
    """Seconds from an event to what comes of it, one under way at a time."""
    taken = []
    event = frame(subject, 1)
    with listening(url, out) as heard, connect(url) as sender:
        for _ in range(count):
            start = time.perf_counter()
            sender.sendall(event)
            data = heard.recv(1 << 16)
            while not data.endswith(b"\r\n") or data.count(b"\r\n") < 2:
                data += heard.recv(1 << 16)
            taken.append(time.perf_counter() - start)
    return taken


def verdict(value: float, target: float, *, at_most: bool = False) -> dict[str, Any]:
    """A figure beside what it should be."""
    met = value <= target if at_most else value >= target
    return {"value": value, "target": f"{'<=' if at_most else '>='} {target:g}", "met": met}
