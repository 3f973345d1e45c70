"""PySyncObj, held by its seams: elections, terms, the commit rule and applying are its work; nothing else is.

What it is not given: threads (`autoTick` off), its journal, its dump format, its wire, membership changes,
code versions. Its dump file holds no data here: `SnapshotStore` keeps the snapshot, and the file is only the
token whose presence makes the engine ask the deserializer. There is one replicated method, `execute`, which
never raises.

The engine writes no log of its own: `pysyncobj`'s records go to the logger ``raft.engine``.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.node import Node
from pysyncobj.transport import Transport

from raft.config import RaftConfig
from raft.counters import Counters
from raft.entries import EngineEntry, from_engine, to_engine
from raft.errors import ApplyFailed
from raft.journal import Journal
from raft.snapshot import Snapshot, SnapshotStore

# Its pipe would wake a poller nobody waits on, cost a system call per command, and is never closed.
pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED = False

_NEVER = 1e9
_UNBOUNDED = 2**40
_SNAPSHOT_RETRY_SECONDS = 5.0
CANDIDATE_STATE = 1
LEADER_STATE = 2

log = logging.getLogger("raft.engine")


class StateMachine(Protocol):
    """What the log feeds. All three run in the node's event loop and should be quick."""

    def apply(self, index: int, command: bytes) -> bytes:
        """The result of a command; depends on nothing but the state. Never raises: a refusal is a result."""
        ...

    def snapshot(self) -> bytes:
        """The whole state."""
        ...

    def restore(self, data: bytes) -> None:
        """Replace the whole state by one that `snapshot` gave."""
        ...


@dataclass(frozen=True, slots=True)
class Applied:
    """What `execute` tells the proposer: the index, and the machine's result or its defect."""

    index: int
    result: bytes
    failure: ApplyFailed | None


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.handle(record)


def _adopt_engine_log() -> None:
    engine_log = logging.getLogger("pysyncobj")
    if not any(isinstance(handler, _Forward) for handler in engine_log.handlers):
        engine_log.addHandler(_Forward())
        engine_log.propagate = False


@contextmanager
def _journal_installed(journal: Journal) -> Iterator[None]:
    """The engine makes its journal itself; for the time of its construction, what it makes is ours."""
    original = pysyncobj.syncobj.createJournal
    pysyncobj.syncobj.createJournal = lambda journal_file: journal
    try:
        yield
    finally:
        pysyncobj.syncobj.createJournal = original


class Engine(SyncObj):  # type: ignore[misc]
    """One consensus engine. `on_state` hears (old, new) of PySyncObj's states; `clock` is in seconds."""

    def __init__(
        self,
        config: RaftConfig,
        journal: Journal,
        store: SnapshotStore,
        machine: StateMachine,
        transport: Transport,
        counters: Counters,
        on_state: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _adopt_engine_log()
        self.journal = journal
        self._store, self._machine, self._counters, self._clock = store, machine, counters, clock
        self._snapshot_not_before = 0.0
        self.failure: Exception | None = None
        token = config.data_dir / "engine.dump"
        if store.exists:
            token.touch()
        else:
            token.unlink(missing_ok=True)
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=False,
            dynamicMembershipChange=False,
            commandsWaitLeader=False,
            appendEntriesPeriod=config.heartbeat_interval,
            raftMinTimeout=config.election_timeout_min,
            raftMaxTimeout=config.election_timeout_max,
            connectionTimeout=config.election_timeout_max,
            leaderFallbackTimeout=config.leader_fallback,
            appendEntriesBatchSizeBytes=_UNBOUNDED,
            logCompactionMinEntries=config.snapshot_every_entries,
            logCompactionMinTime=_NEVER,
            fullDumpFile=str(token),
            serializer=self._save_snapshot,
            deserializer=self._load_snapshot,
            onStateChanged=on_state,
        )
        with _journal_installed(journal):
            super().__init__(
                Node(config.node_id),
                [Node(peer) for peer in config.peers],
                conf,
                nodeClass=Node,
                transport=transport,
            )

    @replicated  # type: ignore[untyped-decorator]
    def execute(self, command: bytes) -> Applied:
        """Apply one committed command. A machine that raises has a defect: typed, logged, never retried."""
        index = self.raftLastApplied + 1
        try:
            return Applied(index, self._machine.apply(index, command), None)
        except Exception as error:
            self._counters.apply_failures += 1
            log.exception("the state machine raised on entry %d", index)
            return Applied(index, b"", ApplyFailed(f"{type(error).__name__} at entry {index}: {error}"))

    def submit(self, data: bytes, callback: Callable[[Any, int], None]) -> None:
        """Queue an entry's bytes (`raft.entries`); `callback` hears (what was applied, FAIL_REASON)."""
        self._applyCommand(data, callback)

    def _save_snapshot(self, token: str, data: tuple[EngineEntry, EngineEntry, object]) -> None:
        if self._clock() < self._snapshot_not_before:
            raise TimeoutError("the last snapshot failed a moment ago; the next attempt waits")
        last, previous = data[0], data[1]
        try:
            snapshot = Snapshot(from_engine(last), from_engine(previous), self._machine.snapshot())
            self._store.save(snapshot)
            Path(token).touch()
        except Exception:
            self._counters.snapshots_failed += 1
            self._snapshot_not_before = self._clock() + _SNAPSHOT_RETRY_SECONDS
            log.exception(
                "no snapshot could be written; the journal grows until one can. Free space on the disk"
            )
            raise
        self._counters.snapshots += 1

    def _load_snapshot(self, token: str) -> tuple[EngineEntry, EngineEntry, tuple[()]]:
        """Called at start and after an install. The engine swallows what is raised here, so it is kept as
        `failure`.
        """
        try:
            snapshot = self._store.load()
            self._machine.restore(snapshot.machine)
        except Exception as error:
            self.failure = error
            raise
        return to_engine(snapshot.last), to_engine(snapshot.previous), ()
