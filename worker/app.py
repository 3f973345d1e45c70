"""A worker as a process: its parts made and joined, started in order, stopped in order.

Start: connect, make sure of the id, open HTTP, subscribe the commands, register. What fails is undone. A
worker that is given coordinators speaks REST to them and connects to no NATS; its id is then the
coordinators' affair. Stop (SIGTERM): say in heartbeats that we leave, and work on until our pipelines have
been moved to others, or `leave_timeout` is over, or nobody will move them; then drain what is left (states go
to disk), say so in a last heartbeat, let go of the rest. SIGINT, or a second SIGTERM: the same without
waiting.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from prometheus_client.core import Metric

from proto_schemas.messages.commands import Hello, Present
from proto_schemas.subjects import Subjects
from transport.errors import ConfigError, NatsTransportError
from transport.http import HttpServer, PortInUse
from transport.http_client import HttpClient
from transport.keyring import KeyRing
from transport.lag import LoopLag
from transport.log import to_stderr
from transport.nats import NatsTransport
from transport.notify import ServiceManager, attended
from transport.signing import Signatures, SignedTransport
from transport.tls import client_context
from worker.budget import Limits
from worker.commands import Commands
from worker.config import WorkerConfig, read_key
from worker.connectors.base import Site
from worker.dispatcher import Dispatcher
from worker.http import HealthApp
from worker.http_carrier import HttpCarrier
from worker.identity import Superseded, WorkerIdInUse, make_sure_of_id
from worker.lease import Lease
from worker.link import Link, NatsLink
from worker.membership import Membership
from worker.metrics import WorkerCollector, of_nats, of_rest
from worker.nats_carrier import NatsCarrier
from worker.pipelines import PipelineHost, warm_up
from worker.rest_link import RestLink
from worker.store.archive import Archive
from worker.store.base import Store
from worker.store.directory import DirectoryStore
from worker.store.jetstream import JetStreamStore

__all__ = ["Worker", "WorkerConfig", "WorkerIdInUse", "serve"]

NATS_WAIT: Final = 10.0
"""Seconds a start waits for a NATS server that is not up yet."""
STOP_WAIT: Final = 3.0
"""Seconds a stop gives the drain; what is not at rest then is cut off."""
CLOSE_WAIT: Final = 1.0
SILENT_LEASES: Final = 2.0
"""Leases without an answer after which a worker that leaves does not count on a leader any more."""
LOOK_EVERY: Final = 0.05
"""Seconds between looks at whether everything has been moved."""

log = logging.getLogger(__name__)


class Worker:
    """One worker; `start`, then `stop`, once.

    Attributes:
        host: its pipelines, once it has started.
    """

    host: PipelineHost
    _link: Link

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self._subjects = Subjects(config.prefix)
        self._lease = Lease()
        self._cleanup = contextlib.AsyncExitStack()
        self._url = ""
        self._ring: KeyRing | None = None
        self._work: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where health and metrics are served."""
        return self._url

    async def start(self) -> None:
        """Start; commands are answered when this returns, registration goes on by itself.

        Raises:
            NatsTransportError, ConfigError, WorkerIdInUse, PortInUse: nothing is left behind.
        """
        async with contextlib.AsyncExitStack() as cleanup:
            await self._start(cleanup)
            self._cleanup = cleanup.pop_all()

    async def _start(self, cleanup: contextlib.AsyncExitStack) -> None:
        config, subjects = self.config, self._subjects
        warming = asyncio.create_task(warm_up())
        cleanup.push_async_callback(_end, warming)
        bus = None if config.coordinators else await self._connect(cleanup)
        control = self._control(bus) if bus is not None else None
        if control is not None:
            await make_sure_of_id(control, subjects, config.worker_id)
        await warming

        self.host = PipelineHost(
            bus,
            subjects,
            Archive(self._store(bus)),
            max_pipelines=config.max_pipelines,
            lease=self._lease,
            checkpoint_secs=config.checkpoint_interval,
            checkpoint_wait=config.checkpoint_wait,
            checkpoint_required=config.checkpoint_required,
            shared_store=bool(config.checkpoint_store),
            site=Site(config.files_dir),
            limits=Limits(config.error_budget, config.error_share, config.event_secs, config.max_keys),
        )
        self.host.watchdog.start()
        cleanup.callback(self.host.watchdog.stop)
        cleanup.push_async_callback(self.host.stop)
        key = ""
        if control is not None:
            self._link = NatsLink(control, subjects, config.worker_id)
        else:
            file = config.worker_key_file
            key = read_key(file) if file is not None else secrets.token_urlsafe(32)
            self._link = self._rest_link(cleanup, key)
        member = self._membership = Membership(
            config, self._link, self.host, self._lease, lambda: config.address or self._url
        )
        handlers = {**Commands(self.host, member).handlers, "hello": self._present}
        dispatcher = Dispatcher(handlers, self.host.locate, self.host.epoch_of, lambda: member.term)
        connection: Callable[[], Iterator[Metric]]
        commands: HttpCarrier | None = None
        if bus is not None:
            connection = partial(of_nats, bus)
        else:
            assert isinstance(self._link, RestLink)
            commands = HttpCarrier(dispatcher, key)
            connection = partial(of_rest, self._link, commands)

        lag = LoopLag()
        collector = WorkerCollector(self.host, dispatcher, member, connection, self._lease_open, lag)
        app = HealthApp(self.health, collector, commands)
        server = HttpServer(
            app,
            config.http_host,
            config.http_port,
            flag="--http-port",
            tls_cert=config.tls_cert or None,
            tls_key=config.tls_key or None,
            lag=lag,
        )
        await server.start()
        cleanup.push_async_callback(server.stop, CLOSE_WAIT)
        self._url = server.url

        if control is not None:
            carrier = NatsCarrier(control, dispatcher)
            await carrier.serve(subjects.commands(config.worker_id))
            cleanup.push_async_callback(carrier.stop, CLOSE_WAIT)
            await control.flush(NATS_WAIT)
        self._work = {
            asyncio.create_task(self._membership.run()),
            asyncio.create_task(self.host.run_timers()),
            asyncio.create_task(self.host.checkpoints.run()),
        }
        if self._ring is not None:
            self._work.add(asyncio.create_task(self._ring.follow()))
        for task in self._work:
            cleanup.push_async_callback(_end, task)

    async def _present(self, request: Hello) -> Present:
        member = self._membership
        own = request.attempt is not None and request.attempt in member.attempts
        return Present(ok=True, incarnation=member.incarnation, registers=own)

    def _store(self, bus: NatsTransport | None) -> Store:
        config = self.config
        directory = config.checkpoint_directory
        if directory is not None:
            return DirectoryStore(directory)
        assert bus is not None, "the configuration refuses JetStream without NATS"
        return JetStreamStore(
            bus, replicas=config.checkpoint_replicas, max_bytes=config.checkpoint_max_bytes or -1
        )

    def _control(self, bus: NatsTransport) -> NatsTransport:
        """The connection for what passes between us and the coordinators: signed where there is a key."""
        config = self.config
        if config.cluster_key_file is None or not config.sign:
            return bus
        ring = self._ring = KeyRing(config.cluster_key_file)
        signatures = Signatures(ring, "workers")
        return SignedTransport(bus, signatures, unsigned=config.allow_unsigned, once=True)

    async def _connect(self, cleanup: contextlib.AsyncExitStack) -> NatsTransport:
        bus = await NatsTransport.connect(self.config.nats, wait=NATS_WAIT)
        cleanup.push_async_callback(bus.close, CLOSE_WAIT)
        return bus

    def _rest_link(self, cleanup: contextlib.AsyncExitStack, key: str) -> RestLink:
        config = self.config
        http = HttpClient(client_context(ca=config.tls_ca) if config.tls_ca else None)
        cleanup.push_async_callback(http.close)
        return RestLink(
            http, config.coordinator_urls, config.worker_id, api_key=config.api_key, worker_key=key
        )

    async def run_until(self, stopping: "asyncio.Task[Any]") -> None:
        """Work until `stopping` is done.

        Raises:
            Superseded: a newer incarnation runs.
            Exception: a bug that ended heartbeats or timers; a worker without them must not live on.
        """
        done, _ = await asyncio.wait({stopping, *self._work}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def leave(self, at_once: asyncio.Event) -> None:
        """Work on until nothing runs here any more, at most `leave_timeout` seconds, or until `at_once` is
        set.

        A coordinator that grants no lease would not move anything, nor would one that answers no more: then
        there is nothing to wait for.
        """
        deadline = time.monotonic() + self.config.leave_timeout
        if not self._lease.granted:
            return
        await self._membership.leave()
        while self.host.at_work and not self._membership.dismissed and time.monotonic() < deadline:
            if self._membership.silence > SILENT_LEASES * self._lease.secs:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await at_once.wait()
                    return

    async def stop(self) -> None:
        """Drain, within `STOP_WAIT`, and let go of everything; nothing where it did not start."""
        if not self._work:
            return
        try:
            async with asyncio.timeout(STOP_WAIT):
                await self.host.drain()
                await self._membership.beat()
        except TimeoutError:
            log.warning("worker=%s not drained within %g s; cut off", self.config.worker_id, STOP_WAIT)
        await self.abandon()

    async def abandon(self) -> None:
        """Let go of everything at once, and say nothing."""
        await self._cleanup.aclose()

    def health(self) -> dict[str, Any]:
        """What `/health` shows; `ready`: registered and connected."""
        registered, connected = self._membership.registered, self._link.connected
        nats = not self.config.coordinators
        return {
            "ready": registered and connected,
            "worker_id": self.config.worker_id,
            "incarnation": self._membership.incarnation,
            "registered": registered,
            "term": self._membership.term,
            **({"nats_connected": connected} if nats else {"coordinator_connected": connected}),
            "lease_open": self._lease_open(),
            "draining": self.host.draining,
            "pipelines": self.host.running(),
            "events_in": self.host.events_in,
            "events_out": self.host.events_out,
            "checkpoints": self.host.checkpoints.health(),
        }

    def standing(self) -> tuple[bool, str]:
        """Whether `/readyz` says yes, and how it stands, in a line for people."""
        if not self._work:
            return False, "starts"
        if not self._link.connected:
            return False, f"not connected to {'a coordinator' if self.config.coordinators else 'NATS'}"
        if not self._membership.registered:
            return False, "waits to be registered: does a coordinator lead?"
        return True, f"registered, {len(self.host.running())} pipelines"

    def _lease_open(self) -> bool:
        return self._lease.is_open(time.monotonic())


async def serve(config: WorkerConfig) -> int:
    """Run a worker until SIGTERM or SIGINT: the exit code. A failed start is one line on stderr and 1."""
    to_stderr(config.worker_id)
    stopped, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*, now: bool) -> None:
        if now or stopped.is_set():
            at_once.set()
        stopped.set()

    loop.add_signal_handler(signal.SIGTERM, partial(stop, now=False))
    loop.add_signal_handler(signal.SIGINT, partial(stop, now=True))
    worker = Worker(config)
    async with attended(worker.standing) as manager:
        return await _run(worker, stopped, at_once, manager)


async def _run(
    worker: Worker, stopped: asyncio.Event, at_once: asyncio.Event, manager: ServiceManager
) -> int:
    config = worker.config
    starting, stopping = asyncio.create_task(worker.start()), asyncio.create_task(stopped.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await _end(starting)
        return 0
    try:
        starting.result()
    except (NatsTransportError, ConfigError, WorkerIdInUse, PortInUse) as error:
        print(f"varpulis worker {config.worker_id}: {error}", file=sys.stderr)
        return 1
    log.info("worker=%s serves on %s", config.worker_id, worker.url)
    try:
        await worker.run_until(stopping)
        manager.stopping()
        if not at_once.is_set():
            leaving = asyncio.create_task(worker.leave(at_once))
            try:
                await worker.run_until(leaving)
            finally:
                leaving.cancel()
    except Superseded as error:
        print(f"varpulis worker {config.worker_id}: {error}", file=sys.stderr)
        await worker.abandon()
        return 1
    except Exception:
        log.critical("worker=%s cannot go on; please report this", config.worker_id, exc_info=True)
        await worker.abandon()
        return 1
    await worker.stop()
    return 0


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=CLOSE_WAIT)
