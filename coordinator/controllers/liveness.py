"""Who is alive. A worker that was silent for `timeout` seconds is unhealthy; one that is heard again is
ready. One whose heartbeat is late is *suspect* before that: it takes nothing new.

A suspect is asked at once, by a request on its commands. Where NATS says twice in a row that nobody listens
there, while our own connection is up, its process is gone (or cut off, and then its outputs are shut, see
`worker.lease`): it is unhealthy without waiting for the timeout, until it is heard again. Silence, as of a
frozen one, proves nothing.

Silence counts from the last heartbeat, or from when *we* began to listen, whichever is later: a new leader,
one whose own NATS connection was gone, and one whose process was frozen have heard nobody, and grant
everybody one full timeout. Because a lease is shorter than the timeout, a worker that is called unhealthy
has stopped its output before anybody takes over.
"""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from coordinator.controllers.actions import Actions
from coordinator.heartbeats import SUSPECT_INTERVALS, Heard, HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.commands import MarkWorker
from coordinator.state.model import State
from coordinator.state.records import Worker, WorkerStatus
from coordinator.worker_commands import WorkerCommands
from transport.durations import Durations

ASK_AGAIN: Final = 0.1
"""Seconds between the two questions to a suspect."""
ASK_PAUSE: Final = 0.5
"""Seconds until a suspect that answered, or said nothing, is asked again."""
SWEEP_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Seconds, upper bounds of how long a sweep took."""


def verdict(
    worker: Worker,
    heard: Heard | None,
    *,
    now: float,
    listening_since: float,
    timeout: float,
    gone_at: float = 0.0,
) -> tuple[WorkerStatus, str] | None:
    """The status a worker should have and why; None when the one it has is right, or nothing is known yet.
    `gone_at`: when it was found gone; only what is heard afterwards makes it ready again.
    """
    ours = heard is not None and heard.incarnation == worker.incarnation
    last = max(listening_since, heard.at if heard is not None and ours else listening_since)
    if now - last > timeout:
        status, reason = WorkerStatus.UNHEALTHY, f"no heartbeat for {timeout:g} s"
    elif heard is None or not ours or now - heard.at > timeout or heard.at <= gone_at:
        return None
    elif worker.status is WorkerStatus.UNHEALTHY and heard.at < listening_since:
        return None  # what an earlier leader heard before it found it dead
    elif heard.draining:
        status, reason = WorkerStatus.DRAINING, "it says it drains"
    else:
        status, reason = WorkerStatus.READY, "heard again"
    return None if status is worker.status else (status, reason)


class Liveness:
    """The controller; `listening_since` is moved by the loop."""

    def __init__(
        self,
        ledger: Ledger,
        table: HeartbeatTable,
        actions: Actions,
        asking: Actions,
        clock: Callable[[], float],
        timeout: float,
        commands: WorkerCommands,
        hears: Callable[[], bool],
        interval: float,
    ) -> None:
        self._commands = commands
        self._hears = hears
        self._late = SUSPECT_INTERVALS * interval
        self._gone: dict[str, float] = {}
        self._ledger = ledger
        self._table = table
        self._actions = actions
        self._asking = asking
        self._clock = clock
        self.timeout = timeout
        self.listening_since = clock()
        self.durations = Durations(SWEEP_BOUNDS)

    def step(self) -> None:
        """Propose every status that is not right; ask the suspects."""
        began = self._clock()
        workers = self._ledger.state.workers
        self._gone = {name: at for name, at in self._gone.items() if name in workers}
        for command in self.judge(self._ledger.state):
            self._actions.start(("worker", command.worker_id), partial(self._propose, command))

        for name in self.suspects():
            self._asking.start(("ask", name), partial(self._ask, workers[name]))
        self.durations.observe(self._clock() - began)

    def suspects(self) -> set[str]:
        """Workers that are not unhealthy and whose heartbeat is late, though we listened all the while."""
        oldest = self._clock() - self._late
        if self.listening_since > oldest:
            return set()
        workers = self._ledger.state.workers
        return {
            name
            for name, heard in self._table.silent_since(oldest)
            if heard.count
            and (worker := workers.get(name)) is not None
            and worker.status is not WorkerStatus.UNHEALTHY
        }

    async def _ask(self, worker: Worker) -> None:
        heard = self._table.get(worker.id)
        for pause in (ASK_AGAIN, 0.0):
            if not self._hears() or await self._commands.answers(worker.id) is not False:
                self._asking.hold(("ask", worker.id), ASK_PAUSE)
                return
            await asyncio.sleep(pause)
        if self._hears() and self._table.get(worker.id) == heard:
            self._gone[worker.id] = self._clock()
            await self._propose(
                MarkWorker(
                    by="liveness",
                    worker_id=worker.id,
                    session=worker.session,
                    status=WorkerStatus.UNHEALTHY,
                    reason="its heartbeat is late, and nobody listens to its commands",
                )
            )

    def judge(self, state: State) -> Iterator[MarkWorker]:
        """What should be proposed now."""
        now = self._clock()
        for worker in state.workers.values():
            heard = self._table.get(worker.id)
            if (
                heard is not None
                and heard.at >= now - self.timeout
                and heard.incarnation == worker.incarnation
                and worker.status is WorkerStatus.READY
                and not heard.draining
            ):
                continue  # as almost all are, in every pass: it is what it should be
            found = verdict(
                worker,
                heard,
                now=now,
                listening_since=self.listening_since,
                timeout=self.timeout,
                gone_at=self._gone.get(worker.id, 0.0),
            )
            if found is not None:
                status, reason = found
                yield MarkWorker(
                    by="liveness",
                    worker_id=worker.id,
                    session=worker.session,
                    status=status,
                    reason=reason,
                )

    async def _propose(self, command: MarkWorker) -> None:
        await self._ledger.propose(command)
