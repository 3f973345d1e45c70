"""What happened, for a reader: a bounded ring of events that is put into words only when it is printed.

A line is the virtual time, the machine, and what it did. Frames are kept as bytes and decoded for the reader,
so that a run that holds pays next to nothing for its trace.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from raft import between, codec
from raft.codec import Frame
from raft.errors import FrameError

RING = 4_000
_HIDDEN = ("cluster", "sender", "incarnation", "answers_incarnation", "data", "crc")


class Event(NamedTuple):
    """`frame` is decoded into the line when the line is read."""

    at: float
    who: str
    what: str
    frame: bytes | None


class Trace:
    """The last events of a run, or all of them."""

    def __init__(self, *, keep_all: bool = False) -> None:
        self._events: deque[Event] = deque(maxlen=None if keep_all else RING)
        self.count = 0

    def add(self, at: float, who: str, what: str, frame: bytes | None = None) -> None:
        self.count += 1
        self._events.append(Event(at, who, what, frame))

    def lines(self, most: int | None = None) -> Iterator[str]:
        """The last `most` events in words."""
        events = list(self._events)
        for event in events if most is None else events[-most:]:
            frame = "" if event.frame is None else " " + describe(event.frame)
            yield f"{event.at:10.4f}  {event.who:<4} {event.what}{frame}"

    def fingerprint(self) -> str:
        """Equal for equal traces, in one process or another."""
        digest = hashlib.blake2b(digest_size=8)
        for event in self._events:
            digest.update(repr(event).encode())
        return digest.hexdigest()


def decode(data: bytes) -> Frame:
    """A frame of any kind; raises `FrameError`."""
    module = between if between.is_between(data) else codec
    frame: Frame
    try:
        frame = module.decode_request(data)
    except FrameError:
        frame = module.decode_reply(data)
    return frame


def describe(data: bytes) -> str:
    """A frame in one line: its kind, number and fields; entries as ``first..last@terms``."""
    try:
        frame = decode(data)
    except FrameError as error:
        return f"{len(data)} bytes that are no frame ({error.reason})"
    words = [type(frame).__name__]
    for name in frame.__struct_fields__:
        value = getattr(frame, name)
        if name == "entries":
            words.append(entries_in_short([(entry.index, entry.term) for entry in value]))
        elif name in ("command", "result"):
            words.append(f"{name}={len(value)}B")
        elif name == "generation_now":
            words.append(f"now={value.number}:{'+'.join(value.members)}")
        elif name not in _HIDDEN:
            words.append(f"{name}={value}")
    return " ".join(words)


def entries_in_short(entries: list[tuple[int, int]]) -> str:
    """(index, term) pairs as ``5..9@2 10..12@3``."""
    runs: list[list[int]] = []
    for index, term in entries:
        if runs and runs[-1][2] == term and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index, term])
    if not runs:
        return "[]"
    return "[" + " ".join(f"{a}@{t}" if a == b else f"{a}..{b}@{t}" for a, b, t in runs) + "]"
