"""Ends an event that takes too long, so that one pipeline cannot hold up its neighbours and the heartbeats.

The event loop cannot: while the engine works on an event, nothing else of this process runs. What does run
is a signal handler: the interpreter calls it between two steps of the generated code, and in the middle of a
regular expression. So a timer of the system (`ITIMER_PROF`) signals `TICKS` times while the process works
for as long as an event may take, and the handler raises `TooLong` into an event that has been at work since
before. Both clocks are of **processor time**, not of the wall: a process that was frozen, or has to wait for
a crowded machine, ends no event, and an idle one gets no signals.

The engine's caller marks an event by `ticks`:

    try:
        try:
            watch.ticks = 0
            ...
        finally:
            watch.ticks = IDLE
    except TooLong:
        ...

The handler begins to count anew before it raises, so nothing outside of the block is ended; and where the
exception comes to nothing, because it hit a destructor, which swallows all, the event is ended a while later.
`TooLong` is no `Exception`, so nothing in between takes it for a mismatch. The state of an engine whose event
was cut off is worthless.

What Python itself does in the middle of an event, to collect the garbage of all pipelines, is not the event's
fault: its time begins anew after a full collection, and nothing is raised into a collection.

Signals reach the main thread alone; a worker that runs in another one, or where there is no such timer, runs
without.
"""

import gc
import logging
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType
from typing import Final

IDLE: Final = float("-inf")
TICKS: Final = 10
FULL: Final = 2
"""Generation of a collection that looks at everything."""

log = logging.getLogger(__name__)


class TooLong(BaseException):
    """The event has used up its time."""


class Watchdog:
    """One for all pipelines of a process: `start` it once.

    Args:
        event_secs: seconds of processor time that one event may take; 0: as many as it likes.

    Attributes:
        ticks: signals since the event at hand began; `IDLE`: there is none.
        times: as many times `event_secs` may what is at hand take.
        ended: how often an event was cut off.
    """

    def __init__(self, event_secs: float) -> None:
        self.event_secs = event_secs
        self.ticks: float = IDLE
        self.times = 1
        self.ended = 0
        self._since = 0.0
        self._runs = self._collecting = False

    def start(self) -> None:
        """Watch from now on."""
        if self._runs or not self.event_secs:
            return
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
            log.warning("no event is cut off: signals do not reach this thread")
            return
        self._runs = True
        gc.callbacks.append(self._collected)
        signal.signal(signal.SIGPROF, self._tick)
        every = self.event_secs / TICKS
        signal.setitimer(signal.ITIMER_PROF, every, every)

    def stop(self) -> None:
        """Watch no more."""
        if self._runs:
            self._runs = False
            gc.callbacks.remove(self._collected)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, signal.SIG_IGN)

    def _collected(self, phase: str, info: Mapping[str, int]) -> None:
        if phase == "stop" and info["generation"] == FULL:
            self._since = time.thread_time()
        self._collecting = phase == "start"

    def _tick(self, number: int, frame: FrameType | None) -> None:
        if self._collecting or (frame is not None and frame.f_code is _COLLECTED):
            return
        self.ticks += 1
        if self.ticks == 1:
            self._since = time.thread_time()
        elif self.ticks > 1 and time.thread_time() - self._since >= self.event_secs * self.times:
            self.ticks = 0
            self.ended += 1
            raise TooLong


_COLLECTED: Final = Watchdog._collected.__code__
