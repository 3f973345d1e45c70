"""One coordinator: its parts, put together, started in order and stopped in order.

Start: reach NATS, bind HTTP (so that a port in use stops us before we take part), join Raft, then listen to
workers and let the control loop run. Until Raft is ready the API answers `unavailable`, and `/livez` 200.
Stop is the same backwards, bounded: leave HTTP, end what is under way, leave Raft, close NATS.

What keeps a node from starting is one line on stderr, cause and remedy, and exit code 1.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import time
from functools import partial
from typing import Final

import httpcore

from coordinator.api.app import build
from coordinator.api.context import Context, version
from coordinator.api.stream import live_summary
from coordinator.config import CoordinatorConfig
from coordinator.connectors import keep_sealed
from coordinator.controllers.loop import ControlLoop
from coordinator.group_streams import GroupStreams
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.machine import ClusterMachine
from coordinator.metrics import HttpCounts, Sources, exposition
from coordinator.nats_handlers import WorkerListener
from coordinator.scaling import Scaling
from coordinator.security.door import Door
from coordinator.security.files import KeyFiles
from coordinator.security.proof import Proof
from coordinator.security.sealing import Sealer
from coordinator.state.commands import Announce, StartMigration
from coordinator.state.rebalance import Move
from coordinator.state.records import Cause, Event, KeyRole
from coordinator.state.results import Started
from coordinator.streams import Streams
from coordinator.webhook import Webhook
from coordinator.worker_commands import WorkerCommands
from coordinator.worker_rest import RestCarrier
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.subjects import Subjects
from raft.errors import RaftError
from raft.node import RaftNode
from transport.errors import ConfigError, NatsTransportError
from transport.http import MAX_CONNECTIONS, HttpServer, PortInUse, StartFailed
from transport.http_client import HttpClient
from transport.keyring import KeyRing
from transport.lag import LoopLag
from transport.log import to_stderr
from transport.nats import NatsTransport
from transport.notify import ServiceManager, attended
from transport.signing import Signatures, SignedFrames, SignedTransport
from transport.tls import client_context

STOP_TIMEOUT: Final = 4.0
LOOK_EVERY: Final = 0.25
LOOK_EVERY_SETTLED: Final = 1.0
"""Seconds between looks at whether this node takes part, while that is to change (each entry that is applied
brings the next one forward), and once it does."""
START_ERRORS: Final = (ConfigError, NatsTransportError, PortInUse, StartFailed, RaftError, OSError)
"""What stops a start with a text meant for people."""

_log = logging.getLogger(__name__)


class Coordinator:
    """One coordinator in this event loop. Make it, `start` it, `stop` it; not to be started twice."""

    def __init__(self, config: CoordinatorConfig) -> None:
        self.config = config
        self._server: HttpServer | None = None
        self._nats: NatsTransport | None = None
        self._raft: RaftNode | None = None
        self._http = httpcore.AsyncConnectionPool(
            ssl_context=client_context(ca=config.tls_ca, cert=config.tls_cert, key=config.tls_key)
            if config.tls_cert or config.tls_ca
            else None,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
        )
        self._to_workers = HttpClient(client_context(ca=config.worker_ca) if config.worker_ca else None)
        self._loop: ControlLoop | None = None
        self._listener: WorkerListener | None = None
        self._streams: Streams | None = None
        self._webhook: Webhook | None = None
        self._context: Context | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where its REST face is, once started."""
        if self._server is None:
            raise RuntimeError("the coordinator is not started: call start() first")
        return self._server.url

    @property
    def is_leader(self) -> bool:
        """Whether it leads now."""
        return self._raft is not None and self._raft.is_leader

    def standing(self) -> tuple[bool, str]:
        """Whether `/readyz` says yes, and how it stands, in a line for people."""
        return self._context.standing() if self._context is not None else (False, "starts")

    async def start(self) -> None:
        """Start everything, or nothing.

        Raises:
            ConfigError, NatsTransportError, PortInUse, StartFailed, RaftError: each text has cause and
            remedy.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config, clock, machine = self.config, time.monotonic, ClusterMachine()
        ring = KeyRing(config.cluster_key_file) if config.cluster_key_file is not None else None
        files = KeyFiles({KeyRole.ADMIN: config.admin_key_file, KeyRole.WORKER: config.worker_key_file})
        nats = self._nats = await NatsTransport.connect(config.nats, wait=config.nats_wait or None)
        frames = bus = nats
        if ring is not None and config.sign:
            frames = SignedFrames(nats, Signatures(ring, "raft"))
            bus = SignedTransport(nats, Signatures(ring, "workers"), unsigned=config.allow_unsigned)
        raft = self._raft = RaftNode(config.raft, frames, machine)
        ledger, table, subjects = Ledger(raft, machine), HeartbeatTable(), Subjects(config.prefix)
        by_rest = RestCarrier(self._to_workers, lambda worker_id: machine.state.workers.get(worker_id))
        commands = WorkerCommands(bus, subjects, by_rest, heartbeats=table)
        sealer = Sealer(ring)
        group_streams = GroupStreams(
            nats,
            subjects,
            replicas=config.stream_replicas,
            max_age=config.stream_max_age,
            max_bytes=config.stream_max_bytes,
        )
        loop = self._loop = ControlLoop(
            ledger,
            commands,
            table,
            clock=clock,
            hears=lambda: nats.connected,
            heartbeat_timeout=config.heartbeat_timeout,
            heartbeat_interval=config.heartbeat_interval,
            moves={"per_worker": config.moves_per_worker, "at_once": config.moves_at_once},
            sealer=sealer,
            placement=config.placement,
            start_move=partial(_start_move, ledger),
            rebalance=config.rebalance,
            rebalance_cooldown=config.rebalance_cooldown,
            group_streams=group_streams,
        )
        door = Door(ledger, required=config.keys_required, rate=config.rate_limit, burst=config.rate_burst)
        proof = Proof(ledger, commands, door)
        listener = self._listener = WorkerListener(config, bus, ledger, table, loop, clock, door, proof)
        _connect(machine, table, loop, nats, raft, by_rest)
        streams = self._streams = Streams(lambda: machine.state)
        machine.watch(streams.changed)
        if config.scaling_webhook:
            self._webhook = Webhook(config.scaling_webhook, lambda: loop.leads)
        scaling = Scaling(
            cluster_id=config.cluster_id,
            ledger=ledger,
            table=table,
            limits=config.scaling,
            leads=lambda: loop.leads,
            teller=self._webhook,
        )
        counts, lag = HttpCounts(), LoopLag()
        sources = Sources(
            node_id=config.node_id,
            version=version(),
            machine=machine,
            ledger=ledger,
            table=table,
            listener=listener,
            loop=loop,
            scaling=scaling,
            webhook=self._webhook,
            streams=streams,
            http=counts,
            door=door,
            asked_by_rest=by_rest.asked,
            raft_status=raft.status,
            raft_counters=raft.counters,
            nats=nats.stats,
            nats_connected=lambda: nats.connected,
            commands=commands,
            lag=lag,
            clock=clock,
        )
        context = self._context = Context(
            config=config,
            ledger=ledger,
            raft=raft,
            nats=nats,
            table=table,
            listener=listener,
            commands=commands,
            rebalance=loop.rebalance,
            by_rest=by_rest,
            subjects=subjects,
            http=self._http,
            counts=counts,
            streams=streams,
            group_streams=group_streams,
            door=door,
            proof=proof,
            sealer=sealer,
            scaling=scaling,
            clock=clock,
            exposition=exposition(sources),
        )
        server = HttpServer(
            build(context),
            config.http_host,
            config.http_port,
            flag="--http-port",
            tls_cert=config.tls_cert or None,
            tls_key=config.tls_key or None,
            tls_client_ca=config.tls_client_ca or None,
            lag=lag,
        )
        await server.start()
        self._server = server
        moved = asyncio.Event()
        raft.on_applied(lambda index: moved.set())
        await raft.start()
        await listener.start()
        await listener.take_registrations(context.outside() is None)
        self._tasks = [
            asyncio.create_task(loop.run(), name="control loop"),
            asyncio.create_task(scaling.run(), name="scaling"),
            asyncio.create_task(keep_sealed(ledger, sealer, lambda: loop.leads), name="sealing"),
            asyncio.create_task(streams.run(live_summary(context)), name="streams"),
            asyncio.create_task(
                self._take_part(context, config.advertise_url or server.url, files, moved), name="take part"
            ),
        ]
        if ring is not None:
            self._tasks.append(asyncio.create_task(ring.follow(), name="cluster key"))
        _log.info("%s", line("started", url=server.url, nats=nats.server_url, cluster=config.cluster_id))

    async def stop(self, *, hand_over: bool = True) -> None:
        """Stop what was started, in bounded time; safe to call twice. `hand_over`: as in `RaftNode.stop`."""
        if self._streams is not None:
            self._streams.close()
        if self._server is not None:
            await self._server.stop(timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._webhook is not None:
            await self._webhook.close()
        if self._listener is not None:
            await self._listener.stop()
        if self._loop is not None:
            await self._loop.close()
        if self._raft is not None:
            await self._raft.stop(hand_over=hand_over)
        await self._http.aclose()
        await self._to_workers.close()
        if self._nats is not None:
            await self._nats.close(timeout=1.0)
        self._tasks, self._raft, self._nats = [], None, None

    async def _take_part(self, context: Context, url: str, files: KeyFiles, moved: asyncio.Event) -> None:
        """As long as this node is a member: share in the registrations, and keep in the state our URL, where
        followers look for the leader's, and the keys we were started with. `moved`: the state has changed.
        """
        node_id, ledger, was = self.config.node_id, context.ledger, None
        while True:
            moved.clear()
            put_off = False
            reason = context.outside()
            if reason != was:
                _log.warning("%s", line("outside", reason=reason) if reason else line("takes_part"))
                was = reason
            try:
                await context.listener.take_registrations(reason is None)
                known = ledger.state.coordinators.get(node_id) == url
                if reason is None and ledger.leader_id is not None and not known:
                    await ledger.propose(Announce(by=node_id, node_id=node_id, url=url))
                if reason is None and ledger.leader_id is not None:
                    await files.ensure(ledger)
            except (WireError, NatsTransportError) as error:
                _log.info("%s", line("put_off", reason=error))
                put_off = True
            if reason is None and ledger.state.coordinators.get(node_id) == url:
                await asyncio.sleep(LOOK_EVERY_SETTLED)
            elif put_off:
                await asyncio.sleep(LOOK_EVERY)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await moved.wait()


async def _start_move(ledger: Ledger, move: Move) -> str:
    """Commit a move of a rebalance; the id of its migration."""
    started = await ledger.propose(
        StartMigration(
            by="rebalance",
            group=move.group,
            pipeline=move.pipeline,
            epoch=move.epoch,
            to_worker=move.to_worker,
            cause=Cause.REBALANCE,
        )
    )
    if not isinstance(started, Started):
        raise WireError(ErrorCode.INTERNAL, "a defect: a migration began without an id")
    return started.id


def _connect(
    machine: ClusterMachine,
    table: HeartbeatTable,
    loop: ControlLoop,
    nats: NatsTransport,
    raft: RaftNode,
    by_rest: RestCarrier,
) -> None:
    """Tell the parts of each other's changes."""

    def on_change(events: tuple[Event, ...]) -> None:
        loop.wake()
        for event in events:
            worker = machine.state.workers.get(event.about)
            if event.what == "worker_registered" and worker is not None:
                table.registered(worker.id, worker.incarnation, time.monotonic())
            elif event.what == "worker_removed":
                table.forget(event.about)
                by_rest.forget(event.about)

    def on_connection(connected: bool) -> None:
        loop.could_not_hear()

    machine.watch(on_change)
    nats.on_connection_change(on_connection)
    raft.on_leadership(lambda leads: loop.wake())


async def serve(config: CoordinatorConfig) -> int:
    """Run one coordinator until SIGTERM or SIGINT; the exit code: 0, or 1 when it could not start."""
    to_stderr(config.node_id)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    coordinator = Coordinator(config)
    async with attended(coordinator.standing) as manager:
        return await _run(coordinator, stop, manager)


async def _run(coordinator: Coordinator, stop: asyncio.Event, manager: ServiceManager) -> int:
    starting = asyncio.create_task(coordinator.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
    (outcome,) = await asyncio.gather(starting, return_exceptions=True)
    if isinstance(outcome, Exception):
        stopping.cancel()
        print(
            f"coordinator {coordinator.config.node_id} cannot start: {_in_one_line(outcome)}", file=sys.stderr
        )
        return 1
    # What is here now, code and state, stays: the collector, which stops the event loop, need not look at it.
    gc.collect()
    gc.freeze()
    await stopping
    manager.stopping()
    _log.info("%s", line("stopping"))
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await coordinator.stop()
    except TimeoutError:
        _log.warning("%s", line("stop_cut_off", after_secs=STOP_TIMEOUT))
    return 0


def _in_one_line(error: Exception) -> str:
    if isinstance(error, START_ERRORS):
        return " ".join(str(error).split())
    _log.debug("the start failed", exc_info=error)
    return f"{type(error).__name__}: {error}: a defect; run with debug logging and report it"
