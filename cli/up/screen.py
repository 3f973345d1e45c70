"""What a person sees of a cluster: progress while it starts, then what happens, until Ctrl-C stops it.

Everything here goes to stderr; stdout belongs to the result. Lines of the demo are limited to a few a
second and say how many they stand for. A death is told once per process. The record is read again and
again, so that a second `up` that replaces a process, or a `down` from elsewhere, is noticed here.
"""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.interrupts import held_back
from cli.up import cluster, record
from cli.up.readiness import Progress, ending
from cli.up.record import Process, Record
from proto_schemas.codec import decode_fields
from transport.config import NatsConfig
from transport.errors import NatsTransportError

if TYPE_CHECKING:
    from transport.nats import NatsTransport

_LOOK_INTERVAL: Final = 0.2
_LINES_PER_SECOND: Final = 3
_NEXT_STEPS: Final = (
    "Ready. Ctrl-C stops it all. In another terminal: `varpulis status`, `varpulis groups`, or\n"
    "`kill -9 PID` of the leader or of a worker, to see a failover; `varpulis up --detach` brings it back."
)


@contextmanager
def progress() -> Iterator[Progress]:
    """A function that shows what is being done: a spinner on a terminal, else a line each."""
    if not sys.stderr.isatty():
        yield say
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def watch(data_dir: Path, started: cluster.Started, announce: Callable[[], None], *, demo: bool) -> None:
    """Announce it, show what happens until Ctrl-C, SIGTERM or the end of the terminal, then stop the cluster.

    When somebody else stops it, that is the end as well. Everything said of a cluster that runs is said in
    here, so that there is no moment in which Ctrl-C would end us and leave it running.
    """
    try:
        announce()
        say(_NEXT_STEPS)
        told_to_stop = asyncio.run(_watch(data_dir, started, demo=demo))
    except KeyboardInterrupt:  # before the loop had its handlers
        told_to_stop = True
    if told_to_stop:
        with held_back():
            say("stopping")
            began = time.monotonic()
            stopped = cluster.stop(data_dir)
            say(f"stopped {len(stopped)} processes in {time.monotonic() - began:.1f} s")
    else:
        say("all processes are gone")


class Deaths:
    """Which processes died since the last look."""

    def __init__(self, started: cluster.Started) -> None:
        self._children = started.children
        self._alive = {process.id: process for process in started.record.running}

    def look(self, current: Record) -> list[str]:
        """A line for each process that died; processes that were stopped in order are no deaths."""
        running = {process.id: process for process in current.running}
        for child in self._children.values():
            child.poll()  # or a child that died stays a zombie
        lines = [
            self._obituary(old)
            for name, old in self._alive.items()
            if name not in running and _lost(current, old)
        ]
        self._alive = running
        return lines

    def _obituary(self, process: Process) -> str:
        child = self._children.get(process.id)
        code = child.returncode if child is not None and child.pid == process.pid else None
        return f"{process.id} {ending(code)}: run `varpulis up` again to start it"


class Ticker:
    """Lines of output events, at most a few a second; the next one tells how many were left out."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._second = -1
        self._shown = 0
        self._left_out = 0

    def event(self, subject: str, data: bytes) -> None:
        """Show an event, or count it."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._shown = second, 0
        if self._shown >= _LINES_PER_SECOND:
            self._left_out += 1
            return
        more = f"  (+{self._left_out} more)" if self._left_out else ""
        self._tell(f"{subject}  {_words(data)}{more}")
        self._shown, self._left_out = self._shown + 1, 0


async def _watch(data_dir: Path, started: cluster.Started, *, demo: bool) -> bool:
    """True when a signal ended it; false when the cluster ended by itself."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    transport = await _subscribe(started.record) if demo else None
    deaths = Deaths(started)
    try:
        while not stopping.is_set():
            if not record.in_other_hands(data_dir):  # whoever starts or stops processes tells of it himself
                current = record.load(data_dir)
                for line in deaths.look(current) if current else ():
                    say(line)
                if not (current and current.running):
                    return False
            await _pause(stopping)
        return True
    finally:
        if transport is not None:
            await transport.close(timeout=0.5)


async def _subscribe(current: Record) -> "NatsTransport | None":
    from transport.nats import NatsTransport as Nats  # needed by nobody but who watches a demo

    ticker = Ticker(say)

    async def show(message: Any) -> None:
        ticker.event(message.subject, message.data)

    try:
        url = f"nats://127.0.0.1:{current.nats_port}"
        transport = await Nats.connect(NatsConfig(servers=(url,), name="varpulis-up"), wait=2.0)
        for subject in ("demo.stats", "demo.alerts"):
            await transport.subscribe(subject, show)
    except NatsTransportError as error:
        say(f"the demo's events cannot be shown: {error}")
        return None
    return transport


async def _pause(stopping: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), _LOOK_INTERVAL)
    except TimeoutError:
        return


def _lost(current: Record, process: Process) -> bool:
    """Nobody stopped or replaced it: the record still knows it by that pid."""
    known = current.find(process.id)
    return known is not None and known.pid == process.pid


def _words(data: bytes) -> str:
    try:
        event = decode_fields(data)
        fields = event["fields"].items()
        return f"{event['event_type']} " + " ".join(f"{name}={value}" for name, value in fields)
    except (ValueError, LookupError, TypeError, AttributeError):
        return repr(data[:80])
