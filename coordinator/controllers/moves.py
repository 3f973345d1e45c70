"""Migrations: each is driven through its steps, and can be gone on with by any leader at any of them.

    started      the target makes a copy that is held, and waits                                -> held
    held         the source holds; then the target joins the line; then the source hands over   -> handed_over
    handed_over  the target takes what was handed over, and goes live                           -> done

From the moment the source holds until the target is live no output leaves; nothing is lost meanwhile, for
both hold what comes. The order within `held` matters: see `worker.handover`. Every command may be repeated,
so the next leader begins the phase again: the source answers the hand-over as it did first.

What can go wrong:

- *The target refuses, or dies, before the hand-over is committed*: cancelled; the source is told to go on,
  and takes what the target had taken.
- *The same afterwards*: the migration failed. The source comes back to the line before the target leaves it,
  and goes on once the failure is committed. A target that may still listen keeps the old line; the source
  begins a new one, so that a zombie takes nothing away from it; should it not hear of that, convergence finds
  it in the old line.
- *The source dies first*: the target goes live without its state, in a line of its own, and the migration
  says so.
- *The program is another one* (an update): the target takes the events that were held, and no state.
- *Both are gone*: the migration failed, and the pipeline is placed anew as after any death.

`per_worker` and `at_once` bound how many are driven; the others wait, their slots reserved. One that is
driven has `PATIENCE` seconds.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec

from coordinator.controllers.actions import Actions, Key
from coordinator.controllers.briefing import LATEST
from coordinator.controllers.deployment import ELSEWHERE, Deployment
from coordinator.controllers.target import Target, why
from coordinator.ledger import Ledger, now_ms
from coordinator.log import line
from coordinator.state.commands import (
    MAX_REASON,
    AdvanceMigration,
    CancelMigration,
    Displace,
    FailMigration,
    FinishMigration,
    MigrationCommand,
)
from coordinator.state.model import State
from coordinator.state.records import Cause, Migration, MovePhase, WorkerStatus
from coordinator.worker_commands import WorkerCommands
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.moves import CheckpointRequest, HandedOver, Hold, Restore
from transport.durations import Durations
from transport.errors import NatsTransportError

PATIENCE: Final = 30.0
"""Seconds one migration may take, from when this leader began to drive it."""
HOLD_PATIENCE: Final = 5.0
"""Seconds the source may hold, with its outputs waiting, before it is told to go on; longer than it usually
takes to find out that a worker is dead.
"""
OPEN_PATIENCE: Final = 8.0
"""Seconds in which the connectors of an update's new copy must open."""
PER_WORKER: Final = 4
AT_ONCE: Final = 16
BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the durations that are counted, in seconds."""
_BY: Final = "moves"
_TAKEN_AWAY: Final = {
    Cause.DRAIN: "worker {} is drained",
    Cause.LEAVE: "worker {} is leaving",
    Cause.UPDATE: "another version replaces it on worker {}",
}
"""Moves that end in a new placement where nobody can take over."""
_ANEW: Final = "its program is another one: it began without state"
_STATELESS: Final = "goes on without its state"
_NO_HOLD: Final = "does not know how to hold a copy"
_log = logging.getLogger(__name__)


class GivenUp(Exception):
    """This migration cannot be completed; the text says why. `refused`: the target will never run it."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Moves:
    """The controller; `step` is one pass. `durations`: of those that were completed here."""

    def __init__(
        self,
        ledger: Ledger,
        commands: WorkerCommands,
        deployment: Deployment,
        actions: Actions,
        clock: Callable[[], float],
        *,
        per_worker: int = PER_WORKER,
        at_once: int = AT_ONCE,
    ) -> None:
        self._ledger = ledger
        self._commands = commands
        self._do = deployment
        self._actions = actions
        self._clock = clock
        self._per_worker, self._at_once = per_worker, at_once
        self._began: dict[str, float] = {}
        self.durations = Durations(BOUNDS)
        self._held_since: dict[str, float] = {}
        self._given: dict[str, HandedOver] = {}

    def forget(self) -> None:
        """Somebody else leads now."""
        self._began.clear()
        self._held_since.clear()
        self._given.clear()

    def step(self) -> None:
        """Drive what may be driven now."""
        state = self._ledger.state
        for known in [known for known in self._began if known not in state.migrations]:
            del self._began[known]
            self._held_since.pop(known, None)
            self._given.pop(known, None)
        for move in self._in_turn(state):
            self._began.setdefault(move.id, self._clock())
            self._actions.start(_key(move), partial(self._drive, move.id))

    def _in_turn(self, state: State) -> Iterator[Migration]:
        """The oldest, as many as the bounds allow; one whose worker is busy does not hold up the others."""
        busy: Counter[str] = Counter()
        driven = 0
        for move in list(state.migrations.values()):
            ends = {move.from_worker, move.to_worker}
            if driven < self._at_once and all(busy[end] < self._per_worker for end in ends):
                busy.update(ends)
                driven += 1
                yield move

    async def _drive(self, move_id: str) -> None:
        """Step by step until it has ended; what is to be tried again raises."""
        while (move := self._ledger.state.migrations.get(move_id)) is not None:
            try:
                await self._advance(move)
            except GivenUp as error:
                await self._give_up(move, str(error), refused=error.refused)
            except (WireError, NatsTransportError) as error:
                await self._explain(move, why(_who(move, error), error))
                raise

    async def _advance(self, move: Migration) -> None:
        if _gone(self._ledger.state, move.to_worker):
            raise GivenUp(f"worker {move.to_worker} is silent")
        if self._clock() - self._began.get(move.id, self._clock()) > PATIENCE:
            raise GivenUp(f"not done within {PATIENCE:g} s{f': {move.reason}' if move.reason else ''}")
        if move.phase is MovePhase.STARTED:
            await self._make(move)
        elif move.phase is MovePhase.HELD:
            await self._take_from_source(move)
        else:
            await self._go_live(move)

    # -- the steps

    async def _make(self, move: Migration) -> None:
        if _gone(self._ledger.state, move.from_worker):
            raise GivenUp(f"worker {move.from_worker} is silent: it is placed anew")
        if self._ledger.state.ready(move.to_worker) is None:
            raise GivenUp(f"worker {move.to_worker} is leaving")
        try:
            copy, new = _copy(self._ledger.state, move), move.cause is Cause.UPDATE
            message = self._do.briefing.message(copy, move.queue, hold=True, new=new)
        except ValueError as error:
            raise GivenUp(str(error), refused=True) from None
        if message is None:
            return
        await self._do.have_stream(copy)
        try:
            made = await self._commands.deploy(move.to_worker, message)
        except WireError as error:
            elsewhere = error.code in ELSEWHERE
            if error.retryable and not elsewhere and not self._will_not_open(move, error):
                raise
            raise GivenUp(why(move.to_worker, error), refused=not elsewhere) from None
        if made.status != "held":
            await self._end_copy(move, made.id)
            raise GivenUp(f"worker {move.to_worker} {_NO_HOLD}: run a newer version there")
        await self._propose(AdvanceMigration, move, phase=MovePhase.HELD, pipeline_id=made.id)

    def _will_not_open(self, move: Migration, error: WireError) -> bool:
        """Whether the connectors of another version are taken for wrong, and not for away just now."""
        tried = self._clock() - self._began.get(move.id, self._clock())
        return move.cause is Cause.UPDATE and error.code == ErrorCode.ENGINE_ERROR and tried > OPEN_PATIENCE

    async def _take_from_source(self, move: Migration) -> None:
        if _gone(self._ledger.state, move.from_worker):
            await self._propose(AdvanceMigration, move, phase=MovePhase.HANDED_OVER, reason=_without(move))
            return
        held_since = self._held_since.setdefault(move.id, self._clock())
        if self._clock() - held_since > HOLD_PATIENCE:
            raise GivenUp(f"it could not be handed over within {HOLD_PATIENCE:g} s: {move.reason}")
        try:
            await self._commands.hold(move.from_worker, Hold(**self._fence(move, "from")))
            await self._commands.hold(move.to_worker, Hold(**self._fence(move, "to")))
            given = await self._hand_over(move)
        except WireError as error:
            if error.retryable:
                raise
            raise GivenUp(str(error)[:MAX_REASON]) from None
        self._given[move.id] = given
        await self._propose(AdvanceMigration, move, phase=MovePhase.HANDED_OVER)

    async def _go_live(self, move: Migration) -> None:
        given, lost = None if move.lost else self._given.get(move.id), ""
        if given is None and not move.lost and not _gone(self._ledger.state, move.from_worker):
            try:
                given = await self._hand_over(move)
            except WireError as error:
                if error.code != ErrorCode.PIPELINE_NOT_FOUND:
                    raise
        if given is None:
            lost = _without(move)
            if not move.lost and not await self._propose(
                AdvanceMigration, move, phase=MovePhase.HANDED_OVER, reason=lost, lost=True
            ):
                return  # it has ended meanwhile
        target, anew = _copy(self._ledger.state, move), _is_another_program(self._ledger.state, move)
        message = Restore(
            resume=True,
            anew=anew and given is not None,
            queue=self._do.briefing.line_of(target, move.to_epoch if lost else move.queue),
            restore_from=LATEST if lost else None,
            lines=self._do.briefing.lines_of(target, move.to_epoch if lost else move.queue) or None,
            **_contents(given),
            **self._fence(move, "to"),
        )
        try:
            answer = await self._commands.restore(move.to_worker, message)
        except WireError as error:
            if error.retryable:
                raise
            gone = error.code == ErrorCode.PIPELINE_NOT_FOUND
            raise GivenUp(why(move.to_worker, error), refused=not gone) from None
        reason = f"{lost}: it {answer.begun or _STATELESS}" if lost else (_ANEW if anew else "")
        if not await self._propose(FinishMigration, move, reason=reason, new_line=bool(lost)):
            return  # the source is the one that counts
        self.durations.observe(max(now_ms() - move.started_at, 0) / 1000)
        if not _gone(self._ledger.state, move.from_worker):
            await self._end_copy(move, move.from_pipeline_id, source=True)

    # -- giving up

    async def _give_up(self, move: Migration, reason: str, *, refused: bool = False) -> None:
        """Commit it, then let the source go on with what the target had taken. Should we die between, or the
        source not answer, convergence finds a copy that holds, and lets it go on."""
        taken = None
        if move.phase is MovePhase.HANDED_OVER and not _gone(self._ledger.state, move.from_worker):
            with contextlib.suppress(WireError, NatsTransportError):
                await self._commands.hold(move.from_worker, Hold(back=True, **self._fence(move, "from")))
        if move.to_pipeline_id is not None and not _gone(self._ledger.state, move.to_worker):
            with contextlib.suppress(WireError, NatsTransportError):
                request = CheckpointRequest(handover=True, **self._fence(move, "to"))
                taken = await self._commands.hand_over(move.to_worker, request)
        kind = FailMigration if move.phase is MovePhase.HANDED_OVER else CancelMigration
        listens = move.phase is not MovePhase.STARTED and taken is None
        if not await self._propose(kind, move, reason=reason[:MAX_REASON], new_line=listens, refused=refused):
            return  # another leader has completed it: the source must not go on
        if move.phase is not MovePhase.STARTED and not _gone(self._ledger.state, move.from_worker):
            await self._let_go_on(move, taken, move.to_epoch if listens else move.queue)
        if move.to_pipeline_id is not None:
            await self._end_copy(move, move.to_pipeline_id)
        why_at_all = _TAKEN_AWAY.get(move.cause)
        if _NO_HOLD in reason and why_at_all is not None:
            await self._ledger.propose(
                Displace(
                    by=_BY,
                    group=move.group,
                    pipeline=move.pipeline,
                    epoch=move.from_epoch,
                    reason=f"{why_at_all.format(move.from_worker)}, and {reason}"[:MAX_REASON],
                )
            )

    async def _let_go_on(self, move: Migration, taken: HandedOver | None, queue: int) -> None:
        message = Restore(
            resume=True,
            only_held=taken is not None,
            queue=self._do.briefing.line_of(_copy(self._ledger.state, move), queue),
            lines=self._do.briefing.lines_of(_copy(self._ledger.state, move), queue) or None,
            **_contents(taken),
            **self._fence(move, "from"),
        )
        try:
            await self._commands.restore(move.from_worker, message)
        except (WireError, NatsTransportError) as error:
            _log.warning("%s", line("source_not_resumed", migration=move.id, reason=error))

    async def _end_copy(self, move: Migration, pipeline_id: str, *, source: bool = False) -> None:
        """Best effort: what is left of it is stale, and ended by convergence."""
        worker, epoch = (move.from_worker, move.from_epoch) if source else (move.to_worker, move.to_epoch)
        target = Target.of(self._ledger.state, move.group, move.pipeline, epoch)
        with contextlib.suppress(WireError, NatsTransportError):
            await self._do.endings.undeploy(worker, target, pipeline_id)

    # -- words

    async def _hand_over(self, move: Migration) -> HandedOver:
        request = CheckpointRequest(handover=True, **self._fence(move, "from"))
        return await self._commands.hand_over(move.from_worker, request)

    def _fence(self, move: Migration, end: str) -> dict[str, Any]:
        """Whom a command is for, and under which epoch. It has no request id: each may be repeated as it is,
        and what a hand-over answers is large."""
        source = end == "from"
        return {
            "pipeline_id": move.from_pipeline_id if source else move.to_pipeline_id or "",
            "term": self._ledger.term,
            "epoch": move.from_epoch if source else move.to_epoch,
        }

    async def _explain(self, move: Migration, reason: str) -> None:
        now = self._ledger.state.migrations.get(move.id)
        if now is not None and now.reason != reason:
            with contextlib.suppress(WireError):
                await self._propose(AdvanceMigration, now, phase=now.phase, reason=reason)

    async def _propose(self, kind: type[MigrationCommand], move: Migration, **fields: Any) -> bool:
        """Whether it is so now; not, when the migration ended meanwhile, which the next look finds."""
        try:
            await self._ledger.propose(kind(by=_BY, migration_id=move.id, **fields))
        except WireError as error:
            if error.code != ErrorCode.CONFLICT:
                raise
            return False
        return True


def _key(move: Migration) -> Key:
    return ("move", move.group, move.pipeline, move.id)


def _copy(state: State, move: Migration) -> Target:
    """The copy on the target."""
    return Target.of(state, move.group, move.pipeline, move.to_epoch)


def _gone(state: State, worker_id: str) -> bool:
    worker = state.workers.get(worker_id)
    return worker is None or worker.status is WorkerStatus.UNHEALTHY


def _is_another_program(state: State, move: Migration) -> bool:
    """Whether the copy on the target cannot go on with the source's state."""
    group = state.groups.get(move.group)
    if group is None or move.cause is not Cause.UPDATE:
        return False
    old = group.at(move.pipeline).instances.get(move.pipeline)
    new = group.at(move.pipeline, new=True).instances.get(move.pipeline)
    return old is not None and new is not None and old.pipeline.source != new.pipeline.source


def _who(move: Migration, error: WireError | NatsTransportError) -> str:
    """The worker that did not do as it was told."""
    subject = error.subject if isinstance(error, NatsTransportError) else ""
    ends = (move.from_worker, move.to_worker)
    return next((end for end in ends if f".{end}." in subject), " or ".join(dict.fromkeys(ends)))


def _without(move: Migration) -> str:
    return f"worker {move.from_worker} died before it handed over"


def _contents(given: HandedOver | None) -> dict[str, Any]:
    if given is None:
        return {}
    if given.checkpoint_ref is not None:
        return {"checkpoint_ref": given.checkpoint_ref}
    return {"checkpoint": msgspec.to_builtins(given)}
