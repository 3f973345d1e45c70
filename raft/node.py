"""A Raft node on a bus: the asynchronous face of `raft.core`.

`raft.driver` steps the core; handlers and callers only hand over and wake it. Each wait here has a deadline:
the bus's, the caller's, or the timer's.

The node listens on ``{prefix}.raft.{node_id}.*`` and on an inbox whose last two tokens tell the peer and the
sequence number of the request answered there, so that "no responders" ends the very call it belongs to.
"""

import asyncio
import contextlib
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from raft.backup import pack
from raft.bus import Bus, Message, Subscription
from raft.change import Result
from raft.codec import Hello, encode
from raft.compaction import WorkerThread
from raft.config import RaftConfig
from raft.counters import Counters
from raft.disk import Disk
from raft.driver import Driver
from raft.engine import StateMachine
from raft.errors import (
    ChangeRefused,
    CommandTooLarge,
    NodeIdInUse,
    NotLeader,
    OutcomeUnknown,
    RaftError,
    TransferRefused,
    Unavailable,
)
from raft.generation import Generation
from raft.hold import DirectoryHold
from raft.outcomes import Committed, Done, Outcome
from raft.status import RaftStatus, status_of
from raft.succession import Succession
from transport.deadlines import Deadlines

HELLO_SECONDS = 1.0
HELLO_TRIES = 4
HAND_OVER_SECONDS = 0.5
CHANGE_GRACE_SECONDS = 1.0

_T = TypeVar("_T")

log = logging.getLogger("raft")


class RaftNode:
    """One member of the cluster: `start`, then `propose` and `barrier` from any node, then `stop`."""

    def __init__(
        self, config: RaftConfig, bus: Bus, machine: StateMachine, *, disk: Disk | None = None
    ) -> None:
        self._config, self._bus, self._machine, self._disk = config, bus, machine, disk
        self._core: Succession | None = None
        self._hold: DirectoryHold | None = None
        self._subscriptions: list[Subscription] = []
        self._driver: Driver | None = None
        self._deadlines: Deadlines | None = None
        self._inbox = ""
        self._waiters: list[tuple[int, int, asyncio.Future[bool | None]]] = []
        self._waiter_ids = itertools.count()
        self._leadership_callbacks: list[Callable[[bool], None]] = []
        self._applied_callbacks: list[Callable[[int], None]] = []
        self._leading = False
        self.counters = Counters()
        self._own = config.subject(config.node_id, "")
        self._told_applied = 0
        bus.on_connection_change(self._on_connection_change)

    # -- life --------------------------------------------------

    async def start(self) -> None:
        """Open the journal, make sure that the id is free, take part.

        Raises `JournalCorrupt`, `SnapshotCorrupt`, `WrongCluster`, `MembersChanged`, `DirectoryInUse`,
        `NodeIdInUse`, `Unavailable` (the bus is down) and OSError; after an error nothing is held and `start`
        may be called again.
        """
        if not self._bus.connected:
            raise Unavailable("the bus is not connected, so the node cannot start")
        self._hold = DirectoryHold(self._config.data_dir)
        self._deadlines = Deadlines(_end)
        try:
            core = self._core = Succession(
                self._config,
                self._machine,
                disk=self._disk,
                counters=self.counters,
                background=WorkerThread(f"raft-snapshot-{self._config.node_id}"),
            )
            self._inbox = self._bus.new_inbox()
            await self._join(core)
        except BaseException:
            await self.stop()
            raise
        core.connection_changed(self._bus.connected, patient=False)

    async def stop(self, *, hand_over: bool = True) -> None:
        """Hand leadership over, stop listening, give the files back. Bounded; safe to call twice.

        `hand_over=False` where the others stop as well: nobody would take it, and it is not waited for.
        """
        core, driver = self._core, self._driver
        if hand_over and core is not None and driver is not None and core.is_leader:
            with contextlib.suppress(TransferRefused):
                core.transfer()
                self._wake()
                await self._until(lambda: not core.is_leader, HAND_OVER_SECONDS)
        if driver is not None:
            driver.stop()
            self._driver = None
        while self._subscriptions:
            try:
                await self._subscriptions.pop().unsubscribe()
            except Exception as error:  # the bus may be gone already; the files must be given back
                log.debug("a subscription could not be given up: %s", error)
        if core is not None:
            core.withdraw("the node was stopped")
            core.flush()
            self._tell()
            core.close()
            self._core = None
        while self._waiters:
            waiter = self._waiters.pop()[2]
            if not waiter.done():
                waiter.set_exception(OutcomeUnknown("the node was stopped"))
        if self._deadlines is not None:
            self._deadlines.close()
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    async def _join(self, core: Succession) -> None:
        """Listen under this node's id, once nobody else does, and until the bus has confirmed it.

        The second hello comes back to ourselves; it also finds a twin that was started at the same moment.
        Its answer may come after that, nobody knows when: who hears of a twin later withdraws.
        """
        node_id = self._config.node_id
        subject = self._config.subject(node_id, "hello")
        answers: list[Message] = []

        joined = False

        async def on_answer(message: Message) -> None:
            if not joined:
                answers.append(message)
            elif not message.no_responders and self._driver is not None and core.failure is None:
                log.critical("another node runs as %s: this one withdraws", node_id)
                self._driver.withdraw(f"another node was started as {node_id} at the same moment. End one")

        async def hello_until(condition: Callable[[], object]) -> bool:
            for _ in range(HELLO_TRIES):
                hello = encode(Hello(*core.letters.stamp(core.term)))
                await self._bus.publish(subject, hello, reply=f"{self._inbox}.hello")
                if await self._until(condition, HELLO_SECONDS):
                    return True
            return False

        self._subscriptions.append(await self._bus.subscribe(f"{self._inbox}.hello", on_answer))
        seconds = HELLO_TRIES * HELLO_SECONDS
        if not await hello_until(lambda: answers):
            cause = f"somebody listens on {subject} and has not answered for {seconds:.0f} s"
            raise NodeIdInUse(node_id, cause)
        if not answers.pop().no_responders:
            raise NodeIdInUse(node_id, f"a running node answers on {subject}")
        self._subscriptions.append(await self._bus.listen(f"{self._inbox}.*.*", self._on_reply))
        own = self._config.subject(node_id, "*")
        self._subscriptions.append(await self._bus.listen(own, self._on_request))
        self._driver = Driver(core, self._bus, self._inbox, self._tell)
        heard = await hello_until(lambda: core.heard_own_hello or answers)
        if any(not answer.no_responders for answer in answers):
            raise NodeIdInUse(node_id, "another node was started under it at the same moment")
        if not heard:
            raise Unavailable(
                f"the bus has not delivered to {own} for {seconds:.0f} s. Check the bus's permissions"
            )
        joined = True

    # -- state -------------------------------------------------

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows: a `barrier` tells for sure."""
        return self._core is not None and self._core.is_leader

    @property
    def leader_id(self) -> str | None:
        return self._core.leader_id if self._core is not None else None

    @property
    def term(self) -> int:
        return self._core.term if self._core is not None else 0

    @property
    def commit_index(self) -> int:
        return self._core.commit_index if self._core is not None else 0

    @property
    def applied_index(self) -> int:
        return self._core.applied_index if self._core is not None else 0

    @property
    def ready(self) -> bool:
        """Whether what was committed when a leader was first heard is applied here."""
        return self._core is not None and self._core.ready

    @property
    def generation(self) -> Generation:
        """The set of members that this node knows last; number 0 while it waits to be one."""
        return self._running().generation

    def status(self) -> RaftStatus:
        """This node, and its view of the others."""
        return status_of(self._config, self._core)

    def on_leadership(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(True)` once this node leads and its state holds all that was committed before, and
        `callback(False)` when that ends.
        """
        self._leadership_callbacks.append(callback)

    def on_applied(self, callback: Callable[[int], None]) -> None:
        """Call `callback(index)` after each step that applied entries."""
        self._applied_callbacks.append(callback)

    def _running(self) -> Succession:
        if self._core is None or self._driver is None:
            raise Unavailable("the Raft node is not running")
        return self._core

    async def _until(self, condition: Callable[[], object], seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(self._config.heartbeat_interval / 20)
        return bool(condition())

    # -- calls -------------------------------------------------

    async def propose(self, command: bytes, *, timeout: float) -> Committed:
        """Replicate `command`; returns once it is applied here. From any node; `timeout` in seconds.

        Raises `CommandTooLarge`, `NotLeader`, `Unavailable` (surely not applied), `OutcomeUnknown` (may be
        applied), `ApplyFailed` (the state machine broke on it).
        """
        core = self._running()
        if len(command) > self._config.max_command_bytes:
            raise CommandTooLarge(len(command), self._config.max_command_bytes)
        return await self._call(core, lambda done: core.propose(command, done), timeout)

    async def barrier(self, *, timeout: float) -> int:
        """All that was committed anywhere before the call is applied here on return; gives that index.

        Raises `NotLeader` and `Unavailable`.
        """
        core = self._running()
        try:
            return (await self._call(core, core.read, timeout)).index
        except OutcomeUnknown as error:  # a barrier has no effect that could be in doubt
            raise Unavailable(error.cause) from None

    async def _call(self, core: Succession, submit: Callable[[Done], None], timeout: float) -> Committed:
        assert self._deadlines is not None
        heard: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not heard.done():
                heard.set_result(outcome)

        until = self._deadlines.add(heard, timeout)
        try:
            submit(done)
            self._wake()
            outcome = await heard
        finally:
            self._deadlines.remove(heard)
        if isinstance(outcome, RaftError):
            raise outcome
        if outcome is None or not await self._applied(core, outcome.index, until):
            raise OutcomeUnknown(f"no answer within {timeout} s")
        return outcome

    async def _applied(self, core: Succession, index: int, until: float) -> bool:
        """Whether entry `index` is applied here in time."""
        if core.applied_index >= index:
            return True
        assert self._deadlines is not None
        waiter: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (index, next(self._waiter_ids), waiter))
        self._deadlines.add_until(waiter, until)
        try:
            return await waiter is not None
        finally:
            self._deadlines.remove(waiter)

    async def transfer(self, to: str | None = None, *, timeout: float) -> str:
        """Give leadership to `to`, or to the follower that is furthest; returns the new leader's id. Calls
        wait meanwhile, here and at followers; none fails because of it. A target that does not make it within
        an election timeout, or is out of reach for a moment, is told again for as long as there is time.

        Raises `NotLeader`, `Unavailable` and `TransferRefused`.
        """
        core, me = self._running(), self._config.node_id
        if to == me and core.is_leader:
            return me
        loop = asyncio.get_running_loop()
        target, until = core.transfer(to), loop.time() + timeout
        self._wake()
        while core.leader_id in (None, me):
            if loop.time() >= until:
                raise TransferRefused(target, f"it did not take over within {timeout:g} s")
            if core.is_leader and not core.hands_over:
                with contextlib.suppress(TransferRefused):
                    target = core.transfer(to)
                    self._wake()
            await asyncio.sleep(self._config.heartbeat_interval / 20)
        return core.leader_id

    async def change_members(
        self, *, add: str | None = None, remove: str | None = None, timeout: float
    ) -> Generation:
        """Add a node that was started with `join`, remove a member for good, or both in one step; returns the
        generation in which that is so. May be repeated. Only at the leader; one that is to be removed gives
        leadership away first, and says to whom.

        Raises `NotLeader`, `Unavailable`, `ChangeRefused` (nothing is changed), `OutcomeUnknown`.
        """
        core, me = self._running(), self._config.node_id
        if remove == me and core.check_change(add, remove) is not None:
            try:
                raise NotLeader(await self.transfer(timeout=timeout))
            except TransferRefused as error:
                raise ChangeRefused(f"{me} leads, and {error}") from None
        heard: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result) -> None:
            if not heard.done():
                heard.set_result(result)

        core.change(add, remove, timeout, done)
        self._wake()
        try:
            async with asyncio.timeout(timeout + CHANGE_GRACE_SECONDS):
                result = await heard
        except TimeoutError:
            raise OutcomeUnknown(f"the members have not changed within {timeout:g} s") from None
        if isinstance(result, RaftError):
            raise result
        return result

    async def backup(self, *, timeout: float) -> bytes:
        """A copy of the state that holds all that was committed before the call, for `raft.backup`.

        Raises `NotLeader` and `Unavailable`.
        """
        await self.barrier(timeout=timeout)
        core = self._running()
        index = core.applied_index
        return await asyncio.to_thread(
            pack,
            core.generation,
            self._machine.snapshot(),
            cluster=self._config.cluster_id,
            last_index=index,
            last_term=core.journal.term_at(index),
            taken_at_ms=time.time_ns() // 1_000_000,
        )

    # -- the bus and the driver --------------------------------

    def _tell(self) -> None:
        """Wake who waits for an index, and tell leadership and progress."""
        core = self._core
        if core is None:
            return
        applied = core.applied_index
        while self._waiters and self._waiters[0][0] <= applied:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(True)
        if applied != self._told_applied:
            self._told_applied = applied
            for on_applied in self._applied_callbacks:
                _call_safely(on_applied, applied)
        leading = core.leads_applied
        if leading != self._leading:
            self._leading = leading
            for on_leadership in self._leadership_callbacks:
                _call_safely(on_leadership, leading)

    def _on_request(self, message: Message) -> None:
        if self._core is None:
            return
        if not message.subject.startswith(self._own):  # a bus with streams can deliver what went elsewhere
            self.counters.frames_dropped["misdelivered"] += 1
            return
        if self._core.receive(message.data, message.reply):
            self._wake()
        elif self._driver is not None:
            self._driver.put_off()  # a heartbeat

    def _on_reply(self, message: Message) -> None:
        if self._core is None:
            return
        if message.no_responders:
            self._core.nobody_there(int(message.subject.rpartition(".")[2]))
            self._wake()
        elif self._core.receive_reply(message.data):
            self._wake()

    def _wake(self) -> None:
        if self._driver is not None:
            self._driver.wake()

    def _on_connection_change(self, connected: bool) -> None:
        if self._core is not None and self._driver is not None:
            self._core.connection_changed(connected)
            self._wake()


def _end(wait: asyncio.Future[None]) -> None:
    """The deadline of a wait has come."""
    wait.set_result(None)


def _call_safely(callback: Callable[[_T], None], value: _T) -> None:
    """A listener's defect is logged; it stops neither the node nor the other listeners."""
    try:
        callback(value)
    except Exception:
        log.exception("a listener of the Raft node raised")
