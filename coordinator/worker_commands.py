"""What the leader tells a worker, each with a deadline, by the carrier with which that worker registered:
over NATS as a request to `cmd.{worker}.{command}`, over HTTP as `coordinator.worker_rest` has it.

Both fail alike, so that who commands need not know which it was.
"""

from typing import Final, Protocol, TypeVar

import msgspec

from coordinator.heartbeats import HeartbeatTable
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.commands import Hello, Present
from proto_schemas.messages.deploys import Deploy, Deployed, Ok, Undeploy
from proto_schemas.messages.events import BatchInjected, Inject, InjectBatch, Injected
from proto_schemas.messages.moves import CheckpointRequest, HandedOver, Hold, Restore
from proto_schemas.subjects import Subjects
from transport import tracing
from transport.errors import ErrorKind, NatsTransportError

DEPLOY_TIMEOUT: Final = 5.0
SEED_DEPLOY_TIMEOUT: Final = 30.0
"""A seed worker is asked once, because it knows no request ids: it gets long to answer."""
UNDEPLOY_TIMEOUT: Final = 2.0
DRAINED_UNDEPLOY_TIMEOUT: Final = 6.0
"""A worker gives a copy up to 2 s to handle what was sent to it."""
INJECT_TIMEOUT: Final = 10.0
HELLO_TIMEOUT: Final = 0.5
HOLD_TIMEOUT: Final = 4.0
"""A worker that joins a line waits up to 3 s for its subscriptions."""
HAND_OVER_TIMEOUT: Final = 8.0
"""A worker gives its servers up to 2 s to confirm that they send no more, and 2 s for its outputs to leave.
"""
RESTORE_TIMEOUT: Final = 15.0
"""A worker handles all it held before it answers."""

T = TypeVar("T", bound=msgspec.Struct)


class Requests(Protocol):
    """What is needed of `transport.nats.NatsTransport`."""

    @property
    def max_payload(self) -> int: ...

    async def request_message(
        self, subject: str, message: msgspec.Struct, reply_type: type[T], *, timeout: float
    ) -> T: ...


class Carrier(Protocol):
    """One way to workers."""

    def carries(self, worker_id: str) -> bool:
        """Whether commands to this worker go by it."""
        ...

    async def ask(
        self, worker_id: str, command: str, message: msgspec.Struct, reply: type[T], timeout: float
    ) -> T:
        """The worker's answer.

        Raises:
            WireError: the worker said no.
            NatsTransportError: there is no answer; the kind says whether it may have heard.
        """
        ...


class NatsCarrier:
    """By NATS, to any worker."""

    def __init__(self, nats: Requests, subjects: Subjects) -> None:
        self._nats = nats
        self._subjects = subjects

    def carries(self, worker_id: str) -> bool:
        """See `Carrier`."""
        return True

    async def ask(
        self, worker_id: str, command: str, message: msgspec.Struct, reply: type[T], timeout: float
    ) -> T:
        """See `Carrier`."""
        subject = self._subjects.command(worker_id, command)
        return await self._nats.request_message(subject, message, reply, timeout=timeout)


class WorkerCommands:
    """The commands by name. Each raises `WireError` (the worker said no) or `NatsTransportError`.

    `others`: carriers for workers that NATS does not reach. `heartbeats`: a deploy tells which one of the
    worker was heard, and its answer which one will list the copy.
    `fenced`: commands that a worker refused, as it had seen a newer epoch or term.
    """

    def __init__(
        self,
        nats: Requests,
        subjects: Subjects,
        *others: Carrier,
        heartbeats: HeartbeatTable | None = None,
    ) -> None:
        self._nats = nats
        self._heartbeats = heartbeats or HeartbeatTable()
        self._by_nats = NatsCarrier(nats, subjects)
        self._carriers: tuple[Carrier, ...] = (*others, self._by_nats)
        self.fenced = 0

    @property
    def max_payload(self) -> int:
        """Bytes one command may have."""
        return self._nats.max_payload

    async def deploy(self, worker_id: str, message: Deploy, *, timeout: float = DEPLOY_TIMEOUT) -> Deployed:
        """Start a copy; with a request id used before, the first answer again."""
        message = msgspec.structs.replace(message, heard=self._heartbeats.last_heard(worker_id))
        deployed = await self._ask(worker_id, "deploy", message, Deployed, timeout)
        if deployed.listed_from is not None:
            self._heartbeats.expect(worker_id, deployed.id, deployed.listed_from)
        return deployed

    async def undeploy(self, worker_id: str, message: Undeploy) -> Ok:
        """End a copy."""
        timeout = DRAINED_UNDEPLOY_TIMEOUT if message.drain else UNDEPLOY_TIMEOUT
        return await self._ask(worker_id, "undeploy", message, Ok, timeout)

    async def answers(self, worker_id: str) -> bool | None:
        """Whether somebody listens to its commands; None when that did not come out."""
        try:
            await self._ask(worker_id, "hello", Hello(), Ok, HELLO_TIMEOUT)
        except NatsTransportError as error:
            return False if error.kind is ErrorKind.NO_RESPONDERS else None
        except WireError:
            return True  # it does not know the word, and says so
        return True

    async def present(self, worker_id: str, attempt: str | None) -> Present:
        """Who listens to its commands on NATS, whichever carrier it registered with, and whether he made this
        attempt to register."""
        return await self._by_nats.ask(worker_id, "hello", Hello(attempt=attempt), Present, HELLO_TIMEOUT)

    async def hold(self, worker_id: str, message: Hold) -> Ok:
        """Have a copy keep events instead of handling them, or join its line."""
        return await self._ask(worker_id, "hold", message, Ok, HOLD_TIMEOUT)

    async def hand_over(self, worker_id: str, message: CheckpointRequest) -> HandedOver:
        """Bring a copy to rest and take its state, and what it held."""
        return await self._ask(worker_id, "checkpoint", message, HandedOver, HAND_OVER_TIMEOUT)

    async def restore(self, worker_id: str, message: Restore) -> Ok:
        """Give a copy a state."""
        return await self._ask(worker_id, "restore", message, Ok, RESTORE_TIMEOUT)

    async def inject(self, worker_id: str, message: Inject) -> Injected:
        """One event into a copy; answers what came out."""
        return await self._ask(worker_id, "inject", message, Injected, INJECT_TIMEOUT)

    async def inject_batch(self, worker_id: str, message: InjectBatch) -> BatchInjected:
        """Many events into a copy; answers true counts."""
        return await self._ask(worker_id, "inject_batch", message, BatchInjected, INJECT_TIMEOUT)

    async def _ask(
        self, worker_id: str, command: str, message: msgspec.Struct, reply: type[T], timeout: float
    ) -> T:
        carrier = next(each for each in self._carriers if each.carries(worker_id))
        try:
            with tracing.within(f"command {command}", "client", worker=worker_id):
                return await carrier.ask(worker_id, command, message, reply, timeout)
        except WireError as error:
            self.fenced += error.code == ErrorCode.STALE_EPOCH
            raise
