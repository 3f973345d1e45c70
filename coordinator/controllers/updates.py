"""Updates of groups: each is rolled instance by instance, to the new version or back.

An instance that runs is replaced by a migration of cause `update`: first one alone, and when that runs, up to
`AT_ONCE` of a group. What cannot be handed over (on a seed worker, or placed by an older version) is taken
away and placed again, in the new version. What does not run is the business of placement, which places it in
the new version.

When all that was touched has run for `GRACE` seconds, the update has ended; a copy that fails until then
turns it round (`state.updates`). So does one in which nothing comes forward for `PATIENCE` seconds: the way
forward, not the way back, which goes on until all of the old version runs again.

All of this is looked up in the state, so the next leader goes on; its grace and its patience begin anew.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from coordinator.controllers.actions import Actions
from coordinator.controllers.deployment import Deployment
from coordinator.controllers.target import Target
from coordinator.ledger import Ledger, now_ms
from coordinator.state.commands import (
    MAX_REASON,
    EndUpdate,
    ExplainUpdate,
    FailUpdate,
    StartMigration,
    UpdateCommand,
)
from coordinator.state.model import State
from coordinator.state.records import Cause, Phase
from coordinator.state.updates import moves_of, waits_for
from coordinator.state.versions import Group, Update, UpdatePhase
from proto_schemas.errors import ErrorCode, WireError
from transport.durations import Durations

GRACE: Final = 2.0
"""Seconds all copies of the new version must run. Longer finds more out, and lets who waits wait longer."""
PATIENCE: Final = 60.0
"""Seconds in which at least one instance must come forward."""
AT_ONCE: Final = 4
"""Instances of one group that are replaced at a time, after the first."""
PAUSE: Final = 1.0
"""Seconds after the begin of a migration before the next one of that instance."""
BOUNDS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
"""Of the durations that are counted, in seconds; the least an update takes is its grace."""
_BY: Final = "updates"


@dataclass(frozen=True, slots=True)
class _Watched:
    """How far an update had come when, and since when all of it runs."""

    left: int
    since: float
    complete_since: float | None = None


class Updates:
    """The controller; `step` is one pass. `pipelines`: the actions of placement, whose pauses after a failed
    version do not count for the next one. `durations`: of those that ended here, forward or back."""

    def __init__(
        self,
        ledger: Ledger,
        deployment: Deployment,
        actions: Actions,
        pipelines: Actions,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._do = deployment
        self._actions = actions
        self._pipelines = pipelines
        self._clock = clock
        self._watched: dict[tuple[str, int, UpdatePhase], _Watched] = {}
        self._tried: dict[tuple[str, str], float] = {}
        self.durations = Durations(BOUNDS)

    def forget(self) -> None:
        """Somebody else leads now."""
        self._watched.clear()
        self._tried.clear()

    def step(self) -> None:
        """See to each update."""
        state, now = self._ledger.state, self._clock()
        self._tried = {key: until for key, until in self._tried.items() if until > now}
        watched: dict[tuple[str, int, UpdatePhase], _Watched] = {}
        for group in state.rolling:
            update = group.rolling
            if update is None or update.failing is not None or group.deleting:
                continue
            key = (group.spec.name, update.to_version, update.phase)
            seen = watched[key] = self._watch(state, group, self._watched.get(key))
            self._look_after(state, group, update, seen)
        self._watched = watched

    def _watch(self, state: State, group: Group, before: _Watched | None) -> _Watched:
        left, now = len(waits_for(state, group)), self._clock()
        if before is None:
            for instance in state.placements[group.spec.name]:
                self._pipelines.release(Target.of(state, group.spec.name, instance, 0).key)
        if before is None or left < before.left:
            before = _Watched(left, now)
        complete_since = (before.complete_since or now) if not left else None
        return replace(before, left=left, complete_since=complete_since)

    def _look_after(self, state: State, group: Group, update: Update, seen: _Watched) -> None:
        forward, now = update.phase is UpdatePhase.ROLLING, self._clock()
        if seen.complete_since is not None:
            if not forward or not update.fresh or now - seen.complete_since >= GRACE:
                self._say(EndUpdate, group, update)
            return
        if forward and now - seen.since > PATIENCE:
            waits = waits_for(state, group)
            reason = update.reason or _why(state, group, waits) or "it does not say why"
            self._say(
                FailUpdate,
                group,
                update,
                reason=f"nothing came forward for {PATIENCE:g} s; {waits[0]}: {reason}"[:MAX_REASON],
            )
            return
        self._roll(state, group, update, len(update.fresh) - seen.left)

    def _roll(self, state: State, group: Group, update: Update, done: int) -> None:
        name = group.spec.name
        under_way = len(moves_of(state, group))
        limit = AT_ONCE if done else 1
        for instance in update.behind:
            placement = state.placement(name, instance)
            if under_way >= limit:
                return
            if instance not in group.instances or placement is None or placement.phase is not Phase.RUNNING:
                continue
            target = Target.of(state, name, instance, placement.epoch)
            key = ("update", name, instance)
            worker = state.ready(placement.worker_id)
            if worker is None or state.moving(name, instance) or not self._actions.free(key):
                continue
            if worker.incarnation is None or not placement.queue:
                reason = f"version {group.version} replaces it, and its worker cannot hand it over"
                self._actions.start(key, partial(self._do.displace, target, reason))
                under_way += 1
            elif (name, instance) not in self._tried:
                self._tried[name, instance] = self._clock() + PAUSE
                self._actions.start(key, partial(self._move, target, update.to_version))
                under_way += 1

    async def _move(self, target: Target, version: int) -> None:
        try:
            await self._ledger.propose(
                StartMigration(
                    by=_BY,
                    group=target.group,
                    pipeline=target.pipeline,
                    epoch=target.epoch,
                    cause=Cause.UPDATE,
                )
            )
        except WireError as error:
            if error.code == ErrorCode.STALE_EPOCH:
                return
            await self._explain(target, version, f"{target.pipeline}: {error}"[:MAX_REASON])
            raise

    async def _explain(self, target: Target, version: int, reason: str) -> None:
        group = self._ledger.state.groups.get(target.group)
        update = group.rolling if group is not None else None
        if update is not None and update.reason != reason and update.phase is UpdatePhase.ROLLING:
            await _unless_over(
                self._ledger.propose(
                    ExplainUpdate(by=_BY, group=target.group, version=version, reason=reason)
                )
            )

    def _say(self, kind: type[UpdateCommand], group: Group, update: Update, **fields: Any) -> None:
        command = kind(by=_BY, group=group.spec.name, version=update.to_version, **fields)

        async def say() -> None:
            if await _unless_over(self._ledger.propose(command)) and kind is EndUpdate:
                self.durations.observe(max(now_ms() - update.started_at, 0) / 1000)

        self._actions.start(("update", group.spec.name, ""), say)


async def _unless_over(proposal: Coroutine[Any, Any, Any]) -> bool:
    """Whether it counts. A refusal means that the state has gone on: the next pass looks again."""
    try:
        await proposal
    except WireError as error:
        if error.code != ErrorCode.CONFLICT:
            raise
        return False
    return True


def _why(state: State, group: Group, instances: list[str]) -> str | None:
    placements = state.placements[group.spec.name]
    reasons = (placements[name].reason for name in instances if name in placements)
    return next((reason for reason in reasons if reason), None)
