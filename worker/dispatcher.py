"""From a command to its answer: one table, any carrier (`worker.nats_carrier`, `worker.http_carrier`).

A carrier brings the name of a command and a way to read its message, and takes back an answer's bytes or the
error. It knows nothing of pipelines, and this module nothing of subjects and statuses. Rules, in the order
they are applied:

1. Only commands of `COMMANDS` (`unknown_command`), only JSON that fits (`bad_request`, with the path).
2. At most `MAX_IN_FLIGHT` commands at a time (`unavailable`): a flood is answered, not queued.
3. A `request_id` seen before gets the first answer again, also while the first is still at work. Refusals
   that may pass (`retryable`) are not kept: the same request may then succeed. Kept are `MAX_KEPT` answers
   and `MAX_KEPT_BYTES`; the oldest go first.
4. The fence (`worker.fence`): a command older than one seen is refused, also one of an older term than that
   of the leader who answered us last. One for a copy is measured by the epoch of that copy: beside the copy
   that is to take over, the old one still takes commands.
5. Commands for one pipeline run in the order they came; those for different pipelines side by side.

A handler that raises what it should not costs one answer (`internal`, with an id that stands in the log).
"""

import asyncio
import logging
import secrets
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from proto_schemas.codec import MAX_PAYLOAD, decode, encode
from proto_schemas.errors import ErrorCode, ErrorReply, WireError
from proto_schemas.messages.base import Fence
from proto_schemas.messages.base import Message as WireMessage
from proto_schemas.messages.commands import COMMANDS
from proto_schemas.messages.deploys import Deploy
from worker.commands import Handler
from worker.fence import EpochFence

MAX_IN_FLIGHT: Final = 256
MAX_KEPT: Final = 10_000
MAX_KEPT_BYTES: Final = 16 * 1024 * 1024

Key = tuple[str, str]
Locate = Callable[[str], Key | None]
"""From a pipeline id to its (group, name), when it runs here."""
Read = Callable[[type[WireMessage]], WireMessage]
"""The message of a command, which is to be of this type; raises `WireError`."""
Outcome = bytes | ErrorReply

log = logging.getLogger(__name__)


class Dispatcher:
    """Answers commands.

    Attributes:
        answered: answers given, by (command, code); code `ok` is success, command `?` one that is unknown.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        locate: Locate,
        epoch_of: Callable[[str], int | None] = lambda _: None,
        term: Callable[[], int] = lambda: 0,
    ) -> None:
        self._term = term
        self._handlers = handlers
        self._locate = locate
        self._epoch_of = epoch_of
        self._fence = EpochFence()
        self._kept = _Answers()
        self._at_work: dict[Key, asyncio.Future[Outcome]] = {}
        self._turns = _Turns()
        self._in_flight = 0
        self.answered: Counter[tuple[str, str]] = Counter()

    async def dispatch(self, command: str, data: bytes) -> bytes:
        """Carry out a command: the answer, or the error object, as JSON. Only cancelling raises."""
        outcome = await self.answer(command, partial(decode, data))
        return encode(outcome.reply()) if isinstance(outcome, WireError) else outcome

    async def answer(self, command: str, read: Read) -> bytes | WireError:
        """Carry out a command whose message `read` gives: the answer's JSON, or why there is none. Only
        cancelling raises.
        """
        try:
            answer = await self._admit(command, read)
        except WireError as error:
            self.count(command, error.code)
            return error
        except Exception:
            incident = secrets.token_hex(4)
            log.exception("command=%s incident=%s", command, incident)
            text = f"the worker failed on this command; its log has the cause under incident {incident}"
            self.count(command, ErrorCode.INTERNAL)
            return WireError(ErrorCode.INTERNAL, text)
        self.count(command, "ok")
        return answer

    def count(self, command: str, code: str) -> None:
        """Note an answer, also one that a carrier gave by itself."""
        self.answered[named(command), str(code)] += 1

    async def _admit(self, command: str, read: Read) -> bytes:
        if command not in COMMANDS:
            raise WireError(
                ErrorCode.UNKNOWN_COMMAND,
                f"unknown command {command[:80]!r}: known are {', '.join(COMMANDS)}",
            )
        request = read(COMMANDS[command][0])
        if self._in_flight >= MAX_IN_FLIGHT:
            raise WireError(
                ErrorCode.UNAVAILABLE, f"{MAX_IN_FLIGHT} commands are at work: retry a little later"
            )
        self._in_flight += 1
        try:
            request_id = getattr(request, "request_id", None)
            if request_id is None:
                return await self._carry_out(command, request)
            return await self._once((command, request_id), request)
        finally:
            self._in_flight -= 1

    async def _once(self, key: Key, request: WireMessage) -> bytes:
        outcome = self._kept.get(key)
        if outcome is None:
            first = self._at_work.get(key)
            outcome = await (self._first(key, request) if first is None else _outcome_of(first))
        if isinstance(outcome, ErrorReply):
            raise WireError.of(outcome)
        return outcome

    async def _first(self, key: Key, request: WireMessage) -> Outcome:
        future = self._at_work[key] = asyncio.get_running_loop().create_future()
        try:
            outcome: Outcome
            try:
                outcome = await self._carry_out(key[0], request)
            except WireError as error:
                outcome = error.reply()
            if isinstance(outcome, bytes) or not outcome.retryable:
                self._kept.put(key, outcome)
            future.set_result(outcome)
            return outcome
        finally:
            del self._at_work[key]
            future.cancel()

    async def _carry_out(self, command: str, request: Any) -> bytes:
        pipeline = _pipeline_of(request, self._locate)
        if isinstance(request, Fence):
            self._fence.term = max(self._fence.term, self._term())
            own = self._epoch_of(getattr(request, "pipeline_id", ""))
            if own is None:
                self._fence.check(request.term, request.epoch, pipeline)
            else:
                self._fence.check_copy(request.term, request.epoch, own)
        async with self._turns.of(pipeline or ("", getattr(request, "pipeline_id", command))):
            answer = await self._handlers[command](request)
        data = answer if isinstance(answer, bytes) else encode(answer)
        if len(data) > MAX_PAYLOAD:
            raise WireError(
                ErrorCode.ENGINE_ERROR,
                f"the answer has {len(data)} bytes, at most {MAX_PAYLOAD} are sent: ask for less",
            )
        return data


def named(command: str) -> str:
    """The command, as figures and traces call it: `?` is one that is none."""
    return command if command in COMMANDS else "?"


class _Turns:
    """A lock for each key, which is forgotten when nobody holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: dict[Key, asyncio.Lock] = {}
        self._users: Counter[Key] = Counter()

    @asynccontextmanager
    async def of(self, key: Key) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]


class _Answers:
    """The newest outcomes, bounded in number and bytes."""

    def __init__(self) -> None:
        self._outcomes: OrderedDict[Key, Outcome] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key) -> Outcome | None:
        return self._outcomes.get(key)

    def put(self, key: Key, outcome: Outcome) -> None:
        self._outcomes[key] = outcome
        self._bytes += _size(outcome)
        while len(self._outcomes) > MAX_KEPT or self._bytes > MAX_KEPT_BYTES:
            _, oldest = self._outcomes.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(outcome: Outcome) -> int:
    return len(outcome) if isinstance(outcome, bytes) else len(outcome.error)


async def _outcome_of(first: "asyncio.Future[Outcome]") -> Outcome:
    await asyncio.wait({first})
    if first.cancelled():
        raise WireError(ErrorCode.UNAVAILABLE, "the first request with this id was given up: retry")
    return first.result()


def _pipeline_of(request: Any, locate: Locate) -> Key | None:
    if isinstance(request, Deploy):
        return request.group or "", request.name
    pipeline_id = getattr(request, "pipeline_id", None)
    return None if pipeline_id is None else locate(pipeline_id)
