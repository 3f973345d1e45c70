"""The two subjects workers speak on, `register` and `heartbeat.>`, and that on which coordinators tell each
other of workers that speak REST, `relay.>`.

`register` is answered once: every coordinator that is a member subscribes in one queue group, and whichever
gets it takes it through Raft, leader or not. A heartbeat is heard by all; only the leader answers, and only
one that has a reply subject (a seed worker's has none): with its term, the lease, and what the worker is to
do. Answering renews the lease, so a node answers only while it leads, and not while the worker counts as
unhealthy: its pipelines may be on their way to others.

What comes over REST reaches the leader alone, which relays it, so that every coordinator shows the same and
the next leader knows who is alive. What is relayed is noted only of workers that have no NATS, and answered
by nobody.

A callback hands over and returns. What cannot be read is answered with an error where there is somebody to
answer, and counted by kind and reason; it never reaches its neighbours.
"""

import asyncio
import contextlib
import logging
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Final

import msgspec

from coordinator.config import CoordinatorConfig
from coordinator.controllers.loop import ControlLoop
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.security.door import Door
from coordinator.security.proof import Proof
from coordinator.state.commands import RegisterWorker
from coordinator.state.records import NATS, REST, WorkerStatus
from proto_schemas.codec import decode, encode
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.membership import Directive, Heartbeat, HeartbeatAck, Register, Registered
from proto_schemas.subjects import Subjects, check_id
from transport.errors import NatsTransportError
from transport.nats import Message, NatsTransport, Subscription

QUEUE: Final = "coordinators"
MAX_REGISTRATIONS: Final = 256
"""Registrations under way at once; one more is told to come back."""
MAX_DIRECTIVES: Final = 1_000
"""Copies that one answer tells a worker to end, for it is one message; the next ones tell of the others, and
until then no lease is renewed."""

_log = logging.getLogger(__name__)


async def register(
    ledger: Ledger,
    config: CoordinatorConfig,
    message: Register,
    *,
    request_id: str,
    key_id: str = "",
    displaces: int,
) -> Registered:
    """Take a worker in; the same for both carriers. Its `api_key` is neither kept nor passed on, only the id
    of that, `key_id`.

    `request_id` makes it count once: what was tried again, and arrives late, would else undo the registration
    that came after it. `displaces`: whose place it takes, as `Proof.demand` says.

    Raises:
        WireError: as `Ledger.propose`.
    """
    await ledger.propose(
        RegisterWorker(
            by="register",
            request_id=request_id,
            worker_id=message.worker_id,
            incarnation=message.incarnation,
            address=message.address,
            cpu_cores=message.capacity.cpu_cores,
            max_pipelines=message.capacity.max_pipelines,
            labels=message.labels or {},
            version=message.version,
            pipelines=message.pipelines or [],
            carrier=message.carrier or NATS,
            key_id=key_id,
            displaces=displaces,
        )
    )
    interval = config.heartbeat_interval
    return Registered(
        worker_id=message.worker_id,
        status="registered",
        heartbeat_interval_secs=int(interval) if interval == int(interval) else interval,
        lease_secs=config.lease_secs,
        term=ledger.term,
        cluster_id=config.cluster_id,
    )


class WorkerListener:
    """Subscribes, hears, answers."""

    def __init__(
        self,
        config: CoordinatorConfig,
        nats: NatsTransport,
        ledger: Ledger,
        table: HeartbeatTable,
        loop: ControlLoop,
        clock: Callable[[], float],
        door: Door,
        proof: Proof,
    ) -> None:
        self._config = config
        self._nats = nats
        self._ledger = ledger
        self._table = table
        self._loop = loop
        self._clock = clock
        self._door = door
        self._proof = proof
        self._subjects = Subjects(config.prefix)
        self._heartbeats: Subscription | None = None
        self._relays: Subscription | None = None
        self._register_queue: Subscription | None = None
        self._registrations: set[asyncio.Task[None]] = set()
        self.bad_messages: Counter[tuple[str, str]] = Counter()

    async def start(self) -> None:
        """Hear heartbeats; who may become the leader knows then who is alive."""
        self._heartbeats = await self._nats.subscribe(self._subjects.heartbeats, self._on_heartbeat)
        self._relays = await self._nats.subscribe(self._subjects.relays, self._on_relay)

    async def take_registrations(self, wanted: bool) -> None:
        """Join or leave the queue group that shares the registrations out; nothing when that is done already.

        Raises:
            NatsTransportError: it cannot be done now.
        """
        if wanted and self._register_queue is None:
            self._register_queue = await self._nats.subscribe(
                self._subjects.register, self._on_register, queue=QUEUE
            )
        elif not wanted and self._register_queue is not None:
            queue, self._register_queue = self._register_queue, None
            await queue.unsubscribe()

    async def stop(self) -> None:
        """Hear no more; what is under way is cut off."""
        for subscription in (self._heartbeats, self._relays, self._register_queue):
            if subscription is not None:
                with contextlib.suppress(NatsTransportError):
                    await subscription.unsubscribe()
        for task in self._registrations:
            task.cancel()
        await asyncio.gather(*self._registrations, return_exceptions=True)

    # -- registration

    async def _on_register(self, message: Message) -> None:
        try:
            if len(self._registrations) >= MAX_REGISTRATIONS:
                raise WireError(
                    ErrorCode.UNAVAILABLE,
                    f"{MAX_REGISTRATIONS} registrations are under way: try again in a moment",
                )
            request = decode(message.data, Register)
            if request.carrier not in (None, NATS):
                raise WireError(
                    ErrorCode.BAD_REQUEST,
                    f"Register: carrier {request.carrier[:40]!r} came over NATS: register over REST for that",
                )
        except WireError as error:
            self._count("register", error.code)
            await self._reply(message, error.reply())
            return
        task = asyncio.get_running_loop().create_task(self._register(message, request))
        self._registrations.add(task)
        task.add_done_callback(self._registrations.discard)

    async def _register(self, message: Message, request: Register) -> None:
        try:
            key_id = await self._door.admit_worker(request.api_key)
            self._door.admit_name(request.worker_id, key_id)
            displaces = await self._proof.demand(request, key_id)
            answer: msgspec.Struct = await register(
                self._ledger,
                self._config,
                request,
                request_id=f"register:{uuid.uuid4().hex}",
                key_id=key_id,
                displaces=displaces,
            )
        except WireError as error:
            if error.code in (ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN, ErrorCode.RATE_LIMITED):
                self._count("register", error.code)
            _log.warning(
                "%s", line("registration_refused", worker=request.worker_id, code=error.code, reason=error)
            )
            answer = error.reply()
        except Exception:
            _log.exception("%s", line("registration_failed", worker=request.worker_id))
            answer = WireError(ErrorCode.INTERNAL, "a defect: see the coordinator's log").reply()
        await self._reply(message, answer)

    # -- heartbeats

    async def _on_heartbeat(self, message: Message) -> None:
        found = self._read(message, "heartbeat", self._subjects.heartbeat_prefix)
        if found is None:
            return
        self.hear(*found)
        ack = self.answer(*found) if message.reply else None
        if ack is not None:
            await self._reply(message, ack)

    async def _on_relay(self, message: Message) -> None:
        found = self._read(message, "relay", self._subjects.relay_prefix)
        if found is None or self._leading():
            return  # who leads hears workers themselves, and his own relays
        worker_id, heartbeat = found
        worker = self._ledger.state.workers.get(worker_id)
        if worker is None or worker.carrier != REST:
            self._count("relay", "unknown_worker")
        else:
            self._table.heard(worker_id, heartbeat, self._clock())

    async def relay(self, worker_id: str, heartbeat: Heartbeat) -> None:
        """Tell the other coordinators of a heartbeat that came over REST; what cannot be told is counted."""
        try:
            await self._nats.publish(self._subjects.relay(worker_id), encode(heartbeat))
        except NatsTransportError as error:
            self._count("relay", error.kind)

    def _read(self, message: Message, kind: str, prefix: str) -> tuple[str, Heartbeat] | None:
        """Who says what; None when it cannot be read, which is counted."""
        try:
            # What JetStream delivers to a subject carries the one it was published on.
            if not message.subject.startswith(prefix):
                raise ValueError("it was published elsewhere")
            return check_id(message.subject.removeprefix(prefix), "worker id"), decode(
                message.data, Heartbeat
            )
        except ValueError as error:
            self._count(kind, "bad_subject")
            _log.debug("%s", line(f"{kind}_dropped", subject=message.subject, reason=error))
        except WireError as error:
            self._count(kind, error.code)
            _log.debug("%s", line(f"{kind}_dropped", subject=message.subject, reason=error))
        return None

    def hear(self, worker_id: str, heartbeat: Heartbeat) -> None:
        """Note a heartbeat, whoever carried it."""
        worker = self._ledger.state.workers.get(worker_id)
        if worker is None:
            self._count("heartbeat", "unknown_worker")
        news = self._table.heard(worker_id, heartbeat, self._clock(), member=worker is not None)
        if (news or self._unhealthy(worker_id)) and self._leading():
            self._loop.wake()

    def answer(self, worker_id: str, heartbeat: Heartbeat) -> HeartbeatAck | None:
        """What the leader says to it, whoever carries that; None: no lease is granted now, or it is a part of
        one that is answered already."""
        if heartbeat.part is not None and heartbeat.part.number:
            return None
        if not self._leading() or self._unhealthy(worker_id):
            return None
        return self._ack(worker_id, heartbeat)

    def _unhealthy(self, worker_id: str) -> bool:
        worker = self._ledger.state.workers.get(worker_id)
        return worker is not None and worker.status is WorkerStatus.UNHEALTHY

    def _leading(self) -> bool:
        return self._loop.leads and self._ledger.is_leader

    def _ack(self, worker_id: str, heartbeat: Heartbeat) -> HeartbeatAck:
        worker = self._ledger.state.workers.get(worker_id)
        directives: list[Directive] = []
        renews, judged = False, 0
        if worker is None:
            directives.append(Directive(do="register", reason="this cluster does not know you"))
        elif worker.incarnation != heartbeat.incarnation:
            directives.append(Directive(do="register", reason="you registered as another process"))
        else:
            reason = "it belongs elsewhere, or nowhere"
            stale = self._loop.convergence.stale_copies(worker_id)
            renews = len(stale) <= MAX_DIRECTIVES
            heard = self._table.last_heard(worker_id)
            judged = heard.seq if heard is not None else 0
            directives.extend(
                Directive(do="undeploy", pipeline_id=copy.pipeline_id, reason=reason)
                for copy in stale[:MAX_DIRECTIVES]
            )
            if self._loop.drains.has_nothing_to_wait_for(worker_id):
                directives.append(Directive(do="leave", reason="nothing more will be moved"))
        return HeartbeatAck(
            term=self._ledger.term,
            lease_secs=self._config.lease_secs,
            directives=directives or None,
            judged=judged,
            renews=renews,
        )

    # -- both

    async def _reply(self, message: Message, answer: msgspec.Struct) -> None:
        # Who asks names where the answer goes, and we may publish where he may not.
        if message.reply.startswith((f"{self._config.prefix}.", "$")):
            self._count("reply", "not_an_inbox")
        elif message.reply:
            with contextlib.suppress(NatsTransportError):
                await self._nats.publish(message.reply, encode(answer))

    def _count(self, kind: str, reason: str) -> None:
        self.bad_messages[kind, reason] += 1
