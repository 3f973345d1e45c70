"""Divisions: the old instances of a pipeline hand over to another number of new ones (`state.divisions`).

    begun   each new copy is made, held, and watches what comes                                   -> held
    held    all old ones hold, but for what they pass on to one another, which comes to its end; then the new
            ones join the lines; then the old ones hand over; then each new one takes its pieces  -> finished
    then    the new ones, which are the placements now, resume; the old ones are ended

The order within `held` is what keeps each event, once and in its order: what an old copy passed on is with
its receiver, and handled, before anybody takes over; a new copy joins when nothing else is handled any more;
and no new one resumes before all have all their pieces, so until `Finish` is committed the old ones can go on
as if nothing had been. Every step may be repeated, so the next leader begins the phase again. Should a leader
be lost after `Finish`, convergence finds placements that hold, and resumes them.

When it fails, each old copy joins its lines again if it had left them, and goes on, with what the new ones
had taken of them: nothing is lost by that, but what came meanwhile is no longer in its order. Where a new
copy does not answer, and so may still listen, the old ones begin new lines.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Final

import msgspec

from coordinator.controllers.actions import Actions
from coordinator.controllers.briefing import lines_named
from coordinator.controllers.deployment import Deployment
from coordinator.controllers.target import Target, why
from coordinator.ledger import Ledger, now_ms
from coordinator.log import line
from coordinator.state.commands import (
    MAX_REASON,
    AdvanceDivision,
    DivisionCommand,
    FailDivision,
    FinishDivision,
)
from coordinator.state.records import WorkerStatus
from coordinator.state.revisions import instance_of, partitions_of, routes_of
from coordinator.state.versions import Division, Group, Part
from coordinator.worker_commands import WorkerCommands
from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.deploys import Deploy
from proto_schemas.messages.moves import CheckpointRequest, HandedOver, Hold, Restore
from proto_schemas.partition import share_name
from transport.durations import Durations
from transport.errors import NatsTransportError

PATIENCE: Final = 30.0
"""Seconds that a division may take, from when this leader began to drive it."""
HOLD_PATIENCE: Final = 8.0
"""Seconds that the old copies may hold before they are told to go on: less than it takes them to do so by
themselves (`worker.handover`)."""
OURS_FOR: Final = 5.0
"""Seconds after a step in which convergence does not resume an old copy that holds: longer than it takes to
bring it back with what was taken of its lines."""
_BY: Final = "divisions"

_log = logging.getLogger(__name__)


class GivenUp(Exception):
    """This division cannot be completed; the text says why."""


class Divisions:
    """The controller; `step` is one pass. `sweeps`: the actions of convergence, which leaves to us what we
    may still bring back; `durations`: where those that were completed here are counted."""

    def __init__(
        self,
        ledger: Ledger,
        commands: WorkerCommands,
        deployment: Deployment,
        actions: Actions,
        sweeps: Actions,
        clock: Callable[[], float],
        durations: Durations,
    ) -> None:
        self._ledger = ledger
        self._commands = commands
        self._do = deployment
        self._actions = actions
        self._sweeps = sweeps
        self._clock = clock
        self._began: dict[str, float] = {}
        self._held_since: dict[str, float] = {}
        self._driven: dict[str, tuple[Group, Division]] = {}
        self.durations = durations

    def forget(self) -> None:
        """Somebody else leads now."""
        self._began.clear()
        self._held_since.clear()
        self._driven.clear()

    def step(self) -> None:
        """Drive each that is under way."""
        under_way = {group.division.id for group in self._ledger.state.dividing if group.division is not None}
        for known in [known for known in self._began if known not in under_way]:
            del self._began[known]
            self._held_since.pop(known, None)
            broken = self._driven.pop(known, None)
            if broken is not None:
                key = ("division", broken[0].spec.name, f"{known} broken")
                self._actions.start(key, partial(self._pick_up, *broken))
        for group in self._ledger.state.dividing:
            if group.division is not None and not group.deleting:
                self._began.setdefault(group.division.id, self._clock())
                key = ("division", group.spec.name, group.division.id)
                self._actions.start(key, partial(self._drive, group.spec.name, group.division.id))

    async def _drive(self, name: str, division_id: str) -> None:
        while (now := self._present(name, division_id)) is not None:
            group, division = now
            try:
                if not division.held:
                    await self._make(group, division)
                else:
                    await self._hand_over(group, division)
            except GivenUp as error:
                await self._give_up(group, division, str(error))
            except (WireError, NatsTransportError) as error:
                await self._explain(group, division, why(f"of {name}/{division.pipeline}", error))
                raise

    def _present(self, name: str, division_id: str) -> tuple[Group, Division] | None:
        group = self._ledger.state.groups.get(name)
        division = group.division if group is not None else None
        if group is None or division is None or division.id != division_id:
            return None
        return group, division

    def _check(self, division: Division) -> None:
        for part in (*division.old, *division.new):
            worker = self._ledger.state.workers.get(part.worker)
            if worker is None or worker.status is WorkerStatus.UNHEALTHY:
                raise GivenUp(f"worker {part.worker} is silent")
        if self._clock() - self._began.get(division.id, self._clock()) > PATIENCE:
            raise GivenUp(
                f"not done within {PATIENCE:g} s{f': {division.reason}' if division.reason else ''}"
            )

    # -- the steps

    async def _make(self, group: Group, division: Division) -> None:
        self._check(division)
        made = await _all(self._make_one(group, division, number) for number in range(len(division.new)))
        copies = {part.instance: copy for part, copy in zip(division.new, made, strict=True)}
        await self._propose(AdvanceDivision, group, division, copies=copies)

    async def _make_one(self, group: Group, division: Division, number: int) -> str:
        part = division.new[number]
        try:
            message = self._message(group, division, number)
            made = await self._commands.deploy(part.worker, message)
        except ValueError as error:
            raise GivenUp(str(error)) from None
        except WireError as error:
            if error.retryable:
                raise
            raise GivenUp(why(part.worker, error)) from None
        if made.status != "held" or not made.divides:
            raise GivenUp(f"worker {part.worker} does not know how to divide: run a newer version there")
        return made.id

    def _message(self, group: Group, division: Division, number: int) -> Deploy:
        """The deploy of a new copy; as `Deployment.message`, of a version that is not the group's yet."""
        part, target = division.new[number], self._target(group, division.new[number])
        shares = group.shares.get(division.pipeline, len(division.old))
        wanted = msgspec.structs.replace(
            group,
            spec=division.wanted.spec,
            shares={**group.shares, division.pipeline: shares},
            division=None,
        )
        pipeline = wanted.pipelines[division.pipeline]
        lines = lines_named(target.group, pipeline.name, part.lines, shares=shares)
        return Deploy(
            name=part.instance,
            source=pipeline.source,
            group=target.group,
            routes=routes_of(wanted, pipeline.name) or None,
            connectors=self._do.briefing.connectors_of(group, pipeline.name) or None,
            delivery=group.spec.delivery,
            term=self._ledger.term,
            epoch=part.epoch,
            request_id=target.request_id,
            queue=f"{target.group}.{share_name(pipeline.name, number, shares)}.{part.queue}",
            hold=True,
            instance=instance_of(wanted, pipeline, number, lines),
            partitions=partitions_of(wanted, pipeline),
            life=target.life + division.wanted.version,
            checkpoint_secs=pipeline.checkpoint_secs,
        )

    async def _hand_over(self, group: Group, division: Division) -> None:
        self._check(division)
        self._driven[division.id] = group, division
        for part in division.old:
            self._sweeps.hold(("resume", part.worker, part.pipeline_id or ""), OURS_FOR)
        held_since = self._held_since.setdefault(division.id, self._clock())
        if self._clock() - held_since > HOLD_PATIENCE:
            raise GivenUp(f"it could not be handed over within {HOLD_PATIENCE:g} s: {division.reason}")
        try:
            await _all(
                self._commands.hold(each.worker, Hold(relayed=True, **self._fence(each)))
                for each in division.old
            )
            await _all(self._commands.hold(each.worker, Hold(**self._fence(each))) for each in division.new)
            given = await _all(self._take(each) for each in division.old)
            await _all(
                self._commands.restore(
                    new.worker,
                    Restore(piece=old.pipeline_id, **_contents(piece), **self._fence(new)),
                )
                for new in division.new
                for old, piece in zip(division.old, given, strict=True)
            )
        except WireError as error:
            if error.retryable:
                raise
            raise GivenUp(str(error)[:MAX_REASON]) from None
        if await self._propose(FinishDivision, group, division):
            self._driven.pop(division.id, None)
            self.durations.observe(max(now_ms() - division.started_at, 0) / 1000)
            await self._go_live(group, division)

    async def _go_live(self, group: Group, division: Division) -> None:
        """Best effort: what is left of it convergence does."""
        await asyncio.gather(*(self._resume(group, each) for each in division.new))
        await asyncio.gather(*(self._end_copy(group, each, besides=division.new) for each in division.old))

    async def _resume(self, group: Group, part: Part) -> None:
        with contextlib.suppress(WireError, NatsTransportError):
            await self._do.resume(part.worker, self._target(group, part), part.pipeline_id or "")

    # -- giving up

    async def _give_up(self, group: Group, division: Division, reason: str) -> None:
        """Commit it, then let the old ones go on; should we die between, convergence does."""
        taken = await self._take_back(division) if division.held else []
        listens = any(each is None for each in taken)
        if await self._propose(FailDivision, group, division, reason=reason[:MAX_REASON], new_line=listens):
            self._driven.pop(division.id, None)
            await self._bring_back(group, division, taken)

    async def _pick_up(self, group: Group, division: Division) -> None:
        """The state has given it up, because one of the copies is gone: the others go on with what was taken
        of their lines, before convergence has them go on without."""
        placements = self._ledger.state.placements.get(group.spec.name, {})
        new = {each.epoch for each in division.new}
        if any(placement.epoch in new for placement in placements.values()):
            return  # it was finished, by a leader before us or without our hearing of it
        await self._bring_back(group, division, await self._take_back(division))

    async def _take_back(self, division: Division) -> list[HandedOver | None]:
        await asyncio.gather(*(self._come_back(each) for each in division.old))
        return await asyncio.gather(*(self._taken(each) for each in division.new))

    async def _bring_back(self, group: Group, division: Division, taken: list[HandedOver | None]) -> None:
        given = [each for each in taken if each is not None]
        if division.held:
            await asyncio.gather(
                *(
                    self._give_back(old, new, each.checkpoint_ref)
                    for new, each in zip(division.new, taken, strict=False)
                    if each is not None and each.checkpoint_ref is not None
                    for old in division.old
                )
            )
            await asyncio.gather(*(self._let_go_on(group, division, each, given) for each in division.old))
        await asyncio.gather(*(self._end_copy(group, each, besides=division.old) for each in division.new))

    async def _come_back(self, part: Part) -> None:
        """Before the new ones leave, or what comes between would reach nobody."""
        with contextlib.suppress(WireError, NatsTransportError):
            await self._commands.hold(part.worker, Hold(back=True, **self._fence(part)))

    async def _taken(self, part: Part) -> HandedOver | None:
        try:
            return await self._take(part)
        except (WireError, NatsTransportError):
            return None

    async def _give_back(self, old: Part, new: Part, ref: str) -> None:
        """What a new copy took and was too much for a message: of it, who it was taken from picks its own."""
        message = Restore(piece=new.pipeline_id, only_held=True, checkpoint_ref=ref, **self._fence(old))
        try:
            await self._commands.restore(old.worker, message)
        except (WireError, NatsTransportError) as error:
            lost = line("not_given_back", taken_by=new.pipeline_id, of=old.pipeline_id, reason=error)
            _log.warning("%s", lost)

    async def _let_go_on(self, group: Group, division: Division, part: Part, taken: list[HandedOver]) -> None:
        """With what the new copies took in its lines."""
        count = group.shares.get(division.pipeline, len(division.old))
        number = division.old.index(part)
        shares = {number, *range(number, count, len(division.old))}
        held = [event for each in taken for event in each.held or () if event.share in shares]
        placement = self._ledger.state.placement(group.spec.name, part.instance)
        queue = placement.queue if placement is not None else part.queue
        target = self._target(group, part)
        sha = next((each.source_sha256 for each in taken if each.source_sha256 is not None), "")
        message = Restore(
            resume=True,
            only_held=True,
            checkpoint=msgspec.to_builtins(HandedOver(v=1, source_sha256=sha, held=held)),
            queue=self._do.briefing.line_of(target, queue),
            lines=self._do.briefing.lines_of(target, queue) or None,
            **self._fence(part),
        )
        with contextlib.suppress(WireError, NatsTransportError):
            await self._commands.restore(part.worker, message)

    async def _end_copy(self, group: Group, part: Part, *, besides: tuple[Part, ...]) -> None:
        """With its checkpoints, where none of `besides` has its name: there is no such instance any more."""
        if part.pipeline_id is not None:
            gone = part.instance not in {each.instance for each in besides}
            target = self._target(group, part)
            with contextlib.suppress(WireError, NatsTransportError):
                await self._do.endings.undeploy(part.worker, target, part.pipeline_id, forget=gone)

    # -- words

    def _target(self, group: Group, part: Part) -> Target:
        return Target.of(self._ledger.state, group.spec.name, part.instance, part.epoch)

    async def _take(self, part: Part) -> HandedOver:
        request = CheckpointRequest(handover=True, **self._fence(part))
        return await self._commands.hand_over(part.worker, request)

    def _fence(self, part: Part) -> dict[str, Any]:
        return {"pipeline_id": part.pipeline_id or "", "term": self._ledger.term, "epoch": part.epoch}

    async def _explain(self, group: Group, division: Division, reason: str) -> None:
        now = self._present(group.spec.name, division.id)
        if now is not None and now[1].reason != reason:
            with contextlib.suppress(WireError):
                await self._propose(AdvanceDivision, group, division, reason=reason[:MAX_REASON])

    async def _propose(
        self, kind: type[DivisionCommand], group: Group, division: Division, **fields: Any
    ) -> bool:
        """Whether it is so now; not, when the division ended meanwhile."""
        try:
            await self._ledger.propose(kind(by=_BY, group=group.spec.name, division=division.id, **fields))
        except WireError as error:
            if error.code != ErrorCode.CONFLICT:
                raise
            return False
        return True


async def _all(steps: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Side by side; each is over when one has failed."""
    done = await asyncio.gather(*steps, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return done


def _contents(given: HandedOver) -> dict[str, Any]:
    if given.checkpoint_ref is not None:
        return {"checkpoint_ref": given.checkpoint_ref}
    return {"checkpoint": msgspec.to_builtins(given)}
