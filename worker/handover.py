"""How a pipeline passes from one copy to another and loses nothing.

    the copy that runs          running --hold--> held --hand_over--> handed_over --resume--> (held) -->
    running the one that takes over     (deployed held)   held --hold: joins the line--> held --resume-->
    running

The order that keeps every event, once and in its order, is the coordinator's: the old copy holds, *then*
the new one joins, then the old one hands over, then the new one resumes. Were the new one to join while the
old one still processes, the older of two events could wait in the new copy while the newer is handled in
the old one.

Each step may be repeated: who has taken it answers as the first time. A copy that handed over keeps what it
handed over, so that it can go on if the move fails. One that holds and hears no more of it goes on by
itself after `HOLD_LIMIT`: losing the control plane must not stop the data. One that handed over does not,
for another may be live.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Final

from proto_schemas.errors import ErrorCode, WireError
from proto_schemas.messages.moves import HeldEvent
from transport.errors import NatsTransportError
from transport.subscription import BURST, Message
from worker.checkpoints import Checkpoint
from worker.connectors.base import ConnectorError
from worker.delivery import handover as streamed
from worker.held import Witness
from worker.pipeline import Pipeline, State, breathe
from worker.takeover import put_together, taken_back

HOLD_LIMIT: Final = 15.0
"""Seconds a copy that ran holds without a word."""
LEAVE_WAIT: Final = 2.0
"""Seconds for a server to confirm that it sends no more, and for what it sent to be taken."""
JOIN_WAIT: Final = 3.0
"""Seconds in which all subscriptions must stand."""
DETOUR_WAIT: Final = 0.5
"""Seconds for what comes by way of another server; what was dropped on the way is waited for in vain."""
LOOK_AGAIN: Final = 0.005
_MAY_RESUME: Final = frozenset((State.RUNNING, State.HELD, State.HANDED_OVER))


async def hold(pipeline: Pipeline, *, relayed: bool = False, back: bool = False) -> None:
    """Keep events instead of handling them; a copy deployed held joins its line. `relayed`: but handle what
    others pass on, until it hands over; and on return all that this one passed on is on the servers. `back`:
    one that handed over joins its lines again, and keeps what comes.

    Raises:
        WireError: `conflict`, it is in no state for that; `unavailable`, it could not subscribe in time.
    """
    if pipeline.feed is not None:
        await streamed.hold(pipeline, pipeline.feed)
        return
    async with pipeline.moving:
        if pipeline.state is State.RUNNING:
            await _watch(pipeline)
            pipeline.state = State.HELD
            pipeline.held_since = time.monotonic()
        elif not pipeline.joined and (pipeline.state is State.HELD or back):
            await _join(pipeline)
        elif pipeline.state not in (State.HELD, State.HANDED_OVER):
            raise _unfit(pipeline, "hold")
        if relayed and pipeline.state is State.HELD and pipeline.joined:
            pipeline.relayed_goes_on = True
            await _all_passed_on(pipeline)


async def hand_over(pipeline: Pipeline) -> None:
    """Come to rest: on return nothing is on its way to this copy, and its outputs are on the servers.

    Raises:
        WireError: `conflict`, it is in no state for that; `unavailable`, a server did not confirm in time.
    """
    if pipeline.feed is not None:
        await streamed.hand_over(pipeline, pipeline.feed)
        return
    async with pipeline.moving:
        if pipeline.state is State.HANDED_OVER:
            return
        if pipeline.state not in (State.RUNNING, State.HELD):
            raise _unfit(pipeline, "hand over")
        pipeline.state = State.HELD
        pipeline.held_since = None
        await pipeline.inputs.leave(LEAVE_WAIT)
        pipeline.joined = pipeline.relayed_goes_on = False
        async with pipeline.timer:  # what a window put out last has left
            pass
        with contextlib.suppress(NatsTransportError):  # a server that is gone has nothing to order
            await pipeline.inputs.flush(LEAVE_WAIT)
        pipeline.state = State.HANDED_OVER


async def resume(
    pipeline: Pipeline,
    checkpoint: Checkpoint | None,
    *,
    only_held: bool = False,
    anew: bool = False,
    queue: str | None = None,
    lines: Mapping[str, str] | None = None,
) -> None:
    """Go live: from `checkpoint` (or from its events alone), then what was held, in order.

    Args:
        only_held: of the checkpoint take the events alone; those that nobody witnessed came after those held
            here.
        anew: likewise, but they came before those.
        queue: a line to begin, also by a copy that runs, which is all that is asked of that one; None: stay
            in the present one. `lines`: those of its further shares.

    Raises:
        WireError: `conflict`, the checkpoint does not fit or the copy is not held; `unavailable`, it could
            not subscribe in time. The copy is as it was then.
    """
    if pipeline.feed is not None:
        pipeline.inputs.change_lines(queue, lines or {})  # what it is called: it listens in none
        given = checkpoint if not only_held else None
        await streamed.resume(pipeline, pipeline.feed, given, anew=anew)
        return
    async with pipeline.moving:
        begins_line = pipeline.state in _MAY_RESUME and pipeline.inputs.change_lines(queue, lines or {})
        if pipeline.state is State.RUNNING:
            if not begins_line:
                return
            pipeline.state, pipeline.held_since, checkpoint = State.HELD, time.monotonic(), None
        elif pipeline.state not in _MAY_RESUME:
            raise _unfit(pipeline, "resume")
        if begins_line:
            await pipeline.inputs.leave(LEAVE_WAIT)
            pipeline.joined = False
        if not pipeline.joined:
            await _join(pipeline)
        pipeline.relayed_goes_on = False
        await _all_received(pipeline)
        if pipeline.pieces and not only_held:
            await _detours(pipeline, [event for piece in pipeline.pieces.values() for event in piece.held])
            put_together(pipeline)
        elif checkpoint is not None:
            if not only_held and not anew:
                await _detours(pipeline, checkpoint.held)
                pipeline.restore(checkpoint)
            theirs, own = [*checkpoint.held, *taken_back(pipeline)], pipeline.held.events()
            old, new = (own, theirs) if only_held else (theirs, own)
            pipeline.held.replace(pipeline.witness.in_order(old, new))
        await pipeline.inputs.unwatch()
        pipeline.state, pipeline.held_since, pipeline.has_run = State.HELD, None, True
        await _catch_up(pipeline)


async def _all_received(pipeline: Pipeline) -> None:
    """What the witness saw may still wait in a queue, and would be handled after what came later."""
    try:
        await pipeline.inputs.catch_up(JOIN_WAIT)
    except TimeoutError:
        raise WireError(
            ErrorCode.UNAVAILABLE, f"pipeline {pipeline.id} has not received all it was sent: try again"
        ) from None


async def _detours(pipeline: Pipeline, old: Sequence[HeldEvent]) -> None:
    """Wait for what comes by way of the old copy's server, and for what comes later than that."""
    witness, until, began = pipeline.witness, pipeline.witness.count, time.monotonic()
    while time.monotonic() - began < DETOUR_WAIT:
        if not witness.disagrees(old, pipeline.held.events(), until):
            return
        await asyncio.sleep(LOOK_AGAIN)


async def _all_passed_on(pipeline: Pipeline) -> None:
    try:
        async with asyncio.timeout(LEAVE_WAIT):
            while pipeline.relay is not None and pipeline.relay.under_way:
                await breathe()
        await pipeline.inputs.flush(LEAVE_WAIT)
    except (TimeoutError, NatsTransportError) as error:
        raise WireError(
            ErrorCode.UNAVAILABLE, f"what {pipeline.id} passed on is not on its way yet ({error}): try again"
        ) from None


def is_overdue(pipeline: Pipeline) -> bool:
    """It ran, holds, and has heard no more of it for too long."""
    since = pipeline.held_since
    return since is not None and time.monotonic() - since > HOLD_LIMIT


async def _watch(pipeline: Pipeline) -> None:
    """See all that comes in the line from now on, should this copy have to go on with what another took. A
    copy that cannot holds all the same: only the order is lost then, and only if the move is."""
    pipeline.witness = Witness()
    with contextlib.suppress(ConnectorError, NatsTransportError):
        await pipeline.inputs.watch(pipeline.witness.see, JOIN_WAIT)


async def _join(pipeline: Pipeline) -> None:
    try:
        await pipeline.inputs.open(pipeline.receive, JOIN_WAIT)
    except (ConnectorError, NatsTransportError) as error:
        await pipeline.inputs.leave(LEAVE_WAIT)
        raise WireError(
            ErrorCode.UNAVAILABLE, f"pipeline {pipeline.id} cannot subscribe: {error}: try again"
        ) from None
    pipeline.joined = True
    pipeline.witness.joined()


async def _catch_up(pipeline: Pipeline) -> None:
    """Handle what is held; what comes meanwhile is held behind it, until nothing is left."""
    count = 0
    while pipeline.state is State.HELD:
        event = pipeline.held.next()
        if event is None:
            pipeline.state = State.RUNNING
            return
        await pipeline.handle(Message(event.subject, event.data), event.at, event.share)
        count += 1
        if count % BURST == 0:
            await breathe()


def _unfit(pipeline: Pipeline, what: str) -> WireError:
    return WireError(
        ErrorCode.CONFLICT, f"pipeline {pipeline.id} is {pipeline.state} and cannot {what}: look again"
    )
