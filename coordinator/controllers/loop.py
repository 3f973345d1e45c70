"""The loop: passes over liveness, convergence, drains, moves, placement and rebalance, on the leader, for as
long as it leads.

A pass runs when something changed (`wake`) and at least every `INTERVAL` seconds; it starts actions and never
waits, so it is short. A node that does not lead looks less often: it is woken when it comes to lead.
Leadership begins with a barrier: what earlier leaders committed is applied before anything is decided. Then
everybody gets one full heartbeat timeout, as after a time in which we could not hear: our own connection was
down, or this process did not run (a pass that comes more than half a timeout late).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from coordinator.controllers.actions import Actions
from coordinator.controllers.convergence import Convergence
from coordinator.controllers.deployment import Deployment
from coordinator.controllers.divisions import Divisions
from coordinator.controllers.drains import Drains
from coordinator.controllers.liveness import Liveness
from coordinator.controllers.moves import Moves
from coordinator.controllers.placement import PlacementController
from coordinator.controllers.rebalance import Rebalance, StartMove
from coordinator.controllers.updates import Updates
from coordinator.group_streams import GroupStreams
from coordinator.heartbeats import HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.log import line
from coordinator.security.sealing import Sealer
from coordinator.state.strategy import DEFAULT
from coordinator.worker_commands import WorkerCommands
from proto_schemas.errors import WireError

INTERVAL: Final = 0.25
"""Seconds between two passes of a leader at most: by so much a silence is noticed late."""
REST: Final = 1.0
"""Seconds between two looks of a node that does not lead."""
BREATH: Final = 0.002
"""Seconds between two passes at least, so that a burst of changes is one pass."""
REST_PER_PASS: Final = 4.0
"""Times as long as a pass took until the next one at least: however large the cluster is, passes take a fifth
of the event loop at most. More leaves more to heartbeats and commits, less reacts sooner.
"""

_log = logging.getLogger(__name__)


class ControlLoop:
    """The controllers and what drives them. `leads` is True once this node decides.

    Args:
        clock: monotonic seconds.
        hears: whether our own connection is up.
        heartbeat_timeout: seconds of silence that count as death.
        heartbeat_interval: seconds between heartbeats, of which none may be missed.
        moves: the bounds of `Moves`, where they are not the default ones.
        sealer: opens the secrets of connectors.
        placement: strategy of groups that name none.
        start_move: how a pipeline is moved; None: it cannot be.
        rebalance, rebalance_cooldown: see `Rebalance`.
    """

    def __init__(
        self,
        ledger: Ledger,
        commands: WorkerCommands,
        table: HeartbeatTable,
        *,
        clock: Callable[[], float],
        hears: Callable[[], bool],
        heartbeat_timeout: float,
        heartbeat_interval: float = 1.0,
        moves: Mapping[str, int] | None = None,
        sealer: Sealer | None = None,
        placement: str = DEFAULT,
        start_move: StartMove | None = None,
        rebalance: bool = True,
        rebalance_cooldown: float = 60.0,
        group_streams: GroupStreams | None = None,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._hears = hears
        self._wake = asyncio.Event()
        # Apart, so that commands a frozen worker does not answer never keep it from being found out.
        self.verdicts = Actions(clock, self.wake)
        self.pipelines = Actions(clock, self.wake, limit=256, causes=ledger.causes)
        self.sweeps = Actions(clock, self.wake)
        self.jobs = Actions(clock, self.wake, limit=256, causes=ledger.causes)
        deployment = self.deployment = Deployment(
            ledger, commands, sealer or Sealer(None), clock, group_streams
        )
        self.liveness = Liveness(
            ledger,
            table,
            self.verdicts,
            self.sweeps,
            clock,
            heartbeat_timeout,
            commands,
            hears,
            heartbeat_interval,
        )
        self.convergence = Convergence(ledger, deployment, table, self.pipelines, self.sweeps, clock)
        self.placement = PlacementController(
            ledger, deployment, table, self.pipelines, clock, self.liveness.suspects, strategy=placement
        )
        self.moves = Moves(ledger, commands, deployment, self.jobs, clock, **(moves or {}))
        self.drains = Drains(
            ledger, deployment, self.jobs, clock, self.liveness.suspects, self.placement.room
        )
        self.updates = Updates(ledger, deployment, self.jobs, self.pipelines, clock)
        self.divisions = Divisions(
            ledger, commands, deployment, self.jobs, self.sweeps, clock, self.updates.durations
        )
        self.rebalance = Rebalance(
            ledger,
            table,
            self.verdicts,
            clock,
            start_move,
            automatic=rebalance,
            cooldown=rebalance_cooldown,
        )
        self._last_pass = clock()
        self._took = 0.0
        self._term = 0
        self.leads = False
        self.passes = 0
        self.failed_passes = 0

    def wake(self) -> None:
        """Something changed: have a pass soon."""
        self._wake.set()

    def could_not_hear(self) -> None:
        """We were deaf until now: nobody's silence counts before."""
        self.liveness.listening_since = self._clock()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERVAL if self._ledger.is_leader else REST):
                    await self._wake.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(max(BREATH, REST_PER_PASS * self._took))
            self._wake.clear()
            began = self._clock()
            try:
                await self._turn()
            except WireError as error:
                _log.warning("%s", line("pass_put_off", reason=error))
            except Exception:
                self.failed_passes += 1
                _log.exception("%s", line("pass_failed", passes=self.passes))
            self._took = self._clock() - began

    async def _turn(self) -> None:
        if not self._ledger.is_leader or self._ledger.term != self._term:
            self._stand_down()
        if self._ledger.is_leader and not self.leads:
            await self._take_over()
        if self.leads:
            self.step()

    def step(self) -> None:
        """One pass; none while our own connection is down."""
        now = self._clock()
        if now - self._last_pass > self.liveness.timeout / 2 or not self._hears():
            self.could_not_hear()
        self._last_pass = now
        if self._hears():
            self.passes += 1
            self.liveness.step()
            self.convergence.step()
            self.drains.step()
            self.updates.step()
            self.moves.step()
            self.divisions.step()
            self.placement.step()
            self.rebalance.step()

    async def _take_over(self) -> None:
        term = self._ledger.term
        await self._ledger.barrier()
        if self._ledger.is_leader and self._ledger.term == term:
            self._term = term
            self._last_pass = self._clock()
            self.could_not_hear()
            self.leads = True
            _log.info("%s", line("leading", term=term))

    def _stand_down(self) -> None:
        if self.leads:
            self.leads = False
            for actions in self._all_actions:
                actions.forget()
            self.convergence.forget()
            self.placement.forget()
            self.rebalance.forget()
            self.deployment.forget()
            self.moves.forget()
            self.divisions.forget()
            self.drains.forget()
            self.updates.forget()
            _log.info("%s", line("no_longer_leading", term=self._ledger.term))

    @property
    def _all_actions(self) -> tuple[Actions, ...]:
        return (self.verdicts, self.pipelines, self.sweeps, self.jobs)

    async def close(self) -> None:
        """End what is under way."""
        self.leads = False
        for actions in self._all_actions:
            await actions.close()
