"""Who is alive. A worker that was silent for `timeout` seconds is unhealthy; one that is heard again is
ready.

Silence counts from the last heartbeat, or from when *we* began to listen, whichever is later: a new leader,
one whose own NATS connection was gone, and one whose process was frozen have heard nobody, and grant
everybody one full timeout. Because a lease is shorter than the timeout, a worker that is called unhealthy
has stopped its output before anybody takes over.
"""

from collections.abc import Callable, Iterator
from functools import partial

from coordinator.controllers.actions import Actions
from coordinator.heartbeats import Heard, HeartbeatTable
from coordinator.ledger import Ledger
from coordinator.state.commands import MarkWorker
from coordinator.state.model import State, Worker, WorkerStatus


def verdict(
    worker: Worker, heard: Heard | None, *, now: float, listening_since: float, timeout: float
) -> tuple[WorkerStatus, str] | None:
    """The status a worker should have and why; None when the one it has is right, or nothing is known yet."""
    ours = heard is not None and heard.incarnation == worker.incarnation
    last = max(listening_since, heard.at if heard is not None and ours else listening_since)
    if now - last > timeout:
        status, reason = WorkerStatus.UNHEALTHY, f"no heartbeat for {timeout:g} s"
    elif heard is None or not ours or now - heard.at > timeout:
        return None
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
        clock: Callable[[], float],
        timeout: float,
    ) -> None:
        self._ledger = ledger
        self._table = table
        self._actions = actions
        self._clock = clock
        self.timeout = timeout
        self.listening_since = clock()

    def step(self) -> None:
        """Propose every status that is not right."""
        for command in self.judge(self._ledger.state):
            self._actions.start(("worker", command.worker_id), partial(self._propose, command))

    def judge(self, state: State) -> Iterator[MarkWorker]:
        """What should be proposed now."""
        now = self._clock()
        for worker in state.workers.values():
            found = verdict(
                worker,
                self._table.get(worker.id),
                now=now,
                listening_since=self.listening_since,
                timeout=self.timeout,
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
