"""The terminal while something live is on it, and the same terminal afterwards.

The live picture is on the terminal's second screen, so nothing that was there before is lost. Keys come one
by one and are not echoed, but Ctrl-C still interrupts. Whatever ends it (a key, Ctrl-C, SIGTERM, the end of
the terminal, a mistake of ours) goes through the end of a `with` block, which gives back the screen, the
cursor and the way keys are read.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

_TICK: Final = 0.25
"""Seconds until a change of the terminal's size is noticed."""
_SIGNALLED: Final = 128


def is_live() -> bool:
    """Stdout is a terminal on which a cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


class Cropped:
    """As much of the parts as the screen has lines for; the last line says how many are missing."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = max(options.height or console.size.height, 2)
        lines = console.render_lines(Group(*self._parts), options.update(height=None), pad=False)
        if len(lines) > room:
            missing = Text(f"... and {len(lines) - room + 1} lines more: make the terminal larger")
            lines = [*lines[: room - 1], *console.render_lines(missing, options, pad=False)[:1]]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line


class Terminal:
    """What is drawn, and which key is pressed."""

    def __init__(self, live: Live, keys: int | None) -> None:
        self._live = live
        self._keys = keys
        self._size = live.console.size

    @property
    def height(self) -> int:
        """Lines of the screen."""
        return self._live.console.size.height

    def draw(self, parts: Sequence[Any]) -> None:
        """Put these in place of what is there."""
        self._live.update(Cropped(parts), refresh=True)

    def pause(self, seconds: float) -> str:
        """Wait that long, or until a key is pressed: which one, or nothing."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._keys is None:
                time.sleep(min(left, _TICK))
            elif select.select([self._keys], [], [], min(left, _TICK))[0]:
                pressed = os.read(self._keys, 64)
                if not pressed:  # the end of it: nobody is there to press another
                    self._keys = None
                return pressed.decode(errors="replace")[:1]
            if self._size != self._live.console.size:
                self._size = self._live.console.size
                self._live.refresh()
        return ""


@contextmanager
def taken() -> Iterator[Terminal]:
    """The terminal, until the end of the block."""
    live = Live(console=Console(highlight=False), screen=True, auto_refresh=False, redirect_stderr=False)
    with _ended_in_order(), _key_by_key() as keys, live:
        yield Terminal(live, keys)


@contextmanager
def _key_by_key() -> Iterator[int | None]:
    """Where keys are read, if stdin is a terminal."""
    try:
        keys = sys.stdin.fileno()
        before = termios.tcgetattr(keys)
    except (OSError, ValueError, termios.error):
        yield None
        return
    try:
        tty.setcbreak(keys)
        yield keys
    finally:
        with suppress(termios.error):  # the terminal itself is gone
            termios.tcsetattr(keys, termios.TCSAFLUSH, before)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as they always do, but by way of every `finally`. Ctrl-Z does
    nothing: the shell would go on where our picture is."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_SIGNALLED + number)
