"""Being a member: registering, heartbeats, and what the leader answers to them.

- A worker registers with a request that one of the coordinators answers, for ever, with backoff and jitter,
  and always as the same incarnation. It registers again when it is told to, after its connection was lost,
  and when answers it used to get stay out; heartbeats go on meanwhile.
- A heartbeat says what really runs. An answer tells which heartbeat it belongs to and when that one was sent;
  the lease counts from there. What carries them, and when one counts as gone out, is the link's
  (`worker.link`, `worker.rest_link`).
- An answer of an older term than one seen is a deposed leader's, and ignored. Directives are followed
  before the lease is renewed, so a copy that must go is gone before outputs may leave again; an answer that
  has not room for all, or comes from who does not know us, renews nothing.
- A heartbeat under its own id but of a newer incarnation ends this one (`worker.identity`).
"""

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Final

import psutil

from proto_schemas.errors import WireError
from proto_schemas.messages.membership import (
    Capacity,
    Directive,
    Heartbeat,
    HeartbeatAck,
    HeartbeatId,
    Register,
)
from transport.errors import NatsTransportError
from worker.config import WorkerConfig
from worker.identity import Superseded, new_incarnation
from worker.lease import Lease, Permit
from worker.link import Ears, Link
from worker.pipeline import now_ms
from worker.pipelines import PipelineHost

VERSION: Final = "0.1.0"
BACKOFF: Final = (0.1, 5.0)
"""Seconds between attempts to register: the first and the longest."""
INTERVAL_RANGE: Final = (0.05, 60.0)
"""Seconds between heartbeats that a coordinator may ask for."""
SILENCE_LEASES: Final = 4.0
"""Leases (at least heartbeats) without an answer, where there were answers, until it registers again."""
ATTEMPTS: Final = 8
"""Attempts to register that are known again; one may be asked about after the next was made."""
REMEMBERED: Final = 64
"""Heartbeats whose answer is still understood."""
VOUCH_WAIT: Final = 1.0
"""Seconds in which the leader is to leave a new copy alone, before its deploy is answered all the same."""

log = logging.getLogger(__name__)


class Membership:
    """One incarnation of a worker, as the coordinators see it.

    Attributes:
        incarnation: new for each process.
        attempts: the secrets of the last attempts to register; who asks whether one was ours is told.
        term: the newest leader's that answered.
        heartbeats, missed: heartbeats that went out, and that did not.
        dismissed: this worker leaves, and the leader says that there is nothing to wait for.
        acknowledged, refused: answers that counted, and that did not (malformed, or of an older term).
    """

    def __init__(
        self,
        config: WorkerConfig,
        link: Link,
        host: PipelineHost,
        lease: Lease,
        address: Callable[[], str],
    ) -> None:
        self._config = config
        self._link = link
        self._host = host
        self._lease = lease
        self._address = address
        self._process = psutil.Process()
        self._interval = 1.0
        self._seq = 0
        self._sent: dict[int, float] = {}
        self.term = 0
        self._last_ack: float | None = None
        self._checked_lease = 0.0
        self._last_refusal = ""
        self._accepted = asyncio.Event()
        self._register_now = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._answered = asyncio.Event()
        self._leaving = False
        self.dismissed = False
        self._successor: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.incarnation = new_incarnation(now_ms())
        self.attempts: deque[str] = deque(maxlen=ATTEMPTS)
        self.heartbeats = 0
        self.missed = 0
        self.acknowledged = 0
        self.refused = 0

    @property
    def registered(self) -> bool:
        """A coordinator accepted this worker."""
        return self._accepted.is_set()

    @property
    def silence(self) -> float:
        """Seconds since the leader answered; 0 when none ever did."""
        return time.monotonic() - self._last_ack if self._last_ack is not None else 0.0

    async def run(self) -> None:
        """Be a member until cancelled.

        Raises:
            Superseded: a newer incarnation of this worker runs.
        """
        await self._link.open(
            Ears(
                acknowledged=self._on_ack,
                unreadable=self._on_unreadable,
                namesake=self._on_namesake,
                superseded=self._on_superseded,
                unknown=self._register_now.set,
                connection=self._on_connection_change,
            )
        )
        self._process.cpu_percent()
        self._register_now.set()
        work = [
            asyncio.create_task(self._keep_registered()),
            asyncio.create_task(self._keep_beating()),
            asyncio.create_task(self._outlive()),
        ]
        try:
            await asyncio.gather(*work)
        finally:
            for task in work:
                task.cancel()

    # --- registration

    async def _keep_registered(self) -> None:
        while True:
            await self._register_now.wait()
            self._register_now.clear()
            backoff, longest = BACKOFF
            while not await self._register():
                await asyncio.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(backoff * 2, longest)
            self._accepted.set()
            self._beat_now.set()

    async def _register(self) -> bool:
        attempt = secrets.token_hex(16)
        self.attempts.append(attempt)
        request = Register(
            worker_id=self._config.worker_id,
            address=self._address(),
            api_key=self._config.api_key,
            capacity=Capacity(
                cpu_cores=self._config.cpu_cores,
                pipelines_running=len(self._host.pipelines),
                max_pipelines=self._config.max_pipelines,
            ),
            incarnation=self.incarnation,
            version=VERSION,
            labels=self._config.labels or None,
            pipelines=self._host.running(),
            carrier="rest" if self._config.coordinators else None,
            attempt=attempt,
        )
        try:
            answer = await self._link.register(request)
        except (NatsTransportError, WireError) as error:
            if str(error) != self._last_refusal:
                self._last_refusal = str(error)
                log.warning("worker=%s not registered, trying on: %s", self._config.worker_id, error)
            return False
        self._last_refusal = ""
        shortest, longest = INTERVAL_RANGE
        self._interval = min(max(float(answer.heartbeat_interval_secs), shortest), longest)
        self.term = max(self.term, answer.term or 0)
        log.info("worker=%s incarnation=%s registered", self._config.worker_id, self.incarnation)
        return True

    def _on_connection_change(self, connected: bool) -> None:
        if connected:
            self._beat_now.set()
            self._register_now.set()
        else:
            self._lease.cut_off(time.monotonic())

    # --- heartbeats

    async def _keep_beating(self) -> None:
        await self._accepted.wait()
        while True:
            self._beat_now.clear()
            await self.beat()
            self._mind_silence()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._beat_now.wait()

    async def leave(self) -> None:
        """Say from now on, and at once, that this worker leaves."""
        self._leaving = True
        await self.beat()

    async def beat(self) -> None:
        """Send one heartbeat; one that does not go out is counted as missed."""
        self._seq += 1
        sent_at = time.monotonic()
        seq = self._seq
        self._sent[seq] = sent_at
        if len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]
        try:
            await self._link.beat(seq, self._heartbeat(), self._interval)
        except (NatsTransportError, WireError) as error:
            self.missed += 1
            log.debug("worker=%s heartbeat seq=%d missed: %s", self._config.worker_id, seq, error)
            return
        self.heartbeats += 1
        self._lease.went_out(sent_at)

    def sent_at(self, heard: HeartbeatId | None) -> float | None:
        """When a heartbeat was sent that somebody heard, in monotonic seconds; None when nobody knows."""
        return (
            self._sent.get(heard.seq) if heard is not None and heard.incarnation == self.incarnation else None
        )

    def next_heartbeat(self) -> HeartbeatId:
        """The first that is made after now."""
        return HeartbeatId(incarnation=self.incarnation, seq=self._seq + 1)

    async def vouch(self, permit: Permit) -> None:
        """Tell the leader at once of a copy that may be one of yesterday, and wait for his word, at most
        `VOUCH_WAIT`; the copy is gone then, or may put out, or has to wait for the answer to a later
        heartbeat."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(VOUCH_WAIT):
                while not permit.is_sure(time.monotonic()):
                    self._beat_now.set()
                    await self._answered.wait()

    def _heartbeat(self) -> Heartbeat:
        return Heartbeat(
            events_processed=self._host.events_in,
            pipelines_running=len(self._host.pipelines),
            pipeline_metrics=self._host.metrics(),
            incarnation=self.incarnation,
            seq=self._seq,
            pipelines=self._host.running(),
            load=min(1.0, round(self._process.cpu_percent() / 100 / self._config.cpu_cores, 3)),
            draining=self._leaving or self._host.draining,
            loss_windows=self._host.loss_windows(),
        )

    def _mind_silence(self) -> None:
        now = time.monotonic()
        patience = SILENCE_LEASES * max(self._lease.secs, self._interval)
        if self._last_ack is not None and now - self._last_ack > patience:
            log.warning(
                "worker=%s heartbeats are answered no more: registering again", self._config.worker_id
            )
            self._last_ack = None
            self._register_now.set()

    # --- a newer incarnation

    async def _outlive(self) -> None:
        await self._successor

    def _on_namesake(self, other: str) -> None:
        if other > self.incarnation:
            self._on_superseded(f"incarnation {other} of this worker runs elsewhere, newer than this one")

    def _on_superseded(self, text: str) -> None:
        if not self._successor.done():
            self._successor.set_exception(Superseded(f"{text}: start this one under another --id"))

    # --- answers

    def _on_unreadable(self) -> None:
        self.refused += 1

    async def _on_ack(self, seq: int, ack: HeartbeatAck) -> None:
        sent_at = self._sent.get(seq)
        if sent_at is None or ack.term < self.term:
            self.refused += 1
            return
        now = time.monotonic()
        self.term = ack.term
        self._last_ack = now
        self.acknowledged += 1
        for directive in ack.directives or ():
            await self._follow(directive)
        if not ack.renews:
            return
        judged_at = self._sent.get(ack.judged, -math.inf) if ack.judged is not None else None
        self._lease.acknowledged(sent_at, ack.lease_secs, now, judged_at)
        self._check_event_secs()
        self._answered.set()
        self._answered = asyncio.Event()

    def _check_event_secs(self) -> None:
        """Say, once, that an event may take longer than the lease lasts."""
        event_secs, lease_secs = self._config.event_secs, self._lease.secs
        if self._checked_lease == lease_secs:
            return
        self._checked_lease = lease_secs
        if 0 < lease_secs <= event_secs + self._interval:
            log.warning(
                "worker=%s event_secs is %g, and the lease %g s with a heartbeat each %g s: an event that is "
                "cut off may cost the lease, so outputs of all. Lower event_secs, or raise heartbeat_timeout",
                *(self._config.worker_id, event_secs, lease_secs, self._interval),
            )

    async def _follow(self, directive: Directive) -> None:
        log.info(
            "directive do=%s pipeline=%s reason=%s", directive.do, directive.pipeline_id, directive.reason
        )
        if directive.do == "register":
            self._register_now.set()
            return
        if directive.do == "leave":
            self.dismissed = self._leaving
            return
        pipeline = self._host.find(directive.pipeline_id or "")
        if pipeline is None:
            return
        if directive.do == "undeploy":
            with contextlib.suppress(WireError):  # a command was faster
                await self._host.undeploy(pipeline.id)
        elif directive.do == "checkpoint":
            await self._host.save(pipeline)
