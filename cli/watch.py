"""`--watch`: a command that looks, done again and again.

The command itself knows nothing of it: each round is a call of its own, whose result is kept (`Round`) and
then shown in place of the last one on a terminal, below it on a pipe, or as one document of a stream. A
cluster that does not answer is a state worth watching, so that is said, and the next look comes later and
later; what cannot get better by waiting (wrong usage, a refused key, a name that is not there) ends it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cli.client import Refused, Unreachable
from cli.documents import Stream
from cli.errors import OK, UsageError
from cli.invocation import Invocation, Rows, print_tables, utc

if TYPE_CHECKING:
    from cli.terminal import Terminal

EVERY: Final = 2.0
SHORTEST: Final = 0.2
LONGEST: Final = 3600.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two looks at a cluster that does not answer, unless `--every` is longer."""
_BUSY: Final = 429


@dataclass(slots=True)
class Round(Invocation):
    """A call whose result is kept, to be shown by whoever made it."""

    document: Any = None
    tables: Sequence[Rows] = ()
    notes: list[str] = field(default_factory=list)

    def show(self, document: Any, *tables: Rows) -> None:
        self.shown, self.document, self.tables = True, document, tables

    def note(self, text: str) -> None:
        self.notes.append(text)


def interval(call: Invocation) -> float:
    """The seconds of `--every`.

    Raises:
        UsageError: out of range.
    """
    every = EVERY if call.arguments["every"] is None else float(call.arguments["every"])
    if not SHORTEST <= every <= LONGEST:
        raise UsageError(f"--every {every:g} is out of range: give seconds from {SHORTEST:g} to {LONGEST:g}")
    return every


def may_pass(error: Exception) -> bool:
    """Whether another look may find a cluster that answers."""
    if isinstance(error, Refused):
        return error.status >= 500 or error.status == _BUSY
    return isinstance(error, Unreachable)


class Patience:
    """How long to wait until the next look: `every`, and ever longer while nobody answers."""

    def __init__(self, every: float) -> None:
        self._every = every
        self.failures = 0

    def answered(self) -> float:
        """After a look that succeeded."""
        self.failures = 0
        return self._every

    def failed(self) -> float:
        """After one that did not."""
        self.failures += 1
        return min(self._every * 2.0 ** min(self.failures, 16), max(_LONGEST_PAUSE, self._every))


def watching(name: str, run: Callable[[Invocation], int]) -> Callable[[Invocation], int]:
    """The command `run`, which is done once or, with `--watch`, until somebody ends it."""

    def watched(call: Invocation) -> int:
        if call.arguments["watch"]:
            return _watch(call, name, run, interval(call))
        if call.arguments["every"] is not None:
            raise UsageError("--every says how often --watch looks: say --watch as well")
        return run(call)

    return watched


def _watch(call: Invocation, name: str, run: Callable[[Invocation], int], every: float) -> int:
    patience = Patience(every)
    with _place(call, f"every {every:g} s: varpulis {name}") as place:
        while True:
            made = Round(call.settings, call.arguments, call.output)
            try:
                run(made)
            except (Refused, Unreachable) as error:
                if not may_pass(error):
                    raise
                pause = patience.failed()
                place.silent(str(error), pause, first=patience.failures == 1)
            else:
                pause = patience.answered()
                place.show(made)
                call.shown = True
            if place.pause(pause) == "q":
                return OK


class _Pipe:
    """Table after table, or document after document."""

    def __init__(self, call: Invocation) -> None:
        self._call = call
        self._stream = Stream(call.output)
        self._notes: list[str] = []

    def show(self, made: Round) -> None:
        if self._call.for_programs:
            self._stream.write(made.document)
        else:
            print(utc(time.time() * 1000), flush=True)
            print_tables(made.tables, wide=made.output == "wide")
        for note in made.notes:
            if note not in self._notes:
                self._call.note(note)
        self._notes = made.notes

    def silent(self, why: str, pause: float, *, first: bool) -> None:
        del pause
        if first:
            self._call.note(f"varpulis: {why}: watching goes on")

    def pause(self, seconds: float) -> str:
        time.sleep(seconds)
        return ""


class _Screen:
    """What there is now, in the place of what there was. The last of it stays when watching ends."""

    def __init__(self, terminal: "Terminal", title: str) -> None:
        self._terminal = terminal
        self._title = title
        self._since = ""
        self.last: Round | None = None

    def show(self, made: Round) -> None:
        self._since, self.last = _now(), made
        self._draw()

    def silent(self, why: str, pause: float, *, first: bool) -> None:
        del first
        shown = f", below is what there was at {self._since}" if self._since else ""
        self._draw(f"NO ANSWER at {_now()}, looking again in {pause:g} s{shown}: {why}")

    def pause(self, seconds: float) -> str:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if self._terminal.pause(left) == "q":
                return "q"
        return ""

    def _draw(self, warning: str = "") -> None:
        from rich.text import Text

        parts = [Text(f"{self._title}   {_now()}   q or Ctrl-C ends", style="dim")]
        if warning:
            parts.append(Text(warning, style="bold red"))
        if self.last is not None:
            for table in self.last.tables:
                parts += table.parts(wide=self.last.output == "wide")
            parts += [Text(note) for note in dict.fromkeys(self.last.notes)]
        self._terminal.draw(parts)


@contextmanager
def _place(call: Invocation, title: str) -> Iterator[_Pipe | _Screen]:
    from cli.terminal import is_live, taken

    if call.for_programs or not is_live():
        yield _Pipe(call)
        return
    screen: _Screen | None = None
    try:
        with taken() as terminal:
            screen = _Screen(terminal, title)
            yield screen
    finally:
        if screen is not None and screen.last is not None:
            print_tables(screen.last.tables, wide=call.output == "wide")


def _now() -> str:
    return time.strftime("%H:%M:%S")
