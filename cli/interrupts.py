"""What Ctrl-C and SIGTERM may interrupt, and when.

A KeyboardInterrupt comes up between any two steps. While the program loads, that may be inside the import
system, which shows or swallows it; nothing is started yet, so there Ctrl-C just leaves. Between starting a
process and noting it, or in the middle of stopping a cluster, it would leave processes behind; there it is
held back. Only light imports here: this module is loaded before anything else.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_INTERRUPTED: Final = 130
"""The exit code that a shell gives to a command ended by Ctrl-C."""


@contextmanager
def leave_at_once() -> Iterator[None]:
    """End the process on Ctrl-C, for as long as it has done nothing; not where Ctrl-C is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, which must be bounded."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"varpulis: interrupted\n")
    os._exit(_INTERRUPTED)
