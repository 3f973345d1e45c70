"""A program over a file of events, here and now: what `varpulis run` does.

**Time** is that of the events, as on a worker that hears each one at once: what is due before an event
happens before it, in order; an event that comes late changes no clock. Nothing waits and nothing is random,
so the same file gives the same outputs. After the last event the clock goes on for as long as the user says,
which lets windows close; then it stands.

Lines that are no events are refused one by one, with their number and the reason, as a worker refuses them.
Nothing is sent: what a program would hand to a connector is shown.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple

from vpl import Engine, Output, Program
from worker import payload
from worker.payload import PayloadError

MOST_STEPS: Final = 1_000_000
"""Times that the clock stops for what is due between two events: a `timer(1ms)` over a year is a mistake."""


class TooFar(Exception):
    """Between two events more falls due than anybody waits for."""


class Line(NamedTuple):
    """One output. `way`: `emit`, `to NAME`, `print`, `log`."""

    way: str
    event_type: str
    timestamp: int
    fields: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.way} {json.dumps(self.event(), ensure_ascii=False)}"

    def event(self) -> dict[str, Any]:
        """The event as a worker sends it."""
        return {"event_type": self.event_type, "timestamp": self.timestamp, "fields": self.fields}


class Play:
    """One run of a program.

    Attributes:
        refused: lines that are no events, by reason.
        first_refused: the first few of them: (number of the line, why).
    """

    def __init__(self, program: Program, *, arrival_ms: int) -> None:
        """`arrival_ms`: the time of an event that has none, and of the first clock."""
        self._program = program
        self._engine: Engine = program.start()
        self._arrival_ms = arrival_ms
        self.refused: Counter[str] = Counter()
        self.first_refused: list[tuple[int, str]] = []

    @property
    def counters(self) -> dict[str, int]:
        return self._engine.counters

    @property
    def open_until(self) -> int | None:
        """When something falls due that is still open (ms)."""
        return self._engine.next_deadline()

    def events(self, lines: Iterable[bytes]) -> Iterator[Line]:
        """Feed JSON lines; gives the outputs, each batch before the next line is asked for.

        Raises:
            TooFar: see `MOST_STEPS`.
        """
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            now = self._engine.now
            try:
                event_type, fields, ts = payload.parse_event(
                    line, "", self._arrival_ms if now is None else now
                )
            except PayloadError as error:
                self.refused[error.reason] += 1
                if len(self.first_refused) < 5:
                    self.first_refused.append((number, str(error)))
                continue
            yield from self.until(ts)
            self._engine.process(event_type, fields, ts)
            yield from self._taken()

    def until(self, ms: int) -> Iterator[Line]:
        """Let time pass; a time that is over already changes nothing. Raises `TooFar`."""
        engine = self._engine
        for _ in range(MOST_STEPS):
            due = engine.next_deadline()
            if due is None or due > ms:
                break
            engine.advance(due)
            yield from self._taken()
        else:
            raise TooFar(f"more than {MOST_STEPS:,} things fall due until {ms}: do two times lie far apart?")
        engine.now = ms if engine.now is None else max(engine.now, ms)

    def later(self, ms: int) -> Iterator[Line]:
        """Let so much time pass after the last event; raises `TooFar`."""
        if self._engine.now is not None:
            yield from self.until(self._engine.now + ms)

    def _taken(self) -> Iterator[Line]:
        for sink_id, event_type, fields, ts in self._engine.take():
            yield Line(_way((sink_id, event_type, fields, ts), self._program), event_type, ts, fields)


def _way(output: Output, program: Program) -> str:
    if output[0] == -1:
        return "emit"
    sink = program.sinks[output[0]]
    return f"{sink.kind} {sink.connector or ''}".strip()


def bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of a line too long for any event so much that it is refused, never all of it."""
    while line := file.readline(payload.MAX_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and line:
            line = file.readline(payload.MAX_BYTES)
