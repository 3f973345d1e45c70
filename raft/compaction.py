"""Snapshots while commits go on: who writes them, when one is due, when the journal may be cut.

The engine's loop gives `StateMachine.snapshot()` one short call and gets an iterable of parts; all the rest
(encoding the parts, checksums, writing, syncing, renaming) is a job of `Background`: a thread in production,
at once in tests, later in virtual time in a simulation. While a job runs the engine applies and commits; the
journal is cut only when a tick has seen the job done, that is, when the snapshot is durable under its name. A
crash between the two leaves a snapshot and the journal it replaces, which is what a start expects.

- **Due** is a snapshot each `snapshot_every_entries`, or when the commands applied since the last one have
  `snapshot_every_bytes`. What counts is what is applied, for that is what a snapshot can drop: a backlog that
  is not committed does not trigger one after the other.
- **In turn.** The members count from different points, spread evenly over the interval: while one writes, a
  majority has its disk and its processor to itself.
- **A transfer goes first.** While a leader sends a snapshot, the next one waits until twice as much is due:
  it would cut the entries that the receiver needs next, and a receiver slower than the log grows would get
  snapshots for ever.
- **Rest.** After a snapshot no other begins for as long as it took, and after a failed one not for
  `RETRY_SECONDS`: at most half of the time is spent on snapshots, and a full disk is not asked all the time.
- **Abandoned.** A node that closes gives its snapshot up: from then on the job renames nothing
  (`raft.snapshot`), so it cannot disturb the next process on the directory, and ends by itself.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from raft.config import RaftConfig
from raft.counters import Counters

RETRY_SECONDS = 5.0

log = logging.getLogger("raft.engine")


class Job(Protocol):
    """Work that was started; `error` is what it raised, once it is `done`."""

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> Exception | None: ...


class Background(Protocol):
    """Who does long work. `start` may do it at once, in a thread, or later; a node has two jobs at most."""

    def start(self, work: Callable[[], object]) -> Job: ...


class _Work:
    """A job that runs when it is called; it keeps an Exception, and only that."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self.error: Exception | None = None

    @property
    def done(self) -> bool:
        return self._work is None

    def __call__(self) -> None:
        work = self._work
        assert work is not None
        try:
            work()
        except Exception as error:
            self.error = error
        self._work = None  # what it holds, a copy of the state, goes with it


@dataclass(frozen=True)
class _Failed:
    """A job that could not even be started."""

    error: Exception
    done: bool = True


class Inline:
    """Does the work at once, in the caller: what happens, and when, depends on nothing else."""

    def start(self, work: Callable[[], object]) -> Job:
        job = _Work(work)
        job()
        return job


class WorkerThread:
    """Does the work in a daemon thread, which ends with it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start(self, work: Callable[[], object]) -> Job:
        job = _Work(work)
        threading.Thread(target=job, name=self._name, daemon=True).start()
        return job


class Progress(Enum):
    """How the snapshot stands."""

    IDLE = "idle"
    BUSY = "busy"
    WRITTEN = "written"
    FAILED = "failed"


class Compaction:
    """The snapshot of one engine that is being written, if any, and when the next one is due."""

    def __init__(
        self, config: RaftConfig, background: Background, counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._background, self._counters, self._clock = background, counters, clock
        self._every_entries, self._every_bytes = config.snapshot_every_entries, config.snapshot_every_bytes
        turn = sum(member < config.node_id for member in config.members) / len(config.members)
        self._behind = int(turn * self._every_entries)
        self._applied_bytes = -int(turn * self._every_bytes)
        self._last_index = self._due_at = 0
        self._count_from(0)
        self._job: Job | None = None
        self._began = 0.0
        self._rest_until = float("-inf")

    def due(self, applied_index: int, *, sending: bool = False) -> bool:
        """Whether enough is applied since the last snapshot for another one; `sending`: one is on its way."""
        if sending:
            grown = applied_index - self._last_index
            return grown >= 2 * self._every_entries or self._applied_bytes >= 2 * self._every_bytes
        return self._applied_bytes >= self._every_bytes or applied_index >= self._due_at

    def _count_from(self, index: int) -> None:
        """The last snapshot ends there; the next one is due in this member's turn."""
        rounds = max(0, index - self._behind) // self._every_entries
        self._last_index, self._due_at = index, self._behind + (rounds + 1) * self._every_entries

    def loaded(self, last_index: int) -> None:
        """The state is now that of a snapshot which ends at `last_index`."""
        self._count_from(last_index)

    def applied(self, size: int) -> None:
        """A command of `size` bytes was applied."""
        self._applied_bytes += size

    def begin(
        self,
        last_index: int,
        take: Callable[[], Iterable[bytes]],
        write: Callable[[Iterable[bytes]], object],
    ) -> None:
        """Take the state as it is after entry `last_index`, and have it written; asked only while idle."""
        self._began, self._applied_bytes = self._clock(), 0
        self._count_from(last_index)
        try:
            self._job = self._background.start(partial(write, take()))
        except Exception as error:  # the engine swallows what is raised here
            self._job = _Failed(error)

    def poll(self) -> Progress:
        """How it stands; `WRITTEN` and `FAILED` are told once."""
        now = self._clock()
        if self._job is None:
            return Progress.BUSY if now < self._rest_until else Progress.IDLE
        if not self._job.done:
            return Progress.BUSY
        error, self._job = self._job.error, None
        if error is None:
            self._rest_until = now + (now - self._began)
            self._counters.snapshots += 1
            return Progress.WRITTEN
        self._rest_until = now + RETRY_SECONDS
        self._applied_bytes = self._every_bytes
        self._counters.snapshots_failed += 1
        log.error(
            "no snapshot could be written; the journal grows until one can. Free space on the disk",
            exc_info=error,
        )
        return Progress.FAILED
