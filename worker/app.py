"""A worker as a process: its parts made and joined, started in order, stopped in order.

Start: connect, make sure of the id, open HTTP, subscribe the commands, register. What fails is undone. A
worker that is given coordinators speaks REST to them and connects to no NATS; its id is then the
coordinators' affair. Stop (SIGTERM): drain the pipelines (their states go to disk), say so in a last
heartbeat, let go of the rest.
"""

import asyncio
import contextlib
import logging
import secrets
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from prometheus_client.core import Metric

from proto_schemas.subjects import Subjects
from transport.errors import ConfigError, NatsTransportError
from transport.http import HttpServer, PortInUse
from transport.http_client import HttpClient
from transport.nats import NatsTransport
from worker.checkpoints import CheckpointStore
from worker.commands import Commands
from worker.config import WorkerConfig, read_key
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

__all__ = ["Worker", "WorkerConfig", "WorkerIdInUse", "serve"]

NATS_WAIT: Final = 10.0
"""Seconds a start waits for a NATS server that is not up yet."""
STOP_WAIT: Final = 3.0
"""Seconds a stop gives the drain; what is not at rest then is cut off."""
CLOSE_WAIT: Final = 1.0

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
        await warming

        store = CheckpointStore(config.data_dir / "checkpoints")
        self.host = PipelineHost(bus, subjects, store, max_pipelines=config.max_pipelines, lease=self._lease)
        cleanup.push_async_callback(self.host.stop)
        dispatcher = Dispatcher(Commands(self.host, store).handlers, self.host.locate)
        connection: Callable[[], Iterator[Metric]]
        commands: HttpCarrier | None = None
        if bus is not None:
            self._link = NatsLink(bus, subjects, config.worker_id)
            connection = partial(of_nats, bus)
        else:
            rest, commands = self._rest(cleanup, dispatcher)
            self._link = rest
            connection = partial(of_rest, rest, commands)
        self._membership = Membership(
            config, self._link, self.host, self._lease, lambda: config.address or self._url
        )

        collector = WorkerCollector(self.host, dispatcher, self._membership, connection, self._lease_open)
        app = HealthApp(self.health, collector, commands)
        server = HttpServer(
            app,
            config.http_host,
            config.http_port,
            flag="--http-port",
            tls_cert=config.tls_cert or None,
            tls_key=config.tls_key or None,
        )
        await server.start()
        cleanup.push_async_callback(server.stop, CLOSE_WAIT)
        self._url = server.url

        if bus is not None:
            carrier = NatsCarrier(bus, dispatcher)
            await carrier.serve(subjects.commands(config.worker_id))
            cleanup.push_async_callback(carrier.stop, CLOSE_WAIT)
            await bus.flush(NATS_WAIT)
        self._work = {
            asyncio.create_task(self._membership.run()),
            asyncio.create_task(self.host.run_timers()),
        }
        for task in self._work:
            cleanup.push_async_callback(_end, task)

    async def _connect(self, cleanup: contextlib.AsyncExitStack) -> NatsTransport:
        bus = await NatsTransport.connect(self.config.nats, wait=NATS_WAIT)
        cleanup.push_async_callback(bus.close, CLOSE_WAIT)
        await make_sure_of_id(bus, self._subjects, self.config.worker_id)
        return bus

    def _rest(
        self, cleanup: contextlib.AsyncExitStack, dispatcher: Dispatcher
    ) -> tuple[RestLink, HttpCarrier]:
        config = self.config
        file = config.worker_key_file
        key = read_key(file) if file is not None else secrets.token_urlsafe(32)
        http = HttpClient(ssl.create_default_context(cafile=config.tls_ca) if config.tls_ca else None)
        cleanup.push_async_callback(http.close)
        link = RestLink(
            http, config.coordinator_urls, config.worker_id, api_key=config.api_key, worker_key=key
        )
        return link, HttpCarrier(dispatcher, key)

    async def run_until(self, stopping: "asyncio.Task[bool]") -> None:
        """Work until `stopping` is done.

        Raises:
            Superseded: a newer incarnation runs.
            Exception: a bug that ended heartbeats or timers; a worker without them must not live on.
        """
        done, _ = await asyncio.wait({stopping, *self._work}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Drain, within `STOP_WAIT`, and let go of everything."""
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
        }

    def _lease_open(self) -> bool:
        return self._lease.is_open(time.monotonic())


async def serve(config: WorkerConfig) -> int:
    """Run a worker until SIGTERM or SIGINT: the exit code. A failed start is one line on stderr and 1."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    worker = Worker(config)
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
