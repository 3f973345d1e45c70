"""A consistent cut of a pipeline's state that does not hold up its events.

Between two events the state is consistent; the question is who copies it, and when. A state of up to
`SMALL` values is copied there and then, in a few milliseconds. For a larger one the process **forks**: what
the child sees is the state of that moment, for ever, because the kernel gives whoever writes to a page a
copy of it. The child writes the checkpoint, gzipped, into a pipe and ends; the parent goes on with events
at once. What the parent pays is the copying of its page table, about 5 ms for 100 MB, then a page fault for
each page it changes while the child lives. (The alternatives, measured by `benchmarks/checkpoint`: to copy
all of it takes half a second; to copy it bit by bit needs a write barrier in each line of generated code
that touches a window.)

A child of a process with threads may do little. Ours computes: it takes no lock that another thread might
have held, imports nothing, logs nothing, never returns, and closes what it inherited, lest a connection
seem alive when the worker is dead. It gives way to its parent (`nice`), is the first to go when memory runs
out, and an alarm ends it after `PATIENCE`. Its memory is what it copies: up to once more what the state
has, while it lives; so there is one at a time.
"""

import asyncio
import contextlib
import gc
import os
import signal
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final, NoReturn

from proto_schemas.messages.moves import HeldEvent
from vpl import Engine
from worker import checkpoints

SMALL: Final = 10_000
"""Values of a state that is copied at once."""
PATIENCE: Final = 60
"""Seconds a child may live."""
_PIECE: Final = 64 * 1024
_NICE: Final = 10
_REAP: Final = (0.001, 0.1)
"""Seconds between looks whether a child that has written all is gone."""
_REAP_WAIT: Final = 5.0

_one_at_a_time = asyncio.Semaphore(1)


class CutFailed(Exception):
    """The state could not be copied; the text says why. Nothing has changed."""


class Cut:
    """The state of an engine at one moment; iterate over `pieces()` once.

    Attributes:
        stall: seconds for which its making held up everything else.
    """

    def __init__(
        self, engine: Engine, pipeline: str, now_ms: int, held: Sequence[HeldEvent], at: checkpoints.At
    ) -> None:
        began = time.perf_counter()
        written = checkpoints.lines(engine, pipeline, now_ms, held, at)
        self._lines: list[bytes] = []
        self._child: _Child | None = None
        if engine.outweighs(SMALL):
            self._child = _Child(checkpoints.packed(written))
        else:
            self._lines = list(written)
        self.stall = time.perf_counter() - began

    async def pieces(self) -> AsyncIterator[bytes]:
        """The checkpoint's bytes, gzipped.

        Raises:
            CutFailed: the child did not end well.
        """
        if self._child is None:
            for piece in await asyncio.to_thread(lambda: list(checkpoints.packed(self._lines))):
                yield piece
            return
        async for piece in self._child.pieces():
            yield piece

    async def close(self) -> None:
        """Let go of what is left; safe to call again."""
        if self._child is not None:
            await self._child.end()


@contextlib.asynccontextmanager
async def cut(
    engine: Engine,
    pipeline: str,
    now_ms: Callable[[], int],
    held: Callable[[], Sequence[HeldEvent]] = tuple,
    at: checkpoints.At = checkpoints.NOWHERE,
) -> AsyncIterator[Cut]:
    """The state of `engine` when the block is entered: nothing comes between the cut and its first line.

    Raises:
        CutFailed: there is no memory, or no process, left.
    """
    async with _one_at_a_time if engine.outweighs(SMALL) else contextlib.nullcontext():
        made = Cut(engine, pipeline, now_ms(), held(), at)
        try:
            yield made
        finally:
            await made.close()


class _Child:
    """A process that writes `pieces` into a pipe and ends."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        try:
            self._read, write = os.pipe()
        except OSError as error:
            raise CutFailed(f"no pipe for a copy of the state: {error}") from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of 3.12, about threads: see the module
                pid = os.fork()
        except OSError as error:
            os.close(self._read)
            os.close(write)
            raise CutFailed(f"no process for a copy of the state: {error}") from None
        if pid == 0:
            _write_and_exit(write, pieces)
        os.close(write)
        self._pid: int | None = pid

    async def pieces(self) -> AsyncIterator[bytes]:
        reader = asyncio.StreamReader(limit=_PIECE)
        pipe, self._read = os.fdopen(self._read, "rb", buffering=0), -1
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while piece := await reader.read(_PIECE):
                yield piece
        finally:
            transport.close()
        status = await self._ended()
        if status != 0:
            how = f"with {status}" if status > 0 else f"by signal {-status}"
            raise CutFailed(f"the process that copied the state ended {how}: is memory short?")

    async def end(self) -> None:
        if self._read >= 0:
            os.close(self._read)
            self._read = -1
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
            await self._ended()

    async def _ended(self) -> int:
        """Its exit code, or minus the signal that ended it, once it is gone."""
        pause, longest = _REAP
        deadline = time.monotonic() + _REAP_WAIT
        while self._pid is not None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)  # noqa: ASYNC222 - it does not wait
            if pid:
                self._pid = None
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
                deadline += _REAP_WAIT
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)
        return 0


def _write_and_exit(write: int, pieces: Iterator[bytes]) -> NoReturn:
    """All the child does."""
    status = 1
    try:
        gc.disable()  # it would touch, and so copy, every page
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.closerange(3, write)
        os.closerange(write + 1, os.sysconf("SC_OPEN_MAX"))
        os.nice(_NICE)
        with contextlib.suppress(OSError):
            _first_to_go()
        for piece in pieces:
            while piece:
                piece = piece[os.write(write, piece) :]
        status = 0
    finally:
        os._exit(status)


def _first_to_go() -> None:
    """When memory runs out, of the processes of this machine (Linux)."""
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, b"1000")
    os.close(score)
