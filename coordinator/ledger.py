"""The one way in: propose a command, wait for what it leads to, read what is certain.

`propose` stamps the time, goes through Raft from any node, and tries again within its deadline when no leader
was there or the outcome is not known: that is safe because every command carries a request id, or an epoch or
session that makes a second one find nothing to do. A refusal of the state comes out as `WireError`, and so
does everything Raft may say, so a caller needs one `except` and the two carriers (NATS, REST) answer alike.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from msgspec.structs import replace

from coordinator.causes import Causes
from coordinator.log import line
from coordinator.machine import ClusterMachine, decode_result
from coordinator.security.actor import signed
from coordinator.state.commands import Command, encode_command
from coordinator.state.model import State
from coordinator.state.records import Event
from coordinator.state.results import AnyResult, Refused
from proto_schemas.errors import ErrorCode, WireError
from raft.errors import CommandTooLarge, NotLeader, OutcomeUnknown, RaftError, Unavailable
from transport import tracing

PROPOSE_TIMEOUT: Final = 2.0
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.25

_log = logging.getLogger(__name__)


class Committed(Protocol):
    """What Raft says of a command that counts now."""

    @property
    def result(self) -> bytes: ...


class Log(Protocol):
    """What is needed of `raft.node.RaftNode`."""

    @property
    def is_leader(self) -> bool: ...
    @property
    def leader_id(self) -> str | None: ...
    @property
    def term(self) -> int: ...
    async def propose(self, command: bytes, *, timeout: float) -> Committed: ...
    async def barrier(self, *, timeout: float) -> int: ...


def now_ms() -> int:
    """Milliseconds since 1970, for `Command.at`."""
    return time.time_ns() // 1_000_000


def _encoded(command: Command) -> bytes:
    try:
        return encode_command(command)
    except (OverflowError, UnicodeEncodeError) as error:
        raise WireError(
            ErrorCode.BAD_REQUEST,
            f"{command.about} cannot be replicated: {error}: send integers of up to 64 bits and valid text",
        ) from None


class Ledger:
    """Raft and the state it feeds, seen by controllers and carriers.

    `decisions` counts what changed while this node led, so that the sum over all nodes counts each once;
    `fenced`, the commands from here that came too late, of an epoch that is over. `causes`: which requests
    the controllers act for.
    """

    def __init__(self, log: Log, machine: ClusterMachine) -> None:
        self._raft = log
        self._machine = machine
        self._changed = asyncio.Event()
        self.decisions: Counter[str] = Counter()
        self.fenced = 0
        self.causes = Causes()
        machine.watch(self._on_change)

    @property
    def state(self) -> State:
        """The state as applied here; read it again after every `await`."""
        return self._machine.state

    @property
    def is_leader(self) -> bool:
        return self._raft.is_leader

    @property
    def leader_id(self) -> str | None:
        return self._raft.leader_id

    @property
    def term(self) -> int:
        return self._raft.term

    def remembers(self, request_id: str) -> bool:
        """Whether this very request was carried out, or refused for good, before: then `propose` gives its
        first answer again, and whoever looks ahead whether it can be carried out now must not refuse it.
        """
        return request_id in self.state.remembered

    async def propose(self, command: Command, *, timeout: float = PROPOSE_TIMEOUT) -> AnyResult:
        """Have `command` applied, within `timeout` seconds.

        Raises:
            WireError: refused by the state; or `unavailable` (surely not applied), `timeout` (perhaps
            applied),
                `bad_request` with status 413 (too large).
        """
        data = _encoded(replace(command, at=now_ms(), by=signed(command.by)))
        kind = type(command).__name__
        with tracing.within("raft propose", command=kind, about=command.about):
            self.causes.note(command.about)
            return await self._propose(data, timeout)

    async def _propose(self, data: bytes, timeout: float) -> AnyResult:
        deadline = time.monotonic() + timeout
        pause = _FIRST_PAUSE
        maybe_applied: OutcomeUnknown | None = None
        while True:
            left = deadline - time.monotonic()
            try:
                committed = await self._raft.propose(data, timeout=max(left, 0.001))
                break
            except (NotLeader, Unavailable, OutcomeUnknown) as error:
                if isinstance(error, OutcomeUnknown):
                    maybe_applied = error
                if left <= pause:
                    raise self._as_wire_error(maybe_applied or error) from None
            except RaftError as error:
                raise self._as_wire_error(error) from None
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause = min(pause * 2, _LONGEST_PAUSE)
        result = decode_result(committed.result)
        if isinstance(result, Refused):
            self.fenced += result.code == ErrorCode.STALE_EPOCH
            raise WireError(result.code, result.error, retryable=result.retryable)
        return result

    async def barrier(self, *, timeout: float = PROPOSE_TIMEOUT) -> None:
        """On return, everything committed anywhere before the call is applied here.

        Raises:
            WireError: `unavailable`.
        """
        try:
            await self._raft.barrier(timeout=timeout)
        except RaftError as error:
            raise self._unavailable(str(error)) from None

    async def wait_until(self, holds: Callable[[], bool], *, timeout: float) -> bool:
        """Whether `holds()` became true within `timeout` seconds; asked after each change of the state."""
        deadline = time.monotonic() + timeout
        while not holds():
            changed = self._changed
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                    await changed.wait()
            except TimeoutError:
                return holds()
        return True

    def _on_change(self, events: tuple[Event, ...]) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        if self._raft.is_leader:
            for event in events:
                self.decisions[event.what] += 1
                with tracing.attached(self.causes.of(event.about)):
                    _log.info("%s", line(event.what, about=event.about, why=event.why, by=event.by))

    def _as_wire_error(self, error: RaftError) -> WireError:
        if isinstance(error, OutcomeUnknown):
            return WireError(ErrorCode.TIMEOUT, str(error), leader=self.leader_id)
        if isinstance(error, CommandTooLarge):
            return WireError(ErrorCode.BAD_REQUEST, str(error), status=413)
        if isinstance(error, NotLeader | Unavailable):
            return self._unavailable(str(error))
        return WireError(ErrorCode.INTERNAL, str(error))

    def _unavailable(self, text: str) -> WireError:
        return WireError(ErrorCode.UNAVAILABLE, text, leader=self.leader_id)
