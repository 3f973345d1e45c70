"""Jobs, of which there are two kinds: `migrations` and `drains`.

After every command those that it has made impossible are ended: whatever breaks a migration (a group deleted,
a worker removed or started anew, a placement taken away) ends it with that reason in the same command, and
gives its slot back.
"""

from typing import Any

from coordinator.state import drains, migrations
from coordinator.state.change import Change
from coordinator.state.records import Cause, DrainPhase, MovePhase


def settle(change: Change[Any]) -> None:
    """End the jobs that the command has made impossible; nothing while there are none."""
    state = change.state
    for move in list(state.migrations.values()):
        reason = migrations.broken(state, move)
        if reason is not None:
            migrations.end(change, move, MovePhase.FAILED, reason)
    for drain in list(state.drains.values()):
        worker = state.workers.get(drain.worker_id)
        if worker is None:
            drains.end(change, drain, DrainPhase.FAILED, f"worker {drain.worker_id} was removed")
        elif worker.session != drain.session and drain.cause is Cause.LEAVE:
            drains.end(change, drain, DrainPhase.DONE, f"worker {drain.worker_id} left and came back")
