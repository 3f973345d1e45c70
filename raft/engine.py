"""PySyncObj, held by its seams: elections, terms, the commit rule and applying are its work; nothing else is.

What it is not given: threads (`autoTick` off), its journal, its dump format, its wire, membership changes,
code versions. Its dump file holds no data here: `SnapshotStore` keeps the snapshot, and the file is only the
token whose presence makes the engine ask the deserializer. There are two replicated methods, `execute` and
`seal`, which never raise.

The engine writes no log of its own: `pysyncobj`'s records go to the logger ``raft.engine``.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pysyncobj.syncobj
from pysyncobj import SyncObj, SyncObjConf, replicated
from pysyncobj.config import SERIALIZER_STATE
from pysyncobj.poller import Poller

from raft.compaction import Background, Compaction, Inline, Progress
from raft.config import RaftConfig
from raft.counters import Counters
from raft.entries import SEAL, EngineEntry, Entry, from_engine, to_engine
from raft.errors import ApplyFailed, EntryTooNew, RaftError, Unavailable
from raft.generation import Generation, Sealed, decode_seal
from raft.journal import Journal
from raft.snapshot import SnapshotStore
from raft.transport import EngineTransport, Member

# Its pipe would wake a poller nobody waits on, cost a system call per command, and is never closed.
pysyncobj.syncobj.PIPE_NOTIFIER_ENABLED = False

_NEVER = 1e9
_UNBOUNDED = 2**40
_SERIALIZER_STATES: dict[Progress, int] = {
    Progress.BUSY: SERIALIZER_STATE.SERIALIZING,
    Progress.WRITTEN: SERIALIZER_STATE.SUCCESS,
    Progress.FAILED: SERIALIZER_STATE.FAILED,
}
CANDIDATE_STATE = 1
LEADER_STATE = 2
SEALED = "the members are being changed"
"""Why a command behind a seal has no effect."""

log = logging.getLogger("raft.engine")


class StateMachine(Protocol):
    """What the log feeds. All three are called in the node's event loop and should be quick."""

    def apply(self, index: int, command: bytes) -> bytes:
        """The result of a command; depends on nothing but the state. A refusal is a result.

        Raises:
            EntryTooNew: only a later release can tell. The node withdraws, and the entry is not applied.
        """
        ...

    def snapshot(self) -> Iterable[bytes]:
        """The whole state as of this call, in parts that `restore` gets joined.

        The call copies what `apply` changes, and no more; a generator function would not do, for it copies
        nothing until it is asked for the first part. The parts are then made in another thread, while `apply`
        goes on: each of at most some 256 KiB, and in about a millisecond, so that no part holds the
        interpreter for long.
        """
        ...

    def restore(self, data: bytes) -> None:
        """Replace the whole state by one that `snapshot` gave, its parts joined."""
        ...


@dataclass(frozen=True, slots=True)
class MachineAt:
    """The machine holds the state after `last` already, which is the one in the snapshot."""

    last: Entry
    previous: Entry


class Applied(msgspec.Struct, frozen=True):
    """What is told the proposer: the index, and the machine's result, or why there is none."""

    index: int
    result: bytes
    failure: RaftError | None


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.handle(record)


def _adopt_engine_log() -> None:
    engine_log = logging.getLogger("pysyncobj")
    if not any(isinstance(handler, _Forward) for handler in engine_log.handlers):
        engine_log.addHandler(_Forward())
        engine_log.propagate = False


class _NoPoller(Poller):  # type: ignore[misc]
    """The engine has no sockets, yet would ask the system about them in each tick."""

    def poll(self, timeout: float) -> None:
        """Nothing to hear of."""


@contextmanager
def _seams_installed(journal: Journal) -> Iterator[None]:
    """The engine makes its journal and its poller itself; for the time of its construction, they are ours."""
    originals = pysyncobj.syncobj.createJournal, pysyncobj.syncobj.createPoller
    pysyncobj.syncobj.createJournal = lambda journal_file: journal
    pysyncobj.syncobj.createPoller = lambda kind: _NoPoller()
    try:
        yield
    finally:
        pysyncobj.syncobj.createJournal, pysyncobj.syncobj.createPoller = originals


class Engine(SyncObj):  # type: ignore[misc]
    """One consensus engine. `on_state` hears (old, new) of PySyncObj's states; `clock` is in seconds;
    `campaign_at_once`: the first election timeout is over when it starts; `machine_at`: nothing is restored
    then.
    """

    def __init__(
        self,
        config: RaftConfig,
        journal: Journal,
        store: SnapshotStore,
        machine: StateMachine,
        transport: EngineTransport,
        counters: Counters,
        on_state: Callable[[int, int], None],
        clock: Callable[[], float] = time.monotonic,
        background: Background | None = None,
        *,
        campaign_at_once: bool = False,
        machine_at: MachineAt | None = None,
    ) -> None:
        _adopt_engine_log()
        self._machine_at = machine_at
        self.journal = journal
        self._store, self._machine, self._counters = store, machine, counters
        self._compaction = Compaction(config, background or Inline(), counters, clock)
        self.failure: Exception | None = None
        self.sends_snapshot: Callable[[], bool] = lambda: False
        """Whether this node is sending a snapshot; the leader's role sets it."""
        self.sealed: Sealed | None = None
        """The end of this generation, once it is applied."""
        self._generation = config.generation
        store.remove_unfinished()
        token = config.data_dir / "engine.dump"
        if store.exists:
            token.touch()
        else:
            token.unlink(missing_ok=True)
        conf = SyncObjConf(
            autoTick=False,
            appendEntriesUseBatch=True,  # it asks for heartbeats alone; what is new the leader sees itself
            dynamicMembershipChange=False,
            commandsWaitLeader=False,
            appendEntriesPeriod=config.heartbeat_interval,
            raftMinTimeout=config.election_timeout_min,
            raftMaxTimeout=config.election_timeout_max,
            connectionTimeout=config.election_timeout_max,
            leaderFallbackTimeout=config.leader_fallback,
            appendEntriesBatchSizeBytes=_UNBOUNDED,
            logCompactionMinEntries=_UNBOUNDED,
            logCompactionMinTime=_NEVER,
            fullDumpFile=str(token),
            serializer=self._begin_snapshot,
            serializeChecker=self._snapshot_state,
            deserializer=self._load_snapshot,
            onStateChanged=on_state,
        )
        with _seams_installed(journal):
            super().__init__(
                Member(config.node_id),
                list(transport.nodes.values()),
                conf,
                nodeClass=Member,
                transport=transport,
            )
        if campaign_at_once:
            transport.end_election_timeout(self.raftCurrentTerm)

    @replicated  # type: ignore[untyped-decorator]
    def execute(self, command: bytes) -> Applied:
        """Apply one committed command. A machine that raises has a defect: typed, logged, never retried."""
        index = self.raftLastApplied + 1
        if self.sealed is not None:
            return Applied(index, b"", Unavailable(SEALED))
        self._compaction.applied(len(command))
        try:
            return Applied(index, self._machine.apply(index, command), None)
        except EntryTooNew:
            raise
        except Exception as error:
            self._counters.apply_failures += 1
            log.exception("the state machine raised on entry %d", index)
            return Applied(index, b"", ApplyFailed(f"{type(error).__name__} at entry {index}: {error}"))

    @replicated  # type: ignore[untyped-decorator]
    def seal(self, payload: bytes) -> Applied:
        """End this generation, unless it has ended, or the seal is one of another generation."""
        index, successor = self.raftLastApplied + 1, decode_seal(payload)
        if self.sealed is not None or successor is None or not self._ends(successor):
            return Applied(index, b"", Unavailable(SEALED))
        self.sealed = Sealed(index, self.journal.term_at(index), successor)
        return Applied(index, payload, None)

    def until_seal(self, index: int) -> int:
        """`index`, or that of the seal if it lies before: what comes behind it has no effect. The seal may be
        committed and not applied yet, between an append and the tick after it.
        """
        if self.sealed is not None:
            return min(index, self.sealed.index)
        if index <= self.raftLastApplied:
            return index
        ahead = max(self.raftLastApplied + 1, self.journal.first_index)
        for entry in self.journal.typed(ahead, index + 1 - ahead, _UNBOUNDED) if index >= ahead else ():
            if entry.kind == SEAL and self._ends(decode_seal(entry.payload)):
                return entry.index
        return index

    def _ends(self, successor: Generation | None) -> bool:
        return successor is not None and successor.number == self._generation + 1

    def submit(self, data: bytes, callback: Callable[[Any, int], None]) -> None:
        """Queue an entry's bytes (`raft.entries`); `callback` hears (what was applied, FAIL_REASON)."""
        self._applyCommand(data, callback)

    def destroy(self) -> None:
        """Give the files back; a snapshot that is being written comes to nothing."""
        self._store.close()
        super().destroy()

    def _begin_snapshot(self, token: str, data: tuple[EngineEntry, EngineEntry, object]) -> None:
        """Start a snapshot of what is applied. The engine renames `token` at once, before there is one: that
        says nothing, for at a start the presence of the snapshot decides.
        """
        if self.sealed is not None:  # a snapshot behind the seal would hide it
            return
        last, previous = from_engine(data[0]), from_engine(data[1])
        self._compaction.begin(
            last.index, self._machine.snapshot, lambda parts: self._store.write(last, previous, parts)
        )
        Path(token).touch()

    def _snapshot_state(self) -> int:
        """Asked by the engine in each tick. On SUCCESS it cuts the journal; when nothing is being written it
        begins a snapshot if one is due.
        """
        progress = self._compaction.poll()
        if progress is not Progress.IDLE:
            return _SERIALIZER_STATES[progress]
        if self._snapshot_due(self.raftLastApplied):
            self.forceLogCompaction()
        return int(SERIALIZER_STATE.NOT_SERIALIZING)

    def _snapshot_due(self, applied_index: int) -> bool:
        due = self._compaction.due
        return due(applied_index) and (not self.sends_snapshot() or due(applied_index, sending=True))

    def _load_snapshot(self, token: str) -> tuple[EngineEntry, EngineEntry, tuple[()]]:
        """Called at start and after an install. The engine swallows what is raised here, so it is kept as
        `failure`.
        """
        held, self._machine_at = self._machine_at, None
        if held is not None:
            self._compaction.loaded(held.last.index)
            return to_engine(held.last), to_engine(held.previous), ()
        try:
            snapshot = self._store.load()
            self._machine.restore(snapshot.machine)
            self._compaction.loaded(snapshot.last.index)
        except Exception as error:
            self.failure = error
            raise
        return to_engine(snapshot.last), to_engine(snapshot.previous), ()
