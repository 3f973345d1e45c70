"""Lines of text for standard output and the log, written by a thread: whoever reads them may be slow, or
gone.

A pipe that nobody reads blocks whoever writes to it, for as long as it likes, and with it all that the
process does. So one thread writes, for all pipelines; at most `MOST_LINES` and `MOST_BYTES` wait for it, and
what comes beyond that is dropped as `congested`. Lines that wait when the process ends are given `LAST_WAIT`
seconds.
"""

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from worker.connectors.base import OutputDropped

MOST_LINES: Final = 10_000
MOST_BYTES: Final = 16 * 1024 * 1024
LAST_WAIT: Final = 1.0

Write = Callable[[str], object]
Told = Callable[[Exception], None]
"""Is told, in the thread that writes, why a line was not written."""


class LineWriter:
    """One for a process; its thread begins with the first line."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Write, str, Told]] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._busy = False

    def offer(self, write: Write, line: str, failed: Told) -> None:
        """Have `write(line)` called soon; never waits.

        Raises:
            OutputDropped: `congested`, too much waits already.
        """
        with self._change:
            if len(self._waiting) >= MOST_LINES or self._bytes + len(line) > MOST_BYTES:
                raise OutputDropped("congested", f"{len(self._waiting)} lines wait to be written")
            self._waiting.append((write, line, failed))
            self._bytes += len(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                self._thread.start()
                atexit.register(self.join, LAST_WAIT)
            self._change.notify_all()

    def join(self, timeout: float) -> bool:
        """Wait until all is written; whether it was, within `timeout` seconds."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting and not self._busy, timeout)

    async def flush(self, timeout: float) -> None:
        """`join`, while others go on."""
        await asyncio.to_thread(self.join, timeout)

    def _run(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._waiting)
                write, line, failed = self._waiting.popleft()
                self._bytes -= len(line)
                self._busy = True
            try:
                write(line)
            except Exception as error:
                failed(error)


LINES: Final = LineWriter()
