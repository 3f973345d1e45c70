"""The door: who comes in, with which key, and how often.

In front of every request of the API, on whichever node it arrives, before its body is read: the key in
`x-api-key` must count (401), its role must do for the route (403), and its bucket must hold a token (429).
A request that is passed on to the leader is looked at again there, so nothing rests on a follower's word, and
the limit holds for what a key does through all of them.

An answer that goes on for long (`/stream`) asks `still` before each piece, and ends with its key.

A node may not have heard yet of a key that was just made. So an unknown one costs a barrier before it is
refused, one for all who wait; failed attempts per address are limited, and beyond that nobody waits. Where
the barrier fails, since nobody leads or the node has just been started, no key is called wrong (503: ask
again). A key that counts is never held back by what others do from the same address.

Who speaks as a worker (registers, sends heartbeats) must also be let speak under that id
(`coordinator.state.names`). One that is not is told of in the trail, at most once a minute for a key and an
id and a few times a second in all, so that a flood writes no log.

Where no keys are asked for (`keys_required` off) everybody is an admin, and what is sent as a key is ignored.
Nothing here says or logs more of a key than its id, and that only when the whole key was right.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from coordinator.log import line
from coordinator.security import keys, roles
from coordinator.security.actor import acting, acts
from coordinator.security.throttle import Throttle
from coordinator.state.commands import MAX_REASON, Command, NoteIntrusion
from coordinator.state.model import State
from coordinator.state.names import fault_in_name, fault_in_voice
from coordinator.state.records import ApiKey, KeyRole
from coordinator.state.results import AnyResult
from proto_schemas.errors import ErrorCode, WireError

HEADER: Final = "x-api-key"
FAILURES_A_SECOND: Final = 1.0
FAILURES_AT_ONCE: Final = 20.0
"""Failed attempts of one address that are answered with 401; more are 429 until it has been quiet."""
TOLD_A_SECOND: Final = 1 / 60
TOLD_IN_ALL_A_SECOND: Final = 1.0
TOLD_IN_ALL_AT_ONCE: Final = 10.0
"""How often the trail tells of a key and the id under which it was refused, and of all of them."""
BARRIER: Final = 1.0
"""Seconds to wait for news of a key that is not known here."""

_log = logging.getLogger(__name__)


class Book(Protocol):
    """What is needed of `coordinator.ledger.Ledger`."""

    @property
    def state(self) -> State: ...
    async def barrier(self, *, timeout: float) -> None: ...
    async def propose(self, command: Command) -> AnyResult: ...


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Door:
    """One node's door.

    Args:
        required: whether anybody is asked for a key.
        rate: requests a second that one key may make; 0: any number. `burst`: at once.
        clock: seconds, for the buckets. `now_ms`: milliseconds since 1970, for the expiry of keys.

    Attributes:
        refused: how many were not let in, by reason.
    """

    def __init__(
        self,
        ledger: Book,
        *,
        required: bool,
        rate: float = 0.0,
        burst: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self.required = required
        self.refused: Counter[str] = Counter()
        self._ledger, self._clock, self._now_ms = ledger, clock, now_ms
        self._requests = Throttle(rate, burst)
        self._failures = Throttle(FAILURES_A_SECOND, FAILURES_AT_ONCE)
        self._told = Throttle(TOLD_A_SECOND, 1.0)
        self._told_in_all = Throttle(TOLD_IN_ALL_A_SECOND, TOLD_IN_ALL_AT_ONCE)
        self._telling: set[asyncio.Task[None]] = set()
        self._news: asyncio.Task[None] | None = None

    async def admit(self, route: tuple[str, str], sent: str | None, address: str) -> KeyRole:
        """The role under which a request may go on.

        Args:
            route: as `roles.route_of` names it.
            sent: what came as the key; None: nothing did.
            address: of the other side, for the limit on failures.

        Raises:
            WireError: `unauthorized`, `forbidden`, `rate_limited` (with the seconds to wait), `unavailable`.
        """
        if not self.required:
            acts("")
            return KeyRole.ADMIN
        if not sent:
            raise self._refusal(
                "missing",
                ErrorCode.UNAUTHORIZED,
                f"this cluster asks for an API key: send it in {HEADER} (the CLI: --api-key-file FILE)",
            )
        key = await self._known(sent, address)
        if not roles.may(key.role, route):
            raise self._refusal(
                "forbidden",
                ErrorCode.FORBIDDEN,
                f"key {key.id} is a {key.role} and {route[0]} {route[1]} takes {roles.needed(route)}: use "
                "a key of that role, or have an admin make one",
            )
        if route not in roles.UNMETERED and (wait := self._requests.take(key.id, self._clock())):
            raise self._refusal(
                "rate_limited",
                ErrorCode.RATE_LIMITED,
                f"key {key.id} makes more requests than it may: ask again in {wait:.3g} s",
                wait,
            )
        acts(key.id)
        return key.role

    async def admit_worker(self, sent: str) -> str:
        """Let a registration over NATS in, by the key it carries; the id of that key, empty where none is
        asked for.

        Raises:
            WireError: `unauthorized`, `forbidden`, `unavailable`.
        """
        if not self.required:
            return ""
        key = await self._known(sent, "nats")
        if not roles.may(key.role, ("POST", "/workers/register")):
            text = f"key {key.id} is a {key.role} and cannot register workers: give the worker a worker key"
            raise self._refusal("forbidden", ErrorCode.FORBIDDEN, text)
        return key.id

    def admit_name(self, worker_id: str, key_id: str) -> None:
        """Let a key register a worker under an id, as far as is known here; the state has the last word.

        Raises:
            WireError: `forbidden`, counted and told of.
        """
        self._admit_as(
            worker_id, key_id, fault_in_name(self._ledger.state, worker_id, key_id, self._now_ms())
        )

    def admit_voice(self, worker_id: str) -> None:
        """Let the present request speak for a worker that is registered; raises as `admit_name`."""
        key_id = acting()
        self._admit_as(worker_id, key_id, fault_in_voice(self._ledger.state, worker_id, key_id))

    def intrusion(self, worker_id: str, key_id: str, why: str) -> WireError:
        """The refusal of somebody who may not speak as a worker: counted, and told of in the trail."""
        now = self._clock()
        if not self._told.take(f"{key_id} {worker_id}", now) and not self._told_in_all.take("", now):
            command = NoteIntrusion(
                by=f"door:{key_id}" if key_id else "door",
                worker_id=worker_id,
                key_id=key_id,
                reason=why[:MAX_REASON],
            )
            task = asyncio.get_running_loop().create_task(self._tell(command))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        return self._refusal("another_worker", ErrorCode.FORBIDDEN, why)

    def _admit_as(self, worker_id: str, key_id: str, fault: str | None) -> None:
        if fault is not None:
            raise self.intrusion(worker_id, key_id, fault)

    async def _tell(self, command: NoteIntrusion) -> None:
        _log.warning("%s", line("worker_refused", worker=command.worker_id, reason=command.reason))
        with contextlib.suppress(WireError):  # without a leader the log and the counter must do
            await self._ledger.propose(command)

    def still(self) -> Callable[[], bool]:
        """Tells whether the key of the present request counts, for as long as its answer goes on."""
        key_id = acting()

        def counts() -> bool:
            key = self._ledger.state.keys.get(key_id)
            return not self.required or (key is not None and key.counts(self._now_ms()))

        return counts

    async def _known(self, sent: str, address: str) -> ApiKey:
        key, heard = keys.parse_key(sent), True
        if key is not None:
            known = keys.check(self._ledger.state, key, self._now_ms())
            if (
                known is None
                and key.id not in self._ledger.state.keys
                and not self._failures.left(address, self._clock())
            ):
                heard = await self._hear_news()
                known = keys.check(self._ledger.state, key, self._now_ms())
            if known is not None:
                return known
        if wait := self._failures.take(address, self._clock()):
            text = f"too many wrong keys from here: ask again in {wait:.3g} s, with a key that counts"
            raise self._refusal("locked_out", ErrorCode.RATE_LIMITED, text, wait)
        if not heard:
            text = (
                "this key is not known here yet, and nobody leads who would know: ask again, or another node"
            )
            raise self._refusal("no_news", ErrorCode.UNAVAILABLE, text)
        count = self.refused["wrong"] + 1
        if count & (count - 1) == 0:
            _log.warning("%s", line("wrong_key", address=address, refused_so_far=count))
        raise self._refusal(
            "wrong",
            ErrorCode.UNAUTHORIZED,
            "this key is unknown, revoked or expired: use another, or have an admin make one "
            "(`varpulis key create`)",
        )

    async def _hear_news(self) -> bool:
        """Whether all that was decided until now is known here."""
        if self._news is None or self._news.done():
            self._news = asyncio.create_task(self._ledger.barrier(timeout=BARRIER))
        await asyncio.wait({self._news}, timeout=BARRIER)
        return self._news.done() and not self._news.cancelled() and self._news.exception() is None

    def _refusal(self, reason: str, code: ErrorCode, text: str, wait: float | None = None) -> WireError:
        self.refused[reason] += 1
        return WireError(code, text, retry_after=wait)
